"""Bands of satellite images out of archives, and splits by where on Earth they lie."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.resize import fit
from cmkd.datasets.formats.archive import Archive
from cmkd.errors import CmkdError

LEAST_POWER = 1e-6
"""Backscatter below which decibels are not lower: -60 dB, under the noise floor of Sentinel-1."""


def raster(archive: Archive, name: str, bands: int) -> NDArray[Any]:
    """Return the image of a TIFF file.

    Args:
        archive: where it is.
        name: of the file.
        bands: how many it must have; they may be its first or its last axis.

    Returns:
        ``(bands, height, width)`` in the file's own type.

    Raises:
        CmkdError: it is missing or damaged, has other bands, or holds NaN or infinite values.
    """
    import tifffile

    content, what = archive.read(name), f"{name} in {archive.place}"
    try:
        values = tifffile.imread(io.BytesIO(content))
    except Exception as error:  # tifffile and its codecs raise whatever they meet in damaged bytes
        raise CmkdError(f"{what} is truncated or damaged: get it again from {archive.address}") from error
    values = values[None] if values.ndim == 2 else values
    if values.ndim == 3 and values.shape[0] != bands:
        values = np.moveaxis(values, -1, 0)
    if values.ndim != 3 or values.shape[0] != bands:
        raise CmkdError(f"{what} has shape {values.shape}, expected {bands} bands: get it from {archive.address}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CmkdError(f"{what} holds NaN or infinite values: leave the file out, or get it from {archive.address}")
    return values


def stacked(bands: Sequence[NDArray[Any]], size: int) -> NDArray[np.float32]:
    """Bring images ``(1, height, width)`` of any size to one grid, ``(bands, size, size)``."""
    return np.concatenate([fit(band.astype(np.float32), "image", (size, size)) for band in bands])


def decibels(power: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return linear backscatter as decibels, in which speckle is additive and of one strength.

    Example:
        >>> decibels(np.array([1.0, 0.01, 0.0])).tolist()
        [0.0, -20.0, -60.0]
    """
    scaled: NDArray[np.float32] = (10.0 * np.log10(np.maximum(power, LEAST_POWER))).astype(np.float32)
    return scaled
