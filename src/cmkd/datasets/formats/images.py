"""Labeled images of one published part, read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""Number of images that are read, degraded and written at a time."""


@dataclass(frozen=True)
class Images:
    """Labeled images of one published part, in the publisher's order."""

    split: str  # ``train`` or ``test`` as published; empty if the publisher gives no split
    ids: Sequence[str]  # a name for each image, the same in any packaging
    labels: NDArray[np.int64]  # ``(images,)`` class positions
    # function that yields the images at ascending positions in blocks ``(some, channels, height, width)`` uint8
    read: Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]]


def blocks(arrays: Iterator[NDArray[Any]], rows: NDArray[np.int64], size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """Select ascending rows from a stream of arrays, and yield them in blocks of about `size`.

    The arrays ``(some, ...)`` hold all rows in order. The stream is read to its end, so that its own checks run.
    """
    kept: list[NDArray[Any]] = []
    start = number = 0
    for array in arrays:
        end = int(np.searchsorted(rows, start + len(array)))
        if end > number:
            kept.append(array[rows[number:end] - start])
        start, number = start + len(array), end
        if sum(map(len, kept)) >= size:
            yield np.concatenate(kept)
            kept = []
    if kept:
        yield np.concatenate(kept)
