"""The size limit of one sample, checked from its header before memory is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from cmkd.data.manifest.content import File
from cmkd.errors import CmkdError

MAX_PIXELS = 50_000_000
"""Maximum number of pixels of a picture; the environment variable CMKD_MAX_PIXELS replaces it."""

BYTES_PER_PIXEL = 5
"""Maximum bytes of a decoded sample of any format, per pixel of the limit: 250 MB by default. For a moment, its reader
holds up to four copies."""


def check_size(path: File, shape: Sequence[int], item_bytes: int, *, pixels: int = 0) -> None:
    """Refuse a sample that is too large to decode.

    Args:
        path: the file, for messages.
        shape: shape of the decoded array.
        item_bytes: bytes of one value.
        pixels: height times width of a picture, 0 for anything else.

    Raises:
        CmkdError: the sample is larger than the limit, or CMKD_MAX_PIXELS is not a positive whole number.
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
