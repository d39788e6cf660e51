"""The reader of TIFF and GeoTIFF files."""

from __future__ import annotations

import struct
from io import SEEK_END
from typing import Any

import numpy as np

from cmkd.data.manifest.content import File
from cmkd.errors import CmkdError

_OFF: dict[str, Any] = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
"""Dialects whose metadata name other files, which tifffile would open."""

DIRECTORIES = 4096
"""Most directories of a file; a few bytes each, they cost time before anything is known of the image."""


def read_tiff(path: File, *, read: bool) -> Any:  # noqa: ANN401  # (shape, dtype) or (shape, dtype, array)
    """Read a TIFF, channels first: bands interleaved, planar or as pages; previews and masks are skipped."""
    import tifffile

    check_chain(path)
    with path.open("rb") as opened, tifffile.TiffFile(opened, **_OFF) as file:
        size = opened.seek(0, SEEK_END)
        parts = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)] or file.series[:1]
        if len({(s.shape, s.axes, np.dtype(s.dtype)) for s in parts}) > 1 or (len(parts) > 1 and parts[0].ndim != 2):
            raise CmkdError(f"{path} holds {len(parts)} pictures that are not bands of one image: save one per file")
        for page in (page for s in parts for page in s.pages):
            blocks = zip(page.dataoffsets, page.databytecounts, strict=False) if page is not None else ()
            if page is None or max((o + n for o, n in blocks), default=0) > size:  # missing data is read as zeros
                raise CmkdError(f"{path} is truncated: {size} bytes, its header promises more; replace it")
        axes, dtype = parts[0].axes, np.dtype(parts[0].dtype)
        shape = tuple(int(n) for n in parts[0].shape)
        array = np.stack([s.asarray() for s in parts]) if read else None
    if len(parts) == 1 and len(shape) > 3:  # axes of length one that some writers add
        kept = [k for k, n in enumerate(shape) if n > 1 or axes[k] in "YX"]
        shape, axes = tuple(shape[k] for k in kept), "".join(axes[k] for k in kept)
    if len(shape) == 2:
        order, target = (0, 1, 2), (len(parts), *shape)
    elif len(shape) == 3 and axes.endswith("YX"):
        order, target = (0, 1, 2), shape
    elif len(shape) == 3 and axes.startswith("YX"):
        order, target = (2, 0, 1), (shape[2], shape[0], shape[1])
    else:
        raise CmkdError(f"{path} has the axes {axes} {shape}: save one image with its bands, height and width")
    if array is None:
        return target, dtype
    return target, dtype, array.reshape((len(parts), *shape) if len(shape) == 2 else shape).transpose(order)


def check_chain(path: File) -> None:
    """Follow the directories of a TIFF to the last, since tifffile ignores one that is cut off.

    Raises:
        CmkdError: it is truncated, or has more than `DIRECTORIES`.
        struct.error: it ends within a directory.
    """
    with path.open("rb") as file:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise CmkdError(f"{path} is truncated or not a TIFF file: replace it")
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        count, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
        (position,) = struct.unpack(f"{order}{pointer}", head[8:16] if big else head[4:8])
        seen: set[int] = set()
        while position and position not in seen:
            seen.add(position)
            if len(seen) > DIRECTORIES:
                raise CmkdError(f"{path} has more than {DIRECTORIES} pages: save one image per file")
            file.seek(position)
            (entries,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(f"={count}")))
            end = position + struct.calcsize(f"={count}") + entries * entry
            if end + struct.calcsize(f"={pointer}") > size:
                raise CmkdError(f"{path} is truncated: {size} bytes, its header promises more; replace it")
            file.seek(end)
            (position,) = struct.unpack(f"{order}{pointer}", file.read(struct.calcsize(f"={pointer}")))
