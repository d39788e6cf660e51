"""Default encoder, random forest and logistic regression on one modality, cross-validated inside train and validation.

    python benchmarks/fair_chance.py presto:DATA/presto wikipedia:DATA/wikipedia
    python benchmarks/fair_chance.py 'mars(test_person=1):DATA/mars' 'mars(test_person=2):DATA/mars' --own-split

One test split is one draw of sites, people or articles, and one teacher is one draw of its seed. This benchmark asks
five draws whether an encoder is as good as a simple baseline on its modality. The train and validation pairs are cut
into five folds, whole groups at a time. A quarter of the pairs that are not held out is the validation split, which
chooses the epoch of the network and the setting of the baselines. The network is trained as ``cmkd run --preset quick``
trains it. The test split is never read. ``--own-split`` is for data of few groups: it holds out the test pairs of the
data set that is named, so name a variant whose test pairs are not those of the benchmark. Each figure is stored as soon
as it is measured, and a second run repeats none. Writes ``fair_chance.json`` and ``fair_chance.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data import Pack
from cmkd.data.pack.statistics import ChannelStatistics
from cmkd.datasets import open_data
from cmkd.errors import CmkdError
from cmkd.inference import predict
from cmkd.io import write_text
from cmkd.models.checkpoint import load_model
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.schedule import training_length
from records import RESULTS, Records, about, difference, percent, table, without_folder
from simple_baselines import candidates, feature_table

FOLDS, PARTS = 5, 4
"""Number of folds; one part in `PARTS` of the pairs that are not held out is validation."""
MODELS = ("network", "random forest", "logistic regression")
_Rows = NDArray[np.int64]


def folds(pack: Pack, name: str, *, seed: int = 0) -> Iterator[tuple[_Rows, _Rows, _Rows]]:
    """Yield train, validation and held-out rows of each fold; all are train or validation pairs of the pack.

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
    """Return the pack with other train and validation pairs, and one modality's statistics over the new train pairs."""
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
    trainer = TrainerConfig(batch_size, progress="none")
    torch.manual_seed(seed)
    model = models.build("auto", cut.modality(name), classes=len(cut.classes))
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(Path(folder), cut, model, "auto", epochs=epochs, seed=seed)
        best, _ = load_model(fit(job, OptimizerConfig(), AugmentationConfig(), trainer))
    return _accuracy(predict(best, cut, held).argmax(1), cut, held)


def baseline(pack: Pack, name: str, rows: Sequence[_Rows], kind: str, *, trees: int = 300) -> float:
    """Return the accuracy, on the held-out rows, of the baseline whose setting is best on validation."""
    label = pack.index["label"].to_numpy()
    train, validation, held = rows
    x = [feature_table(pack, name, part) for part in rows]
    scored = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline gets 300 steps
        for order, model in enumerate(candidates(kind, trees=trees, seed=0).values()):
            model.fit(x[0], label[train])
            scored.append((model.score(x[1], label[validation]), -order, model))
    return _accuracy(max(scored, key=lambda entry: entry[:2])[2].predict(x[2]), pack, held)


def _accuracy(predicted: NDArray[Any], pack: Pack, rows: _Rows) -> float:
    return float((predicted == pack.index["label"].to_numpy()[rows]).mean())


def markdown(records: Records) -> str:
    """Return the table of all figures and the command that measures them."""
    cells = []
    for row in records.rows.values():
        means = {model: float(np.mean(row["folds"][model])) for model in MODELS}
        better = max(MODELS[1:], key=lambda model: means[model])
        pairs = zip(row["folds"]["network"], row["folds"][better], strict=True)
        gain = difference([mine - other for mine, other in pairs])
        accuracies = [percent(means[model]) for model in MODELS]
        cells.append([f"`{row['reference']}`", row["modality"], str(row["pairs"]), *accuracies, gain])
    return (
        "# A fair chance\n\n"
        f"Accuracy in % on held-out pairs: the mean over {FOLDS} folds of train and validation pairs, whole groups "
        "at a time, or with `--own-split` one fold, the test pairs of that variant. The test split of the benchmark is "
        "not read. The last column is the network minus the better baseline, with Student's 95 % interval over the "
        "folds, in bold where it excludes 0. One seed a fold.\n\n"
        "Command, row by row: `python benchmarks/fair_chance.py REFERENCE --modality MODALITY`, where DATA in a "
        f"reference is the folder of that set's files; {about()}.\n\n"
        f"{table(['reference', 'modality', 'pairs', *MODELS, 'network minus the better'], cells, left=2)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the figures that are missing, then write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="data sets, as in cmkd run --data; figures of others are kept")
    options.add_argument("--modality", action="append", help="this one alone; may be repeated")
    options.add_argument("--own-split", action="store_true", help="hold out the test pairs of the named data set")
    options.add_argument("--epochs", type=int, help="of the network; by default those of the quick preset")
    options.add_argument("--trees", type=int, default=300)
    options.add_argument("--out", type=Path, default=RESULTS / "fair_chance.json", help="the table lies beside it")
    given = options.parse_args(arguments)
    records = Records(given.out, identity=("reference", "modality"))
    # figures of another recipe are measured again
    recipe = [asdict(OptimizerConfig()), asdict(AugmentationConfig()), given.epochs, given.trees, given.own_split]
    cuts = own_split if given.own_split else folds
    for reference in given.data:
        pack = open_data(reference)
        for name in given.modality or [role for role in (pack.card.rich, pack.card.poor) if role]:
            digests = [pack.card.sha256[file] for file in (pack.modality(name).file, pack.card.index_file)]
            identity = json.dumps([pack.card.name, name, *recipe, *(digest[:16] for digest in digests)])
            if identity in records.rows:
                continue
            start = time.monotonic()
            measured: dict[str, list[float]] = {model: [] for model in MODELS}
            for seed, rows in enumerate(cuts(pack, name)):
                measured["network"].append(network(pack, name, rows, seed=seed, epochs=given.epochs))
                for kind in MODELS[1:]:
                    measured[kind].append(baseline(pack, name, rows, kind, trees=given.trees))
            row = {"data": pack.card.name, "modality": name, "reference": without_folder(reference), "folds": measured}
            row["pairs"] = sum(
                len(pack.rows(split, modalities=(name,), labeled=True)) for split in ("train", "validation")
            )
            records.add(identity, row | {"seconds": round(time.monotonic() - start, 1)})
            means = ", ".join(f"{model} {percent(float(np.mean(found)))} %" for model, found in measured.items())
            print(f"{pack.card.name}, {name}: {means}", flush=True)
    write_text(given.out.with_suffix(".md"), markdown(records))


if __name__ == "__main__":
    main()
