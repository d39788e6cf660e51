"""Checks of the directories, strips and tiles of a TIFF before any is decoded."""

from __future__ import annotations

import math
import struct
from io import SEEK_END
from typing import IO, Any

from cmkd.data.manifest.content import File
from cmkd.data.manifest.size_limit import check_size
from cmkd.errors import CmkdError

DIRECTORIES = 4096
"""Maximum number of directories of a file; each takes only a few bytes, but time before the image is known."""

BOUNDED = {"NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD", "LZMA"}
"""Compressions that never decode to more than the size of a strip or tile."""

_FAX = {"CCITTRLE", "CCITTFAX3", "CCITTFAX4"}
_MARKERS = 64  # maximum number of JPEG segments before the one with the size
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of the segments that state a size


def check_blocks(path: File, file: IO[bytes], page: Any) -> None:  # noqa: ANN401  # a page of tifffile
    """Check that the strips or tiles (blocks) of a page are complete, because tifffile reads missing ones as zeros.

    Args:
        path: the file, for messages.
        file: the same file, opened.
        page: a page, None if tifffile did not find it.

    Raises:
        CmkdError: there are fewer blocks than the shape needs, a block is beyond the end of the file, too short or too
            large, or may decode to more than its size, or the bands have several types.
    """
    size = file.seek(0, SEEK_END)
    truncated = CmkdError(f"{path} is truncated: {size} bytes, fewer than its header says; replace it")
    if page is None:
        raise truncated
    frame, blocks = page.keyframe, list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if max((start + count for start, count in blocks), default=0) > size:
        raise truncated
    joined = frame.is_contiguous and len(blocks) == 1  # tifffile joins the strips of values that are not packed
    if not joined and len(blocks) < math.prod(frame.chunked):
        raise CmkdError(f"{path} is damaged: it has {len(blocks)} strips or tiles, too few for its shape; replace it")
    if frame.dtype is None or not isinstance(frame.bitspersample, int):
        raise CmkdError(f"{path} has bands of {frame.bitspersample} bits: convert them to one type")
    bits = frame.imagelength * frame.imagewidth * frame.samplesperpixel * frame.bitspersample
    whole = all(count for _, count in blocks)  # blocks of nodata that the writer left out have no bytes
    name = getattr(frame.compression, "name", str(frame.compression))
    if name == "NONE" and whole and sum(count for _, count in blocks) < bits // 8:
        raise truncated
    if frame.is_tiled:
        check_size(path, frame.chunks, frame.dtype.itemsize, pixels=frame.tilelength * frame.tilewidth)
    if name == "JPEG":
        limit = frame.chunks[:2] if frame.planarconfig == 1 or frame.samplesperpixel == 1 else frame.chunks[-2:]
        for start, count in blocks:
            if count and not _fits(file, start, start + count, limit):
                raise CmkdError(f"{path} is damaged: a JPEG in it is larger than its strip or tile; replace it")
    elif name not in BOUNDED | _FAX:
        raise CmkdError(f"{path} has the compression {name}: save it with LZW, deflate, ZSTD, JPEG or none")


def _fits(file: IO[bytes], start: int, end: int, limit: tuple[int, ...]) -> bool:
    """Return whether a JPEG states a size within a limit ``(height, width)``; its decoder trusts only that size."""
    place = start + 2
    for _ in range(_MARKERS):
        file.seek(place)
        head = file.read(9)
        if len(head) < 9 or place + 9 > end or head[0] != 0xFF:
            return False
        length, height, width = struct.unpack(">2xHxHH", head)
        if head[1] in _SIZES:
            return bool(0 < height <= limit[0] and 0 < width <= limit[1])
        place += 2 + length
    return False


def check_chain(path: File) -> None:
    """Follow the directories of a TIFF to the last one, since tifffile ignores a truncated directory.

    Raises:
        CmkdError: the file is not a TIFF or is truncated, or its directories form a loop or are more than
            `DIRECTORIES`.
        struct.error: the file ends within a directory.
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
        while position:
            if position in seen:  # tifffile would follow the loop forever
                raise CmkdError(f"{path} is damaged: its pages form a loop; replace it")
            seen.add(position)
            if len(seen) > DIRECTORIES:
                raise CmkdError(f"{path} has more than {DIRECTORIES} pages: save one image per file")
            file.seek(position)
            (entries,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(f"={count}")))
            end = position + struct.calcsize(f"={count}") + entries * entry
            if end + struct.calcsize(f"={pointer}") > size:
                raise CmkdError(f"{path} is truncated: {size} bytes, fewer than its header says; replace it")
            file.seek(end)
            (position,) = struct.unpack(f"{order}{pointer}", file.read(struct.calcsize(f"={pointer}")))
