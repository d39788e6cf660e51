"""Pairs whose two files seem to have changed places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.limits import FEWEST

SURE = 0.95
"""Part of the pairs that must look the right way round before any is accused of not doing so."""


def swapped(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return which pairs look swapped, by what the two sensors' images look like.

    A linear discriminant learns to tell the two columns apart. A pair's evidence is the sum of both images' log-odds
    of being in the right one; most are positive, and a pair is accused where it is below minus half the median.

    Args:
        first: ``(pairs, numbers)``, `Measures.character` of one modality.
        second: ``(pairs, numbers)``, of the other.

    Returns:
        ``(pairs,)``, or None where there are too few pairs or the two look too much alike to tell.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> left, right = generator.normal(0, 1, (50, 3)), generator.normal(5, 1, (50, 3))
        >>> left[7], right[7] = right[7].copy(), left[7].copy()
        >>> np.flatnonzero(swapped(left, right))
        array([7])
    """
    if len(first) < FEWEST:
        return None
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    both = np.concatenate([first, second]).astype(np.float64)
    spread = both.std(axis=0)
    both = (both[:, spread > 0] - both[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    if not both.shape[1]:
        return None
    column = np.repeat([0, 1], len(first))
    learnt = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(both, column)
    odds = learnt.decision_function(both)
    evidence = odds[len(first) :] - odds[: len(first)]
    if (evidence > 0).mean() < SURE:
        return None
    found: NDArray[np.bool_] = evidence < -0.5 * np.median(evidence)
    return found
