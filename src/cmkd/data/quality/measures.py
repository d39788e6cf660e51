"""Numbers that describe one sample: the spread of its values, their extremes, and its appearance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.duplicates import digest
from cmkd.types import Kind

EDGE = 0.01
"""A value counts as extreme within this fraction of the range from the highest (lowest) value."""
SIDE = 32
"""Side of the thumbnail that the descriptor is made from, pixels."""
FREQUENCIES = 16
"""Cosine frequencies per axis in the descriptor: enough to distinguish two patterns of speckle."""


@dataclass(frozen=True)
class Measures:
    """Measures of one sample."""

    shape: tuple[int, ...]  # of the array
    dtype: str  # of the array
    digest: str  # sha256 of shape, type and values
    missing: float  # fraction of the values that are invalid: masked or NaN; the other measures are of the valid ones
    finite: float  # fraction of the others that are not infinite
    # root mean square over channels of the standard deviation in space (in time, over points); a vector's numbers are
    # one channel
    spread: float
    high: float  # fraction of the values within `EDGE` of the highest one
    low: float  # fraction of the values within `EDGE` of the lowest one
    tail: float  # fraction of an image's rows, from the last one up, that are constant in every channel; else 0
    # low cosine frequencies of a small gray image, mean 0 and deviation 1; empty for other kinds
    descriptor: NDArray[np.float32]
    character: NDArray[np.float32]  # numbers by which one sensor's images differ from another's; empty for other kinds


def measure(array: NDArray[Any], kind: Kind) -> Measures:
    """Measure a sample, whose axes `kind` names and whose invalid values are masked or NaN.

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
    """Return one channel ``(height, width)``: the mean of the channels ``(channels, height, width)``."""
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
    return spectrum[:FREQUENCIES, :FREQUENCIES].ravel()[1:].astype(np.float32)  # the first is the mean: zero


def _character(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """Return measures of histogram and texture that do not depend on the units."""
    picture = gray((values - low) / max(high - low, 1e-12))
    deviation = max(float(picture.std()), 1e-12)
    centered = (picture - picture.mean()) / deviation
    down = np.diff(picture, axis=0).std() / deviation if len(picture) > 1 else 0.0
    across = np.diff(picture, axis=1).std() / deviation if picture.shape[1] > 1 else 0.0
    numbers = [picture.mean(), np.log(deviation), (centered**3).mean(), np.log1p((centered**4).mean()), down, across,
               *np.quantile(picture, (0.1, 0.5, 0.9))]  # fmt: skip
    return np.asarray(numbers, np.float32)
