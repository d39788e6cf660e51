"""Numbers that describe one sample: the spread of its values, their extremes, and its appearance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.duplicates import digest
from cmkd.types import Kind

EDGE = 0.01
"""Distance from the highest (lowest) value, as a fraction of the range, within which a value counts as extreme."""
SIDE = 32
"""Side of the thumbnail from which the descriptor is made, pixels."""
FREQUENCIES = 16
"""Cosine frequencies per axis in the descriptor: enough to distinguish two patterns of speckle."""


@dataclass(frozen=True)
class Measures:
    """Measures of one sample."""

    shape: tuple[int, ...]  # shape of the array
    dtype: str  # dtype of the array
    digest: str  # sha256 of shape, dtype and values
    missing: float  # fraction of invalid (masked or NaN) values; the other measures are over the valid values
    finite: float  # fraction of the valid values that are not infinite
    # root mean square over channels of the standard deviation over space (or time, or points); a vector is one channel
    spread: float
    high: float  # fraction of the values within `EDGE` of the highest one
    low: float  # fraction of the values within `EDGE` of the lowest one
    tail: float  # fraction of an image's rows, from the last row up, constant in every channel; 0 for other kinds
    # low cosine frequencies of a small gray image of mean 0 and standard deviation 1; empty for other kinds
    descriptor: NDArray[np.float32]
    character: NDArray[np.float32]  # numbers that distinguish the images of two sensors; empty for other kinds


def measure(array: NDArray[Any], kind: Kind) -> Measures:
    """Measure a sample of the given kind; its invalid values are masked or NaN.

    Example:
        >>> flat = measure(np.full((3, 8, 8), 7, np.uint8), "image")
        >>> flat.spread, flat.high, flat.tail
        (0.0, 1.0, 1.0)
    """
    values = np.ma.getdata(array).astype(np.float64)
    invalid = np.ma.getmaskarray(array) | np.isnan(values)
    used = np.isfinite(values) & ~invalid
    if not used.all():
        values = np.where(used, values, values[used].mean() if used.any() else 0.0)
    match kind:
        case "image":
            channels = (values.reshape(len(values), -1), used.reshape(len(values), -1))
        case "vector":
            channels = (values[None], used[None])
        case _:
            channels = (values.reshape(-1, values.shape[-1]).T, used.reshape(-1, used.shape[-1]).T)
    low, high = float(values.min()), float(values.max())
    margin = EDGE * (high - low)
    counted = max(1, int(used.sum()))
    empty = np.zeros(0, np.float32)
    return Measures(
        shape=array.shape,
        dtype=array.dtype.name,
        digest=digest(np.ma.filled(array, 0)) if used.any() else "",
        missing=float(invalid.mean()),
        finite=1 - float((~used & ~invalid).sum()) / max(1, int((~invalid).sum())),
        spread=_spread(*channels),
        high=float((used & (values >= high - margin)).sum()) / counted,
        low=float((used & (values <= low + margin)).sum()) / counted,
        tail=_tail(np.where(used, values, np.nan)) if kind == "image" else 0.0,
        descriptor=_descriptor(values) if kind == "image" else empty,
        character=_character(values, low, high) if kind == "image" else empty,
    )


def gray(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over channels ``(height, width)`` of an image ``(channels, height, width)``."""
    mean: NDArray[np.float64] = values.mean(axis=0)
    return mean


def _spread(channels: NDArray[np.float64], used: NDArray[np.bool_]) -> float:
    count = np.maximum(used.sum(axis=1), 1)
    mean = np.where(used, channels, 0).sum(axis=1) / count
    variance = np.where(used, channels - mean[:, None], 0) ** 2
    return float(np.sqrt((variance.sum(axis=1) / count).mean()))


def _tail(values: NDArray[np.float64]) -> float:
    same = (values == values[:, -1:, -1:]).all(axis=(0, 2))[::-1]
    return float(len(same) if same.all() else same.argmin()) / len(same)


def _descriptor(values: NDArray[np.float64]) -> NDArray[np.float32]:
    from PIL import Image
    from scipy.fft import dctn

    small = np.asarray(
        Image.fromarray(gray(values).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64
    )
    deviation = small.std()
    if not deviation > 0:
        return np.zeros(FREQUENCIES**2 - 1, np.float32)
    spectrum = dctn((small - small.mean()) / deviation, norm="ortho")
    return spectrum[:FREQUENCIES, :FREQUENCIES].ravel()[1:].astype(np.float32)  # without the mean, which is zero


def _character(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """Return measures of histogram and texture that do not depend on the units of the values."""
    picture = gray((values - low) / max(high - low, 1e-12))
    deviation = max(float(picture.std()), 1e-12)
    centered = (picture - picture.mean()) / deviation
    down = np.diff(picture, axis=0).std() / deviation if len(picture) > 1 else 0.0
    across = np.diff(picture, axis=1).std() / deviation if picture.shape[1] > 1 else 0.0
    numbers = [picture.mean(), np.log(deviation), (centered**3).mean(), np.log1p((centered**4).mean()), down, across,
               *np.quantile(picture, (0.1, 0.5, 0.9))]  # fmt: skip
    return np.asarray(numbers, np.float32)
