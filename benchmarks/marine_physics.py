"""The marine simulator's radar physics against theory and published figures.

    python benchmarks/marine_physics.py

Each check is a small function that returns rows; add one to `CHECKS` for another table.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh

from cmkd.io import write_text
from cmkd.simulators.marine import clutter, sea
from cmkd.simulators.marine.mesh import Array, Material, Mesh, MeshBuilder
from cmkd.simulators.marine.modes import mode, modes
from cmkd.simulators.marine.radar import Former, Motion, image
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scattering import Axis, Scatterers, Surface, shoot
from cmkd.simulators.marine.scene import VERSIONS, individual, sample
from cmkd.simulators.marine.vessels import CLASSES
from records import RESULTS, about, table

WAVELENGTH = 0.03
"""Wavelength for the canonical shapes and the vessels, m."""
ALONG_X = np.array([1.0, 0.0, 0.0])


class Row(NamedTuple):
    """One comparison."""

    quantity: str
    theory: float
    simulated: float
    unit: str = "dBsm"


def turned(mesh: Mesh, angle: float, axis: int) -> Mesh:
    """Return the mesh turned by `angle` radians about x (0) or z (2)."""
    c, s = math.cos(angle), math.sin(angle)
    matrix = {0: [[1, 0, 0], [0, c, -s], [0, s, c]], 2: [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis]
    return mesh.moved(np.array(matrix), np.zeros(3))


def sheets(*corners: list[tuple[float, float, float]]) -> Mesh:
    """Return flat polygons of metal."""
    builder = MeshBuilder()
    for polygon in corners:
        builder.sheet(np.array(polygon, float), (1, 1, 1), Material.STEEL)
    return builder.mesh()


def dihedral(turn: float) -> Mesh:
    """Return a dihedral of two faces of 1 m by 0.8 m that opens towards -x, its axis `turn` radians from y."""
    r = math.sqrt(0.5)
    return turned(sheets(*[[(0, -0.4, 0), (-r, -0.4, z), (-r, 0.4, z), (0, 0.4, 0)] for z in (r, -r)]), turn, 0)


def ideal(mesh: Mesh, look: Array, receive: Axis = "V", *, bounces: int = 3, wavelength: float = WAVELENGTH) -> float:
    """Return the cross-section of ideal surfaces for a vertically polarized wave, dBsm."""
    look = np.asarray(look, float) / np.linalg.norm(look)
    found = shoot(mesh, Rays(mesh), look, wavelength=wavelength, receive=(receive,), count=30_000,
                  surface=Surface.ideal(), bounces=bounces, rng=np.random.default_rng(0))  # fmt: skip
    return 20 * math.log10(max(abs(found.amplitude.sum()), 1e-3))


def canonical() -> Iterator[Row]:
    """Cross-sections of a plate, a sphere, a dihedral and a trihedral at 10 GHz."""
    plate = sheets([(0, -0.5, -0.5), (0, 0.5, -0.5), (0, 0.5, 0.5), (0, -0.5, 0.5)])
    ball = trimesh.creation.icosphere(5, 1.0)
    count = len(ball.faces)
    sphere = Mesh(np.asarray(ball.triangles, np.float32), np.ones((count, 3), np.float32), np.zeros(count, np.uint8))
    corner = sheets([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [(0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 0, 0)],
                    [(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)])  # fmt: skip
    scale = math.pi / WAVELENGTH**2
    yield Row("plate of 1 m², 4πA²/λ²", 10 * math.log10(4 * scale), ideal(plate, ALONG_X))
    yield Row(
        "sphere of 1 m at 1 GHz, πa²", 10 * math.log10(math.pi), ideal(sphere, ALONG_X, bounces=1, wavelength=0.3)
    )
    yield Row("dihedral, 8πa²b²/λ²", 10 * math.log10(8 * scale * 0.64), ideal(dihedral(0.0), ALONG_X))
    yield Row("square trihedral, 12πa⁴/λ²", 10 * math.log10(12 * scale), ideal(corner, np.array([-1, -1, -1])))


def rotation() -> Iterator[Row]:
    """Cross-polarized share of a dihedral turned about the line of sight, ``sin² 2t``."""
    for degrees in (10.0, 22.5, 45.0):
        mesh = dihedral(math.radians(degrees))
        co, cross = (10 ** (ideal(mesh, ALONG_X, axis) / 10) for axis in ("V", "H"))
        share = math.sin(2 * math.radians(degrees)) ** 2
        yield Row(f"cross-polarized share, dihedral at {degrees:g}°", share, cross / (co + cross), "")


def double_bounce() -> Iterator[Row]:
    """Loss by wind on the path between a wall and the sea, 20 degrees grazing, HH.

    Theory: only the loss of one reflection by the rough sea; waves also tilt the mirror, which weakens the return.
    """
    builder = MeshBuilder()
    builder.boxes([(0, 0, 4)], [(2, 10, 8)], (1, 1, 1), Material.STEEL)
    mesh, psi, power = builder.mesh(), math.radians(20), {}
    look = np.array([math.cos(psi), 0, -math.sin(psi)])
    for wind in (1.0, 5.0, 10.0):
        found = shoot(mesh, Rays(mesh), look, wavelength=WAVELENGTH, transmit="H", receive=("H",), count=20_000,
                      surface=Surface.ideal(), wind=wind, rng=np.random.default_rng(0))  # fmt: skip
        loss = sea.coherent_loss(0.002 + 0.0012 * wind, np.array([math.sin(psi)]), WAVELENGTH)[0]
        power[wind] = (
            20 * math.log10(loss),
            10 * math.log10(np.sum(np.abs(found.amplitude[0, found.bounces == 2]) ** 2)),
        )
        if wind > 1:
            theory, simulated = (power[wind][i] - power[1.0][i] for i in (0, 1))
            yield Row(f"double bounce, {wind:g} against 1 m/s", theory, simulated, "dB")


def reflectivity() -> Iterator[Row]:
    """Mean reflectivity against values of other implementations of the published models."""
    for wind, angle, incidence, decibel in ((5, 0, 23, -7.22), (10, 45, 35, -12.69), (15, 180, 45, -11.82)):
        found = clutter.reflectivity(wind, incidence, 5.405, "VV", math.radians(angle) - math.pi)
        yield Row(f"CMOD5.N, {wind} m/s at {angle}° from the wind, incidence {incidence}°", decibel, float(found), "dB")
    yield Row("C-band VH, 10 m/s, Vachon and Wolfe", -29.7, float(clutter.reflectivity(10, 35, 5.405, "VH")), "dB")


def moments() -> Iterator[Row]:
    """Normalized second and third moment of K-distributed intensity, ``n! Γ(ν+n) / (Γ(ν) νⁿ)``."""
    rng = np.random.default_rng(0)
    for shape in (0.5, 2.0, 10.0):
        texture = clutter.gamma_texture(rng.standard_normal(2_000_000), shape)
        intensity = texture * rng.exponential(size=len(texture))
        for order in (2, 3):
            theory = math.factorial(order) * math.exp(math.lgamma(shape + order) - math.lgamma(shape)) / shape**order
            yield Row(f"moment {order} of K, shape {shape:g}", theory, float(np.mean(intensity**order)), "")


def vessel(label: int, number: int, heading: float, grazing: float) -> tuple[Scatterers, Mesh]:
    """Return the VV returns of a vessel at 7 m/s of wind, and its mesh; angles in degrees."""
    psi, own = math.radians(grazing), individual(5, label, number)
    mesh, look = turned(own, math.radians(heading), 2), np.array([math.cos(psi), 0, -math.sin(psi)])
    found = shoot(mesh, Rays(mesh), look, wavelength=WAVELENGTH, surface=Surface.marine(), wind=7.0,
                  rng=np.random.default_rng(number))  # fmt: skip
    return found, own


def mean_section(label: int, headings: Array, grazing: float) -> float:
    """Return the mean cross-section of eight vessels over headings, dBsm."""
    power = [np.sum(np.abs(vessel(label, n, h, grazing)[0].amplitude[0]) ** 2) for n in range(8) for h in headings]
    return float(10 * np.log10(np.mean(power)))


def aspects() -> Iterator[Row]:
    """Ratio of the means over headings within 15 degrees of broadside and of the bow, at 3 and 20 degrees grazing.

    Theory: published plots show broadside above bow; the bound of 0 dB stands for them. A platform has no bow.
    """
    near = np.linspace(-13, 13, 6)
    for label, name in enumerate(CLASSES):
        for grazing in (3.0, 20.0):
            margin = mean_section(label, near + 90, grazing) - mean_section(label, near, grazing)
            yield Row(f"{name}, broadside over bow at {grazing:g}° grazing", 0.0, margin, "dB (theory: at least)")


def displacement(label: int) -> float:
    """Return the mean displacement of eight vessels in kilotonnes, estimated from length and beam at the waterline."""
    values = []
    for number in range(8):
        points = individual(5, label, number).triangles.reshape(-1, 3)
        length, beam = (float(v) for v in np.ptp(points[points[:, 2] < 0.01], axis=0)[:2])
        values.append(0.65 * length * beam * beam / 2.8 * 1.025 / 1000)
    return float(np.mean(values))


def skolnik() -> Iterator[Row]:
    """Median of bow and quarter aspects against Skolnik's rules for ships.

    Near grazing ``52 √f D^1.5`` m², f in MHz and D in kilotonnes, fitted to ships of 2 to 17 kilotonnes and with the
    sea's multipath; at higher angles about 1 m² per tonne. The displacement is an estimate from length and beam (block
    coefficient 0.65, draft of beam/2.8). A platform displaces nothing comparable.
    """
    for label, name in enumerate(CLASSES[:7]):
        mass = displacement(label)
        for grazing, rule in ((2.0, 52 * math.sqrt(9993) * mass**1.5), (20.0, 1000 * mass)):
            power = [np.sum(np.abs(vessel(label, n, h, grazing)[0].amplitude[0]) ** 2)
                     for n in range(8) for h in (20, 45, 135, 160, 225, 315)]  # fmt: skip
            found = 10 * math.log10(np.median(power))
            yield Row(f"{name} of {mass:.2f} kt at {grazing:g}° grazing", 10 * math.log10(rule), found)


def formation() -> Iterator[Row]:
    """Image of a point and of a uniform surface: a Hamming window's width, equivalent area and looks (Harris 1978)."""
    rng, size = np.random.default_rng(0), 256
    former = Former(size, (1.0, 1.0), (2.5, 2.5))
    point = former.look(former.spectrum(np.array([1 + 0j]), (np.array([0.51]), np.array([0.51]))))
    spectrum = np.pad(np.fft.fftshift(np.fft.fft(np.roll(point[size // 2], size // 2))), size * 16)
    line = np.abs(np.fft.ifft(np.fft.ifftshift(spectrum)))
    yield Row("width of a point at -3 dB", 2.5, float((line > line.max() / math.sqrt(2)).sum()) / 33, "m")
    yield Row("equivalent area of a point", (1.363 / 1.303 * 2.5) ** 2, float(np.sum(np.abs(point) ** 2)), "m²")
    count = 400_000
    amplitude = math.sqrt(0.05 * size**2 / count) * np.exp(2j * np.pi * rng.random(count))
    place = rng.uniform(-size / 2, size / 2, (2, count))
    surface = former.spectrum(amplitude, (place[0], place[1]))
    looks = np.stack([np.abs(former.look(surface, number)) ** 2 for number in range(5)]) / former.area
    for number in (1, 3, 5):
        power = looks[:number].mean(0)
        yield Row(f"equivalent number of looks, {number} added", number, float(power.mean() ** 2 / power.var()), "")
    level = 10 * math.log10(looks.mean())
    yield Row("uniform surface of -13 dB", 10 * math.log10(0.05), level, "dB")


def motion() -> Iterator[Row]:
    """Image of a ship that moves, mode stripmap: ``-R v sin θ / V`` and the law of cosines."""
    sensors = mode("stripmap")
    scene = dataclasses.replace(
        sample(0, 0, sensors)[0], rates=(0.0, 0.0, 0.0), speed=10.0, surge=0.0, shift_x=0.0, shift_y=0.0, heave=0.0,
        side=1,
    )  # fmt: skip
    away = dataclasses.replace(scene, heading=scene.look_azimuth)
    shift = -away.range / 7600 * 10 * math.sin(math.radians(away.incidence))
    yield Row("displacement, 10 m/s away from the radar", shift, Motion(away, sensors.radar).shift, "m")
    wavelength = sea.LIGHT / 9.65e9
    half = 1.303 * wavelength * scene.range / (4 * 7600 * scene.resolution_azimuth)  # of a Hamming window (Harris 1978)

    def phase(acceleration: float, along: float) -> float:
        moving = math.hypot(scene.range, (7600 - along) * half) + acceleration * half**2 / 2
        return 4 * math.pi / wavelength * (moving - math.hypot(scene.range, 7600 * half))

    along = dataclasses.replace(scene, heading=scene.look_azimuth - 90)
    yield Row("phase at the aperture's ends, 10 m/s along", phase(0, 10), Motion(along, sensors.radar).defocus, "rad")
    rising = dataclasses.replace(scene, speed=0.0, surge=0.5)
    down = -0.5 * math.cos(math.radians(scene.incidence))
    yield Row("phase at the aperture's ends, 0.5 m/s² up", phase(down, 0), Motion(rising, sensors.radar).defocus, "rad")


def levels() -> Iterator[Row]:
    """Mean of chips without a target: the noise of the mode, and the model of the clutter."""
    for name in modes():
        sensors = mode(name).sized(64)
        scene, mesh, vessel_faces = sample(0, 0, sensors)
        tiny = mesh.moved(np.eye(3) * 1e-3, np.zeros(3))
        rays = Rays(tiny)
        quiet = dataclasses.replace(scene, clutter_db=-200.0, nesz=-20.0)
        noise = image(quiet, sensors.radar, tiny, vessel_faces, rays, np.random.default_rng(0))[0]
        yield Row(f"{name}: noise of -20 dB", -20.0, 10 * math.log10(np.mean(10 ** (noise / 10))), "dB")
        loud = dataclasses.replace(scene, nesz=-90.0)
        chips = [image(loud, sensors.radar, tiny, vessel_faces, rays, np.random.default_rng(i))[0] for i in range(40)]
        for channel, polarization in enumerate(sensors.radar.polarizations):
            direction = scene.turned(scene.wind_direction)
            expected = clutter.reflectivity(
                scene.wind, scene.incidence, sensors.radar.frequency, polarization, direction
            )
            found = 10 * math.log10(np.mean([10 ** (chip[channel] / 10) for chip in chips]))
            yield Row(f"{name}: clutter {polarization}", float(expected), found, "dB")


CHECKS: tuple[Callable[[], Iterator[Row]], ...] = (
    formation, motion, levels, canonical, rotation, double_bounce, reflectivity, moments, aspects, skolnik
)  # fmt: skip
"""Tables of the result, in order."""


def shares() -> str:
    """Return a table of the power by number of bounces, over all headings at 20 degrees grazing."""
    lines = []
    for label, name in enumerate(CLASSES):
        total = np.zeros(3)
        for number in range(8):
            for heading in (30, 75, 150, 210, 285, 345):
                found, _ = vessel(label, number, heading, 20.0)
                power = np.abs(found.amplitude[0]) ** 2
                total += [power[found.bounces == b].sum() / power.sum() / 48 for b in (1, 2, 3)]
        lines.append([name, *(f"{100 * value:.0f}" for value in total)])
    return table(["class", "one bounce, with details, %", "two", "three"], lines)


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "marine_physics.md")
    given = parser.parse_args()
    parts = [
        "# Radar physics of the marine simulator\n\n"
        f"Simulator version {VERSIONS[-1]}; {about()}. Made by `python benchmarks/marine_physics.py`. The levels of "
        "the vessels' materials are estimates, see `scattering.Surface.marine`."
    ]
    for check in CHECKS:
        lines = [
            [r.quantity, f"{r.theory:.3g}" if not r.unit else f"{r.theory:.2f}",
             f"{r.simulated:.3g}" if not r.unit else f"{r.simulated:.2f}",
             f"{r.simulated - r.theory:+z.2g}" if not r.unit else f"{r.simulated - r.theory:+z.2f}", r.unit]
            for r in check()
        ]  # fmt: skip
        about_check = " ".join((check.__doc__ or "").split())
        parts.append(f"{about_check}\n\n{table(['quantity', 'theory', 'simulated', 'difference', 'unit'], lines)}")
    parts.append(f"Share of the power by number of bounces.\n\n{shares()}")
    write_text(given.out, "\n\n".join(part.rstrip("\n") for part in parts) + "\n")


if __name__ == "__main__":
    main()
