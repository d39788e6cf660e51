"""Reading of images in one folder per class, in an archive or unpacked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.images import BLOCK, Images
from cmkd.datasets.formats.pictures import SUFFIXES, rgb
from cmkd.errors import CmkdError


def class_folders(archive: Archive, classes: Sequence[str], shape: tuple[int, int, int], *, split: str = "") -> Images:
    """Return the images of an archive that lie in folders named after the classes.

    Args:
        archive: an open archive or folder.
        classes: names of the folders; a label is a position in them.
        shape: ``(3, height, width)`` that every image must have.
        split: published split, ``train`` or ``test``, which is also the name of the folder that holds the class
            folders; empty if there is no such folder.

    Raises:
        CmkdError: a class has no images.
    """
    inside = f"{split}/" if split else ""
    pattern = re.compile(rf"(?:^|/){inside}({'|'.join(map(re.escape, classes))})/([^/]+)\.\w+$")
    found = [
        (classes.index(match[1]), f"{inside}{match[1]}/{match[2]}" if split else match[2], name)
        for name in archive.sizes
        if name.lower().endswith(SUFFIXES) and (match := pattern.search(name))
    ]
    if missing := sorted(set(range(len(classes))) - {label for label, _, _ in found}):
        folder = inside + classes[missing[0]]
        raise CmkdError(f"{archive.place} holds no images in a folder {folder}: get it from {archive.address}")

    def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(rows), BLOCK):
            yield np.stack([rgb(archive, found[row][2], shape=shape) for row in rows[start : start + BLOCK]])

    labels = np.array([label for label, _, _ in found], dtype=np.int64)
    return Images(split, [name for _, name, _ in found], labels, read)
