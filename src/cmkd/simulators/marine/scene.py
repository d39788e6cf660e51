"""The parameters drawn for one pair, and the dial of the gap between the sensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cmkd.errors import CmkdError
from cmkd.simulators.marine.mesh import Array, Material, Mesh, MeshBuilder
from cmkd.simulators.marine.sea import LIGHT, Polarization, significant_height
from cmkd.simulators.marine.vessels import CLASSES, vessel

VERSION = 1
"""Version of the simulator's output: increase it with any change that alters a byte of a pair."""

VESSELS_PER_CLASS = 240
"""Distinct individuals of each class; further pairs show the same vessels in new scenes."""

# Of every 20 vessels 14 train, 3 validate, 3 test; the order is shuffled per seed and class.
_SPLITS = ("train",) * 14 + ("validation",) * 3 + ("test",) * 3


@dataclass(frozen=True)
class Gap:
    """The radar's quality at one setting of the dial. Every value is monotonic and continuous in the dial."""

    resolution: float  # width of the radar's resolution cell in pixels of its chip
    snr_db: float  # signal-to-noise ratio of a resolution cell full of a surface of 1 m² per m² at 3 km, dB
    # weight of each of three further looks beside the first; the effective number of looks is ``(1 + 3w)² / (1 + 3w²)``
    look_weight: float
    clutter_db: float  # mean of the sea clutter relative to the NRL model, dB
    defocus: float  # greatest quadratic phase error at the ends of the aperture, rad

    @classmethod
    def dial(cls, gap: float) -> Gap:
        """Return the setting for `gap` from 0 (radar at its best) to 1.

        Raises:
            CmkdError: `gap` is outside 0 to 1.

        Example:
            >>> Gap.dial(0.0).look_weight, Gap.dial(1.0).look_weight
            (1.0, 0.0)
        """
        if not 0 <= gap <= 1:
            raise CmkdError(f"expected a gap from 0 to 1, got {gap}")
        return cls(1.1 * (3.3 / 1.1) ** gap, 38.0 - 22.0 * gap, 1.0 - gap, -6.0 + 12.0 * gap, 9.0 * gap)

    @property
    def looks(self) -> float:
        """Effective number of looks, 4 to 1."""
        return (1 + 3 * self.look_weight) ** 2 / (1 + 3 * self.look_weight**2)


@dataclass(frozen=True)
class Scene:
    """Parameters of one pair. The sensors look along x from ``(-range cos ψ, 0, range sin ψ)``; the sea is z = 0."""

    pair: int  # its number
    label: int  # class number
    vessel: int  # which individual of the class
    split: str  # train, validation or test, by vessel
    heading: float  # of the bow, radians from the look direction
    roll: float  # radians
    pitch: float  # radians
    heave: float  # m
    speed: float  # m/s; sets the wake
    shift_x: float  # of the vessel from the center of the chip along the look direction, m
    shift_y: float  # the same across, m
    range: float  # from sensor to center, m
    grazing: float  # look angle ψ above the horizon, degrees
    wind: float  # m/s
    wind_direction: float  # where it blows to, radians from the look direction
    sun_elevation: float  # degrees
    sun_azimuth: float  # radians from the look direction; 0 is a sun behind the target
    cloud: float  # cover, 0 to 1
    visibility: float  # meteorological, m
    exposure: float  # error of the automatic exposure, stops
    optical_swath: float  # width of the optical chip at the target, m
    blur: float  # standard deviation of the lens blur, pixels
    noise: float  # read noise as a fraction of full scale
    clutter_objects: int  # buoys, boats and rocks in the scene
    occluder: float  # height of a breakwater between sensor and target as a fraction of the target's; 0 for none
    radar_swath: float  # width of the radar chip in range and cross-range, m
    frequency: float  # GHz
    polarization: Polarization  # HH or VV
    resolution: float  # of the radar in both directions, m
    snr_db: float  # see `Gap`
    look_weight: float  # see `Gap`
    clutter_db: float  # see `Gap`
    defocus: float  # quadratic phase error at the ends of the aperture, rad
    tilt: float  # of the axis of rotation, radians: height shows in cross-range as ``z tan(tilt)``

    @property
    def group(self) -> str:
        """Name of the individual vessel, which is in one split only."""
        return f"{CLASSES[self.label].replace(' ', '-')}-{self.vessel:03d}"

    @property
    def wavelength(self) -> float:
        """Wavelength of the radar, m."""
        return LIGHT / (self.frequency * 1e9)

    @property
    def bandwidth(self) -> float:
        """Bandwidth of the radar, Hz: ``c / (2 resolution)``."""
        return LIGHT / (2 * self.resolution)

    @property
    def aperture(self) -> float:
        """Angle that one look spans, radians: ``λ / (2 resolution)``."""
        return self.wavelength / (2 * self.resolution)

    @property
    def look(self) -> Array:
        """Unit vector ``(3,)`` from the sensors to the target."""
        psi = math.radians(self.grazing)
        return np.array([math.cos(psi), 0.0, -math.sin(psi)])


def _stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of `key`, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence((seed, VERSION, *key)))


def individual(seed: int, label: int, number: int) -> Mesh:
    """Return the mesh of vessel `number` of class `label` in the world of `seed`."""
    return vessel(CLASSES[label], _stream(seed, 1, label, number))


def split_of(seed: int, label: int, number: int) -> str:
    """Return the split of a vessel: 70 % train, 15 % validation, 15 % test of each run of 20 vessels of a class."""
    order = _stream(seed, 2, label, number // len(_SPLITS)).permutation(len(_SPLITS))
    return _SPLITS[order[number % len(_SPLITS)]]


def sample(seed: int, pair: int, *, size: int, gap: float) -> tuple[Scene, Mesh]:
    """Draw a pair's scene and build its mesh in place.

    Everything but the radar's own settings is independent of `gap`, so the same pair can be seen at several gaps.

    Args:
        seed: of the data set.
        pair: number of the pair; its class is ``pair mod 8``.
        size: pixels along a side of the chips.
        gap: 0 to 1.

    Returns:
        The scene, and the mesh of target and other objects, moved by the waves.
    """
    dial = Gap.dial(gap)
    label, number = pair % len(CLASSES), pair // len(CLASSES) % VESSELS_PER_CLASS
    rng = _stream(seed, 3, pair)
    target = individual(seed, label, number)
    low, high = target.bounds
    length, breadth, height = (float(v) for v in high - low)
    heading, grazing = rng.uniform(0, 2 * math.pi), float(np.exp(rng.uniform(math.log(5), math.log(45))))
    across = abs(length * math.sin(heading)) + abs(breadth * math.cos(heading))
    seen = max(across, height * math.cos(math.radians(grazing)), 0.5 * length)
    wind = float(np.clip(rng.weibull(2.0) * 8.0, 1.0, 17.0))
    motion = min(significant_height(wind) / 6.0, 1.0) * min(40.0 / length, 1.5)
    radar_swath = max(length, 0.8 * height) * rng.uniform(1.2, 1.8)
    range_ = max(float(np.exp(rng.uniform(math.log(800), math.log(6000)))), 6.0 * length)
    scene = Scene(
        pair=pair, label=label, vessel=number, split=split_of(seed, label, number), heading=heading,
        roll=rng.normal() * 0.12 * motion, pitch=rng.normal() * 0.04 * motion, heave=rng.normal() * 0.3 * motion,
        speed=0.0 if CLASSES[label] == "offshore platform" else max(0.0, rng.normal(5.0, 4.0)),
        shift_x=rng.uniform(-0.12, 0.12) * radar_swath, shift_y=rng.uniform(-0.12, 0.12) * radar_swath,
        range=range_, grazing=grazing, wind=wind, wind_direction=rng.uniform(0, 2 * math.pi),
        sun_elevation=float(rng.uniform(8, 70)), sun_azimuth=rng.uniform(0, 2 * math.pi),
        cloud=float(rng.beta(0.7, 0.7)),
        visibility=max(float(np.exp(rng.normal(math.log(60_000), 0.8))), 7.0 * range_), exposure=rng.normal(0, 0.4),
        optical_swath=seen * rng.uniform(1.05, 1.8), blur=rng.uniform(0.3, 1.0),
        noise=float(np.exp(rng.uniform(math.log(0.002), math.log(0.012)))),
        clutter_objects=int(rng.poisson(0.7)), occluder=float(rng.uniform(0.15, 0.6)) if rng.random() < 0.12 else 0.0,
        radar_swath=radar_swath, frequency=rng.uniform(9.2, 9.9), polarization="HH" if rng.random() < 0.5 else "VV",
        resolution=radar_swath / size * dial.resolution * rng.uniform(0.92, 1.12),
        snr_db=dial.snr_db + rng.uniform(-3, 3),
        look_weight=dial.look_weight, clutter_db=dial.clutter_db, defocus=dial.defocus * rng.uniform(-1, 1),
        tilt=rng.normal() * (0.12 + 0.2 * motion),
    )  # fmt: skip
    placed = target.moved(_attitude(scene), np.array([scene.shift_x, scene.shift_y, scene.heave]))
    others = _other_objects(scene, length, height, rng)
    return scene, Mesh.joined([placed, *others])


def _attitude(scene: Scene) -> Array:
    """Return the rotation ``(3, 3)`` from the vessel's axes to the world's: roll, then pitch, then heading."""

    def turn(angle: float, first: int, second: int) -> Array:
        matrix = np.eye(3)
        c, s = math.cos(angle), math.sin(angle)
        matrix[first, first], matrix[first, second], matrix[second, first], matrix[second, second] = c, -s, s, c
        return matrix

    return np.asarray(turn(scene.heading, 0, 1) @ turn(scene.pitch, 2, 0) @ turn(scene.roll, 1, 2))


def _other_objects(scene: Scene, length: float, height: float, rng: np.random.Generator) -> list[Mesh]:
    """Draw buoys, boats and rocks beside the target, and a breakwater in front of it."""
    builder = MeshBuilder()
    for _ in range(scene.clutter_objects):
        angle, away = rng.uniform(0, 2 * math.pi), length * rng.uniform(0.45, 1.1)
        x, y = scene.shift_x + away * math.cos(angle), scene.shift_y + away * math.sin(angle)
        scale = length * rng.uniform(0.02, 0.07)
        kind = rng.integers(3) if scale < 2.5 else rng.integers(1, 3)  # no buoy is taller than 7.5 m
        if kind == 0:
            builder.cylinder((x, y, -1), (x, y, 3 * scale), 0.7 * scale, (0.6, 0.1, 0.05), top_radius=0.2 * scale)
        elif kind == 1:
            builder.boxes([(x, y, 0.3 * scale), (x, y, scale)],
                          [(4 * scale, 1.5 * scale, scale), (scale, scale, scale)],
                          (0.6, 0.6, 0.6), Material.PLASTIC, taper=(1.1, 1.1))  # fmt: skip
        else:
            builder.boxes(rng.normal((x, y, 0), scale, (4, 3)), rng.uniform(0.8, 2.5, (4, 3)) * scale,
                          (0.16, 0.14, 0.12), Material.ROCK, taper=(0.6, 0.6))  # fmt: skip
    if scene.occluder:
        count = 14
        places = np.linspace(-0.8, 0.8, count) + rng.normal(0, 0.05, count) + 0.6 * rng.normal()
        ys = scene.shift_y + places * length
        xs = scene.shift_x - length * rng.uniform(0.65, 0.75) + rng.normal(0, 0.02, count) * length
        tall = height * scene.occluder * rng.uniform(0.7, 1.2, count)
        center = np.column_stack([xs, ys, tall * 0.3])
        size = np.column_stack([rng.uniform(0.06, 0.12, count) * length, np.full(count, 0.16 * length), tall * 1.4])
        builder.boxes(center, size, (0.17, 0.15, 0.13), Material.ROCK, taper=(0.5, 0.7))
    return [builder.mesh()] if scene.clutter_objects or scene.occluder else []
