"""Bands of satellite images out of archives, in TIFF files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.resize import fit
from cmkd.datasets.formats.archive import Archive

LEAST_POWER = 1e-6
"""Least backscatter that is converted to decibels: -60 dB, under the noise floor of Sentinel-1."""


def raster(archive: Archive, name: str, bands: int) -> NDArray[Any]:
    """Return the image of a TIFF file as ``(bands, height, width)`` in the file's own type.

    The file may have its `bands` along its first or its last axis.

    Raises:
        CmkdError: it is missing or damaged, has other bands, or holds NaN or infinite values.
    """
    import tifffile

    with archive.decoding(name) as file:
        values = tifffile.imread(file)
    values = values[None] if values.ndim == 2 else values
    if values.ndim == 3 and values.shape[0] != bands:
        values = np.moveaxis(values, -1, 0)
    if values.ndim != 3 or values.shape[0] != bands:
        raise archive.error(name, f"has shape {values.shape}, expected {bands} bands")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise archive.error(name, "holds NaN or infinite values; leave the file out, or")
    return values


def stacked(bands: Sequence[NDArray[Any]], size: int) -> NDArray[np.float32]:
    """Resize images ``(1, height, width)`` of any size to one grid, ``(bands, size, size)``."""
    return np.concatenate([fit(band.astype(np.float32), "image", (size, size)) for band in bands])


def decibels(power: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Convert linear backscatter to decibels, in which speckle is additive and equally strong everywhere.

    Example:
        >>> decibels(np.array([1.0, 0.01, 0.0])).tolist()
        [0.0, -20.0, -60.0]
    """
    scaled: NDArray[np.float32] = (10.0 * np.log10(np.maximum(power, LEAST_POWER))).astype(np.float32)
    return scaled
