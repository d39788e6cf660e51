"""Images in a folder per class, in an archive or unpacked: a layout that many data sets share."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.transformed import BLOCK, Images
from cmkd.errors import CmkdError

SUFFIXES = (".jpg", ".jpeg", ".png")


def class_folders(
    archive: Archive, classes: Sequence[str], shape: tuple[int, int, int], *, split: str = "", below: str = ""
) -> Images:
    """Return the images of an archive that lie in folders named like the classes.

    Args:
        archive: an open archive or folder.
        classes: names of the folders; a label is a position in them.
        shape: ``(3, height, width)`` that every image must have.
        split: as published, ``train`` or ``test``; empty where there is none.
        below: name of the folder that the class folders must lie in; any unless given.

    Raises:
        CmkdError: a class has no images.
    """
    inside = re.escape(below) + "/" if below else ""
    pattern = re.compile(rf"(?:^|/){inside}({'|'.join(map(re.escape, classes))})/([^/]+)\.\w+$")
    found = []
    for name in archive.sizes:
        match = pattern.search(name)
        if match is not None and name.lower().endswith(SUFFIXES):
            found.append(
                (classes.index(match[1]), f"{below or match[1]}/{match[1]}/{match[2]}" if below else match[2], name)
            )
    if missing := sorted(set(range(len(classes))) - {label for label, _, _ in found}):
        folder = f"{below}/{classes[missing[0]]}" if below else classes[missing[0]]
        raise CmkdError(f"{archive.place} holds no images in a folder {folder}: get it from {archive.address}")

    def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(rows), BLOCK):
            yield np.stack([decode(archive, found[row][2], shape) for row in rows[start : start + BLOCK]])

    labels = np.array([label for label, _, _ in found], dtype=np.int64)
    return Images(split, [name for _, name, _ in found], labels, read)


def decode(archive: Archive, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return an RGB image of the expected shape.

    Raises:
        CmkdError: it is damaged or has another size; its pixels are not decoded then.
    """
    from PIL import Image, UnidentifiedImageError

    content = archive.read(name)
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.size != (shape[2], shape[1]):
                raise CmkdError(
                    f"{name} in {archive.place} has {image.width} x {image.height} pixels, expected {shape[2]} x "
                    f"{shape[1]}: get it from {archive.address}"
                )
            return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CmkdError(f"{name} in {archive.place} is damaged: get it again from {archive.address}") from error


def tiny_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return ``(3, height, width)`` as JPEG, for fixtures."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
