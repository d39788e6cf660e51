"""Default encoder, random forest and logistic regression on one modality, cross-validated inside train and validation.

    python benchmarks/fair_chance.py presto:DATA/presto wikipedia:DATA/wikipedia
    python benchmarks/fair_chance.py 'mars(test_person=1):DATA/mars' 'mars(test_person=2):DATA/mars' --own-split

One test split is one draw of sites, people or articles, and one teacher one draw of its seed; whether an encoder gives
its modality a fair chance is asked here of five draws. The train and validation pairs are cut into five folds, whole
groups at a time. Of what is not held out, a quarter is the validation that chooses the epoch of the network and the
setting of the baselines. The network is that of ``cmkd run --preset quick``. The test split is never read. With
``--own-split``, for data of few groups, the test pairs of what is named are held out: name a variant whose test pairs
are not those of the benchmark. Each figure is written when it is there, and a second run repeats none of them. Writes
``fair_chance.json`` and ``fair_chance.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from simple_baselines import candidates, placeless, table
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig, training_length
from cmkd.data import Pack
from cmkd.data.pack.statistics import ChannelStatistics
from cmkd.datasets import open_data
from cmkd.errors import CmkdError
from cmkd.evaluation import interval
from cmkd.inference import predict
from cmkd.io import write_json, write_text
from cmkd.models.checkpoint import load_model
from cmkd.training.fit import TrainingJob, fit

RESULTS = Path(__file__).parent / "results" / "fair_chance.json"
FOLDS, PARTS = 5, 4
"""Folds, and of what is not held out one part in so many is validation."""
MODELS = ("network", "random forest", "logistic regression")
_Rows = NDArray[np.int64]


def folds(pack: Pack, name: str, *, seed: int = 0) -> Iterator[tuple[_Rows, _Rows, _Rows]]:
    """Yield train, validation and held-out rows of each fold, all of them train and validation pairs of the pack.

    Raises:
        CmkdError: there are fewer groups than folds.
    """
    given = [pack.rows(split, modalities=(name,), labeled=True) for split in ("train", "validation")]
    rows = np.sort(np.concatenate(given))
    index = pack.index.iloc[rows]
    label, group = index["label"].to_numpy(), index["group"].where(index["group"] != "", index["id"]).to_numpy()
    if len(np.unique(group)) < FOLDS:
        raise CmkdError(f"{pack.card.name} has {len(np.unique(group))} groups; {FOLDS} folds need as many")

    def divide(count: int, seed: int, chosen: _Rows) -> Iterator[tuple[_Rows, _Rows]]:
        cut = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        for most, part in cut.split(chosen, label[chosen], group[chosen]):
            yield chosen[most], chosen[part]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # a rare class is then not in every fold
        for number, (rest, held) in enumerate(divide(FOLDS, seed, np.arange(len(rows)))):
            train, validation = next(divide(PARTS, seed + number, rest))
            yield rows[train], rows[validation], rows[held]


def own_split(pack: Pack, name: str) -> Iterator[tuple[_Rows, _Rows, _Rows]]:
    """Yield train, validation and test rows of the pack itself, as one fold."""
    train, validation, test = (
        pack.rows(split, modalities=(name,), labeled=True) for split in ("train", "validation", "test")
    )
    yield train, validation, test


def recut(pack: Pack, name: str, train: _Rows, validation: _Rows) -> Pack:
    """Return the pack with these as its train and validation pairs, and one modality's statistics of the new train."""
    index = pack.index.copy()
    index["split"] = "test"
    index.loc[index.index[train], "split"] = "train"
    index.loc[index.index[validation], "split"] = "validation"
    statistics = ChannelStatistics(pack.modality(name))
    statistics.update(pack.array(name)[train])
    mean, std = statistics.result()
    modalities = {**pack.modalities, name: replace(pack.modality(name), mean=mean, std=std)}
    return Pack(pack.path, replace(pack.card, modalities=modalities), index)


def network(pack: Pack, name: str, rows: Sequence[_Rows], *, seed: int, epochs: int | None = None) -> float:
    """Train the default encoder as ``cmkd run`` does, and return its accuracy on the held-out rows."""
    train, validation, held = rows
    cut = recut(pack, name, train, validation)
    epochs, batch_size = training_length(len(train), epochs=epochs)
    trainer = TrainerConfig(batch_size, logger="none", progress="none")
    torch.manual_seed(seed)
    model = models.build("auto", cut.modality(name), classes=len(cut.classes))
    with tempfile.TemporaryDirectory() as folder:
        task = TrainingJob(Path(folder), cut, model, "auto", epochs=epochs, seed=seed)
        best, _ = load_model(fit(task, OptimizerConfig(), AugmentationConfig(), trainer))
    return _share(predict(best, cut, held).argmax(1), cut, held)


def baseline(pack: Pack, name: str, rows: Sequence[_Rows], kind: str, *, trees: int = 300) -> float:
    """Return the accuracy on the held-out rows of the baseline whose setting was best on validation."""
    label = pack.index["label"].to_numpy()
    train, validation, held = rows
    x = [table(pack, name, part) for part in rows]
    scored = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 300 steps are what a baseline gets
        for order, model in enumerate(candidates(kind, trees=trees, seed=0).values()):
            model.fit(x[0], label[train])
            scored.append((model.score(x[1], label[validation]), -order, model))
    return _share(max(scored, key=lambda entry: entry[:2])[2].predict(x[2]), pack, held)


def _share(predicted: NDArray[Any], pack: Pack, rows: _Rows) -> float:
    return float((predicted == pack.index["label"].to_numpy()[rows]).mean())


def markdown(results: dict[str, Any]) -> str:
    """Return the table of all figures, and the command that gives them."""
    lines = [
        "# A fair chance",
        "",
        f"Accuracy in % on held-out pairs, mean over {FOLDS} folds of train and validation pairs, whole groups at a "
        "time (one fold: the test pairs of that variant, `--own-split`); the test split of the benchmark is not read. "
        "The last column is the network less the better of the baselines, with "
        "Student's 95 % interval over the folds. One seed a fold.",
        "",
        "Command, row by row: `python benchmarks/fair_chance.py REFERENCE --modality MODALITY`, where DATA in a "
        f"reference is the folder of that set's files; {results['about']}.",
        "",
        "| reference | modality | pairs | network | random forest | logistic regression | network less the better |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in results["rows"].values():
        means = {model: float(np.mean(row["folds"][model])) for model in MODELS}
        better = max(MODELS[1:], key=lambda model: means[model])
        pairs = zip(row["folds"]["network"], row["folds"][better], strict=True)
        low, high = interval([mine - other for mine, other in pairs])
        gain = f"{100 * (means['network'] - means[better]):+.1f}"
        gain += f" ({100 * low:+.1f} to {100 * high:+.1f})" if np.isfinite(low) else ""
        cells = [f"`{row['reference']}`", row["modality"], str(row["pairs"])]
        cells += [f"{100 * means[model]:.1f}" for model in MODELS]
        lines.append(f"| {' | '.join([*cells, gain])} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write both files after each modality."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="data sets, as in cmkd run --data; the figures of others are kept")
    options.add_argument("--modality", action="append", help="this one alone; may be given again")
    options.add_argument("--own-split", action="store_true", help="hold out the test pairs of what is named")
    options.add_argument("--epochs", type=int, help="of the network; by default those of the quick preset")
    options.add_argument("--trees", type=int, default=300)
    options.add_argument("--out", type=Path, default=RESULTS, help="the JSON file; the table lies beside it")
    given = options.parse_args(arguments)
    results: dict[str, Any] = {"rows": {}}
    if given.out.exists():
        results = json.loads(given.out.read_text(encoding="utf-8"))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn"))
    results["about"] = f"{platform.machine()}, {os.cpu_count()} cores, {libraries}"
    given.out.parent.mkdir(parents=True, exist_ok=True)
    cuts = own_split if given.own_split else folds
    for reference in given.data:
        pack = open_data(reference)
        for name in given.modality or [role for role in (pack.card.rich, pack.card.poor) if role]:
            digests = [pack.card.sha256[file] for file in (pack.modality(name).file, pack.card.index_file)]
            # the whole recipe is part of it, so that figures of a former one are measured again
            recipe = [
                asdict(OptimizerConfig()),
                asdict(AugmentationConfig()),
                given.epochs,
                given.trees,
                given.own_split,
            ]
            place = json.dumps([pack.card.name, name, *recipe, *(digest[:16] for digest in digests)])
            if place in results["rows"]:
                continue
            start, measured = time.monotonic(), {model: [] for model in MODELS}  # type: dict[str, list[float]]
            for seed, rows in enumerate(cuts(pack, name)):
                measured["network"].append(network(pack, name, rows, seed=seed, epochs=given.epochs))
                for kind in MODELS[1:]:
                    measured[kind].append(baseline(pack, name, rows, kind, trees=given.trees))
            row = {"data": pack.card.name, "modality": name, "reference": placeless(reference), "folds": measured}
            row["pairs"] = sum(
                len(pack.rows(split, modalities=(name,), labeled=True)) for split in ("train", "validation")
            )
            same = ("reference", "modality")  # a row of the same with another recipe or other files is replaced
            kept = {k: r for k, r in results["rows"].items() if any(r[f] != row[f] for f in same)}
            results["rows"] = kept | {place: row | {"seconds": round(time.monotonic() - start, 1)}}
            print(
                f"{pack.card.name}, {name}: { ({k: round(float(np.mean(v)), 3) for k, v in measured.items()}) }",
                flush=True,
            )
            write_json(given.out, results)
    write_text(given.out.with_suffix(".md"), markdown(results))


if __name__ == "__main__":
    main()
