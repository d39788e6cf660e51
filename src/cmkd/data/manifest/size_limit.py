"""The limit of one sample's size, checked from its header before memory is taken."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from cmkd.data.manifest.content import File
from cmkd.errors import CmkdError

MAX_PIXELS = 50_000_000
"""Most pixels of a picture; the environment variable CMKD_MAX_PIXELS replaces it."""

BYTES_PER_PIXEL = 5
"""A sample of any format may take this many bytes for each pixel of the limit once it is decoded, 250 MB by default;
its reader has up to four copies of it for a moment."""


def check_size(path: File, shape: Sequence[int], item_bytes: int, *, pixels: int = 0) -> None:
    """Refuse a sample that is too large to decode.

    Args:
        path: the file, for messages.
        shape: of the decoded array.
        item_bytes: bytes of one value.
        pixels: height times width of a picture, 0 for anything else.

    Raises:
        CmkdError: it is larger than the limit, or CMKD_MAX_PIXELS is no positive whole number.
    """
    most = _most_pixels()
    size = math.prod(shape) * item_bytes
    if pixels > most:
        problem = f"{pixels:,} pixels; the limit is {most:,}"
    elif size > most * BYTES_PER_PIXEL:
        problem = f"{size:,} bytes once decoded; the limit is {most * BYTES_PER_PIXEL:,}"
    else:
        return
    enough = 10 ** len(str(max(pixels, size // BYTES_PER_PIXEL)))
    raise CmkdError(f"{path} has {problem}: cut it, or raise the limit with CMKD_MAX_PIXELS={enough}")


def _most_pixels() -> int:
    text = os.environ.get("CMKD_MAX_PIXELS", "")
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise CmkdError(f"CMKD_MAX_PIXELS is '{text}': give a positive whole number of pixels")
    return int(text) if text else MAX_PIXELS
