"""The marine simulator: sea."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cmkd.simulators.marine import sea


def test_surface_has_the_variance_of_its_spectrum() -> None:
    # the part of the spectrum that the tile carries; 40 draws of few long waves: 12 %
    wind, extent, count, rng = 6.0, 300.0, 128, np.random.default_rng(0)
    variance = np.mean([sea.surface(wind, 0.4, extent, count, rng)[0].var() for _ in range(40)])
    k = np.linspace(2 * np.pi / extent, np.pi * count / extent, 20_000)
    expected = float(np.sum(sea.pierson_moskowitz(k, wind)) * (k[1] - k[0]))
    assert variance == pytest.approx(expected, rel=0.12)


def test_significant_height_is_four_standard_deviations_of_the_spectrum() -> None:
    k = np.geomspace(1e-4, 1e2, 200_000)
    variance = float(np.trapezoid(sea.pierson_moskowitz(k, 10.0), k))
    assert 4 * math.sqrt(variance) == pytest.approx(sea.significant_height(10.0), rel=0.02)


def test_slopes_are_derivatives_of_the_height() -> None:
    extent, count = 200.0, 256
    height, slope_x, slope_y = sea.surface(8.0, 1.0, extent, count, np.random.default_rng(1))
    step = extent / count
    for slope, axis in ((slope_x, 0), (slope_y, 1)):
        numeric = (np.roll(height, -1, axis) - np.roll(height, 1, axis)) / (2 * step)
        assert np.corrcoef(numeric.ravel(), slope.ravel())[0, 1] > 0.9


def test_reflectivity_rises_with_sea_state_and_grazing_and_is_higher_in_vv_near_grazing() -> None:
    by_state = [float(sea.nrl_reflectivity(s, 5.0, 9.4, "HH")) for s in range(7)]
    by_angle = [float(sea.nrl_reflectivity(3, g, 9.4, "HH")) for g in (1, 3, 10, 30)]
    assert by_state == sorted(by_state)
    assert by_angle == sorted(by_angle)
    assert sea.nrl_reflectivity(3, 1.0, 1.25, "VV") > sea.nrl_reflectivity(3, 1.0, 1.25, "HH")


def test_texture_is_gamma_distributed() -> None:
    from scipy import stats

    values = sea.gamma_texture(np.random.default_rng(0).standard_normal(4000), 0.7)
    assert stats.kstest(values, stats.gamma(0.7, scale=1 / 0.7).cdf).pvalue > 0.01


def test_correlated_gaussian_keeps_unit_variance_over_the_ensemble() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([sea.correlated_gaussian(rng.standard_normal((32, 32)), 4, 6, 12)[5, 5] for _ in range(3000)])
    assert fields.var() == pytest.approx(1.0, rel=0.1)
