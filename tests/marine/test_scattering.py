"""Returns of canonical shapes and of vessels agree with theory; each check states its tolerance."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import trimesh

from cmkd.simulators.marine import scattering
from cmkd.simulators.marine.mesh import Array, Material, Mesh, MeshBuilder
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scene import individual

ALONG_X = np.array([1.0, 0.0, 0.0])
WAVELENGTH = 0.05


def matrix(mesh: Mesh, look: Array, *, wavelength: float = WAVELENGTH, count: int = 6000, bounces: int = 3) -> Array:
    """Return the scattering matrix of ideal surfaces in free space: rows receive H and V, columns transmit them."""
    look, rays = np.asarray(look, float) / np.linalg.norm(look), Rays(mesh)
    columns = [scattering.shoot(mesh, rays, look, wavelength=wavelength, transmit=transmit, receive=("H", "V"),
                                count=count, surface=scattering.Surface.ideal(), bounces=bounces,
                                rng=np.random.default_rng(0)).amplitude.sum(1)
               for transmit in ("H", "V")]  # fmt: skip
    return np.stack(columns, 1)


def section(mesh: Mesh, look: Array, wavelength: float = WAVELENGTH, count: int = 6000, bounces: int = 3) -> float:
    """Return the VV radar cross-section in dB of 1 m²."""
    return float(20 * np.log10(abs(matrix(mesh, look, wavelength=wavelength, count=count, bounces=bounces)[1, 1])))


def squares(*corners: list[tuple[float, float, float]]) -> Mesh:
    builder = MeshBuilder()
    for four in corners:
        builder.sheet(np.array(four), (1, 1, 1), Material.STEEL)
    return builder.mesh()


def plate(side: float, turn: float = 0.0) -> Mesh:
    """Return a square plate facing -x, turned about z by `turn` radians."""
    h, c, s = side / 2, math.cos(turn), math.sin(turn)
    return squares([(-y * s, y * c, z) for y, z in ((-h, -h), (h, -h), (h, h), (-h, h))])


def sphere(radius: float) -> Mesh:
    ball = trimesh.creation.icosphere(5, radius)
    count = len(ball.faces)
    return Mesh(np.asarray(ball.triangles, np.float32), np.ones((count, 3), np.float32), np.zeros(count, np.uint8))


@pytest.mark.parametrize("wavelength", [0.03, 0.1])
def test_plate_at_normal_incidence(wavelength: float) -> None:
    # 0.3 dB: jitter moves some of the 6,000 ray tubes over the rim
    expected = 10 * math.log10(4 * math.pi * 1.0**4 / wavelength**2)
    assert section(plate(1.0), ALONG_X, wavelength) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("turn_degrees", [0.5, 1.0, 4.3])
def test_plate_off_normal_has_the_lobes_of_its_aperture(turn_degrees: float) -> None:
    # physical optics: cos² times sinc² of k a sin(turn); 4.3 degrees is near the first side lobe; 1 dB in deep minima
    wavelength, turn = 0.1, math.radians(turn_degrees)
    factor = math.cos(turn) * np.sinc(2 * math.sin(turn) / wavelength)
    expected = 10 * math.log10(4 * math.pi / wavelength**2 * factor**2)
    assert section(plate(1.0, turn), ALONG_X, wavelength, 20_000) == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize(("radius", "wavelength"), [(1.0, 0.3), (1.0, 0.15), (2.0, 0.3)])
def test_sphere_is_its_disc_at_any_wavelength(radius: float, wavelength: float) -> None:
    # 1 dB: facets and the shadow boundary make physical optics of a sphere ripple about pi a²
    assert section(sphere(radius), ALONG_X, wavelength, 60_000, 1) == pytest.approx(
        10 * math.log10(math.pi * radius**2), abs=1.0
    )


def dihedral(a: float, b: float, turn: float = 0.0) -> Mesh:
    """Return a dihedral of two a x b faces, open towards -x; its axis is turned from y about x by `turn` radians."""
    r, c, s = a / math.sqrt(2), math.cos(turn), math.sin(turn)
    flat = squares(*[[(0, -b / 2, 0), (-r, -b / 2, z), (-r, b / 2, z), (0, b / 2, 0)] for z in (r, -r)])
    return flat.moved(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.zeros(3))


def trihedral(a: float) -> Mesh:
    return squares([(0, 0, 0), (a, 0, 0), (a, a, 0), (0, a, 0)], [(0, 0, 0), (0, 0, a), (a, 0, a), (a, 0, 0)],
                   [(0, 0, 0), (0, a, 0), (0, a, a), (0, 0, a)])  # fmt: skip


def test_dihedral_needs_two_bounces_and_trihedral_three() -> None:
    # 0.5 dB
    wavelength, down, inward = WAVELENGTH, ALONG_X, np.array([-1.0, -1.0, -1.0])
    two = 10 * math.log10(8 * math.pi * 1.0**2 * 0.8**2 / wavelength**2)
    three = 10 * math.log10(12 * math.pi * 1.0**4 / wavelength**2)
    assert section(dihedral(1.0, 0.8), down, wavelength) == pytest.approx(two, abs=0.5)
    assert section(trihedral(1.0), inward, wavelength, 12_000) == pytest.approx(three, abs=0.5)
    assert section(dihedral(1.0, 0.8), down, bounces=1) < two - 15
    assert section(trihedral(1.0), inward, count=12_000, bounces=2) < three - 10


def test_corner_outshines_a_plate_of_its_size_away_from_broadside() -> None:
    wavelength, turn = 0.05, math.radians(10)
    look = np.array([math.cos(turn), math.sin(turn), 0.0])
    corner = section(trihedral(1.0), np.array([-1.0, -0.8, -1.1]), wavelength, 12_000)
    assert corner > section(plate(1.0), look, wavelength) + 20


def test_wall_on_a_calm_sea_has_a_double_bounce_that_wind_weakens() -> None:
    builder = MeshBuilder()
    builder.boxes([(0, 0, 4)], [(2, 10, 8)], (1, 1, 1), Material.STEEL)
    mesh, psi = builder.mesh(), math.radians(20)
    look, power = np.array([math.cos(psi), 0, -math.sin(psi)]), {}
    for wind in (0.5, 12.0):
        found = scattering.shoot(mesh, Rays(mesh), look, wavelength=0.03, surface=scattering.Surface.ideal(), wind=wind,
                                 transmit="H", receive=("H",), rng=np.random.default_rng(0))  # fmt: skip
        power[wind] = {b: float(np.sum(np.abs(found.amplitude[0, found.bounces == b]) ** 2)) for b in (1, 2)}
    assert power[0.5][2] > 10 * power[0.5][1]
    assert power[12.0][2] < 0.5 * power[0.5][2]


def test_plate_sphere_and_trihedral_return_both_polarizations_alike_and_no_cross_polarization() -> None:
    # 0.5 dB and 10 degrees between HH and VV; cross-polarization below -30 dB, because of jittered tubes at the rims
    for mesh, look in ((plate(1.0, 0.075), ALONG_X), (sphere(1.0), ALONG_X), (trihedral(1.0), [-1, -1, -1])):
        found = matrix(mesh, np.array(look), count=12_000)
        assert abs(20 * math.log10(abs(found[0, 0] / found[1, 1]))) < 0.5
        assert abs(np.angle(found[0, 0] / found[1, 1], deg=True)) < 10
        assert max(abs(found[0, 1]), abs(found[1, 0])) < abs(found[1, 1]) * 10**-1.5


@pytest.mark.parametrize("turn_degrees", [0.0, 22.5, 45.0])
def test_turned_dihedral_has_the_matrix_of_theory(turn_degrees: float) -> None:
    # theory: [[cos 2t, sin 2t], [sin 2t, -cos 2t]]; 3 % of the peak
    turn = math.radians(turn_degrees)
    found = matrix(dihedral(1.0, 0.8, turn), ALONG_X)
    c, s = math.cos(2 * turn), math.sin(2 * turn)
    peak = math.sqrt(8 * math.pi) * 0.8 / WAVELENGTH
    phase = found.ravel()[abs(found).argmax()]
    expected = np.array([[c, s], [s, -c]])
    phase = phase / abs(phase) * np.sign(expected.ravel()[abs(found).argmax()])
    np.testing.assert_allclose(found / phase / peak, expected, atol=0.03)


def test_details_return_cross_polarization_at_their_ratio_and_few_are_strong() -> None:
    surface = dataclasses.replace(scattering.Surface.ideal(), reflection=np.zeros(len(Material)),
                                  diffuse=np.ones(len(Material)))  # fmt: skip
    mesh = plate(10.0)
    found = scattering.shoot(mesh, Rays(mesh), ALONG_X, wavelength=0.03, surface=surface, receive=("H", "V"),
                             count=40_000, rng=np.random.default_rng(0))  # fmt: skip
    power = np.abs(found.amplitude) ** 2
    # 10 %: the standard error of the sum is 1.5 % of 100 m²
    assert power[1].sum() == pytest.approx(100.0, rel=0.1)
    assert power[0].sum() == pytest.approx(100.0 * scattering.CROSS_RATIO, rel=0.1)
    assert np.sort(power[1])[-4000:].sum() > 0.6 * power[1].sum()  # the strongest tenth; 0.33 in a Rayleigh field


def test_returns_name_the_first_face_of_the_mesh_on_their_path() -> None:
    builder = MeshBuilder()
    builder.boxes([(0, 0, 4), (0, 30, 4)], [(2, 10, 8), (2, 10, 8)], (1, 1, 1), Material.STEEL)
    mesh, psi = builder.mesh(), math.radians(20)
    look = np.array([math.cos(psi), 0, -math.sin(psi)])
    found = scattering.shoot(mesh, Rays(mesh), look, wavelength=0.03, surface=scattering.Surface.ideal(), wind=3.0,
                             rng=np.random.default_rng(0))  # fmt: skip
    second = (found.position[:, 1] > 15) & (found.face >= 0)
    assert set(np.unique(found.face[second] // 12)) == {1}
    assert set(np.unique(found.face[~second & (found.face >= 0)] // 12)) == {0}
    assert (found.face[found.bounces == 1] >= 0).all()


def test_warped_plates_weaken_a_corner() -> None:
    plain = scattering.Surface.ideal()
    # tubes are as large as the patches: slopes of 0.03 over three bounces widen a lobe of 0.1 rad
    mesh, look = trihedral(20.0), np.array([-1.0, -1.0, -1.0]) / math.sqrt(3)
    power = []
    for warp in (0.0, 0.03):
        surface = dataclasses.replace(plain, warp=np.full(len(Material), warp), coherence=np.full(len(Material), 0.3))
        found = scattering.shoot(mesh, Rays(mesh), look, wavelength=0.03, surface=surface, count=6000,
                                 rng=np.random.default_rng(0))  # fmt: skip
        power.append(float(np.sum(np.abs(found.amplitude[0, found.bounces == 3]) ** 2)))
    assert 0.02 < power[1] / power[0] < 0.7


def vessel_section(label: int, degrees: list[float], grazing: float) -> tuple[float, float]:
    """Return the mean cross-section (m²) of vessels of a class over headings, and its fraction from single bounces."""
    psi, total, direct = math.radians(grazing), [], []
    look = np.array([math.cos(psi), 0, -math.sin(psi)])
    for number, heading in itertools.product(range(3), np.radians(degrees)):
        c, s = math.cos(heading), math.sin(heading)
        mesh = individual(5, label, number).moved(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.zeros(3))
        found = scattering.shoot(mesh, Rays(mesh), look, wavelength=0.032, surface=scattering.Surface.marine(),
                                 count=2000, wind=7.0, rng=np.random.default_rng(number))  # fmt: skip
        power = np.abs(found.amplitude[0]) ** 2
        total.append(power.sum())
        direct.append(power[found.bounces == 1].sum())
    return float(np.mean(total)), sum(direct) / sum(total)


@pytest.mark.parametrize("label", [0, 5], ids=["container ship", "frigate"])
def test_ships_are_brighter_abeam_than_over_the_bow_and_not_by_corners_alone(label: int) -> None:
    # at least 2 dB in a mean over six aspects; benchmarks/results/marine_physics.md has all classes
    side, bow = (vessel_section(label, degrees, 3.0)[0] for degrees in ([82, 95], [-8, 6]))
    assert side > bow * 10**0.2
    assert vessel_section(label, [30, 210], 20.0)[1] > 0.3
