"""The radar's physics against theory. Tolerances are stated beside each check."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special, stats

from cmkd.simulators.marine import clutter, radar, scattering, sea
from cmkd.simulators.marine.mesh import Array, Material, MeshBuilder
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scene import Scene, sample


def point(range_: float = 0.0, cross: float = 0.0) -> scattering.Scatterers:
    place = np.array([[0.0, cross, 0.0]])
    return scattering.Scatterers(np.array([[1 + 0j]]), np.array([range_]), place, np.array([0]), np.array([1]))


def interpolated(line: Array, factor: int = 64) -> Array:
    """Magnitude of a band-limited line between its samples."""
    spectrum = np.fft.fftshift(np.fft.fft(line))
    return np.abs(np.fft.ifft(np.fft.ifftshift(np.pad(spectrum, (len(line) * (factor - 1)) // 2)))) * factor


@pytest.mark.parametrize("axis", [0, 1])
def test_point_target_has_the_resolution_of_band_and_aperture(axis: int) -> None:
    # c/2B = lambda/(2 dtheta) = 2 m; a flat band's first null is there, and its -3 dB width is 0.886 of it: 5 %
    scene = dataclasses.replace(sample(0, 0, size=64, gap=0.5)[0], resolution=2.0)
    assert sea.LIGHT / (2 * scene.bandwidth) == pytest.approx(2.0)
    assert scene.wavelength / (2 * scene.aperture) == pytest.approx(2.0)
    former = radar.Former(128, 128.0, scene.resolution, taper=1.0)
    image = former.look(former.spectrum(point()))
    row = image[:, 64] if axis == 0 else image[64]
    line, step = interpolated(row), 1 / 64
    peak = int(line.argmax())
    below = np.flatnonzero(line[peak:] < line[peak] / math.sqrt(2))[0]
    above = np.flatnonzero(line[:peak][::-1] < line[peak] / math.sqrt(2))[0] + 1
    assert (below + above) * step == pytest.approx(0.886 * 2.0, rel=0.05)
    falling = np.flatnonzero(np.diff(line[peak:]) > 0)[0] * step
    assert falling == pytest.approx(2.0, rel=0.05)
    assert line[peak] == pytest.approx(1.0, rel=0.02)


def test_window_trades_sidelobes_for_width() -> None:
    lines = {taper: interpolated(radar.Former(128, 128.0, 2.0, taper=taper).look(
        radar.Former(128, 128.0, 2.0).spectrum(point()))[64]) for taper in (1.0, 0.08)}  # fmt: skip

    def sidelobe(line: Array) -> float:
        half = line[int(line.argmax()) :][: 20 * 64]
        return float(20 * np.log10(half[np.flatnonzero(np.diff(half) > 0)[0] :].max() / half[0]))

    assert sidelobe(lines[1.0]) == pytest.approx(-13.3, abs=0.7)
    assert sidelobe(lines[0.08]) < -38
    assert (lines[0.08] > lines[0.08].max() / 1.414).sum() > (lines[1.0] > lines[1.0].max() / 1.414).sum()


def test_defocus_spreads_a_point_and_keeps_its_energy() -> None:
    sharp, soft = (radar.Former(64, 64.0, 2.0, defocus=d) for d in (0.0, 6.0))
    first, second = (f.look(f.spectrum(point())) for f in (sharp, soft))
    assert np.abs(second).max() < 0.7 * np.abs(first).max()
    assert np.sum(np.abs(second) ** 2) == pytest.approx(np.sum(np.abs(first) ** 2), rel=1e-4)


def test_fully_developed_speckle_has_contrast_one_and_looks_lower_it() -> None:
    # 200,000 scatterers over 128 x 128 m at 2 m: about 4,000 independent cells, so 5 %
    rng = np.random.default_rng(3)
    n = 200_000
    range_, cross = rng.uniform(-64, 64, (2, n))
    place = np.column_stack([range_, cross, np.zeros(n)])
    crowd = scattering.Scatterers(np.exp(2j * np.pi * rng.random((1, n))), range_, place, np.zeros(n), np.ones(n))
    former = radar.Former(128, 128.0, 2.0)
    spectrum = former.spectrum(crowd)
    looks = np.stack([np.abs(former.look(spectrum, i)) ** 2 for i in range(4)])
    one, four = looks[0], looks.mean(0)
    assert one.std() / one.mean() == pytest.approx(1.0, abs=0.05)
    assert four.std() / four.mean() == pytest.approx(0.5, abs=0.05)


def k_cdf(shape: float) -> Callable[[Array], Array]:
    """Distribution of the intensity of K-distributed clutter of unit mean."""

    def cdf(x: Array) -> Array:
        z = np.sqrt(shape * np.maximum(x, 1e-12))
        return np.asarray(1 - 2 / special.gamma(shape) * z**shape * special.kv(shape, 2 * z))

    return cdf


def calm_scene(**changes: object) -> Scene:
    base = dict(grazing=3.0, wind=9.0, wind_direction=0.0, polarization="HH", frequency=9.4, clutter_db=0.0)
    return dataclasses.replace(sample(0, 0, size=64, gap=0.5)[0], **(base | changes))


@pytest.mark.parametrize(("polarization", "wind_direction"), [("HH", math.pi / 2), ("VV", 0.0)])
def test_clutter_is_k_distributed_with_its_model_mean(polarization: str, wind_direction: float) -> None:
    scene = calm_scene(
        polarization=polarization, wind_direction=wind_direction, resolution=8.0, grazing=8.0, radar_swath=128.0
    )
    former, rng = radar.Former(64, 128.0, scene.resolution), np.random.default_rng(5)
    area = scene.resolution**2 / math.cos(math.radians(scene.grazing))
    setting = (scene.wind, 90.0 - scene.grazing, scene.frequency, scene.polarization, wind_direction)
    shape = clutter.texture_shape(*setting, area)
    mean = area * 10 ** (float(clutter.reflectivity(*setting)) / 10)
    samples = []
    for _ in range(600):  # one sample a chip: samples of one chip share its texture
        power = radar.clutter_power(scene, former, rng.standard_normal((64, 64)))
        white = (rng.standard_normal((64, 64)) + 1j * rng.standard_normal((64, 64))) / math.sqrt(2)
        samples.append(power[31, 17] * np.abs(former.speckle(white)[31, 17]) ** 2)
    values = np.array(samples) / mean
    # the standard error of the mean is sqrt(var/n), var = 1 + 2/shape; four of them
    assert values.mean() == pytest.approx(1.0, abs=4 * math.sqrt((1 + 2 / shape) / len(values)))
    assert stats.kstest(values, k_cdf(shape)).pvalue > 0.01
    assert stats.kstest(values / values.mean(), stats.expon.cdf).pvalue < 1e-6  # and Rayleigh clutter is refuted


def test_texture_is_correlated_in_space() -> None:
    scene = calm_scene(resolution=1.5, radar_swath=64.0)
    power = radar.clutter_power(scene, radar.Former(64, 64.0, 1.5), np.random.default_rng(0).standard_normal((64, 64)))
    rank = stats.rankdata(power).reshape(64, 64)
    assert np.corrcoef(rank[:, :-1].ravel(), rank[:, 1:].ravel())[0, 1] > 0.7


def test_noise_follows_the_radar_equation() -> None:
    # received power falls as R^-4, so noise of fixed power is 12.04 dB more cross-section at twice the range; 0.5 dB
    levels = []
    for range_ in (2000.0, 4000.0):
        scene, mesh = sample(0, 3, size=64, gap=0.5)
        scene = dataclasses.replace(scene, range=range_, clutter_db=-200.0, snr_db=0.0, look_weight=1.0, resolution=2.0)
        tiny = mesh.moved(np.eye(3) * 1e-3, np.zeros(3))
        decibel, _ = radar.image(scene, tiny, Rays(tiny), 64, np.random.default_rng(0))
        levels.append(10 * math.log10(np.mean(10 ** (decibel / 10))))
    assert levels[1] - levels[0] == pytest.approx(40 * math.log10(2), abs=0.5)
    assert levels[0] == pytest.approx(10 * math.log10(2.0**2 * (2 / 3) ** 4), abs=0.5)


def test_height_lays_over_towards_the_radar_and_shadows_the_sea_behind() -> None:
    psi, height = math.radians(30), 20.0
    look = np.array([math.cos(psi), 0, -math.sin(psi)])
    builder = MeshBuilder()
    builder.boxes([(0, 0, height / 2)], [(1, 30, height)], (1, 1, 1), Material.STEEL)
    mesh = builder.mesh()
    surface = dataclasses.replace(scattering.Surface.ideal(), diffuse=np.ones(len(Material)))
    found = scattering.shoot(
        mesh, Rays(mesh), look, wavelength=0.03, surface=surface, bounces=1, rng=np.random.default_rng(0)
    )
    assert found.range.min() == pytest.approx(-height * math.sin(psi) - 0.5 * math.cos(psi), abs=0.3)
    scene = calm_scene(grazing=30.0, radar_swath=120.0, resolution=2.0)
    dark = radar.sea_shadow(scene, Rays(mesh), 120)[:, 60] == 0
    expected = height / math.tan(psi) * math.cos(psi)  # along slant range; a pixel is 1 m; the wall is 1 m thick
    assert dark.sum() == pytest.approx(expected + math.cos(psi), abs=1.5)
