"""Scores of predictions against labels; with weights, for many bootstrap resamples at once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import log_softmax

from cmkd.data.pack.pack import Pack

Values = NDArray[np.float64]


def scores(logits: NDArray[Any], target: NDArray[Any]) -> dict[str, float]:
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
    return {k: float(v[0]) for k, v in weighted_scores(logits, target, np.ones((1, len(target)))).items()}


def weighted_scores(logits: NDArray[Any], target: NDArray[Any], weights: Values) -> dict[str, Values]:
    """Return `scores` as arrays ``(resamples,)``, one value for each row of pair weights ``(resamples, n)``."""
    by_class = class_scores(logits, target, weights)
    with np.errstate(invalid="ignore"):
        means = [
            weights @ values / weights.sum(1) for values in (logits.argmax(1) == target, log_losses(logits, target))
        ]
    return {
        "accuracy": means[0],
        "balanced_accuracy": _mean(by_class["recall"]),
        "macro_f1": _mean(by_class["f1"]),
        "log_loss": means[1],
    }


def class_scores(logits: NDArray[Any], target: NDArray[Any], weights: Values) -> dict[str, Values]:
    """Measure precision, recall and F1 of each class.

    Args:
        logits: ``(n, classes)``.
        target: ``(n,)`` true classes.
        weights: ``(resamples, n)`` weights of the pairs.

    Returns:
        ``precision``, ``recall`` and ``f1`` ``(resamples, classes)``. Recall and F1 are NaN for a class that does not
        occur, and precision for a class that is never predicted.

    Example:
        >>> found = class_scores(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1]), np.ones((1, 2)))
        >>> found["recall"].tolist(), found["precision"].tolist()
        ([[1.0, 0.0]], [[0.5, nan]])
    """
    pairs, predicted, columns = np.arange(len(target)), logits.argmax(1), np.ascontiguousarray(weights.T)
    of_class, of_prediction, hits = (
        _sums(values, places, pairs, (logits.shape[1], len(target)), columns).T
        for values, places in ((1.0, target), (1.0, predicted), (predicted == target, target))
    )
    with np.errstate(invalid="ignore"):
        f1 = np.where(of_class > 0, 2 * hits / (of_class + of_prediction), np.nan)
        return {"precision": hits / of_prediction, "recall": hits / of_class, "f1": f1}


def log_losses(logits: NDArray[Any], target: NDArray[Any]) -> Values:
    """Return the log loss ``(n,)`` of each pair in nats."""
    found: Values = -log_softmax(logits, axis=1)[np.arange(len(target)), target]
    return found


def auroc(probabilities: NDArray[Any], target: NDArray[Any], weights: Values) -> Values:
    """Return the area under the ROC curve, one class against the rest, averaged over the classes that occur.

    For one class, it is the probability that a random pair of the class gets a higher score for the class than a random
    other pair; ties count half (Hanley and McNeil 1982).

    Args:
        probabilities: ``(n, classes)``.
        target: ``(n,)`` true classes.
        weights: ``(resamples, n)`` weights of the pairs.

    Returns:
        ``(resamples,)``; NaN if a resample contains only one class.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
        >>> auroc(probabilities, np.array([0, 1, 1]), np.ones((1, 3))).tolist()
        [1.0]
    """
    pairs_first = np.ascontiguousarray(weights.T)
    return _mean(np.stack([_area(probabilities[:, k], target == k, pairs_first) for k in np.unique(target)], axis=1))


def _area(score: NDArray[Any], own: NDArray[np.bool_], weights: Values) -> Values:
    """Return the area of one class ``(resamples,)``, sorting once for all resamples; weights are ``(n, resamples)``."""
    mine, others = np.flatnonzero(own), np.flatnonzero(~own)
    levels, level = np.unique(score[mine], return_inverse=True)
    # each other pair counts half for levels from its score on, and half for higher levels alone: a tie counts half
    places = np.concatenate([np.searchsorted(levels, score[others], side) for side in ("left", "right")])
    below = np.cumsum(_sums(0.5, places, np.tile(others, 2), (len(levels) + 1, len(own)), weights), axis=0)
    at_level = _sums(1.0, level, mine, (len(levels), len(own)), weights)
    with np.errstate(invalid="ignore"):
        found: Values = (at_level * below[:-1]).sum(0) / (at_level.sum(0) * below[-1])
    return found


def _sums(
    values: float | NDArray[Any], places: NDArray[Any], pairs: NDArray[Any], shape: tuple[int, int], weights: Values
) -> Values:
    """Return weighted sums ``(shape[0], resamples)`` of the values at each place; weights are ``(n, resamples)``."""
    table = sparse.csr_array((np.broadcast_to(values, len(pairs)).astype(np.float64), (places, pairs)), shape=shape)
    return np.asarray(table @ weights)


def _mean(by_class: Values) -> Values:
    """Return the mean ``(resamples,)`` over classes, ignoring NaN."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        found: Values = np.nanmean(by_class, axis=1)
    return found


def prediction_table(pack: Pack, rows: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
    """Return one row per pair: ``id``, ``group``, ``target``, ``predicted``, and the logits from ``logit_0`` on.

    The group is empty for a pair without a group.
    """
    chosen = pack.index.iloc[rows]
    columns = {"id": chosen["id"], "group": chosen["group"], "target": chosen["label"]}
    table = pd.DataFrame({name: values.to_numpy() for name, values in columns.items()})
    table["predicted"] = logits.argmax(1)
    return pd.concat([table, pd.DataFrame(logits, columns=[f"logit_{i}" for i in range(logits.shape[1])])], axis=1)


def group_numbers(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return each pair's group number, in the order of the groups' names; a pair without a group is its own group.

    Args:
        table: table with the columns ``id`` and ``group``; an empty ``group`` means none.

    Example:
        >>> group_numbers(pd.DataFrame({"id": ["1", "2", "3", "4"], "group": ["2", "", "2", ""]})).tolist()
        [0, 1, 0, 2]
    """
    ids, groups = (table[name].to_numpy(dtype=str) for name in ("id", "group"))
    alone = groups == ""  # an id may equal the name of a group
    named = pd.DataFrame({"name": np.where(alone, ids, groups), "alone": alone})
    return np.asarray(named.groupby(["name", "alone"]).ngroup(), dtype=np.int64)
