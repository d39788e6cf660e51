"""Resizing of a modality's arrays to one size."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError
from cmkd.types import Kind

_FREE = {"image": 2, "vector": 0, "series": 1, "points": 1, "point_series": 2}
"""Kind -> number of axes that `fit` may change."""
LONGEST = 2**24
"""Maximum length of an axis (pixels, steps or points) after resizing; memory is usually the limit long before."""
HALF = 0.5 - 1e-9
"""Minimum weight of valid values in a valid resized pixel; just below one half, so that rounding does not decide."""


def fitted_shape(kind: Kind, shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape after `fit`.

    Args:
        kind: the modality's kind.
        shape: shape of one sample.
        size: image ``(height, width)``, series ``(time,)``, points ``(points,)``, point_series ``(time, points)``.

    Raises:
        CmkdError: the size has a wrong number of axes, or a length below 1 or above `LONGEST`.

    Example:
        >>> fitted_shape("image", (3, 100, 80), (64, 64))
        (3, 64, 64)
    """
    free = _FREE[kind]
    if len(size) != free or min(size, default=1) < 1 or max(size, default=1) > LONGEST:
        needs = f"{free} positive numbers of at most {LONGEST}"
        raise CmkdError(f"a size for {kind} needs {needs}, got {'x'.join(map(str, size))}")
    return (shape[0], *size) if kind == "image" else (*size, *shape[free:])


def fit(array: NDArray[Any], kind: Kind, size: tuple[int, ...], *, mask_padding: bool = False) -> NDArray[Any]:
    """Resample an image (bilinear, antialiased), or pad with zeros or cut an array of another kind; keep the dtype.

    The size is given as for `fitted_shape`; integers are rounded. In a masked array, only valid values are averaged;
    where they have less than half of the weight, the result is masked. With `mask_padding`, padding is masked too.

    Example:
        >>> fit(np.ones((2, 3)), "series", (4,)).sum(axis=1)
        array([3., 3., 0., 0.])
        >>> fit(np.ma.masked_equal([[[7.0, 7.0, 7.0, 0.0, 0.0, 0.0]]], 0.0), "image", (1, 3)).tolist()
        [[[7.0, 7.0, None]]]
    """
    shape = fitted_shape(kind, array.shape, size)
    if shape == array.shape:
        return array
    plain, invalid = np.ma.getdata(array), np.ma.getmaskarray(array)
    if kind != "image":
        return _masked(_padded(plain, shape), _padded(invalid, shape, mask_padding))
    rows, columns = (_triangle(old, new) for old, new in zip(array.shape[1:], size, strict=True))
    if not invalid.any():
        return _typed(rows @ plain.astype(np.float64) @ columns.T, array.dtype)
    share = rows @ (~invalid).astype(np.float64) @ columns.T
    scaled = rows @ np.where(invalid, 0, plain).astype(np.float64) @ columns.T
    return _masked(_typed(scaled / np.where(share > 0, share, 1), array.dtype), share < HALF)


def _padded(array: NDArray[Any], shape: tuple[int, ...], value: float = 0) -> NDArray[Any]:
    kept = tuple(slice(0, min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    padded = np.full(shape, value, dtype=array.dtype)
    padded[kept] = array[kept]
    return padded


def _masked(values: NDArray[Any], invalid: NDArray[np.bool_]) -> NDArray[Any]:
    return np.ma.MaskedArray(values, invalid) if invalid.any() else values


def _typed(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.rint(values).clip(limits.min, limits.max)
    return values.astype(dtype)


@lru_cache(maxsize=64)  # bounded, so that files of many sizes do not fill the memory
def _triangle(old: int, new: int) -> NDArray[np.float64]:
    """Return the weights ``(new, old)`` of antialiased linear resampling, as wide as the larger of the two pixels."""
    ratio = old / new
    support = max(ratio, 1.0)
    centers = ratio * (np.arange(new)[:, None] + 0.5)
    pixels = np.arange(old)[None]
    inside = (pixels >= np.floor(centers - support + 0.5)) & (pixels < np.floor(centers + support + 0.5))
    weights = np.where(inside, np.maximum(0.0, 1.0 - np.abs(pixels + 0.5 - centers) / support), 0.0)
    found: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return found
