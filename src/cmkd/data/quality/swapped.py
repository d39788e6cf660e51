"""Detection of pairs whose two files seem to be swapped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.limits import FEWEST

SEPARABLE = 0.95
"""Minimum fraction of pairs that must look right before any pair is flagged."""


def swapped(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return which pairs look swapped, by the appearance of the two sensors' images.

    A linear discriminant is trained to distinguish the two columns. A pair's evidence is the sum of both images'
    log-odds of being in the right column. Most pairs have positive evidence; a pair with evidence below minus half the
    median is flagged.

    Args:
        first: ``(pairs, numbers)``, `Measures.character` of the first modality.
        second: ``(pairs, numbers)``, `Measures.character` of the second modality.

    Returns:
        ``(pairs,)``, or None if there are too few pairs or the two sensors look too similar.

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
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(both, column)
    odds = discriminant.decision_function(both)
    evidence = odds[len(first) :] - odds[: len(first)]
    if (evidence > 0).mean() < SEPARABLE:
        return None
    found: NDArray[np.bool_] = evidence < -0.5 * np.median(evidence)
    return found
