"""How good predictions are, and how certain a gain is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from cmkd.data.pack.pack import Pack


def scores(logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Measure predictions against labels.

    Args:
        logits: ``(n, classes)``.
        target: ``(n,)`` true classes.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``macro_f1`` over the same; and
        ``log_loss`` in nats.

    Example:
        >>> scores(np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]), np.array([0, 1, 0]))["balanced_accuracy"]
        0.75
    """
    predicted = logits.argmax(1)
    present = np.unique(target)
    shifted = logits - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    recalls = [float((predicted[target == c] == c).mean()) for c in present]
    return {
        "accuracy": float((predicted == target).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(metrics.f1_score(target, predicted, labels=present, average="macro", zero_division=0.0)),
        "log_loss": float(-log_probability[np.arange(len(target)), target].mean()),
    }


def prediction_table(pack: Pack, rows: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
    """Return one line a pair: its id, true class, predicted class, and the logit of each class."""
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


def summarize(students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return per method: n, mean and standard deviation of test accuracy, and the gain over ``none``.

    The gain is the mean over the seeds that both have, of the difference of two students that began with the same
    weights and saw the pairs in the same order, with Student's 95 % interval.
    """
    by_method: dict[str, dict[int, float]] = {}
    for student in students:
        by_method.setdefault(student["method"], {})[student["seed"]] = student["test_accuracy"]
    alone, rows = by_method.get("none", {}), []
    for method, values in by_method.items():
        accuracies = list(values.values())
        row: dict[str, Any] = {"method": method, "n": len(accuracies), "mean": float(np.mean(accuracies))}
        row["sd"] = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
        gains = [value - alone[seed] for seed, value in values.items() if seed in alone]
        if gains and method != "none":
            low, high = interval(gains)
            row["gain"] = float(np.mean(gains))
            row["gain_interval"] = [low, high] if len(gains) > 1 else None
        rows.append(row)
    return rows
