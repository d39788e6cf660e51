"""Random forest and logistic regression on each modality alone, on the same pairs and splits that students train on.

    python benchmarks/simple_baselines.py digits mars:DATA/mars terramind:DATA/terramind

A network that is weaker than these on a modality is not a fair teacher or student there. The features are generic: the
values themselves where they are few, and a summary of them. The few settings are chosen on the validation split; the
test split is measured once, with the chosen setting. Each figure is stored as soon as it is measured, and a second run
repeats none. Writes ``simple_baselines.json``, which other benchmarks read, and ``simple_baselines.md``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cmkd.data import Modality, Pack
from cmkd.datasets import open_data
from cmkd.io import write_text
from records import RESULTS, Records, command, percent, table, with_placeholder

FEW = 3072
"""Largest number of values a sample may have to be used as features directly: a 32 x 32 image with 3 channels."""
SIDE = 16
"""Pixels along each side of an image that is averaged because it has more than `FEW` values."""
QUANTILES = (0.1, 0.5, 0.9)
FOREST_LEAVES, PENALTIES = (1, 4), (0.001, 0.01, 0.1, 1.0)
"""Settings that validation chooses from: the smallest number of samples in a leaf, and the inverse penalty strength."""
CHUNK = 4096


def features(values: NDArray[Any], modality: Modality) -> NDArray[np.floating]:
    """Return generic features of samples ``(n, *shape)`` of any kind.

    - image: the pixels (averaged to 16 x 16 where they are many); mean, deviation and quantiles of each channel;
    - vector: its values;
    - series: the values (where they are few); mean, deviation, extremes and quantiles of each feature, the difference
      between the means of its two halves, and the deviation of its steps;
    - points: mean, deviation, extremes and quantiles of each feature over the points that are not padding, and their
      number; for a series of point sets, the same over all its points, and mean, deviation and number of each frame.

    Returns:
        ``(n, features)``, float64 for averaged images and float32 otherwise.
    """
    x = values.astype(np.float32)
    match modality.kind:
        case "vector":
            return x
        case "image":
            return np.concatenate([_pixels(x), _summary(x.reshape(*x.shape[:2], -1))], 1)
        case "series":
            summary = _summary(x.swapaxes(1, 2))
            steps = np.diff(x, axis=1).std(1) if x.shape[1] > 1 else x[:, 0] * 0
            half = x.shape[1] // 2
            drift = x[:, half:].mean(1) - x[:, : max(half, 1)].mean(1)
            itself = [x.reshape(len(x), -1)] if x[0].size <= FEW else []
            return np.concatenate([*itself, summary, steps, drift], 1)
        case "points":
            return _cloud(x)
    frames = [_cloud(x[:, frame], quantiles=False) for frame in range(x.shape[1])]
    return np.concatenate([_cloud(x.reshape(len(x), -1, x.shape[-1])), *frames], 1)


def _pixels(x: NDArray[np.float32]) -> NDArray[np.floating]:
    if x[0].size > FEW:
        rows, columns = (np.linspace(0, size, min(SIDE, size) + 1).astype(int)[:-1] for size in x.shape[2:])
        counts = [np.diff([*edges, size]) for edges, size in zip((rows, columns), x.shape[2:], strict=True)]
        sums = np.add.reduceat(np.add.reduceat(x, rows, axis=2), columns, axis=3)
        return (sums / np.outer(*counts)).reshape(len(x), -1)
    return x.reshape(len(x), -1)


def _summary(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Summarize ``(n, channels, values)`` per channel."""
    parts = [x.mean(2), x.std(2), x.min(2), x.max(2), *np.quantile(x, QUANTILES, axis=2)]
    return np.concatenate(parts, 1).astype(np.float32)


def _cloud(x: NDArray[np.float32], *, quantiles: bool = True) -> NDArray[np.float32]:
    """Summarize ``(n, points, features)`` over the rows that are not all zero."""
    real = x.any(-1, keepdims=True)
    count = real.sum(1)
    mean = x.sum(1) / count.clip(1)
    deviation = np.sqrt((((x - mean[:, None]) * real) ** 2).sum(1) / count.clip(1))
    parts = [mean, deviation, count]
    if quantiles:
        some = count > 0
        hidden = np.where(real, x, np.nan)
        hidden[~some[:, 0]] = 0.0
        parts += list(np.nanquantile(hidden, (0.0, *QUANTILES, 1.0), axis=1))
    return np.concatenate(parts, 1).astype(np.float32)


def feature_table(pack: Pack, name: str, rows: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the features of one modality of the given pairs, read in chunks."""
    modality, array = pack.modality(name), pack.array(name)
    parts = [features(array[rows[start : start + CHUNK]], modality) for start in range(0, len(rows), CHUNK)]
    return np.concatenate(parts)


def candidates(kind: str, *, trees: int, seed: int) -> dict[str, Any]:
    """Return the models that validation chooses from, by their setting."""
    if kind == "random forest":
        return {
            f"leaves of {leaf}": RandomForestClassifier(trees, min_samples_leaf=leaf, random_state=seed)
            for leaf in FOREST_LEAVES
        }
    return {
        f"C = {penalty:g}": make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
        for penalty in PENALTIES
    }


def measure(pack: Pack, name: str, kind: str, *, trees: int, limit: int, seed: int) -> dict[str, Any]:
    """Fit one kind of model on one modality; return its accuracies and the setting chosen on validation."""
    start = time.monotonic()
    rows = {split: pack.rows(split, modalities=[name], labeled=True) for split in ("train", "validation", "test")}
    every = len(rows["train"])
    if every > limit:
        rows["train"] = np.sort(np.random.default_rng(seed).choice(rows["train"], limit, replace=False))
    labels = pack.index["label"].to_numpy()
    x = {split: feature_table(pack, name, chosen) for split, chosen in rows.items()}
    y = {split: labels[chosen] for split, chosen in rows.items()}
    scored = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline is limited to 300 iterations
        for order, (setting, model) in enumerate(candidates(kind, trees=trees, seed=seed).items()):
            model.fit(x["train"], y["train"])
            scored.append((model.score(x["validation"], y["validation"]), -order, setting, model))
    best, _, setting, model = max(scored, key=lambda entry: entry[:2])
    predicted = model.predict(x["test"])
    return {
        "validation_accuracy": float(best),
        "test_accuracy": float((predicted == y["test"]).mean()),
        "test_balanced_accuracy": float(
            np.mean([(predicted[y["test"] == label] == label).mean() for label in np.unique(y["test"])])
        ),
        "chosen": setting,
        "features": int(x["train"].shape[1]),
        "train_pairs": len(y["train"]),
        "all_train_pairs": every,
        "validation_pairs": len(y["validation"]),
        "test_pairs": len(y["test"]),
        "majority": float((y["test"] == np.bincount(y["train"]).argmax()).mean()),
        "seconds": round(time.monotonic() - start, 1),
    }


def key(pack: Pack, name: str, kind: str, *, trees: int, limit: int, seed: int) -> str:
    """Return the key of a figure, which names everything the figure depends on (the index holds splits and labels)."""
    card = pack.card
    content = [card.sha256[pack.modality(name).file], card.sha256[card.index_file]]
    return json.dumps([card.name, name, kind, trees, limit, seed, *(digest[:16] for digest in content)])


def markdown(records: Records) -> str:
    """Return the table of all figures and the command that measures them."""
    references = dict.fromkeys(row["reference"] for row in records.rows.values())
    cells = []
    for row in sorted(
        records.rows.values(), key=lambda row: (row["reference"], -len(row["role"]), row["role"] == "poor")
    ):
        accuracy = row["test_accuracy"]
        error = np.sqrt(accuracy * (1 - accuracy) / row["test_pairs"])
        test = f"{percent(accuracy)} ({percent(row['validation_accuracy'])})"
        figures = [test, percent(error), percent(row["test_balanced_accuracy"]), percent(row["majority"])]
        used = f"{row['train_pairs']} of {row['all_train_pairs']}"
        about_row = [row["reference"].partition(":")[0], row["modality"], row["role"], row["model"]]
        cells.append([*about_row, *figures, used, row["chosen"]])
    columns = [
        "data",
        "modality",
        "role",
        "model",
        "test (validation)",
        "s.e.",
        "balanced",
        "majority",
        "train",
        "chosen",
    ]
    return (
        "# Simple baselines\n\n"
        "Accuracy in % on the test split (validation in brackets) of a random forest and a logistic regression on one "
        "modality alone. The settings in the last column were chosen on validation. The standard error is the binomial "
        "one of the test accuracy; `majority` is the fraction of the most common train class in test; `train` is the "
        "number of pairs used of those available. n = 1 seed.\n\n"
        f"Command: `{command('simple_baselines.py', references)}`, where DATA is the folder of that set's files; "
        f"{records.about}.\n\n{table(columns, cells, left=4)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the figures that are missing, then write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="data sets, as in cmkd run --data; figures of others are kept")
    options.add_argument("--trees", type=int, default=300)
    options.add_argument("--limit", type=int, default=10_000, help="largest number of train pairs, drawn at random")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=RESULTS / "simple_baselines.json", help="the table lies beside it")
    given = options.parse_args(arguments)
    records = Records(given.out, identity=("reference", "modality", "model"))
    settings = {"trees": given.trees, "limit": given.limit, "seed": given.seed}
    for reference in given.data:
        pack = open_data(reference)
        for name in pack.modalities:
            for kind in ("random forest", "logistic regression"):
                identity = key(pack, name, kind, **settings)
                if identity in records.rows:
                    continue
                role = {pack.card.rich: "rich", pack.card.poor: "poor"}.get(name, "")
                row: dict[str, Any] = {"data": pack.card.name, "modality": name, "role": role, "model": kind}
                row |= {"reference": with_placeholder(reference)} | measure(pack, name, kind, **settings)
                records.add(identity, row)
                print(
                    f"{pack.card.name}, {name}, {kind}: validation {percent(row['validation_accuracy'])} %, "
                    f"test {percent(row['test_accuracy'])} %, {row['seconds']} s",
                    flush=True,
                )
    write_text(given.out.with_suffix(".md"), markdown(records))


if __name__ == "__main__":
    main()
