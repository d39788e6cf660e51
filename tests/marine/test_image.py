"""Radar image formation agrees with theory: resolution, calibration, looks, and images of moving targets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special, stats

from cmkd.simulators.marine import clutter, radar, scattering, sea
from cmkd.simulators.marine.mesh import Array, Material, MeshBuilder
from cmkd.simulators.marine.modes import Mode, mode, modes
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scene import Scene, sample, version

SIDE = mode("stripmap")


def former(resolution: float = 2.0, *, taper: float = 0.08, size: int = 128, defocus: float = 0.0) -> radar.Former:
    return radar.Former(size, (1.0, 1.0), (resolution, resolution), taper=taper, defocus=defocus)


def point(made: radar.Former) -> Array:
    """Return the image of a point of 1 m² at the center of pixel (size/2, size/2), up to half a cell of 1/4 m."""
    place = np.array([0.5 * made.spacing[0] + 0.01])
    return made.look(made.spectrum(np.array([1 + 0j]), (place, place)))


def interpolated(line: Array, factor: int = 64) -> Array:
    """Return the magnitude of a band-limited line, interpolated between its samples."""
    spectrum = np.fft.fftshift(np.fft.fft(line))
    return np.abs(np.fft.ifft(np.fft.ifftshift(np.pad(spectrum, (len(line) * (factor - 1)) // 2)))) * factor


@pytest.mark.parametrize("fine", [2, 4])
@pytest.mark.parametrize("number", [0, 1])
def test_points_are_on_average_where_the_sea_and_their_shadow_are(fine: int, number: int) -> None:
    made, offsets = dataclasses.replace(former(2.5), fine=fine), []
    for place in np.random.default_rng(0).uniform(-20, 20, (40, 2)):
        line = np.abs(made.look(made.spectrum(np.array([1 + 0j]), (place[:1], place[1:])), number)) ** 2
        centers = np.arange(128) + 0.5 - 64
        found = [line.sum(1 - axis) @ centers / line.sum() for axis in (0, 1)]
        offsets.append(np.array(found) - place)
    assert np.abs(np.mean(offsets, 0)) == pytest.approx(0, abs=0.06)  # cells of 1/fine m alone give 0.02
    assert np.abs(offsets).max() < 0.5 / fine + 0.02


@pytest.mark.parametrize("axis", [0, 1])
def test_point_is_as_wide_at_half_its_power_as_the_mode_states(axis: int) -> None:
    image = point(former())  # 3 %: the band's edge falls between two of the 128 frequencies
    line = interpolated(image[:, 64] if axis == 0 else image[64])
    assert line.max() == pytest.approx(1.0, rel=0.02)
    assert (line > line.max() / math.sqrt(2)).sum() / 64 == pytest.approx(2.0, rel=0.03)


def test_flat_band_has_the_sidelobes_and_width_of_theory() -> None:
    line = interpolated(point(former(taper=1.0))[64])
    half = line[int(line.argmax()) :][: 20 * 64]
    lobe = half[np.flatnonzero(np.diff(half) > 0)[0] :].max()
    assert 20 * math.log10(lobe / half[0]) == pytest.approx(-13.3, abs=0.7)
    hamming = interpolated(point(former())[64])
    half = hamming[int(hamming.argmax()) :][: 20 * 64]
    assert 20 * math.log10(half[np.flatnonzero(np.diff(half) > 0)[0] :].max() / half[0]) < -38


def test_equivalent_area_is_that_of_the_point_response() -> None:
    made = former()
    fine = point(made)
    assert made.area == pytest.approx(float(np.sum(np.abs(fine) ** 2)), rel=0.03)  # pixels of 1 m²
    # Hamming window: noise bandwidth 1.363 over the band in each direction (Harris 1978), with a band of 1.303 / 2 m
    assert made.area == pytest.approx((1.363 / 1.303 * 2.0) ** 2, rel=0.03)


def test_uniform_surface_has_its_reflectivity_at_any_resolution() -> None:
    # one scatterer of sigma0 times its cell area per cell of 0.25 m: 65,536 in 64 x 64 m; 4 standard errors
    rng, sigma = np.random.default_rng(0), 0.04
    place = rng.uniform(-32, 32, (2, 65_536))
    amplitude = math.sqrt(sigma * 64 * 64 / 65_536) * np.exp(2j * np.pi * rng.random(65_536))
    for resolution in (2.0, 4.0):
        made = former(resolution, size=64)
        power = np.abs(made.look(made.spectrum(amplitude, (place[0], place[1])))) ** 2 / made.area
        cells = 64 * 64 / made.area
        assert power.mean() == pytest.approx(sigma, rel=4 / math.sqrt(cells))


def test_speckle_keeps_power_and_looks_divide_its_variance() -> None:
    rng, made = np.random.default_rng(1), former(size=128)
    noise = (rng.standard_normal((4, 128, 128)) + 1j * rng.standard_normal((4, 128, 128))) / math.sqrt(2)
    looks = np.abs(made.speckle(noise)) ** 2
    assert looks.mean() == pytest.approx(1.0, rel=0.03)
    one, four = looks[0], looks.mean(0)
    assert one.mean() ** 2 / one.var() == pytest.approx(1.0, rel=0.12)
    assert four.mean() ** 2 / four.var() == pytest.approx(4.0, rel=0.12)


def test_looks_of_many_scatterers_are_independent() -> None:
    rng, made = np.random.default_rng(3), former(2.5, size=128)
    spectrum = made.spectrum(np.exp(2j * np.pi * rng.random(100_000)), tuple(rng.uniform(-64, 64, (2, 100_000))))
    looks = np.stack([np.abs(made.look(spectrum, number)) ** 2 for number in range(4)])
    assert abs(np.corrcoef(looks.reshape(4, -1)) - np.eye(4)).max() < 0.08
    four = looks.mean(0)
    assert four.mean() ** 2 / four.var() == pytest.approx(4.0, rel=0.12)


def test_defocus_spreads_a_point_and_keeps_its_energy() -> None:
    sharp, soft = point(former()), point(former(defocus=6.0))
    assert np.abs(soft).max() < 0.8 * np.abs(sharp).max()
    assert np.sum(np.abs(soft) ** 2) == pytest.approx(np.sum(np.abs(sharp) ** 2), rel=1e-4)


def still(seed: int = 0, pair: int = 0, sensors: Mode = SIDE, **changes: object) -> tuple[Scene, Mode]:
    """Return a scene in which the vessel does not move, except for `changes`."""
    calm = {"rates": (0.0, 0.0, 0.0), "speed": 0.0, "surge": 0.0, "shift_x": 0.0, "shift_y": 0.0, "heave": 0.0}
    return dataclasses.replace(sample(seed, pair, sensors)[0], **{**calm, **changes}), sensors


def test_looks_and_images_have_speckle_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = mode("coastal").sized(96)
    looks = sensors.radar.looks
    scene, _ = still(sensors=sensors, clutter_db=-200.0, nesz=-20.0, occluder=0.0, look_weight=1.0)
    _, mesh, vessel = sample(0, 0, sensors)
    tiny, numbers, look = mesh.moved(np.eye(3) * 1e-3, np.zeros(3)), list[int](), radar.Former.look

    def spy(made: radar.Former, spectrum: Array, number: int = 0) -> Array:
        numbers.append(number)
        return look(made, spectrum, number)

    monkeypatch.setattr(radar.Former, "look", spy)
    first, second = (
        10 ** (radar.image(scene, sensors.radar, tiny, vessel, Rays(tiny), np.random.default_rng(seed))[0][0] / 10)
        for seed in range(2)
    )
    assert [chip.mean() ** 2 / chip.var() for chip in (first, second)] == pytest.approx([looks] * 2, rel=0.15)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    assert sorted(set(numbers)) == list(range(looks))


def test_ship_is_displaced_by_range_rate_over_platform_speed() -> None:
    scene, sensors = still(side=1)
    # for a ship that sails straight away from the radar, the range rate is the speed times the sine of the incidence
    away = dataclasses.replace(scene, heading=scene.look_azimuth, speed=10.0)
    expected = -away.range / sensors.radar.speed * 10.0 * math.sin(math.radians(away.incidence))
    assert radar.Motion(away, sensors.radar).shift == pytest.approx(expected)
    assert abs(expected) > 300  # m, like the known images of trains off their tracks
    across = dataclasses.replace(away, heading=scene.look_azimuth + 90)
    assert radar.Motion(across, sensors.radar).shift == pytest.approx(0.0, abs=1e-9)
    harbor = mode("coastal")
    assert radar.Motion(dataclasses.replace(away), harbor.radar).shift == 0.0


def test_defocus_is_the_quadratic_phase_of_acceleration_and_of_motion_along_the_track() -> None:
    scene, sensors = still(side=1, surge=0.5)
    wavelength = sea.LIGHT / 9.65e9
    # a look lasts as long as the weighted aperture whose response, λR/(2V) in azimuth per hertz, has the stated width
    response = np.abs(np.fft.fft(np.hamming(1000), 400_000))
    hertz = 2 * np.argmax(response < response[0] / math.sqrt(2)) / 400  # width at -3 dB of an aperture of 1 s
    duration = hertz * wavelength * scene.range / (2 * 7600 * scene.resolution_azimuth)

    def phase(acceleration: float, along: float) -> float:
        """Return the two-way phase after half of a look, with the range from the law of cosines."""
        half = duration / 2
        moving = math.hypot(scene.range, (7600 - along) * half) + acceleration * half**2 / 2
        return 4 * math.pi / wavelength * (moving - math.hypot(scene.range, 7600 * half))

    down = -0.5 * math.cos(math.radians(scene.incidence))  # the radar is above: rising shortens the range
    assert radar.Motion(scene, sensors.radar).defocus == pytest.approx(phase(down, 0.0), rel=0.01)
    # along y, which is 90 degrees counterclockwise from the look
    along = dataclasses.replace(scene, surge=0.0, speed=8.0, heading=scene.look_azimuth - 90)
    assert radar.Motion(along, sensors.radar).defocus == pytest.approx(phase(0.0, 8.0), rel=0.01)
    focused = dataclasses.replace(sensors.radar, autofocus=0.75)
    assert radar.Motion(along, focused).defocus == pytest.approx(0.25 * phase(0.0, 8.0), rel=0.01)


def test_roll_shears_a_mast_in_azimuth() -> None:
    # the mast tip of a rolling ship moves in range if seen abeam, but not if seen along the keel
    scene, sensors = still(side=1, rates=(0.02, 0.0, 0.0))
    tip = np.array([[0.0, 0.0, 20.0]])
    ahead, abeam = (dataclasses.replace(scene, heading=scene.look_azimuth + turn) for turn in (0, 90))
    assert radar.Motion(ahead, sensors.radar).range_rate(tip)[0] == pytest.approx(0.0, abs=1e-9)
    expected = 0.02 * 20 * math.sin(math.radians(scene.incidence))
    assert abs(radar.Motion(abeam, sensors.radar).range_rate(tip)[0]) == pytest.approx(expected)


def test_empty_chip_is_noise_at_its_nesz_and_clutter_at_its_model() -> None:
    scene, sensors = still(clutter_db=-200.0, nesz=-20.0, occluder=0.0)
    _, mesh, vessel = sample(0, 0, SIDE)
    tiny = mesh.moved(np.eye(3) * 1e-3, np.zeros(3))
    rays = Rays(tiny)
    noise = radar.image(scene, sensors.radar, tiny, vessel, rays, np.random.default_rng(0))[0]
    assert 10 * math.log10(np.mean(10 ** (noise / 10))) == pytest.approx(-20.0, abs=0.2)
    loud = dataclasses.replace(scene, clutter_db=0.0, nesz=-90.0)
    chips = [radar.image(loud, sensors.radar, tiny, vessel, rays, np.random.default_rng(i))[0] for i in range(12)]
    expected = float(clutter.reflectivity(scene.wind, scene.incidence, 9.65, "HH"))
    # the texture is correlated over much of a chip, so twelve chips determine the mean within about 1 dB
    assert 10 * math.log10(np.mean(10 ** (np.stack(chips) / 10))) == pytest.approx(expected, abs=1.0)


def test_first_look_is_the_image_of_a_radar_with_one_look() -> None:
    scene, sensors = still()
    _, mesh, vessel = sample(0, 0, SIDE)
    decibel, look = radar.image(scene, sensors.radar, mesh, vessel, Rays(mesh), np.random.default_rng(0))
    assert look.dtype == np.complex64 and decibel.shape == look.shape == (1, 192, 192)
    np.testing.assert_allclose(10 * np.log10(np.abs(look) ** 2 + 1e-30), decibel, atol=1e-2)


def k_cdf(shape: float) -> Callable[[Array], Array]:
    """Return the cumulative distribution of the intensity of K-distributed clutter with unit mean."""

    def cdf(x: Array) -> Array:
        z = np.sqrt(shape * np.maximum(x, 1e-12))
        return np.asarray(1 - 2 / special.gamma(shape) * z**shape * special.kv(shape, 2 * z))

    return cdf


@pytest.mark.parametrize("name", ["coastal", "stripmap"])
def test_clutter_is_k_distributed_with_its_model_mean(name: str) -> None:
    scene, sensors = still(sensors=mode(name).sized(64), wind=9.0, clutter_db=0.0)
    wind = dataclasses.replace(scene, wind_direction=scene.look_azimuth)
    widths = (wind.resolution_range, wind.resolution_azimuth)
    made, rng = radar.Former(64, (wind.spacing_range, wind.spacing_azimuth), widths), np.random.default_rng(5)
    ground = math.prod(widths) / (math.sin(math.radians(wind.incidence)) if name == "coastal" else 1.0)
    setting = (9.0, wind.incidence, sensors.radar.frequency, sensors.radar.polarizations[0], 0.0)
    shape = clutter.texture_shape(*setting, ground)
    mean = 10 ** (float(clutter.reflectivity(*setting)) / 10)
    samples = []
    for _ in range(600):  # one sample per chip, since samples of one chip share its texture
        power = radar.sea_clutter(wind, sensors.radar, made, rng.standard_normal((64, 64)))[0]
        white = (rng.standard_normal((64, 64)) + 1j * rng.standard_normal((64, 64))) / math.sqrt(2)
        samples.append(power[31, 17] * np.abs(made.speckle(white)[31, 17]) ** 2)
    values = np.array(samples) / mean
    # four standard errors sqrt(var/n) of the mean, with var = 1 + 2/shape
    assert values.mean() == pytest.approx(1.0, abs=4 * math.sqrt((1 + 2 / shape) / len(values)))
    assert stats.kstest(values, k_cdf(min(shape, 60.0))).pvalue > 0.01
    if shape < 2:  # Rayleigh clutter is rejected
        assert stats.kstest(values / values.mean(), stats.expon.cdf).pvalue < 1e-4


def test_texture_is_correlated_in_space_and_shared_by_the_channels() -> None:
    scene, sensors = still(sensors=mode("airborne").sized(64))
    made = radar.Former(64, (0.5, 0.5), (0.75, 0.75))
    power = radar.sea_clutter(scene, sensors.radar, made, np.random.default_rng(0).standard_normal((64, 64)))
    rank = np.stack([stats.rankdata(channel).reshape(64, 64) for channel in power])
    assert np.corrcoef(rank[0, :, :-1].ravel(), rank[0, :, 1:].ravel())[0, 1] > 0.7
    assert np.corrcoef(rank[0].ravel(), rank[1].ravel())[0, 1] > 0.99


def test_height_lays_over_towards_the_radar_and_shadows_the_sea_behind() -> None:
    theta, height = math.radians(60), 20.0
    builder = MeshBuilder()
    builder.boxes([(0, 0, height / 2)], [(1, 30, height)], (1, 1, 1), Material.STEEL)
    mesh = builder.mesh()
    scene, _ = still(sensors=mode("airborne"), incidence=60.0)
    surface = dataclasses.replace(scattering.Surface.ideal(), diffuse=np.ones(len(Material)))
    found = scattering.shoot(
        mesh, Rays(mesh), scene.look, wavelength=0.03, surface=surface, bounces=1, rng=np.random.default_rng(0)
    )
    assert found.range.min() == pytest.approx(-height * math.cos(theta) - 0.5 * math.sin(theta), abs=0.3)
    place = np.arange(-60, 60) + 0.5
    # ground pixels of 1 m; the wall is 1 m thick
    dark = radar.sea_shadow(scene, Rays(mesh), (place, place))[:, 60] == 0
    assert dark.sum() == pytest.approx(height * math.tan(theta) + 1, abs=1.5)


def test_what_stands_still_and_its_shadow_stay_together_beside_a_ship_that_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, sensors = still(sensors=mode("airborne").sized(96), incidence=70.0)
    scene = dataclasses.replace(scene, heading=scene.look_azimuth, side=1, wind=3.0)
    rate = -scene.range / sensors.radar.speed * math.sin(math.radians(70))
    scene = dataclasses.replace(scene, speed=abs(10.0 / rate))  # displaced by 10 m
    builder = MeshBuilder()
    builder.boxes([(0, 0, 0.5)], [(1, 1, 1)], (1, 1, 1), Material.STEEL)
    vessel = len(builder.mesh())
    builder.boxes([(-8, 0, 1.5)], [(3, 3, 3)], (1, 1, 1), Material.STEEL)
    mesh, shadow, seen = builder.mesh(), radar.sea_shadow, list[Array]()
    monkeypatch.setattr(radar, "sea_shadow", lambda *given: seen.append(shadow(*given)) or seen[-1])
    image, _ = radar.image(scene, sensors.radar, mesh, vessel, Rays(mesh), np.random.default_rng(0))
    spacing = scene.spacing_azimuth
    bright = float(np.argmax(image[0].max(0)))
    dark = float(np.flatnonzero((seen[0] == 0).any(0)).mean())
    assert abs(bright - 47.5) * spacing == pytest.approx(10.0, abs=1.0)
    assert dark * spacing == pytest.approx(bright * spacing, abs=1.5)


def test_waves_are_longer_along_a_look_across_the_wind(monkeypatch: pytest.MonkeyPatch) -> None:
    crests: list[float] = []
    monkeypatch.setattr(clutter, "correlated_gaussian", lambda noise, *lengths: crests.append(lengths[-1]) or noise)
    scene, sensors = still(sensors=mode("iw"), incidence=40.0)
    former = radar.Former(64, (10.0, 10.0), (20.0, 22.0))
    for degrees in (0, 60):
        blowing = dataclasses.replace(scene, wind=10.0, wind_direction=scene.look_azimuth + degrees)
        radar.sea_clutter(blowing, sensors.radar, former, np.zeros((64, 64)))
    assert crests[1] == pytest.approx(2 * crests[0], rel=0.01)


@pytest.mark.parametrize("defocus", [0.0, 6.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_point_at_an_edge_leaves_nothing_at_the_opposite_one_of_a_padded_image(axis: int, defocus: float) -> None:
    made, places = former(1.5, size=64, defocus=defocus), [np.zeros(1), np.zeros(1)]
    places[axis] = np.array([31.5])  # m from the center, in the last pixel
    levels = list[float]()
    for margin in (0, made.reach):
        wide = made.padded(margin)
        whole = np.abs(wide.look(wide.spectrum(np.array([1 + 0j]), (places[0], places[1])))) ** 2
        chip = whole[margin : margin + 64, margin : margin + 64]
        power = chip.max(1 - axis)
        assert power.argmax() == pytest.approx(63, abs=3)
        levels.append(10 * math.log10(power[:16].max() / power.max()))
    assert levels[0] > -5 and levels[1] < -45


@pytest.mark.parametrize("name", ["stripmap", "spotlight", "airborne", "coastal"])
def test_bright_wall_outside_one_edge_is_not_seen_at_the_opposite_one(name: str) -> None:
    sensors = mode(name).sized(24)
    scene, _ = still(sensors=sensors, clutter_db=-200.0, nesz=-60.0, occluder=0.0)
    edge, wide = 12 * scene.spacing_azimuth, scene.resolution_azimuth
    builder = MeshBuilder()
    builder.boxes([(0, edge + 0.3 * wide, wide / 4)], [(wide / 2, wide / 2, wide / 2)], (1, 1, 1), Material.STEEL)
    mesh = builder.mesh()
    chip = radar.image(scene, sensors.radar, mesh, len(mesh), Rays(mesh), np.random.default_rng(0))[0][0]
    power = 10 ** (chip / 10)
    assert power[:, -1].max() > 1000 * 10 ** (scene.nesz / 10)  # its response reaches into the chip
    assert power[:, :6].max() < max(1e-4 * power.max(), 100 * 10 ** (scene.nesz / 10))


@pytest.mark.parametrize("name", ["stripmap", "spotlight", "airborne", "coastal"])
@pytest.mark.parametrize("target", [True, False])
def test_plate_larger_than_the_chip_fills_it(name: str, target: bool) -> None:
    sensors = mode(name).sized(24)
    scene, _ = still(sensors=sensors, clutter_db=-200.0, nesz=-60.0, occluder=0.0)
    side = 10 * 24 * max(scene.spacing_range, scene.spacing_azimuth)
    builder = MeshBuilder()
    builder.boxes([(0, 0, 1.05)], [(0.1, 0.1, 0.1)], (1, 1, 1), Material.STEEL)  # the only corners within the chip
    vessel = len(builder.mesh())
    builder.boxes([(0, 0, 0.5)], [(side, side, 1)], (1, 1, 1), Material.STEEL)
    mesh = builder.mesh()
    vessel = len(mesh) if target else vessel
    chip = radar.image(scene, sensors.radar, mesh, vessel, Rays(mesh), np.random.default_rng(0))[0][0]
    assert (chip > scene.nesz + 10).mean() > 0.9


@pytest.mark.parametrize(("name", "pair"), [("stripmap", 4), ("spotlight", 4), ("airborne", 0), ("airborne", 1)])
def test_no_part_of_a_large_ship_is_without_a_return(name: str, pair: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = mode(name)
    scene, mesh, vessel = sample(0, pair, sensors)
    found = list[scattering.Scatterers]()

    def both(*given: object, **options: object) -> scattering.Scatterers:
        for more in (options, options | {"count": 400_000, "widest": math.inf}):
            found.append(scattering.shoot(*given, **more))  # type: ignore[arg-type]
        return found[0]

    monkeypatch.setattr(radar, "shoot", both)
    radar.image(scene, sensors.radar, mesh, vessel, Rays(mesh), np.random.default_rng(0))
    to_image = math.sin(math.radians(scene.incidence)) if sensors.radar.plane == "ground" else 1.0
    cells = list[Array]()
    for some in found:
        own = (some.bounces == 1) & (some.face >= 0) & (some.face < vessel)
        row = np.floor(some.range[own] / to_image / scene.resolution_range)
        cells.append(row * 10_000 + np.floor(some.position[own, 1] / scene.resolution_azimuth))
    assert len(cells[0]) < len(cells[1])
    assert np.isin(cells[1], cells[0]).mean() > 0.98  # fraction of the visible area


def test_tubes_of_coarse_radars_have_no_limit_and_those_of_fine_ones_do_not_depend_on_the_gap() -> None:
    limits = {name: radar.widest_tube(sample(0, 0, mode(name), gap=0.5)[0], mode(name).radar) for name in modes()}
    assert [name for name, limit in limits.items() if math.isinf(limit)] == ["coastal", "iw"]
    assert {name: version(mode(name)) for name in modes()} == {
        "airborne": 6, "coastal": 6, "iw": 4, "spotlight": 6, "stripmap": 6
    }  # fmt: skip
    for name, limit in limits.items():
        assert radar.widest_tube(sample(0, 0, mode(name))[0], mode(name).radar) == limit
        assert limit <= mode(name).radar.resolution[1] / 2 or math.isinf(limit)


def test_a_limit_on_the_tubes_asks_for_no_more_than_the_most() -> None:
    box = np.zeros(3), np.array([100.0, 100.0, 10.0])
    look, draws = np.array([1.0, 0.0, 0.0]), np.random.default_rng(0)
    for widest, count in ((math.inf, 4000), (0.25, 16_000), (1e-3, scattering.MOST_TUBES)):
        origins, *_, side, _ = scattering.tubes(look, box, 4000, draws, mirror=False, widest=widest)
        assert len(origins) == pytest.approx(count, rel=0.05) and side <= max(widest, (1000 / count) ** 0.5)
