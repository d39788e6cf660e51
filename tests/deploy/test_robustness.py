"""Corruptions have the stated strength and change nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cmkd.datasets.degradations import PerImage
from cmkd.deploy.robustness import Corruption, corruptions, stored
from cmkd.types import Modality

RADAR = Modality("radar", "image", (4, 16, 16), "float32", (-12.0, -18.0, -9.0, -11.0), (4.0, 2.0, 3.0, 5.0))
OPTICAL = Modality("optical", "image", (3, 16, 16), "uint8", (100.0,) * 3, (40.0,) * 3)
KINDS = {
    "vector": Modality("v", "vector", (12,), "float32", (1.0,) * 12, (2.0,) * 12),
    "series": Modality("s", "series", (20, 4), "float32", (1.0,) * 4, (2.0,) * 4),
    "points": Modality("p", "points", (30, 3), "float32", (1.0,) * 3, (2.0,) * 3),
    "point_series": Modality("q", "point_series", (20, 30, 3), "float32", (1.0,) * 3, (2.0,) * 3),
}


def named(modality: Modality, *, nonnegative: bool = True) -> dict[str, Corruption]:
    return {c.name: c for c in corruptions(modality, nonnegative=nonnegative)}


def samples(modality: Modality, number: int = 50) -> np.ndarray:
    spread = np.random.default_rng(0).normal(0, 1, (number, *modality.shape))
    shape = (-1, 1, 1) if modality.kind == "image" else (-1,)
    return np.reshape(modality.mean, shape) + spread * np.reshape(modality.std, shape)


def test_each_kind_of_modality_has_its_corruptions() -> None:
    assert list(named(OPTICAL)) == ["speckle", "noise", "resolution", "missing", "shift"]
    assert list(named(RADAR, nonnegative=False)) == ["speckle", "noise", "resolution", "missing", "shift"]
    found = {kind: list(named(modality)) for kind, modality in KINDS.items()}
    assert found["vector"] == ["noise", "missing"]
    assert found["series"] == ["noise", "missing", "shift"]
    assert found["points"] == ["noise", "missing"]
    assert found["point_series"] == ["noise", "missing", "shift"]


def test_decibels_of_any_size_stay_finite() -> None:
    high = np.full((1, *RADAR.shape), 4000.0)  # elevations that are treated as decibels
    assert np.isfinite(named(RADAR, nonnegative=False)["speckle"].apply(high, 1.0, PerImage(0, range(1)))).all()


def test_values_that_are_neither_intensities_nor_decibels_get_no_speckle() -> None:
    standardized = Modality("z", "image", (1, 16, 16), "float32", (0.0,), (1.0,))
    assert list(named(standardized, nonnegative=False)) == ["noise", "resolution", "shift"]


@pytest.mark.parametrize(
    ("unit", "mean", "taken"),
    [
        ("DB", 20.0, "decibels"),
        ("dB", -12.0, "decibels"),
        ("sigma nought in dB", 20.0, "decibels"),
        ("sigma0 (dB)", 20.0, "decibels"),
        ("root of sigma nought", 3.0, "amplitudes"),
        ("linear power", -12.0, "intensities"),
        ("", -12.0, "decibels"),
    ],
)
def test_a_stated_unit_says_what_speckle_multiplies(unit: str, mean: float, taken: str) -> None:
    modality = Modality("radar", "image", (1, 16, 16), "float32", (mean,), (4.0,), unit=unit)
    assert f"values taken as {taken}" in named(modality)["speckle"].title
    assert ("speckle" in named(modality, nonnegative=False)) == (taken == "decibels")


def test_speckle_of_amplitudes_is_that_of_the_intensities_that_they_are_roots_of() -> None:
    modality = Modality("radar", "image", (1, 64, 64), "float32", (1.0,), (1.0,), unit="amplitude")
    found = named(modality)["speckle"].apply(np.full((4, 1, 64, 64), 3.0), 4.0, PerImage(0, range(4)))
    assert (found**2).std() / (found**2).mean() == pytest.approx(0.5, rel=0.05)  # speckle of 4 looks


@pytest.mark.parametrize("modality", [RADAR, OPTICAL, *KINDS.values()], ids=lambda m: m.kind)
def test_severities_have_labels_shapes_stay_and_the_input_too(modality: Modality) -> None:
    x = samples(modality, 3)
    before = x.copy()
    for corruption in corruptions(modality, nonnegative=True):
        assert 1 <= len(corruption.severities) == len(corruption.labels) == len(set(corruption.labels)) <= 4
        for severity in corruption.severities:
            found = corruption.apply(x, severity, PerImage(0, [5, 6, 7]))
            assert found.shape == x.shape and np.isfinite(found).all() and not np.array_equal(found, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("modality", [RADAR, OPTICAL, *KINDS.values()], ids=lambda m: m.kind)
def test_a_pair_is_corrupted_alike_in_any_batch(modality: Modality) -> None:
    x = samples(modality, 3)
    for corruption in corruptions(modality, nonnegative=True):
        together = corruption.apply(x, corruption.severities[-1], PerImage(0, [5, 6, 7]))
        alone = corruption.apply(x[1:2], corruption.severities[-1], PerImage(0, [6]))
        np.testing.assert_allclose(together[1:2], alone, rtol=1e-12, atol=1e-12)


def test_noise_has_the_ratio_it_states() -> None:
    x = samples(RADAR, 200)
    noise = named(RADAR)["noise"].apply(x, 10.0, PerImage(0, range(200))) - x
    measured = 10 * np.log10(np.square(RADAR.std) / noise.var(axis=(0, 2, 3)))
    np.testing.assert_allclose(measured, 10.0, atol=0.2)


@pytest.mark.parametrize("looks", [16.0, 4.0, 1.0])
def test_speckle_has_its_looks_in_intensity_and_in_decibels(looks: float) -> None:
    for modality, value, intensity in ((OPTICAL, 80.0, lambda x: x / 80), (RADAR, -20.0, lambda x: 10 ** (x / 10 + 2))):
        flat = np.full((100, *modality.shape), value)
        found = intensity(named(modality)["speckle"].apply(flat, looks, PerImage(0, range(100))))
        assert found.mean() == pytest.approx(1.0, abs=0.02)
        assert found.var() == pytest.approx(1 / looks, rel=0.05)


def test_missing_channels_have_their_mean_and_the_others_stay() -> None:
    x = samples(RADAR)
    corruption = named(RADAR)["missing"]
    assert corruption.labels == ("1 of 4", "2 of 4", "3 of 4")
    found = corruption.apply(x, 2.0, PerImage(0, range(50)))
    lost = (found != x).all(axis=(2, 3))
    assert (lost.sum(1) == 2).all() and (lost.sum(0) > 10).all()
    means = np.broadcast_to(np.reshape(RADAR.mean, (4, 1, 1)), x.shape)
    np.testing.assert_array_equal(found[lost], means[lost])
    np.testing.assert_array_equal(found[~lost], x[~lost])


def test_a_shift_moves_by_its_pixels_and_repeats_the_edge() -> None:
    ramp = np.broadcast_to(np.arange(16.0), (40, 3, 16, 16))
    found = named(OPTICAL)["shift"].apply(ramp, 4.0, PerImage(0, range(40)))
    moved = found[:, 0, 8, 8] - 8
    assert set(moved) == {-4.0, -3.0, 0.0, 3.0, 4.0}  # eight directions; 4 / sqrt(2) is about 3
    assert found.min() == 0 and found.max() == 15
    steps = np.broadcast_to(np.arange(20.0)[:, None], (40, 20, 4))
    later = named(KINDS["series"])["shift"].apply(steps, 2.0, PerImage(0, range(40)))[:, 10, 0]
    assert set(later) == {8.0, 12.0}


def test_coarser_pixels_keep_the_mean_and_lose_the_detail() -> None:
    board = np.tile(np.indices((16, 16)).sum(0) % 2 * 100.0, (2, 3, 1, 1))
    found = named(OPTICAL)["resolution"].apply(board, 4.0, PerImage(0, range(2)))
    assert found.mean() == pytest.approx(50, abs=2)
    assert found.std() < 0.2 * board.std()


def test_padding_stays_padding_and_points_go_missing() -> None:
    modality = KINDS["points"]
    x = samples(modality, 200)
    x[:, 20:] = 0
    found = named(modality)
    noisy = found["noise"].apply(x, 0.0, PerImage(0, range(200)))
    assert not noisy[:, 20:].any() and (noisy[:, :20] != x[:, :20]).all()
    thinned = found["missing"].apply(x, 0.25, PerImage(0, range(200)))
    assert (thinned[:, :20] == 0).all(-1).mean() == pytest.approx(0.25, abs=0.03)


def test_integers_are_rounded_and_clipped() -> None:
    found = stored(np.array([-3.0, 1.6, 300.0]), OPTICAL)
    assert found.dtype == np.uint8 and found.tolist() == [0, 2, 255]


@pytest.mark.parametrize(("nodata", "expected"), [(0, [1, 2, 255]), (2, [0, 3, 255]), (255, [0, 2, 254])])
def test_a_corrupted_value_is_never_the_nodata_value(nodata: int, expected: list[int]) -> None:
    assert stored(np.array([-3.0, 1.6, 300.0]), replace(OPTICAL, nodata=nodata)).tolist() == expected
