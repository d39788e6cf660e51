"""Pairs that are there twice: value by value, or the same picture saved in another way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.limits import FEWEST, most_likeness, robust

BLOCK = 1024
"""Images compared with all others at once."""


class Duplicate(NamedTuple):
    """Two cells that are alike: positions, the earlier one second, and their likeness (1 for the same content)."""

    later: int
    earlier: int
    likeness: float


def exact_duplicates(digests: Sequence[str]) -> list[Duplicate]:
    """Return every cell whose content occurred before, with the first one that has it.

    Args:
        digests: of the cells, empty for one that takes no part.

    Example:
        >>> exact_duplicates(["a", "b", "a", "", ""])
        [Duplicate(later=2, earlier=0, likeness=1.0)]
    """
    first: dict[str, int] = {}
    return [
        Duplicate(row, first[digest], 1.0)
        for row, digest in enumerate(digests)
        if digest and first.setdefault(digest, row) != row
    ]


def near_duplicates(descriptors: NDArray[np.float32], groups: Sequence[str]) -> tuple[list[Duplicate], float]:
    """Return images whose nearest earlier neighbor is nearer than chance, and the limit of likeness.

    As a perceptual hash it compares low cosine frequencies, but with their values instead of their signs, and each
    one in units of its own spread over the data set: where all pictures show a ship in the middle of a sea, what is
    common to them does not count. Re-encoding, brightness, contrast, noise and halving the size leave the likeness
    above 0.9; a shift or crop by two pixels of 64, or a mirror image, do not, and are not found. Nor is the copy of an
    image whose content is fainter than the change: of 2,000 EuroSAT images, JPEG copies of quality 70 are found of all
    whose deviation is above 10 levels of 255, and of 90 % over all; no two of the originals are called alike.

    Time is quadratic in the number of images (ten thousand take seconds), memory is linear.

    Args:
        descriptors: ``(images, numbers)`` of `Measures`.
        groups: of each image; two of one group (a vessel) may be alike by nature and are not compared.

    Returns:
        The twins, and the limit, which is 1 for fewer than three images.
    """
    count = len(descriptors)
    if count < 3:
        return [], 1.0
    scaled = _scaled(descriptors)
    numbers = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    codes = np.array([numbers[name] if name else -1 - row for row, name in enumerate(groups)])
    nearest, before = np.full(count, -1.0), np.full((count, 2), -1.0)
    for start in range(0, count, BLOCK):
        rows = slice(start, min(start + BLOCK, count))
        likeness = (scaled[rows] @ scaled.T).astype(np.float64)
        likeness[codes[rows, None] == codes[None, :]] = -1.0
        nearest[rows] = likeness.max(axis=1)
        likeness[np.arange(count)[None, :] >= np.arange(count)[rows, None]] = -1.0
        before[rows, 0], before[rows, 1] = likeness.argmax(axis=1), likeness.max(axis=1)
    limit = most_likeness(nearest)
    found = np.flatnonzero(before[:, 1] >= limit)
    return [Duplicate(int(row), int(before[row, 0]), float(before[row, 1])) for row in found], limit


def _scaled(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return unit vectors of how each image differs from the usual one."""
    values = descriptors.astype(np.float64)
    if len(values) >= FEWEST:
        scales = np.array([robust(column) for column in values.T])
        useful = scales[:, 1] > 1e-6 * max(float(scales[:, 1].max()), 1e-12)
        values = np.clip((values[:, useful] - scales[useful, 0]) / scales[useful, 1], -6, 6)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (values / np.maximum(length, 1e-12)).astype(np.float32)
    return unit
