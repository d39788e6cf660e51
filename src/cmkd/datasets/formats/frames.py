"""Frames of videos, taken out beforehand by a program that reads videos."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.resize import fit
from cmkd.datasets.formats.archive import Archive
from cmkd.errors import CmkdError


def frames_of(archive: Archive, folder: str = "frames") -> dict[str, list[str]]:
    """Return the files ``<folder>/<clip>/*.jpg`` (or png) by clip, in order of their names."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in archive.sizes:
        parts = name.split("/")
        if len(parts) >= 3 and parts[-3] == folder and name.lower().endswith((".jpg", ".jpeg", ".png")):
            found[parts[-2]].append(name)
    return dict(found)


def picture(archive: Archive, name: str, size: int) -> NDArray[np.uint8]:
    """Return an image as ``(3, size, size)``, its middle square.

    Raises:
        CmkdError: it is missing or damaged.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            values = np.asarray(image.convert("RGB"))
    except CmkdError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged bytes
        raise CmkdError(f"{name} in {archive.place} is damaged: get it again from {archive.address}") from error
    squared: NDArray[np.uint8] = square(np.moveaxis(values, -1, 0), size)
    return squared


def square(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the middle square of ``(channels, height, width)`` at another size, ``(channels, size, size)``.

    Example:
        >>> square(np.arange(8.0).reshape(1, 2, 4), 2).tolist()
        [[[1.0, 2.0], [5.0, 6.0]]]
    """
    height, width = values.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return fit(values[:, top : top + side, left : left + side], "image", (size, size))


def jpeg_bytes(values: NDArray[np.uint8]) -> bytes:
    """Return ``(height, width, 3)`` as a JPEG file, for fixtures."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(values).save(content, "JPEG")
    return content.getvalue()
