"""Limits from robust statistics of a modality, so that values that are usual for a sensor are not reported as faults.

The defaults were chosen on pairs of `cmkd simulate marine` with the seeds 101 and 202, and of `digits`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.4826
"""Ratio of standard deviation to median absolute deviation (MAD) of normally distributed values."""
FEWEST = 20
"""Minimum number of samples of a modality for robust statistics; with fewer, only absolute limits hold."""
DEVIATIONS = 6.0
"""Number of robust standard deviations from the median beyond which a value is unusual."""
LEAST_FACTOR = 3.0
"""A low spread is also below the median by at least this factor, however similar the other samples are."""
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
    """Return the spread below which a sample is low in contrast, and the spread below which it is blank.

    Both limits come from the spreads of all samples of a modality. Their logarithms are compared, since sensors differ
    in units, and scenes differ by factors.
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

    For most sensors the fractions are zero; for some, many are large (black water in radar images). The median absolute
    deviation is therefore often zero, and the distance from the median to the 95th percentile is used instead. A
    fraction that more than one sample in twenty reaches counts as usual for the sensor.

    Args:
        shares: fractions in all samples of a modality, 0 to 1.
        least: lower bound of the limit.
        times: multiple of this distance above the median that is still usual.
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
