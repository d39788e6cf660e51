"""Folds of a cross-validation, stratified by class; all samples of a group are in the same fold."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


def stratified_folds(
    labels: NDArray[np.int64], groups: NDArray[Any] | None, *, folds: int, seed: int = 0
) -> NDArray[np.int64]:
    """Return the fold ``(n,)`` in which each sample is held out.

    Args:
        labels: ``(n,)`` classes.
        groups: ``(n,)`` group of each sample, such as its vessel, scene or person; None if samples are independent.
        folds: number of folds, at most the number of groups and the number of samples of the largest class.
        seed: random seed of the folds.

    Example:
        >>> groups = np.repeat(np.arange(4), 3)
        >>> found = stratified_folds(groups % 2, groups, folds=2)
        >>> (found.reshape(4, 3) == found[::3, None]).all(), np.bincount(found)
        (np.True_, array([6, 6]))
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    found = np.zeros(len(labels), dtype=np.int64)
    single = groups is None or len(np.unique(groups)) == len(groups)  # the split by sample is much faster
    parts = (StratifiedKFold if single else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fold, (_, test) in enumerate(parts.split(labels, labels, None if single else groups)):
            found[test] = fold
    return found
