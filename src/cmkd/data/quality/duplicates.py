"""Search for duplicates: by value, by likeness within one set of images, and pixel by pixel between two sets.

`exact_duplicates` and `near_duplicates` look for samples that occur again within a data set; `near_duplicates` takes
its limit from the data set itself and finds re-encoded images. `repeated` finds all images of one set, such as test,
that another set, such as train, also has, within a fixed tolerance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.limits import FEWEST, most_likeness, robust

BLOCK = 1024
"""Number of images that are compared with all others at once."""
TOLERANCE = 0.1
"""Maximum difference of images that `repeated` finds, as a fraction of the contrast of the image in the other set."""
_GRID = 8

Reader = Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]]
"""Function that yields the images of ascending rows in blocks ``(some, channels, height, width)`` uint8."""


class Duplicate(NamedTuple):
    """Positions of two equal or similar samples, and their likeness (1 for the same values)."""

    later: int
    earlier: int
    likeness: float


def digest(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's shape, type and values."""
    return hashlib.sha256(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def exact_duplicates(digests: Sequence[str]) -> list[Duplicate]:
    """Return every sample whose content occurred before, with the first sample that has it; skip empty digests.

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
    """Return images that resemble an earlier image more than chance allows, and the limit of likeness.

    Like a perceptual hash, this compares low cosine frequencies, but by their values, each in units of its own spread
    over the data set. Content that all images share, such as a ship in the middle of a sea, does not count.
    Re-encoding, halving the size, and changes of brightness, contrast or noise leave the likeness above 0.9. Images
    that are mirrored, or shifted or cropped by two pixels of 64, are not found, nor are duplicates of images whose
    content is fainter than the change: of 2,000 EuroSAT images, JPEG versions of quality 70 are found for all images
    whose standard deviation is above 10 levels of 255, and for 90 % overall; no two of the originals are matched.

    Time is quadratic in the number of images (ten thousand take seconds); memory is linear.

    Args:
        descriptors: ``(images, numbers)``, each row `Measures.descriptor` of an image.
        groups: group of each image; images of one group (such as a vessel) resemble each other and are not compared.

    Returns:
        The duplicates, and the limit, which is 1 for fewer than three images.
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
    """Return unit vectors of each image's difference from the median image."""
    values = descriptors.astype(np.float64)
    if len(values) >= FEWEST:
        scales = np.array([robust(column) for column in values.T])
        useful = scales[:, 1] > 1e-6 * max(float(scales[:, 1].max()), 1e-12)
        values = np.clip((values[:, useful] - scales[useful, 0]) / scales[useful, 1], -6, 6)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (values / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


@dataclass(frozen=True)
class ImageRows:
    """A set of images, with a signature under 1 kB per image that distinguishes most of them."""

    read: Reader  # yields images by row
    rows: NDArray[np.int64]  # ascending
    grid: NDArray[np.float32]  # ``(images, cells)`` means in a coarse grid over all channels, minus 127.5
    contrast: NDArray[np.float32]  # ``(images,)`` standard deviation within a channel

    @classmethod
    def of(cls, read: Reader, rows: NDArray[np.int64]) -> ImageRows:
        """Read the images of `rows` once and compute their signatures."""
        grids, contrast = [np.empty((0, 1), np.float32)], [np.empty(0, np.float32)]
        for images in read(rows) if len(rows) else ():
            values = images.astype(np.float32)
            count, _, height, width = values.shape
            down, across = (max(n for n in range(1, _GRID + 1) if side % n == 0) for side in (height, width))
            means = values.mean(1).reshape(count, down, height // down, across, width // across).mean((2, 4))
            grids.append(means.reshape(count, -1) - 127.5)  # small numbers: their squares cancel below, in float32
            contrast.append(np.sqrt(values.var((2, 3)).mean(1)))
        return cls(read, rows, np.concatenate(grids[1:] or grids), np.concatenate(contrast))

    def each(self, places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield place and image for ascending places in `rows`."""
        blocks = self.read(self.rows[places]) if len(places) else ()
        return zip(places.tolist(), (image for block in blocks for image in block), strict=True)


def repeated(images: ImageRows, others: ImageRows) -> NDArray[np.int64]:
    """Return the rows of `images` whose image is also in `others`.

    Two images are the same if their root mean square difference is at most `TOLERANCE` times the contrast of the image
    in `others` (its standard deviation within a channel); images without contrast must be equal. Only pairs whose
    coarse grids differ by no more than that are compared in full; none is missed, since averaging never increases a
    difference.
    """
    if not len(images.rows) or not len(others.rows):
        return images.rows[:0]
    first, second = _candidates(images, others)
    limit = TOLERANCE * others.contrast
    found: set[int] = set()
    targets = np.unique(second)
    for start in range(0, len(targets), BLOCK):  # memory: BLOCK images of `others`, and one block of `images`
        held = dict(others.each(targets[start : start + BLOCK]))
        here = np.isin(second, list(held))
        partners: dict[int, list[int]] = {}
        for i, j in zip(first[here].tolist(), second[here].tolist(), strict=True):
            partners.setdefault(i, []).append(j)
        for i, image in images.each(np.array(sorted(partners), dtype=np.int64)):
            exact = image.astype(np.float32)
            if any(np.sqrt(np.square(exact - held[j]).mean()) <= limit[j] for j in partners[i]):
                found.add(i)
    return images.rows[sorted(found)]


def _candidates(ours: ImageRows, others: ImageRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places in both sets of all pairs whose coarse grids are close enough."""
    # the squares are columns of the product: |a - b|² - |b|² = a·(-2b) + |a|²; this saves one pass over the pairs
    own = np.column_stack([ours.grid, np.square(ours.grid).sum(1)])
    other = np.column_stack([-2.0 * others.grid, np.ones(len(others.grid), np.float32)])
    # a little more than the limit: sums of 64 squares of up to 127² are off by a few times 2**-3 in float32
    limit = 1.01 * others.grid.shape[1] * np.square(TOLERANCE * others.contrast) + 4.0
    limit -= np.square(others.grid).sum(1)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(own), BLOCK):
        for begin in range(0, len(other), BLOCK):
            distance = own[start : start + BLOCK] @ other[begin : begin + BLOCK].T
            first, second = np.nonzero(distance <= limit[begin : begin + BLOCK])
            found.append((first + start, second + begin))
    return np.concatenate([first for first, _ in found]), np.concatenate([second for _, second in found])
