"""Images that are in two splits at once: finding them exactly, without comparing every pair of images in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONTRAST = 0.1
"""Two images are copies if they differ by no more than this share of the contrast of the one."""
_CELLS = 8
_ROWS = 1024

Reader = Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Signatures:
    """What is kept of images to compare them.

    Args:
        cells: ``(images, cells)`` means of a coarse grid over all channels, about the middle gray.
        contrast: ``(images,)`` standard deviation within a channel.
    """

    cells: NDArray[np.float32]
    contrast: NDArray[np.float32]

    @classmethod
    def of(cls, read: Reader, rows: NDArray[np.int64]) -> Signatures:
        """Read `rows` and keep their signatures."""
        cells, contrast = [np.empty((0, 1), np.float32)], [np.empty(0, np.float32)]
        for images in read(rows) if len(rows) else ():
            values = images.astype(np.float32)
            count, _, height, width = values.shape
            down, across = (max(n for n in range(1, _CELLS + 1) if side % n == 0) for side in (height, width))
            grid = values.mean(1).reshape(count, down, height // down, across, width // across).mean((2, 4))
            cells.append(grid.reshape(count, -1) - 127.5)  # small numbers: their squares cancel below, in float32
            contrast.append(np.sqrt(values.var((2, 3)).mean(1)))
        return cls(np.concatenate(cells[1:] or cells), np.concatenate(contrast))


def copies(read: Reader, rows: NDArray[np.int64], read_others: Reader, others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of `rows` whose image is a copy of one of `others`.

    A copy differs from the other image by a root mean square of no more than `CONTRAST` times the other's contrast
    (its standard deviation within a channel); images without contrast must be equal. Only pairs whose coarse grids
    differ as little are compared in full. No copy is missed by that: averaging never makes a difference larger.

    Args:
        read: yields the images of ascending rows, ``(some, channels, height, width)`` uint8.
        rows: ascending.
        read_others: the same for `others`.
        others: ascending.
    """
    if not len(rows) or not len(others):
        return rows[:0]
    return confirmed(read, rows, Signatures.of(read, rows), read_others, others, Signatures.of(read_others, others))


def confirmed(
    read: Reader,
    rows: NDArray[np.int64],
    signatures: Signatures,
    read_others: Reader,
    others: NDArray[np.int64],
    other_signatures: Signatures,
) -> NDArray[np.int64]:
    """As `copies`, with the signatures at hand."""
    first, second = _candidates(signatures, other_signatures)
    limit = CONTRAST * other_signatures.contrast
    found: set[int] = set()
    targets = np.unique(second)
    for start in range(0, len(targets), _ROWS):  # so many images are held, and one block of the others
        held = targets[start : start + _ROWS]
        images = dict(zip(held.tolist(), _each(read_others, others[held]), strict=True))
        here = np.isin(second, held)
        partners: dict[int, list[int]] = {}
        for i, j in zip(first[here].tolist(), second[here].tolist(), strict=True):
            partners.setdefault(i, []).append(j)
        wanted = sorted(partners)
        for i, image in zip(wanted, _each(read, rows[wanted]), strict=True):
            if any(_distance(image, images[j]) <= limit[j] for j in partners[i]):
                found.add(i)
    return rows[sorted(found)]


def _candidates(ours: Signatures, others: Signatures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions in both whose coarse grids are close enough."""
    # the squares are columns of the product: |a - b|² - |b|² = a·(-2b) + |a|²; one pass over the pairs less
    own = np.column_stack([ours.cells, np.square(ours.cells).sum(1)])
    other = np.column_stack([-2.0 * others.cells, np.ones(len(others.cells), np.float32)])
    # a little more than the limit: sums of 64 squares of up to 127² are off by a few times 2**-3 in float32
    limit = 1.01 * others.cells.shape[1] * np.square(CONTRAST * others.contrast) + 4.0
    limit -= np.square(others.cells).sum(1)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(own), _ROWS):
        for begin in range(0, len(other), _ROWS):
            distance = own[start : start + _ROWS] @ other[begin : begin + _ROWS].T
            first, second = np.nonzero(distance <= limit[begin : begin + _ROWS])
            found.append((first + start, second + begin))
    return np.concatenate([first for first, _ in found]), np.concatenate([second for _, second in found])


def _each(read: Reader, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    return (image for block in (read(rows) if len(rows) else ()) for image in block)


def _distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.sqrt(np.square(one.astype(np.float32) - other).mean()))
