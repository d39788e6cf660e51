"""Limits that the data set itself gives: robust statistics of a modality, so that no sensor is blamed for its nature.

The defaults were chosen on pairs of `cmkd simulate marine` with the seeds 101 and 202, and of `digits`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST = 20
"""Cells of a modality below which robust statistics say nothing, and only absolute limits hold."""
DEVIATIONS = 6.0
"""Robust standard deviations (1.4826 MAD) from the median that are no chance."""
LEAST_FACTOR = 3.0
"""A spread is low only if it is below the median by this factor too, however alike the others are."""
BLANK_FACTOR = 100.0
"""A spread below the median by this factor is none."""
LEAST_CLIPPED = 0.25
"""Part of the values at one extreme below which nothing is called clipped."""
LEAST_TAIL = 0.1
"""Part of the rows below which a constant end is not called truncated."""
LEAST_LIKENESS = 0.9
"""Cosine of two descriptors below which two images are not called near duplicates."""


def robust(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and robust standard deviation (1.4826 times the median absolute deviation).

    Example:
        >>> robust(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))
        (3.0, 1.4826)
    """
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(values - median)))


def least_spread(spreads: NDArray[np.float64]) -> tuple[float, float]:
    """Return the spreads below which a cell is low in contrast, and blank.

    The logarithm of the spread is compared, since sensors differ in units and scenes by factors.

    Args:
        spreads: of all cells of a modality.
    """
    positive = spreads[spreads > 0]
    if len(positive) < FEWEST:
        return 0.0, 0.0
    median, deviation = robust(np.log(positive))
    lowest = median - max(DEVIATIONS * deviation, float(np.log(LEAST_FACTOR)))
    blank = median - float(np.log(BLANK_FACTOR))
    return float(np.exp(lowest)), float(np.exp(min(blank, lowest)))


def most_share(shares: NDArray[np.float64], least: float, *, times: float = 3.0) -> float:
    """Return the part above which a share is no habit of the modality: a limit above 1 accuses nothing.

    Shares are zero for most cells of most sensors, and large for many of some (a radar image's black water), so that
    the median absolute deviation is often zero. The distance from the median to the 95th percentile takes its place;
    what more than one cell in twenty does is taken for the sensor's nature.

    Args:
        shares: of all cells of a modality, 0 to 1.
        least: lowest limit.
        times: how often that distance above the median is still usual.
    """
    if len(shares) < FEWEST:
        return max(least, 0.5)
    middle, upper = np.quantile(shares, (0.5, 0.95))
    return max(least, float(middle + times * (upper - middle)))


def most_likeness(nearest: NDArray[np.float64]) -> float:
    """Return the likeness above which an image's nearest neighbor is no chance.

    Args:
        nearest: likeness of each image to the one most like it, -1 to 1; compared on Fisher's scale.
    """
    if len(nearest) < FEWEST:
        return 0.99
    median, deviation = robust(np.arctanh(np.clip(nearest, -0.999999, 0.999999)))
    return max(LEAST_LIKENESS, float(np.tanh(median + DEVIATIONS * deviation)))
