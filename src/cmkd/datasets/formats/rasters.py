"""Reading of bands of satellite images from TIFF files in archives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.gdal import measured, value_tags
from cmkd.data.manifest.resize import fit
from cmkd.datasets.formats.archive import Archive

LEAST_POWER = 1e-6
"""Lower limit of linear backscatter before conversion to decibels: -60 dB, below the noise floor of Sentinel-1."""


def raster(archive: Archive, name: str, bands: int) -> NDArray[Any]:
    """Return the image of a TIFF file as ``(bands, height, width)`` in the file's own dtype, masked where invalid.

    The file may have its `bands` along its first or its last axis. NaN and the nodata value in its tags are invalid; a
    scale and an offset in its tags are applied, which gives floats.

    Raises:
        CmkdError: the file is missing or damaged, has another number of bands or no valid value, or holds infinite
            values.
    """
    import tifffile

    with archive.decoding(name) as file, tifffile.TiffFile(file) as tiff:
        values, tags = tiff.asarray(), value_tags(tiff.pages.first, name)
    values = values[None] if values.ndim == 2 else values
    if values.ndim == 3 and values.shape[0] != bands:
        values = np.moveaxis(values, -1, 0)
    if values.ndim != 3 or values.shape[0] != bands:
        raise archive.error(name, f"has shape {values.shape}, expected {bands} bands")
    values = measured(values, tags)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise archive.error(name, "holds infinite values; leave the file out, or")
    if np.ma.getmaskarray(values).all():
        raise archive.error(name, "has no valid value; leave the file out, or")
    return values


def floats(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as 32-bit floats in which invalid values are NaN, as a pack stores them."""
    found: NDArray[np.float32] = np.ma.filled(values.astype(np.float32), np.nan)
    return found


def stacked(bands: Sequence[NDArray[Any]], size: int) -> NDArray[np.float32]:
    """Resize images ``(1, height, width)`` of any size to one grid, ``(bands, size, size)``; invalid values are NaN."""
    return np.concatenate([floats(fit(band.astype(np.float32), "image", (size, size))) for band in bands])


def decibels(power: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Convert linear backscatter to decibels, where speckle is additive and equally strong everywhere.

    Example:
        >>> decibels(np.array([1.0, 0.01, 0.0])).tolist()
        [0.0, -20.0, -60.0]
    """
    scaled: NDArray[np.float32] = (10.0 * np.log10(np.maximum(power, LEAST_POWER))).astype(np.float32)
    return scaled
