"""Check of the registration of two images of one pair, by their mutual information at all shifts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 8
"""Number of gray levels, equally frequent in each image."""
SMOOTHING = 1.0
"""Standard deviation of the blur that reduces speckle, pixels."""
LARGEST = 128
"""Images are subsampled to this many pixels along their longer side."""
TOLERANCE = 2
"""Maximum distance of a peak from zero that still counts as no shift, in search steps."""
LEAD = 4.0
"""Minimum height of a peak above the best shift within `TOLERANCE`, in standard deviations of the mirrored surfaces."""


class Offset(NamedTuple):
    """Peak of the mutual information of two images."""

    down: int  # pixels of the original images by which the second image is lower
    right: int  # pixels of the original images by which the second image is further right
    peak: float  # value of the peak divided by the highest value with the second image mirrored
    lead: float  # value of the peak minus the best value near zero, in standard deviations of the mirrored surfaces
    step: int  # pixels of the original images per step of the search
    rim: bool  # whether the highest value is at the largest shift tried, so that the surface has no peak

    @property
    def decided(self) -> bool:
        """Whether there is a clear peak; without one the registration is unknown."""
        return self.peak > 1 and not self.rim

    @property
    def shifted(self) -> bool:
        """Whether the peak is away from zero by more than chance explains."""
        away = max(abs(self.down), abs(self.right)) > TOLERANCE * self.step
        return self.decided and away and self.lead > LEAD


def offset(first: NDArray[Any], second: NDArray[Any]) -> Offset | None:
    """Find the shift at which two images share the most information.

    The center of the first image slides over the second, so the overlap, and with it the bias of the estimate, is the
    same at every shift. Several channels are reduced to their first principal component. Shifts up to an eighth of the
    shorter side are searched; larger shifts, rotations and changes of scale are not found.

    The search is repeated with the second image mirrored (upside down, left to right, both), which gives the values
    that chance and texture alone produce. A pair is decided if its peak is inside the search range and above every
    mirrored value. It is shifted if the peak is further from zero than `TOLERANCE` and, by `LEAD` standard deviations
    of the mirrored surfaces, above the values at all shifts within `TOLERANCE`.

    Measured on 64-pixel images, with other seeds than in the tests: for infrared images made from simulated optical
    images, 64 % of shifts by 3 pixels are found, 92 % by 4, 97 % by 5 and 99 % by 6, and 0 of 300 unshifted pairs are
    flagged. For Sentinel-1 and Sentinel-2 crops, which share little information, half of the shifts are found, and 0 of
    245 unshifted pairs are flagged. Shifted pairs that are not found are nearly always undecided.

    Returns:
        The peak, or None if an image is constant or too small for a search (under 24 pixels).

    Source:
        Viola and Wells (1997), Alignment by Maximization of Mutual Information; Maes et al. (1997).
    """
    step = max(1, -(-max(first.shape[1:]) // LARGEST))
    one, two = (_one_channel(image[:, ::step, ::step].astype(np.float64)) for image in (first, second))
    reach = min(one.shape) // 8
    if reach < 3 or not (one.std() > 0 and two.std() > 0):
        return None
    surface = information(one, two, reach)
    mirrored = np.stack([information(one, image, reach) for image in (two[::-1], two[:, ::-1], two[::-1, ::-1])])
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    middle = slice(reach - TOLERANCE, reach + TOLERANCE + 1)
    highest, near = float(surface.max()), float(surface[middle, middle].max())
    return Offset(
        down=step * (int(row) - reach),
        right=step * (int(column) - reach),
        peak=highest / max(float(mirrored.max()), 1e-12),
        lead=(highest - near) / max(float(mirrored.std()), 1e-12),
        step=step,
        rim=max(abs(int(row) - reach), abs(int(column) - reach)) == reach,
    )


def information(first: NDArray[np.float64], second: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return the mutual information, nats, of two images at all shifts up to `reach`.

    Args:
        first: first image ``(height, width)``; only its middle is compared.
        second: second image ``(height, width)``.
        reach: largest shift, pixels.

    Returns:
        ``(2 reach + 1, 2 reach + 1)``; row and column `reach` are zero shift, and at larger rows (columns) the second
        image is lower (further right).

    Example:
        >>> picture = np.random.default_rng(0).normal(size=(40, 40))
        >>> surface = information(picture, -np.roll(picture, 3, axis=0), 5)
        >>> np.unravel_index(surface.argmax(), surface.shape)
        (np.int64(8), np.int64(5))
    """
    from scipy.fft import irfft2, rfft2
    from scipy.special import xlogy

    height, width = first.shape
    middle = _indicators(first)[:, reach : height - reach, reach : width - reach]
    # correlation of indicator images counts every combination of levels at every shift; the middle never wraps around
    left, right = rfft2(middle, s=(height, width)).conj(), rfft2(_indicators(second))
    shifts = slice(0, 2 * reach + 1)
    joint = np.stack([irfft2(level * right, s=(height, width))[:, shifts, shifts] for level in left])
    joint = np.rint(joint) / middle[0].size
    first_alone, second_alone, together = (
        -xlogy(part, part).sum(axis=0)
        for part in (joint.sum(axis=1), joint.sum(axis=0), joint.reshape(-1, *joint.shape[2:]))
    )
    surface: NDArray[np.float64] = (first_alone + second_alone - together).astype(np.float64)
    return surface


def _one_channel(image: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    flat = image.reshape(len(image), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(flat.std(axis=1, keepdims=True), 1e-12)
    if len(flat) > 1:
        _, vectors = np.linalg.eigh(flat @ flat.T)
        flat = vectors[:, -1:].T @ flat
    smooth: NDArray[np.float64] = gaussian_filter(flat.reshape(image.shape[1:]), SMOOTHING)
    return smooth


def _indicators(picture: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return indicators ``(BINS, height, width)``, 1 where a pixel has the gray level.

    The levels are equally frequent, as far as ties allow.
    """
    edges = np.quantile(picture, np.arange(1, BINS) / BINS)
    levels = np.searchsorted(edges, picture, side="right")
    indicators: NDArray[np.float32] = (levels == np.arange(BINS)[:, None, None]).astype(np.float32)
    return indicators
