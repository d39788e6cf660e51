"""Reading of JPEG and PNG images in archives: single images and frames of videos."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.resize import fit
from cmkd.datasets.formats.archive import Archive

SUFFIXES = (".jpg", ".jpeg", ".png")


def rgb(archive: Archive, name: str, *, shape: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """Return an image as ``(3, height, width)``; if it does not have the given `shape`, refuse it before decoding.

    Raises:
        CmkdError: the image is missing, damaged, or has another size.
    """
    from PIL import Image

    with archive.decoding(name) as file, Image.open(file, formats=("JPEG", "PNG")) as image:
        if shape is not None and image.size != (shape[2], shape[1]):
            size = f"{image.width} x {image.height}"
            raise archive.error(name, f"has {size} pixels, expected {shape[2]} x {shape[1]}")
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def frames_of(archive: Archive, folder: str = "frames") -> dict[str, list[str]]:
    """Return clip -> its files ``<folder>/<clip>/*.jpg`` (or jpeg, png), sorted by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in archive.sizes:
        parts = name.split("/")
        if len(parts) >= 3 and parts[-3] == folder and name.lower().endswith(SUFFIXES):
            found[parts[-2]].append(name)
    return dict(found)


def square(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the middle square of ``(channels, height, width)``, resized to ``(channels, size, size)``.

    Example:
        >>> square(np.arange(8.0).reshape(1, 2, 4), 2).tolist()
        [[[1.0, 2.0], [5.0, 6.0]]]
    """
    height, width = values.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return fit(values[:, top : top + side, left : left + side], "image", (size, size))
