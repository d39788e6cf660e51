"""Near-duplicates between two sets of images are exactly those that a comparison of every pair finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from cmkd.data.quality import duplicates as module
from cmkd.data.quality.duplicates import TOLERANCE, ImageRows, repeated


def reader(images: NDArray[np.uint8], size: int = 7) -> Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]]:
    def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(rows), size):
            yield images[rows[start : start + size]]

    return read


def search(
    ours: NDArray[np.uint8], rows: NDArray[np.int64], others: NDArray[np.uint8], other_rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    return repeated(ImageRows.of(reader(ours), rows), ImageRows.of(reader(others), other_rows))


def every_pair(ours: NDArray[np.uint8], others: NDArray[np.uint8]) -> list[int]:
    found = []
    for row, image in enumerate(ours.astype(float)):
        for other in others.astype(float):
            contrast = np.sqrt(other.var((1, 2)).mean())
            if np.sqrt(((image - other) ** 2).mean()) <= TOLERANCE * contrast:
                found.append(row)
                break
    return found


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 7, 5)])
@pytest.mark.parametrize("held", [3, 1024])
def test_as_a_comparison_of_every_pair(shape: tuple[int, int, int], held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", held)
    generator = np.random.default_rng(0)
    others = generator.integers(0, 256, (30, *shape), dtype=np.uint8)
    others[20:] = others[20:] // 16 + 100  # little contrast
    ours = generator.integers(0, 256, (40, *shape), dtype=np.uint8)
    changed = others[np.arange(25)].astype(int) + generator.integers(-1, 2, (25, *shape)) * np.arange(25).reshape(
        -1, 1, 1, 1
    )
    ours[:25] = changed.clip(0, 255)  # from an equal image to a different one
    expected = every_pair(ours, others)
    assert 3 < len(expected) < 20
    found = search(ours, np.arange(40), others, np.arange(30))
    assert found.tolist() == expected
    some = search(ours, np.array([0, 2, 39]), others, np.array([2, 5]))
    assert some.tolist() == [2]


def test_bright_images_are_found_too() -> None:
    """Cancellation of large numbers must not hide a duplicate."""
    images = 255 - np.random.default_rng(0).integers(0, 3, (300, 1, 64, 64), dtype=np.uint8)
    assert len(search(images, np.arange(300), images.copy(), np.arange(300))) == 300


def test_images_without_contrast_must_be_equal() -> None:
    flat = np.stack([np.full((1, 8, 8), level, np.uint8) for level in (10, 11, 12)])
    assert search(flat, np.arange(3), flat, np.array([1])).tolist() == [1]


def test_nothing_to_compare() -> None:
    images = np.zeros((2, 1, 8, 8), np.uint8)
    nobody = np.arange(0)
    assert not len(search(images, nobody, images, np.arange(2)))
    assert not len(search(images, np.arange(2), images, nobody))
