"""Statistics of the target and the clutter in a radar chip, real or simulated: contrast, looks, K shape and size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cmkd.simulators.marine.mesh import Array

CONTRAST = 6.0
"""Multiple of the median above which a pixel of the smoothed image is bright; our choice."""
LEAST = 4
"""Smallest number of pixels in a bright area; our choice."""
GUARD = 2
"""Pixels of the guard band around bright areas, neither target nor clutter because of side lobes; our choice."""
FEWEST = 100
"""Smallest number of clutter pixels from which statistics are estimated; our choice."""


@dataclass(frozen=True)
class ChipStatistics:
    """Statistics of one chip in one channel; NaN where the chip does not allow an estimate."""

    target_to_clutter_db: float  # mean power of the target's bright area over the mean of the clutter
    looks: float  # equivalent number of looks of the clutter, texture included
    k_shape: float  # K-distribution shape of the clutter; infinite where it varies no more than speckle
    size_m: float  # extent of the target's bright area along its main axis
    clutter_db: float  # mean of the clutter


def measure(power: Array, *, spacing: tuple[float, float], looks: float) -> ChipStatistics:
    """Measure the statistics of a chip.

    Args:
        power: linear power ``(height, width)``, such as sigma nought; NaN where it is invalid.
        spacing: pixel spacing along height and width, m.
        looks: number of looks of the speckle, from the product's description; needed for the K shape.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> power = rng.gamma(4, 1 / 4, (64, 64))
        >>> power[30:34, 20:40] = 100.0
        >>> found = measure(power, spacing=(10.0, 10.0), looks=4)
        >>> round(found.target_to_clutter_db), round(found.looks, 1), round(found.size_m)
        (20, 4.0, 210)
    """
    target, clutter = segments(power)
    values = power[clutter]
    enough = len(values) >= FEWEST and float(values.mean()) > 0
    mean = float(values.mean()) if enough else math.nan
    contrast = float(power[target].mean()) / mean if target.any() else math.nan
    return ChipStatistics(
        target_to_clutter_db=10 * math.log10(contrast) if contrast > 0 else math.nan,
        looks=equivalent_looks(values) if enough else math.nan,
        k_shape=k_shape(values, looks) if enough else math.nan,
        size_m=extent(target, spacing),
        clutter_db=10 * math.log10(mean) if enough else math.nan,
    )


def segments(power: Array) -> tuple[Array, Array]:
    """Return the masks of target and clutter pixels, both ``(height, width)`` bool.

    A pixel is bright if the 3 x 3 mean around it exceeds `CONTRAST` times the median and its own value exceeds half of
    that; connected areas of fewer than `LEAST` pixels do not count. The target is the bright area nearest to the
    center; clutter is every valid pixel outside the bright areas and their guard bands. In clutter with a shape below
    about 0.5, this rule also removes peaks of the clutter, which then looks smoother than it is.
    """
    from scipy import ndimage

    valid = np.isfinite(power)
    filled = np.where(valid, power, 0.0)
    weight = ndimage.uniform_filter(valid.astype(float), 3, mode="constant")
    smooth = ndimage.uniform_filter(filled, 3, mode="constant") / np.maximum(weight, 1e-9)
    median = float(np.median(power[valid])) if valid.any() else 0.0
    # beside a bright area, smoothing alone can make a pixel bright, so its own value is tested too
    areas, _ = ndimage.label(valid & (smooth > CONTRAST * median) & (filled > CONTRAST / 2 * median), np.ones((3, 3)))
    kept = np.flatnonzero(np.bincount(areas.ravel())[1:] >= LEAST) + 1
    bright = np.isin(areas, kept)
    target = np.zeros_like(valid)
    if len(kept):
        middle = (np.array(power.shape) - 1) / 2
        rows = np.argwhere(bright)
        nearest = rows[((rows - middle) ** 2).sum(1).argmin()]
        target = areas == areas[tuple(nearest)]
    guard = ndimage.binary_dilation(bright, np.ones((3, 3), bool), iterations=GUARD)
    return target, valid & ~guard


def equivalent_looks(power: Array) -> float:
    """Return the equivalent number of looks, ``mean² / variance`` (Oliver and Quegan, Understanding SAR Images, 2004).

    Texture and edges lower the estimate; correlation between pixels does not, but makes it less certain.

    Example:
        >>> round(equivalent_looks(np.random.default_rng(0).gamma(3, 1, 100_000)), 1)
        3.0
    """
    variance = float(power.var())
    return float(power.mean()) ** 2 / variance if variance > 0 else math.nan


def k_shape(power: Array, looks: float) -> float:
    """Estimate the shape of a K distribution by its second moment (Oliver and Quegan 2004; Ward, Tough and Watts 2013).

    ``<I²> / <I>² = (1 + 1 / looks) (1 + 1 / shape)``, solved for the shape.

    With few pixels of spiky clutter, rare peaks are mostly missing, so the sample moment is too low and the shape too
    high. A wrong number of looks also biases the shape.

    Args:
        power: linear power of clutter pixels.
        looks: number of looks of the speckle.

    Returns:
        The shape; infinite where the values vary no more than speckle does.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> clutter = rng.gamma(1, 1, 200_000) * rng.gamma(2.0, 0.5, 200_000)
        >>> round(k_shape(clutter, 1), 1)
        2.0
    """
    mean = float(power.mean())
    excess = float((power**2).mean()) / mean**2 / (1 + 1 / looks) - 1 if mean > 0 else math.nan
    return 1 / excess if excess > 0 else (math.inf if excess <= 0 else math.nan)


def extent(target: Array, spacing: tuple[float, float]) -> float:
    """Return the extent of an area along its main axis, m: one pixel for a single pixel, NaN for an empty area.

    The point spread adds about a resolution cell, and side lobes of bright parts may add more.

    Args:
        target: mask of the area, ``(height, width)`` bool.
        spacing: pixel spacing along height and width, m.

    Example:
        >>> extent(np.eye(5, dtype=bool), (10.0, 10.0)).__round__(1)
        66.6
    """
    points = np.argwhere(target) * np.asarray(spacing)
    if len(points) == 0:
        return math.nan
    centered = points - points.mean(0)
    axis = np.linalg.eigh(centered.T @ centered)[1][:, -1]
    along = centered @ axis
    return float(np.ptp(along) + np.hypot(*(axis * spacing)))
