"""Statistics: scores of predictions, and confidence intervals of gains and correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import log_softmax
from sklearn import metrics

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError


def scores(logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Measure predictions against labels.

    Args:
        logits: ``(n, classes)``.
        target: ``(n,)`` true classes.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``macro_f1`` over these classes;
        and ``log_loss`` in nats.

    Example:
        >>> scores(np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]), np.array([0, 1, 0]))["balanced_accuracy"]
        0.75
    """
    predicted, present = logits.argmax(1), np.unique(target)
    return {
        "accuracy": float((predicted == target).mean()),
        "balanced_accuracy": float(metrics.recall_score(target, predicted, labels=present, average="macro")),
        "macro_f1": float(metrics.f1_score(target, predicted, labels=present, average="macro", zero_division=0.0)),
        "log_loss": float(-log_softmax(logits, axis=1)[np.arange(len(target)), target].mean()),
    }


def prediction_table(pack: Pack, rows: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
    """Return one row per pair: ``id``, ``target``, ``predicted``, and the logits ``logit_0``, ``logit_1``, ..."""
    chosen = pack.index.iloc[rows]
    table = pd.DataFrame({"id": chosen["id"].to_numpy(), "target": chosen["label"].to_numpy()})
    table["predicted"] = logits.argmax(1)
    return pd.concat([table, pd.DataFrame(logits, columns=[f"logit_{i}" for i in range(logits.shape[1])])], axis=1)


def interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval for the mean of independent values, such as one difference per seed.

    Args:
        values: at least two for a finite interval.
        confidence: probability of covering the mean.

    Example:
        >>> low, high = interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return (float("-inf"), float("inf"))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(array) - 1)) * float(array.std(ddof=1)) / len(array) ** 0.5
    return (float(array.mean()) - half, float(array.mean()) + half)


def spearman(
    x: np.ndarray, y: np.ndarray, *, resamples: int = 4000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return Spearman's rank correlation and its percentile bootstrap interval over points.

    Args:
        x: ``(n,)``, three points or more.
        y: ``(n,)``.
        resamples: of the bootstrap; those in which x or y is constant are left out.
        level: of the interval.
        seed: of the resamples.

    Returns:
        The correlation, and the interval's lower and upper end; NaN where x or y is constant.

    Example:
        >>> spearman(np.arange(6.0), np.arange(6.0) ** 3)
        (1.0, 1.0, 1.0)
    """
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise CmkdError(f"expected two lists of three points or more, got shapes {x.shape} and {y.shape}")
    drawn = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
    drawn = np.concatenate([np.arange(len(x))[None], drawn])  # the first row is the points themselves
    ranks = [stats.rankdata(values[drawn], axis=1) for values in (x, y)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    spread = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    values = np.divide((a * b).sum(1), spread, out=np.full(len(drawn), np.nan), where=spread > 0)
    found = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(found):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
    return float(values[0]), float(low), float(high)


def summarize(students: list[dict[str, Any]], teacher: float | None = None) -> list[dict[str, Any]]:
    """Summarize test accuracies by method.

    Args:
        students: dictionaries with ``method``, ``seed`` and ``test_accuracy``, and ``sees_all_labels`` for a control
            that sees the labels which are hidden from the others.
        teacher: test accuracy of the teacher, where it is known.

    Returns:
        For each method ``method``, ``n``, ``mean`` and ``sd`` of the accuracies. Where students of ``none`` share seeds
        with it, also the mean ``gain`` over them, the number of shared seeds ``gain_n`` and Student's 95 % interval
        ``gain_interval`` (None for one seed); two such students start from the same weights and see the pairs in the
        same order. Where the teacher is better than ``none`` by half a point, also ``gap_closed``, the gain as a
        fraction of that distance. A control that sees all labels has ``sees_all_labels`` and no gain.
    """
    by_method: dict[str, dict[int, float]] = {}
    for student in students:
        by_method.setdefault(student["method"], {})[student["seed"]] = student["test_accuracy"]
    controls = {student["method"] for student in students if student.get("sees_all_labels")}
    alone, rows = by_method.get("none", {}), []
    gap = 0.0 if teacher is None or not alone else teacher - float(np.mean(list(alone.values())))
    for method, values in by_method.items():
        accuracies = list(values.values())
        row: dict[str, Any] = {"method": method, "n": len(accuracies), "mean": float(np.mean(accuracies))}
        row["sd"] = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
        gains = [value - alone[seed] for seed, value in values.items() if seed in alone]
        if method in controls:
            row["sees_all_labels"] = True
        elif gains and method != "none":
            row |= {"gain": float(np.mean(gains)), "gain_n": len(gains)}
            row["gain_interval"] = list(interval(gains)) if len(gains) > 1 else None
            if gap > 0.005:
                row["gap_closed"] = row["gain"] / gap
        rows.append(row)
    return rows


def by_subset(students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the test accuracies of students that see several modalities, by method and subset.

    Args:
        students: as for `summarize`; those that see several have ``subsets``.

    Returns:
        For each method ``method``, ``n``, and ``mean``: the subset's name -> the mean accuracy with it.

    Example:
        >>> rows = [{"method": "kd", "subsets": {"radar": {"test_accuracy": a}}} for a in (0.5, 0.75)]
        >>> by_subset([*rows, {"method": "none"}])
        [{'method': 'kd', 'n': 2, 'mean': {'radar': 0.625}}]
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for student in students:
        if "subsets" in student:
            found.setdefault(student["method"], []).append(student["subsets"])
    return [
        {
            "method": method,
            "n": len(each),
            "mean": {name: float(np.mean([one[name]["test_accuracy"] for one in each])) for name in each[0]},
        }
        for method, each in found.items()
    ]
