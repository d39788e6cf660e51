"""The sea surface of the marine simulator agrees with theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cmkd.simulators.marine import sea


def test_surface_has_the_variance_of_its_spectrum() -> None:
    # compared with the part of the spectrum that fits the tile; 12 %: 40 draws of few long waves
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


def test_permittivity_and_fresnel_of_sea_water() -> None:
    across, along = sea.fresnel(np.array([1.0, math.cos(math.radians(82))]), sea.permittivity(9.4))
    assert abs(across[0]) == pytest.approx(abs(along[0]), rel=1e-9)
    assert 0.75 < abs(across[0]) < 0.85  # about 0.8 at normal incidence, X-band
    assert abs(along[1]) < 0.3 < 0.95 < abs(across[1])  # near the pseudo-Brewster angle of vertical polarization
