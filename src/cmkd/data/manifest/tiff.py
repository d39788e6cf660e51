"""The reader of TIFF and GeoTIFF files."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.gdal import NO_TAGS, NOT_APPLIED, value_tags
from cmkd.data.manifest.header import Decoded, FileHeader, as_orientation
from cmkd.data.manifest.size_limit import check_size
from cmkd.data.manifest.tiff_blocks import check_blocks, check_chain
from cmkd.data.manifest.tiff_colors import as_shown, is_as_stored, shown_form
from cmkd.errors import CmkdError

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # this reader reports problems itself, in one line

_OFF: dict[str, Any] = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
"""TIFF dialects that are switched off, because tifffile would open other files that their metadata name."""


def decode_tiff(path: File, *, values: bool) -> Decoded:
    """Read a TIFF with interleaved bands, planar bands or bands as pages, channels first; previews are skipped."""
    import tifffile

    check_chain(path)
    with path.open("rb") as opened, tifffile.TiffFile(opened, **_OFF) as file:
        parts = _parts(path, file)
        page = parts[0].keyframe
        for part in parts:
            for one in part.pages:
                check_blocks(path, opened, one)
        shape, axes = tuple(int(n) for n in parts[0].shape), parts[0].axes
        if len(parts) == 1 and len(shape) > 3:  # axes of length one that some writers add
            kept = [k for k, n in enumerate(shape) if n > 1 or axes[k] in "YX"]
            shape, axes = tuple(shape[k] for k in kept), "".join(axes[k] for k in kept)
        whole = (len(parts), *shape) if len(shape) == 2 else shape
        if len(whole) != 3 or not (axes.endswith("YX") or axes.startswith("YX")):
            raise CmkdError(f"{path} has the axes {axes} {shape}: save one image with its bands, height and width")
        order = (0, 1, 2) if axes.endswith("YX") else (2, 0, 1)
        stored = tuple(whole[k] for k in order)
        dtype = np.dtype(parts[0].dtype)
        check_size(path, stored, dtype.itemsize, pixels=math.prod(stored[1:]))
        tags = value_tags(page, path) if is_as_stored(page) else NO_TAGS
        bands, dtype = shown_form(path, page, stored[0], dtype)
        dtype = np.dtype(np.float32) if tags.scaled else dtype
        check_size(path, (bands, *stored[1:]), dtype.itemsize)
        paged = len(parts) > 1 or (len(shape) == 3 and axes[0] in "QI")  # no tag says what the pages are
        header = FileHeader(
            "image",
            (bands, *stored[1:]),
            dtype.name,
            orientation=as_orientation(page.tags.valueof(274)),
            tags=tags,
            order="pages" if paged else "told",
        )
        if not values:
            return header, None
        array: NDArray[Any] = np.stack([part.asarray() for part in parts]).reshape(whole).transpose(order)
        return header, as_shown(page, array)


def _parts(path: File, file: Any) -> list[Any]:  # noqa: ANN401  # tifffile is imported where it is used
    """Return the tifffile series that make up the image: one, or one per band.

    Raises:
        CmkdError: the file holds several pictures, a mask, or child images that are not previews or masks.
    """
    parts = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)] or file.series[:1]
    if any(s.keyframe.is_mask for s in file.series if s not in parts):
        raise CmkdError(f"{path} has an internal mask, {NOT_APPLIED}")
    if len({(s.shape, s.axes, np.dtype(s.dtype)) for s in parts}) > 1 or (len(parts) > 1 and parts[0].ndim != 2):
        raise CmkdError(f"{path} holds {len(parts)} pictures that are not bands of one image: save one per file")
    for page in (part.keyframe for part in file.series):
        if page.subifds and not all(child.is_reduced or child.is_mask for child in page.pages):
            raise CmkdError(f"{path} holds child images (SubIFDs), as camera raw files do: convert it to plain TIFF")
    return parts
