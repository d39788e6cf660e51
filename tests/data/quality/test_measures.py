"""The parts of the check: measures, limits, duplicates and offsets, against known answers."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image
from sklearn.metrics import mutual_info_score

from cmkd.data.quality.duplicates import near_duplicates
from cmkd.data.quality.limits import least_spread, most_share, robust
from cmkd.data.quality.measures import measure
from cmkd.data.quality.registration import BINS, information, offset

ROOT = Path(os.environ.get("CMKD_DATA", ""))
SENTINEL = ROOT / "terramind" / "terramind-examples.zip"


@cache
def views() -> NDArray[np.uint8]:
    """Return 120 real 64-pixel crops, ``(crops, 3, 64, 64)``, of two photographs."""
    crops = [
        load_sample_image(name)[top : top + 64, left : left + 64]
        for name in ("china.jpg", "flower.jpg")
        for top in range(0, 360, 64)
        for left in range(0, 570, 60)
    ]
    return np.stack([np.moveaxis(crop, -1, 0) for crop in crops])


@cache
def looks() -> list[NDArray[np.float32]]:
    """Return the descriptors of the crops."""
    return [measure(crop, "image").descriptor for crop in views()]


def test_measures_of_a_known_image() -> None:
    image = np.zeros((2, 10, 10), np.float32)
    image[0, :5] = 4  # deviation 2; the other channel is constant
    found = measure(image, "image")
    assert found.spread == pytest.approx(np.sqrt((2**2 + 0) / 2))
    assert (found.high, found.low, found.tail, found.finite) == (0.25, 0.75, 0.5, 1.0)
    image[1, 0, 0], image[1, 0, 1] = np.nan, np.inf
    found = measure(image, "image")
    assert (found.missing, found.finite) == (pytest.approx(1 / 200), pytest.approx(198 / 199))
    assert measure(np.full((2, 3, 3), np.inf, np.float32), "image").finite == 0


def test_a_digest_is_of_values_shape_and_type() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    others = [image.reshape(1, 2, 8), image.astype(np.int8), image + np.uint8(1)]
    assert len({measure(array, "image").digest for array in (image, *others)}) == 4
    assert measure(np.asfortranarray(image), "image").digest == measure(image, "image").digest


def test_limits_follow_the_data_set() -> None:
    spreads = np.random.default_rng(0).lognormal(3, 0.3, 500)
    lowest, blank = least_spread(spreads)
    median, deviation = robust(np.log(spreads))
    assert lowest == pytest.approx(np.exp(median - 6 * deviation))
    assert blank == pytest.approx(np.exp(median) / 100)
    assert least_spread(np.full(500, 7.0))[0] == pytest.approx(7 / 3)  # never nearer than a factor of 3
    assert least_spread(spreads[:10]) == (0.0, 0.0)
    assert least_spread(10 * spreads)[0] == pytest.approx(10 * lowest)
    assert most_share(np.zeros(500), 0.25) == 0.25
    black = np.random.default_rng(0).uniform(0, 0.9, 500)  # a radar whose water is black
    assert most_share(black, 0.25) > 1


def compressed(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(crop, 0, -1)).save(buffer, "JPEG", quality=40)
    return np.moveaxis(np.asarray(Image.open(buffer)), -1, 0).astype(np.float64)


CHANGES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = {
    "brighter": lambda a: np.clip(a * 0.8 + 30, 0, 255),
    "noisy": lambda a: a + np.random.default_rng(0).normal(0, 8, a.shape),
    "halved": lambda a: a.reshape(3, 32, 2, 32, 2).mean((2, 4)).repeat(2, 1).repeat(2, 2),
    "gamma": lambda a: 255 * (a / 255.0) ** 0.7,
    "compressed": compressed,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_a_near_duplicate(change: str) -> None:
    descriptors = np.stack([*looks(), measure(np.asarray(CHANGES[change](views()[37])), "image").descriptor])
    last = len(descriptors) - 1
    found, limit = near_duplicates(descriptors, [""] * (last + 1))
    assert [(duplicate.later, duplicate.earlier) for duplicate in found] == [(last, 37)]
    assert 0.9 <= limit < 1
    of_one_vessel = ["g" if k in (37, last) else "" for k in range(last + 1)]
    assert near_duplicates(descriptors, of_one_vessel)[0] == []


def test_information_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    first = gaussian_filter(generator.normal(size=(40, 36)), 1)
    second = np.roll(first, (2, -1), (0, 1)) ** 2 + generator.normal(0, 0.02, first.shape)
    surface = information(first, second, 4)
    levels = [np.searchsorted(np.quantile(p, np.arange(1, BINS) / BINS), p, side="right") for p in (first, second)]
    for down, right in ((0, 0), (2, -1), (-4, 3)):
        shifted = levels[1][4 + down : 36 + down, 4 + right : 32 + right]
        expected = mutual_info_score(levels[0][4:36, 4:32].ravel(), shifted.ravel())
        assert surface[4 + down, 4 + right] == pytest.approx(expected, abs=1e-6)
    assert np.unravel_index(surface.argmax(), surface.shape) == (6, 3)


def negative(crop: NDArray[np.uint8], seed: int) -> NDArray[np.float64]:
    """Return what another sensor might see: turned around, with speckle."""
    bright = crop[1].astype(np.float64)
    return ((255 - bright) * np.random.default_rng(seed).gamma(12, 1 / 12, bright.shape))[None]


def test_shifts_of_another_sensor_are_found_on_photographs() -> None:
    crops = views()[::4]
    still = [offset(crop, negative(crop, 1000 + k)) for k, crop in enumerate(crops)]
    moved = [offset(crop, np.roll(negative(crop, 1000 + k), (6, -5), (1, 2))) for k, crop in enumerate(crops)]
    assert all(found is not None for found in (*still, *moved))
    assert np.mean([found.shifted for found in still if found]) <= 0.04  # one of 30
    flagged = [found for found in moved if found and found.shifted]
    assert len(flagged) > 0.25 * len(crops)  # sky and blurred petals have nothing to hold on to
    assert np.mean([max(abs(found.down - 6), abs(found.right + 5)) <= 1 for found in flagged]) > 0.9  # a wall repeats


def test_large_images_are_thinned_and_small_ones_left() -> None:
    generator = np.random.default_rng(0)
    scene = gaussian_filter(generator.normal(size=(1, 300, 280)), (0, 6, 6))
    found = offset(scene, np.roll(-scene, (12, -9), (1, 2)))
    assert found is not None
    assert (found.down, found.right, found.step, found.shifted) == (12, -9, 3, True), found
    assert offset(scene[:, :20, :20], scene[:, :20, :20]) is None
    assert offset(scene, np.zeros_like(scene)) is None


@pytest.mark.skipif(not SENTINEL.is_file(), reason=f"{SENTINEL.name} is not in $CMKD_DATA")
def test_sentinel_pairs_are_seldom_flagged() -> None:
    """Five real tiles in quarters of 112 pixels: none is flagged, most of the shifted ones are."""
    still, moved = [], []
    with zipfile.ZipFile(SENTINEL) as archive:
        for name in (n for n in archive.namelist() if "S2L2A" in n and n.endswith(".tif")):
            pair = []
            for member in (name, name.replace("S2L2A", "S1RTC")):
                tile = tifffile.imread(io.BytesIO(archive.read(member))).astype(np.float64)
                pair.append(np.moveaxis(tile, -1, 0) if tile.shape[-1] < 20 else tile)
            for top, left in ((8, 8), (8, 104), (104, 8), (104, 104)):
                here = pair[0][:, top : top + 112, left : left + 112]
                still.append(offset(here, pair[1][:, top : top + 112, left : left + 112]))
                moved.append(offset(here, pair[1][:, top - 6 : top + 106, left + 5 : left + 117]))
    assert len(still) == 20
    assert sum(found.shifted for found in still if found) == 0
    pairs = [(a, b) for a, b in zip(still, moved, strict=True) if a and b and b.shifted]
    assert len(pairs) >= 12
    # measured from where the tile lies by itself: these products are a pixel or two apart
    assert all(max(abs(b.down - a.down - 6), abs(b.right - a.right + 5)) <= 1 for a, b in pairs)
