"""Conversion of the samples of a TIFF to the values of a picture, by the same convention as for PNG."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.errors import CmkdError

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_PLAIN = (_BLACK_IS_ZERO, _RGB, _MASK)
_JPEG = (6, 7, 33007, 34892)  # compressions whose decoder turns YCbCr into RGB


def shown_form(path: File, page: Any, bands: int, dtype: np.dtype[Any]) -> tuple[int, np.dtype[Any]]:  # noqa: ANN401
    """Return the number of bands and the dtype of a page after `as_shown`.

    Args:
        path: the file, for messages.
        page: a page of tifffile.
        bands: number of stored bands.
        dtype: dtype of the stored values.

    Raises:
        CmkdError: the colors are in a form that is not converted.
    """
    meaning = _meaning(page)
    if meaning == _PALETTE:
        if bands != 1 or page.colormap is None:
            raise CmkdError(f"{path} has a palette and {bands} bands: convert it to RGB")
        return 3, np.dtype("uint8")
    if meaning == _CMYK:
        if dtype != np.uint8:
            raise CmkdError(f"{path} holds CMYK in {dtype.name}: convert it to RGB")
        return 3, dtype
    if meaning == _WHITE_IS_ZERO and dtype.kind not in "ub":
        raise CmkdError(f"{path} holds {dtype.name} values with 0 as white: save it with 0 as black")
    if meaning not in (*_PLAIN, _WHITE_IS_ZERO):
        name = getattr(page.photometric, "name", page.photometric)
        raise CmkdError(f"{path} has the color space {name}: convert it to gray or RGB")
    return bands, np.dtype("uint8") if page.bitspersample < 8 else dtype


def is_as_stored(page: Any) -> bool:  # noqa: ANN401
    """Return whether `as_shown` leaves the values unchanged, so that tags about stored values apply to them."""
    return _meaning(page) in _PLAIN and page.bitspersample >= 8


def as_shown(page: Any, array: NDArray[Any]) -> NDArray[Any]:  # noqa: ANN401
    """Return samples ``(bands, height, width)`` as the values of a picture, in which larger is brighter.

    Palettes and CMYK become RGB, samples with 0 as white are inverted, and values of fewer than 8 bits are stretched to
    0 to 255. Other values stay as they are.
    """
    meaning, most = _meaning(page), 2**page.bitspersample - 1
    if meaning == _PALETTE:
        colors = page.colormap >> 8 if page.colormap.max() > 255 else page.colormap  # some writers use 8 of the 16 bits
        palette: NDArray[Any] = colors.astype(np.uint8)[:, array[0]]
        return palette
    if meaning == _CMYK:
        from PIL import Image

        inks = np.ascontiguousarray(np.moveaxis(array, 0, -1))
        return np.moveaxis(np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")), -1, 0)
    if meaning == _WHITE_IS_ZERO:
        array = (most - array).astype(array.dtype) if array.dtype != bool else ~array
    return (array.astype(np.uint16) * 255 // most).astype(np.uint8) if page.bitspersample < 8 else array


def _meaning(page: Any) -> int:  # noqa: ANN401
    """Return the meaning of the samples: the photometric tag, unless the decoder or the ink set overrides it."""
    if 262 not in page.tags:
        return _BLACK_IS_ZERO
    tag = int(page.photometric)
    if tag == _YCBCR and int(page.compression) in _JPEG:
        return _RGB
    if tag == _CMYK and (page.samplesperpixel != 4 or int(page.tags.valueof(332, 1)) != 1):
        return _BLACK_IS_ZERO  # other ink sets are read as plain bands
    return tag
