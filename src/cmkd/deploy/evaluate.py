"""Evaluate students on the pairs of a split: scores with intervals, calibration, robustness; compare two of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cmkd
from cmkd.data import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.datasets.degradations import PerImage
from cmkd.deploy.calibration import BINS, Calibration, calibration_errors, reliability
from cmkd.deploy.new_sample import warn_of_length
from cmkd.deploy.robustness import corruptions, stored
from cmkd.deploy.samples import batches
from cmkd.deploy.student import Student
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.evaluation import auroc, bootstrap, class_scores, fraction_interval, log_losses, mcnemar, weighted_scores
from cmkd.evaluation.intervals import FEW_GROUPS, LEVEL, RESAMPLES, unless_certain
from cmkd.progress import Progress, adding, silent

ROUNDING = 1e-12
"""Smallest width of an interval that is not a rounding error."""
Values = NDArray[np.float64]


def evaluate(
    students: Mapping[str, Student],
    pack: Pack,
    *,
    split: str = "test",
    robustness: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Evaluate one student, or two on the same pairs.

    Args:
        students: name in the results -> student.
        pack: labeled pairs; their classes must be among those of every student.
        split: the split whose pairs are used, or ``all`` for every split; pairs without a label or without a student's
            modality are left out.
        robustness: also measure on corrupted samples (`cmkd.deploy.robustness.corruptions`).
        seed: random seed of the resamples and the corruptions.
        progress: called as pairs are done; corruptions take most of the time.

    Returns:
        The contents of ``evaluation.json``: ``data`` (the pairs, and the meaning of the intervals), ``models`` and, for
        two students, ``comparison``. An estimate is a dictionary of ``value``, ``low`` and ``high``; the ends are None
        if all resamples are equal.

    Raises:
        CmkdError: if the data have classes unknown to a student, lack its modality or channels, or have no labels in
            the split; or if the output of a student is not finite.
    """
    for name, student in students.items():
        _check(name, student, pack)
        _warn_of_other_splits(name, student, pack)
    seen_by = [name for name, student in students.items() if split != "test" and _knows(student, pack)]
    if seen_by:
        warnings.warn(
            f"{' and '.join(map(repr, seen_by))} {'was' if len(seen_by) == 1 else 'were'} trained or chosen on these "
            "pairs, so the scores are better than on new ones: use --split test",
            CmkdWarning,
            stacklevel=2,
        )
    rows, left_out = _rows(students, pack, split)
    groups, kind = _groups(pack, rows)
    clusters, resampled = _clusters(groups, kind)
    labels = pack.index["label"].to_numpy()[rows]
    models, right = [], []
    seen = adding(progress, len(rows) * len(students))
    for name, student in students.items():
        target = np.array([student.classes.index(known) for known in pack.classes])
        of_pairs = target[labels]
        passes = 2 + sum(len(c.severities) for c in corruptions(student.modality, nonnegative=True))
        share = 1.0 / passes if robustness else 1.0  # fraction of the time for the scores
        logits, nonnegative = _logits(student, pack, rows, seen, share)
        _check_finite(name, logits, pack, rows)
        model = {
            "name": name,
            "modality": student.modality.name,
            "kind": student.modality.kind,
            "temperature": student.calibration.temperature,
        }
        model |= {key: student.about[key] for key in ("model", "method", "seed") if student.about.get(key) is not None}
        model |= _measured(student, logits, of_pairs, clusters, seed)
        right.append(logits.argmax(1) == of_pairs)
        model["groups"] = _by_group(right[-1], groups)
        if robustness:
            model["robustness"] = _robustness(
                student, pack, rows, of_pairs, clusters, nonnegative, seed, seen, 1.0 - share
            )
        models.append(model)
    data = {"name": pack.card.name, "version": pack.card.version, "split": split, "pairs": len(rows)}
    data |= {"left_out": left_out, "group": kind, "groups": len(set(groups) - {""})}
    data |= {"seen_by": seen_by}
    data["intervals"] = (
        f"{100 * LEVEL:g} % percentile bootstrap intervals ({RESAMPLES:,} resamples of {resampled}); that of the ECE "
        "is centered on it, and it is itself biased upward with few pairs; a fraction of 0 or 1 has Wilson's interval, "
        "and anything else that is the same in all resamples has none"
    )
    found: dict[str, Any] = {"cmkd": cmkd.__version__, "data": data, "models": models}
    if len(right) == 2:
        found["comparison"] = _compared(right[0], right[1], clusters, seed) | {"names": list(students)}
    return found


def _check(name: str, student: Student, pack: Pack) -> None:
    """Raise if the student cannot be evaluated on the data."""
    wanted, data = student.modality, f"the data '{pack.card.name}'"
    if wanted.name not in pack.modalities:
        raise CmkdError(f"'{name}' needs '{wanted.name}', but {data} have only {', '.join(pack.modalities)}")
    there = pack.modality(wanted.name)
    for what in ("kind", "dtype", "channels"):
        if getattr(there, what) != getattr(wanted, what):
            both = f"{getattr(there, what)}, not {getattr(wanted, what)}"
            raise CmkdError(f"'{wanted.name}' of {data} has a different {what} than '{name}' was trained on: {both}")
    wanted.check_measured(there, data, f"for '{name}'")
    if unknown := [label for label in pack.classes if label not in student.classes]:
        known = f"{', '.join(student.classes[:10])}{', ...' if len(student.classes) > 10 else ''}"
        raise CmkdError(f"{data} have classes unknown to '{name}' ({', '.join(unknown[:5])}); its classes: {known}")
    warn_of_length(wanted, there.shape)


def _rows(students: Mapping[str, Student], pack: Pack, split: str) -> tuple[NDArray[np.int64], int]:
    """Return the labeled pairs of the split that have every student's modality, and the number of other pairs."""
    names = sorted({student.modality.name for student in students.values()})
    splits = SPLITS if split == "all" else (split,)
    rows = np.sort(np.concatenate([pack.rows(name, modalities=names, labeled=True) for name in splits]))
    if not len(rows):
        which = "pair" if split == "all" else f"{split} pair"
        what = f"no {which} of '{pack.card.name}' has a label and {' and '.join(names)}"
        raise CmkdError(f"{what}: give labeled pairs, or another --split")
    return rows, sum(len(pack.rows(name)) for name in splits) - len(rows)


def _indexes(student: Student) -> set[str]:
    """Return the checksums of the training data's index, which contains the splits; empty if unknown."""
    said = student.about.get("data")
    files = said.get("sha256", {}) if isinstance(said, Mapping) else {}
    return {content for file, content in files.items() if file.startswith("index")}


def _knows(student: Student, pack: Pack) -> bool:
    """Return whether a student was trained on this version of the data or on an earlier one."""
    return not _indexes(student).isdisjoint(version.index_sha256 for version in pack.card.history)


def _warn_of_other_splits(name: str, student: Student, pack: Pack) -> None:
    """Warn if the splits of the data may have been drawn again since the student was trained on them."""
    said = student.about.get("data")
    if not isinstance(said, Mapping) or said.get("name") != pack.card.name:
        return
    if _indexes(student) and not _knows(student, pack):
        warnings.warn(
            f"'{pack.card.name}' has changed since '{name}' was trained, and its splits with it: it may have been "
            "trained on pairs of every split. To keep splits, give a column 'split', or build a pack and append to it",
            CmkdWarning,
            stacklevel=3,
        )


def _check_finite(name: str, logits: NDArray[np.float32], pack: Pack, rows: NDArray[np.int64]) -> None:
    """Raise if a pair has a logit that is not finite."""
    bad = pack.index["id"].to_numpy()[rows[~np.isfinite(logits).all(axis=1)]]
    if len(bad):
        ids = f"{', '.join(map(str, bad[:3]))}{', ...' if len(bad) > 3 else ''}"
        raise CmkdError(
            f"the output of '{name}' is not finite for {len(bad)} of {len(rows)} pairs (ids {ids}): check their "
            "values, or leave these pairs out"
        )


def _groups(pack: Pack, rows: NDArray[np.int64]) -> tuple[NDArray[np.str_], str]:
    """Return the group of each pair, empty if it has none, and the description of a group."""
    return pack.index["group"].to_numpy()[rows].astype(str), pack.card.group or "a group"


def _clusters(groups: NDArray[np.str_], kind: str) -> tuple[NDArray[np.str_], str]:
    """Return the name of each pair's cluster, which is resampled as a whole, and a description for the intervals."""
    pairs = np.array([f"pair {k}" for k in range(len(groups))])
    named = len(set(groups) - {""})
    if not named:
        return pairs, f"{len(groups):,} pairs"
    if len(set(groups)) == 1:
        return pairs, f"{len(groups):,} pairs of one group, {kind}: they say nothing about other groups"
    clusters = np.where(groups == "", pairs, np.char.add("group ", groups))
    few = "; with so few groups they are too narrow" if named < FEW_GROUPS else ""
    alone = int((groups == "").sum())
    return clusters, f"{named:,} groups, each {kind}{f', and {alone:,} pairs without one' if alone else ''}{few}"


def _logits(
    student: Student, pack: Pack, rows: NDArray[np.int64], seen: Callable[[float], None], share: float
) -> tuple[NDArray[np.float32], bool]:
    """Return the logits ``(n, classes)``, and whether no sample holds a negative value."""
    parts, nonnegative = [], True
    for _, samples in batches(student, pack, rows):
        parts.append(student.logits(samples))
        nonnegative = nonnegative and bool(samples.min() >= 0)
        seen(share * len(samples))
    return np.concatenate(parts), nonnegative


def _measured(
    student: Student, logits: NDArray[np.float32], target: NDArray[np.int64], clusters: NDArray[np.str_], seed: int
) -> dict[str, Any]:
    """Return scores, calibration, confusion matrix and scores of each class."""
    calibration, right = student.calibration, logits.argmax(1) == target
    scaled = logits.astype(np.float64) / calibration.temperature
    probabilities, raw = calibration.probabilities(logits), Calibration().probabilities(logits)
    accepted = ~calibration.rejected(probabilities)

    def statistics(weights: Values) -> dict[str, Values]:
        found = weighted_scores(scaled, target, weights) | {"auroc": auroc(probabilities, target, weights)}
        if calibration.thresholds:
            taken = weights @ accepted
            found["accepted"] = taken / weights.sum(1)
            with np.errstate(invalid="ignore"):
                found["accuracy_of_accepted"] = weights @ (accepted & right) / taken
        return found | class_scores(scaled, target, weights)

    def errors(weights: Values) -> dict[str, Values]:
        found = {"calibration_error": calibration_errors(probabilities, target, weights)}
        if calibration.temperature != 1:
            found["calibration_error_uncalibrated"] = calibration_errors(raw, target, weights)
        return found

    found = bootstrap(statistics, clusters, seed=seed)
    of_errors = bootstrap(errors, clusters, seed=seed, centered=True)  # repeated pairs raise an ECE
    found |= {name: values.clip(0) for name, values in of_errors.items()}
    by_class = {name: found.pop(name) for name in ("precision", "recall", "f1")}
    drawn, of_accepted = len(np.unique(clusters)), len(np.unique(clusters[accepted]))
    of_all = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "accepted"), drawn)
    for name, trials in {**of_all, "accuracy_of_accepted": of_accepted}.items():
        if name in found:
            found[name] = unless_certain(found[name], trials)
    for k in range(len(student.classes)):
        of_class, as_class = (len(np.unique(clusters[own == k])) for own in (target, logits.argmax(1)))
        for name, trials in {"recall": of_class, "precision": as_class, "f1": of_class}.items():
            by_class[name][:, k] = unless_certain(by_class[name][:, k], trials)
    times = np.bincount(target, minlength=len(student.classes))
    confusion = np.zeros((len(student.classes),) * 2, dtype=np.int64)
    np.add.at(confusion, (target, logits.argmax(1)), 1)
    return {
        "scores": {name: _estimate(values) for name, values in found.items()},
        "reliability": reliability(probabilities, target),
        "bins": BINS,
        "classes": [
            {"class": name, "n": int(times[k])} | {key: _estimate(v[:, k]) for key, v in by_class.items()}
            for k, name in enumerate(student.classes)
        ],
        "confusion": confusion.tolist(),
    }


def _by_group(right: NDArray[np.bool_], groups: NDArray[np.str_]) -> list[dict[str, Any]]:
    """Return accuracy and Wilson's interval of each named group, the worst first."""
    found = []
    for name in sorted(set(groups) - {""}):
        own = right[groups == name]
        low, high = fraction_interval(int(own.sum()), len(own))
        accuracy = {"value": float(own.mean()), "low": low, "high": high}
        found.append({"group": name, "n": len(own), "accuracy": accuracy})
    return sorted(found, key=lambda row: row["accuracy"]["value"])


def _robustness(
    student: Student,
    pack: Pack,
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    clusters: NDArray[np.str_],
    nonnegative: bool,
    seed: int,
    seen: Callable[[float], None],
    share: float,
) -> list[dict[str, Any]]:
    """Return accuracy and log loss by corruption and severity; the first entry of each is without corruption."""
    known = corruptions(student.modality, nonnegative=nonnegative)
    cells = [(c, severity) for c in known for severity in c.severities]
    right, losses = np.zeros((2, len(rows), 1 + len(cells)), dtype=np.float32)
    for place, samples in batches(student, pack, rows):
        exact = samples.astype(np.float64)
        for k, cell in enumerate([None, *cells]):
            if cell is not None:
                changed = cell[0].apply(exact, cell[1], PerImage(seed, rows[place].tolist()))
                samples = stored(changed, student.modality)
            logits = student.logits(samples)
            right[place, k] = np.where(np.isfinite(logits).all(1), logits.argmax(1) == target[place], np.nan)
            losses[place, k] = log_losses(logits.astype(np.float64) / student.calibration.temperature, target[place])
            seen(share * len(samples) / (1 + len(cells)))
    estimates = _means(right, losses, clusters, seed)
    ends = np.cumsum([1, *(len(c.severities) for c in known)])
    return [
        {
            "name": c.name,
            "title": c.title,
            "severities": [
                {"label": label, "severity": severity} | estimates[k]
                for label, severity, k in zip(
                    ("none", *c.labels), (None, *c.severities), (0, *range(start, end)), strict=True
                )
            ],
        }
        for c, start, end in zip(known, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def _means(
    right: NDArray[np.float32], losses: NDArray[np.float32], clusters: NDArray[np.str_], seed: int
) -> list[dict[str, Any]]:
    """Return accuracy and log loss of each column of ``(n, cells)``; None where an output is not finite."""

    def statistics(weights: Values) -> dict[str, Values]:
        of = weights.sum(1, keepdims=True)
        return {"accuracy": weights @ right / of, "log_loss": weights @ losses / of}

    found = bootstrap(statistics, clusters, seed=seed)
    drawn = len(np.unique(clusters))
    for values in found["accuracy"].T:
        values[:] = unless_certain(values, drawn)
    return [{name: _estimate(values[:, k]) for name, values in found.items()} for k in range(right.shape[1])]


def _compared(
    first: NDArray[np.bool_], second: NDArray[np.bool_], clusters: NDArray[np.str_], seed: int
) -> dict[str, Any]:
    """Return the difference in accuracy, first minus second, and McNemar's test."""
    difference = first.astype(np.float64) - second
    found = bootstrap(lambda w: {"accuracy": w @ difference / w.sum(1)}, clusters, seed=seed)
    return {"accuracy_difference": _estimate(found["accuracy"]), "mcnemar": mcnemar(first, second)}


def _estimate(values: Sequence[float] | Values) -> dict[str, float | None]:
    """Return value, low and high by name; None for a number that is not defined.

    Equal ends become None: if all resamples are alike, new pairs are still not certain.
    """
    value, low, high = (None if np.isnan(one) else float(one) for one in values)
    if low is not None and high is not None and high - low < ROUNDING:
        low = high = None
    return {"value": value, "low": low, "high": high}
