"""Limits from robust statistics of a modality, so that what is usual for a sensor is not reported as a fault.

The defaults were chosen on pairs of `cmkd simulate marine` with the seeds 101 and 202, and of `digits`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.4826
"""Standard deviation of normal values over their median absolute deviation (MAD)."""
FEWEST = 20
"""Samples of a modality needed for robust statistics; with fewer, only absolute limits hold."""
DEVIATIONS = 6.0
"""Robust standard deviations from the median beyond which a value is unusual."""
LEAST_FACTOR = 3.0
"""A low spread is also below the median by this factor, however similar the others are."""
BLANK_FACTOR = 100.0
"""A sample whose spread is below the median by this factor is blank."""
LEAST_CLIPPED = 0.25
"""A clipped sample has at least this fraction of its values at one extreme."""
LEAST_TAIL = 0.1
"""A truncated image has at least this fraction of constant rows at its end."""
LEAST_LIKENESS = 0.9
"""Near duplicates have at least this cosine between their descriptors."""


def robust(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and robust standard deviation (`NORMAL` times the median absolute deviation).

    Example:
        >>> robust(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))
        (3.0, 1.4826)
    """
    median = float(np.median(values))
    return median, NORMAL * float(np.median(np.abs(values - median)))


def least_spread(spreads: NDArray[np.float64]) -> tuple[float, float]:
    """Return the spreads below which a sample is low in contrast, and blank, from those of all samples of a modality.

    The logarithm of the spread is compared, since sensors differ in units and scenes by factors.
    """
    positive = spreads[spreads > 0]
    if len(positive) < FEWEST:
        return 0.0, 0.0
    median, deviation = robust(np.log(positive))
    lowest = median - max(DEVIATIONS * deviation, float(np.log(LEAST_FACTOR)))
    blank = median - float(np.log(BLANK_FACTOR))
    return float(np.exp(lowest)), float(np.exp(min(blank, lowest)))


def most_share(shares: NDArray[np.float64], least: float, *, times: float = 3.0) -> float:
    """Return the fraction above which a sample is unusual; a limit above 1 flags nothing.

    Most sensors have shares of zero, some have many large ones (black water in radar images), so the median absolute
    deviation is often zero. The distance from the median to the 95th percentile is used instead; whatever more than
    one sample in twenty shows counts as usual for the sensor.

    Args:
        shares: of all samples of a modality, 0 to 1.
        least: lowest limit.
        times: multiple of that distance above the median that is still usual.
    """
    if len(shares) < FEWEST:
        return max(least, 0.5)
    middle, upper = np.quantile(shares, (0.5, 0.95))
    return max(least, float(middle + times * (upper - middle)))


def most_likeness(nearest: NDArray[np.float64]) -> float:
    """Return the likeness above which an image's nearest neighbor is a near duplicate.

    Args:
        nearest: likeness of each image to its nearest neighbor, -1 to 1; compared on Fisher's scale.
    """
    if len(nearest) < FEWEST:
        return 0.99
    median, deviation = robust(np.arctanh(np.clip(nearest, -0.999999, 0.999999)))
    return max(LEAST_LIKENESS, float(np.tanh(median + DEVIATIONS * deviation)))
