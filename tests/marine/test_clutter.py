"""Sea clutter agrees with published values and theoretical distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cmkd.errors import CmkdError
from cmkd.simulators.marine import clutter
from cmkd.simulators.marine.sea import Polarization, pierson_moskowitz


# Values of another public implementation of the published coefficients: wind, angle to the wind, incidence, dB
@pytest.mark.parametrize(
    ("wind", "angle", "incidence", "decibel"),
    [(5.0, 0, 23, -7.220698), (10.0, 45, 35, -12.694835), (15.0, 180, 45, -11.820977), (1.0, 90, 55, -33.212034)],
)
def test_cmod5n_agrees_with_another_implementation(wind: float, angle: float, incidence: float, decibel: float) -> None:
    found = clutter.reflectivity(wind, incidence, 5.405, "VV", math.radians(angle) - math.pi)
    assert float(found) == pytest.approx(decibel, abs=1e-5)


def test_reflectivity_rises_with_wind_and_grazing_and_is_higher_in_vv_near_grazing() -> None:
    by_wind = [float(clutter.reflectivity(w, 85.0, 9.4, "HH")) for w in (2, 5, 8, 12, 16)]
    by_angle = list(clutter.reflectivity(8.0, np.array([89.0, 87.0, 80.0, 60.0]), 9.4, "HH"))
    assert by_wind == sorted(by_wind)
    assert by_angle == sorted(by_angle)
    assert clutter.reflectivity(8.0, 89.0, 1.25, "VV") > clutter.reflectivity(8.0, 89.0, 1.25, "HH")


def test_cross_polarization_is_below_both_others() -> None:
    assert float(clutter.reflectivity(10.0, 35.0, 5.4, "VH")) == pytest.approx(-29.7)
    for incidence in (35.0, 60.0, 85.0, 89.5):
        cross, horizontal, vertical = (float(clutter.reflectivity(8.0, incidence, 9.6, p)) for p in ("HV", "HH", "VV"))
        assert cross <= min(horizontal, vertical) - 5


@pytest.mark.parametrize(
    ("wind", "incidence", "frequency", "polarization", "words"),
    [
        (8.0, 20.0, 9.6, "VV", "incidence 30 to 89.9 degrees"),
        (8.0, 17.0, 5.4, "VV", "CMOD5.N: incidence 18 to 58"),
        (8.0, 50.0, 5.4, "VH", "incidence 18 to 49"),
        (18.0, 60.0, 9.6, "HH", "wind 0.2 to 17"),
        (8.0, 40.0, 1.2, "HV", "4 to 12 GHz"),
        (8.0, 40.0, 50.0, "HH", "0.5 to 35 GHz"),
    ],
)
def test_arguments_outside_every_model_are_refused_with_the_range(
    wind: float, incidence: float, frequency: float, polarization: Polarization, words: str
) -> None:
    with pytest.raises(CmkdError, match=words):
        clutter.reflectivity(wind, incidence, frequency, polarization)
    if polarization in ("HH", "VV"):
        with pytest.raises(CmkdError, match=words):
            clutter.texture_shape(wind, incidence, frequency, polarization, 0.0, 1.0)


def test_tilt_modulation_is_the_slope_of_reflectivity_times_that_of_the_waves() -> None:
    # for small slopes, the variance is (d ln sigma0 / d incidence)² times the slope variance, plus that of gusts; 15 %
    wind, incidence, area = 6.0, 40.0, 900.0
    k = np.geomspace(1e-3, math.pi / 30, 40_000)
    slopes = float(np.trapezoid(k**2 * pierson_moskowitz(k, wind), k)) * 0.75
    step = [float(clutter.reflectivity(wind, incidence + d, 5.4, "VV")) for d in (-0.5, 0.5)]
    tilt = ((step[0] - step[1]) * math.log(10) / 10 / math.radians(1.0)) ** 2 * slopes
    speed = [float(clutter.reflectivity(w, incidence, 5.4, "VV")) for w in (0.95 * wind, wind)]
    gust = (0.1 * (speed[1] - speed[0]) * math.log(10) / 10 / -math.log(0.95)) ** 2
    assert clutter.modulation(wind, incidence, 5.4, "VV", 0.0, area) == pytest.approx(tilt + gust, rel=0.15)


def test_texture_is_spikier_in_small_cells_and_along_the_waves() -> None:
    def shape(azimuth: float, area: float) -> float:
        return clutter.texture_shape(8.0, 75.0, 9.6, "VV", azimuth, area)

    assert shape(0.0, 1.0) < shape(math.pi / 2, 1.0)
    assert shape(0.0, 1.0) < shape(0.0, 20.0)
    low = clutter.texture_shape(8.0, 89.0, 9.4, "HH", 0.0, 300.0), clutter.texture_shape(8.0, 89.0, 9.4, "VV", 0.0, 300)
    assert low[0] == pytest.approx(low[1] * 10 ** (1.39 - 2.09))


def test_shapes_reach_no_limit_over_the_ranges_of_usual_modes() -> None:
    rng = np.random.default_rng(0)
    modes: tuple[tuple[float, float, float, Polarization, float], ...] = (
        (60, 87, 9.6, "VV", 2.0), (60, 87, 9.6, "HH", 2.0), (30, 50, 9.65, "HH", 1.5), (30, 50, 9.65, "VV", 12.0),
        (29, 46, 5.405, "VV", 200.0), (29, 46, 5.405, "VH", 200.0), (88, 89.7, 9.4, "HH", 500.0),
    )  # fmt: skip
    for low, high, frequency, polarization, area in modes:
        for _ in range(100):
            wind, azimuth = float(np.clip(rng.weibull(2.0) * 8.0, 1.0, 17.0)), rng.uniform(0, 2 * math.pi)
            shape = clutter.texture_shape(wind, rng.uniform(low, high), frequency, polarization, azimuth, area)
            assert 0.05 < shape < 10_000


def test_texture_is_gamma_distributed() -> None:
    values = clutter.gamma_texture(np.random.default_rng(0).standard_normal(4000), 0.7)
    assert stats.kstest(values, stats.gamma(0.7, scale=1 / 0.7).cdf).pvalue > 0.01


def test_correlated_gaussian_keeps_unit_variance_over_the_ensemble() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([clutter.correlated_gaussian(rng.standard_normal((32, 32)), 4, 6, 12)[5, 5] for _ in range(3000)])
    assert fields.var() == pytest.approx(1.0, rel=0.1)
