"""The parameters drawn for one pair: time and place, vessel and motion, sea, and the geometry of both sensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from cmkd.errors import CmkdError
from cmkd.simulators.marine.fleet import BuiltIn, Fleet
from cmkd.simulators.marine.mesh import Array, Mesh
from cmkd.simulators.marine.modes import Mode
from cmkd.simulators.marine.sea import GRAVITY, significant_height
from cmkd.simulators.marine.surroundings import surroundings

VERSIONS = (4, 6)
"""Versions of pairs without and with a padded radar: increase the one whose pairs change by even a byte."""
STREAMS = 4
"""Part of the seed of all random streams; another number gives other vessels and other scenes."""

WIND = (1.0, 17.0)
"""Lowest and highest wind speed at 10 m, m/s."""
VESSELS_PER_CLASS = 240
"""Default number of vessels per class; further pairs show the same vessels in new scenes."""
BUILT_IN = BuiltIn(VESSELS_PER_CLASS)

# Of every 20 vessels 14 train, 3 validate, 3 test; the order is shuffled per seed and class.
_SPLITS = ("train",) * 14 + ("validation",) * 3 + ("test",) * 3


@dataclass(frozen=True)
class Gap:
    """Degradation of a radar relative to its mode at one gap; every value is monotonic and continuous in the gap."""

    coarser: float  # factor on the resolution cell's width
    nesz_db: float  # added to the noise-equivalent sigma nought, dB
    # weight w of each of the n looks after the first; the effective number of looks is ``(1 + nw)² / (1 + nw²)``
    look_weight: float
    clutter_db: float  # added to the mean of the sea clutter, dB
    defocus: float  # largest quadratic phase error at the ends of the aperture, added to the target's own, rad

    @classmethod
    def dial(cls, gap: float) -> Gap:
        """Return the setting for `gap` from 0 (the mode as it is) to 1.

        Raises:
            CmkdError: `gap` is outside 0 to 1.

        Example:
            >>> Gap.dial(0.0).coarser, Gap.dial(1.0).look_weight
            (1.0, 0.0)
        """
        if not 0 <= gap <= 1:
            raise CmkdError(f"expected a gap from 0 to 1, got {gap}")
        return cls(3.0**gap, 15.0 * gap, 1.0 - gap, 6.0 * gap, 9.0 * gap)


@dataclass(frozen=True)
class Scene:
    """Parameters of one pair.

    The radar looks along x from ``(-range sin θ, 0, range cos θ)`` with θ the incidence; y is its azimuth, z is up, and
    the calm sea is z = 0. Compass angles are degrees clockwise from north; `turned` converts them to the scene's axes.
    """

    pair: int  # number of the pair
    label: int  # class number in its fleet
    kind: str  # name of the class
    vessel: int  # which individual of the class
    split: str  # train, validation or test, by vessel
    time: str  # UTC, ISO 8601
    latitude: float  # degrees
    longitude: float  # degrees
    heading: float  # heading of the bow, compass
    speed: float  # speed over ground along the heading, m/s
    roll: float  # radians
    pitch: float  # radians
    heave: float  # m
    rates: tuple[float, float, float]  # rates of roll, pitch (rad/s) and heave (m/s)
    surge: float  # vertical acceleration of the vessel, m/s²
    length: float  # length over all, m
    beam: float  # m
    shift_x: float  # offset of the vessel from the center of the chip along the look direction, m
    shift_y: float  # offset of the vessel across the look direction, m
    wind: float  # wind speed, m/s
    wind_direction: float  # direction toward which the wind blows, compass
    clutter_objects: int  # buoys, boats and rocks in the scene
    occluder: float  # height of a breakwater between sensor and target as a fraction of the target's; 0 for none
    sun_elevation: float  # degrees
    sun_azimuth: float  # compass
    look_azimuth: float  # direction from the radar to the target, compass
    incidence: float  # incidence of the radar at the target, degrees from the vertical
    range: float  # slant range of the radar, m
    resolution_range: float  # width at -3 dB in range, in the image's plane, m
    resolution_azimuth: float  # width at -3 dB in azimuth, m
    spacing_range: float  # pixel spacing in range, m
    spacing_azimuth: float  # pixel spacing in azimuth, m
    looks: float  # effective number of looks
    look_weight: float  # see `Gap`
    nesz: float  # noise-equivalent sigma nought, dB
    clutter_db: float  # mean of the sea clutter relative to its model, dB
    extra_defocus: float  # quadratic phase at the ends of the aperture, added to the target's own, rad
    side: int  # 1 or -1: sense of the platform's flight along y
    optical_spacing: float  # pixel spacing, m
    optical_incidence: float  # incidence of the camera, degrees from the vertical
    optical_azimuth: float  # direction from the camera to the target, compass
    haze: float  # optical depth of the haze
    cloud: float  # opacity of the clouds where they are thickest
    overcast: float  # cloud cover of the sky, 0 to 1, which dims the sun
    night: float  # 0 for day to 1 for a hundredth of its light
    exposure: float  # error of the automatic exposure, stops
    noise: float  # read noise as a fraction of full scale

    @property
    def group(self) -> str:
        """Name of the individual vessel, which is in one split only."""
        return vessel_name(self.kind, self.vessel)

    @property
    def look(self) -> Array:
        """Unit vector ``(3,)`` from the radar to the target."""
        theta = math.radians(self.incidence)
        return np.array([math.sin(theta), 0.0, -math.cos(theta)])

    def turned(self, compass: float) -> float:
        """Return a compass angle as radians from x to y."""
        return math.radians(self.look_azimuth - compass)


_SENSOR = (
    "time", "latitude", "longitude", "heading", "speed", "wind", "wind_direction", "sun_elevation", "sun_azimuth",
    "look_azimuth", "incidence", "range", "resolution_range", "resolution_azimuth", "spacing_range", "spacing_azimuth",
    "looks", "nesz", "optical_spacing", "optical_incidence", "optical_azimuth", "cloud", "night",
)  # fmt: skip


def metadata(scene: Scene, mode: Mode, seed: int) -> dict[str, str]:
    """Return the metadata that a delivery would have about a pair, as text: columns of the pack's index.

    Angles are in degrees, lengths in m, speeds in m/s, levels in dB, times in UTC. Values that no sensor measures (such
    as the vessel's dimensions and attitude) are left out; `sample` draws them again from seed and pair.
    """
    radar = mode.radar
    found = {"scene": f"{seed}-{scene.pair:06d}", "band": radar.band, "polarizations": " ".join(radar.polarizations)}
    for name in _SENSOR:
        value = getattr(scene, name)
        found[name] = value if isinstance(value, str) else f"{value:.6g}"
    return found


def version(mode: Mode) -> int:
    """Return the version of a mode's pairs: the last version that changed their bytes.

    Version 5 changed only the radar images of fine radars (`cmkd.simulators.marine.modes.RadarMode.fine`), version 6
    only those of padded radars (`RadarMode.padded`).
    """
    return VERSIONS[mode.radar.padded]


def _stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of `key`, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence((seed, STREAMS, *key)))


def vessel_name(kind: str, number: int) -> str:
    """Return the name of vessel `number` of a class, which is the group of its pairs."""
    return f"{kind.replace(' ', '-')}-{number:03d}"


def individual(seed: int, label: int, number: int, fleet: Fleet = BUILT_IN) -> Mesh:
    """Return the mesh of vessel `number` of class `label` for a seed."""
    return fleet.mesh(fleet.classes[label], number, _stream(seed, 1, label, number))


def split_of(seed: int, label: int, number: int) -> str:
    """Return the split of a vessel: 70 % train, 15 % validation, 15 % test of every 20 vessels of a class."""
    order = _stream(seed, 2, label, number // len(_SPLITS)).permutation(len(_SPLITS))
    return _SPLITS[order[number % len(_SPLITS)]]


def sun(day: int, hour: float, latitude: float) -> tuple[float, float]:
    """Return the elevation and the compass azimuth of the sun, degrees, accurate to about a degree.

    Args:
        day: day of the year, from 1.
        hour: true solar time, hours.
        latitude: degrees.

    Source:
        Cooper 1969 for the declination: ``δ = 23.45° sin(360° (284 + day) / 365)``.

    Example:
        >>> [round(angle) for angle in sun(172, 12.0, 50.0)]
        [63, 180]
    """
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day) / 365)
    angle, phi = math.radians(15 * (hour - 12)), math.radians(latitude)
    up = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(angle)
    north = math.cos(phi) * math.sin(declination) - math.sin(phi) * math.cos(declination) * math.cos(angle)
    east = -math.cos(declination) * math.sin(angle)
    return math.degrees(math.asin(up)), math.degrees(math.atan2(east, north)) % 360


def sample(
    seed: int, pair: int, mode: Mode, *, gap: float = 0.0, vessel: int | None = None, fleet: Fleet = BUILT_IN
) -> tuple[Scene, Mesh, int]:
    """Draw a pair's scene and build its mesh in place.

    Vessel, sea, time, place and geometry do not depend on `gap`, so the same pair can be seen at several gaps. The
    class determines the vessel, and that a platform does not sail. Through the vessel's length, it also affects the
    motion, and the size and distance of the objects beside the vessel (`surroundings`).

    Args:
        seed: random seed of the data set.
        pair: number of the pair; its class is ``pair`` modulo the number of classes.
        mode: sensor mode.
        gap: degradation of the radar relative to its mode, 0 to 1.
        vessel: number of the individual; by default the vessels take turns.
        fleet: source of the vessels.

    Returns:
        The scene; one mesh of the target, moved by the waves, and the other objects; and the number of its first faces
        that belong to the target.
    """
    turn, label = divmod(pair, len(fleet.classes))
    kind = fleet.classes[label]
    number = turn % fleet.count(kind) if vessel is None else vessel
    rng, target = _stream(seed, 3, pair), individual(seed, label, number, fleet)
    low, high = target.bounds
    length, beam, height = (float(v) for v in high - low)
    drawn = _world(rng) | _sensors(rng, mode, Gap.dial(gap))
    drawn |= _motion(rng, float(drawn["wind"]), length, sails="platform" not in kind.lower())
    field = min(mode.optical.size * mode.optical.spacing, mode.radar.size * min(mode.radar.spacing))
    scene = Scene(
        pair=pair, label=label, kind=kind, vessel=number, split=split_of(seed, label, number), length=length, beam=beam,
        shift_x=rng.uniform(-0.1, 0.1) * field, shift_y=rng.uniform(-0.1, 0.1) * field,
        clutter_objects=int(rng.poisson(0.7)),
        occluder=float(rng.uniform(0.15, 0.6)) if rng.random() < 0.12 and drawn["incidence"] > 60 else 0.0,
        **drawn,
    )  # fmt: skip
    placed = target.moved(_attitude(scene), np.array([scene.shift_x, scene.shift_y, scene.heave]))
    place = (scene.shift_x, scene.shift_y)
    others = surroundings(place, length, height, scene.clutter_objects, scene.occluder, rng)
    return scene, Mesh.joined([placed, *others]), len(placed)


def _world(rng: np.random.Generator) -> dict[str, Any]:
    """Draw time, place, weather and light."""
    day, hour, latitude = int(rng.integers(1, 366)), rng.uniform(10, 14), rng.uniform(-50, 50)
    longitude, (elevation, azimuth) = rng.uniform(-180, 180), sun(day, hour, latitude)
    moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour - longitude / 15)
    return {
        "time": moment.isoformat(timespec="seconds"), "latitude": latitude, "longitude": longitude,
        "wind": float(np.clip(rng.weibull(2.0) * 8.0, *WIND)), "wind_direction": rng.uniform(0, 360),
        "sun_elevation": elevation, "sun_azimuth": azimuth, "overcast": float(rng.beta(0.7, 0.7)),
    }  # fmt: skip


def _sensors(rng: np.random.Generator, mode: Mode, dial: Gap) -> dict[str, Any]:
    """Draw the geometry of radar and camera, and their quality."""
    radar, optical = mode.radar, mode.optical
    incidence, look = rng.uniform(*radar.incidence), rng.uniform(0, 360)
    range_ = rng.uniform(*radar.range) * 1e3 if radar.range else radar.slant_range(incidence)
    wider = range_ / 1e3 if radar.polar else 1.0
    others = radar.looks - 1
    return {
        "look_azimuth": look, "incidence": incidence, "range": range_, "side": int(rng.choice((-1, 1))),
        "resolution_range": radar.resolution[0] * dial.coarser,
        "resolution_azimuth": radar.resolution[1] * dial.coarser * wider,
        "spacing_range": radar.spacing[0], "spacing_azimuth": radar.spacing[1] * wider,
        "look_weight": dial.look_weight, "nesz": rng.uniform(*radar.nesz) + dial.nesz_db,
        "looks": (1 + others * dial.look_weight) ** 2 / (1 + others * dial.look_weight**2),
        "clutter_db": dial.clutter_db, "extra_defocus": dial.defocus * rng.uniform(-1, 1),
        "optical_spacing": optical.spacing,
        "optical_incidence": incidence if optical.beside else rng.uniform(*optical.incidence),
        "optical_azimuth": look if optical.beside else rng.uniform(0, 360),
        "haze": rng.uniform(*optical.haze), "cloud": rng.uniform(*optical.cloud), "night": rng.uniform(*optical.night),
        "exposure": rng.normal(0, 0.4), "noise": float(np.exp(rng.uniform(*np.log(optical.noise)))),
    }  # fmt: skip


def _motion(rng: np.random.Generator, wind: float, length: float, *, sails: bool) -> dict[str, Any]:
    """Draw heading, speed, attitude and their rates.

    Amplitudes grow with the waves and fall with the length. The roll period is ``4 + 0.04 L`` s, an estimate; pitch and
    heave follow the Pierson-Moskowitz peak, ``0.877 g / U`` rad/s, limited to 2 rad/s.
    """
    part = min(significant_height(wind) / 6.0, 1.0) * min(40.0 / length, 1.5) * sails
    roll, pitch, heave = 0.12 * part, 0.04 * part, 0.3 * part
    waves, rolling = min(0.877 * GRAVITY / wind, 2.0), 2 * math.pi / (4 + 0.04 * length)
    return {
        "heading": rng.uniform(0, 360), "speed": max(0.0, rng.normal(5.0, 4.0)) * sails,
        "roll": rng.normal() * roll, "pitch": rng.normal() * pitch, "heave": rng.normal() * heave,
        "rates": (rng.normal() * roll * rolling, rng.normal() * pitch * waves, rng.normal() * heave * waves),
        "surge": rng.normal() * heave * waves**2,
    }  # fmt: skip


def _attitude(scene: Scene) -> Array:
    """Return the rotation ``(3, 3)`` from the vessel's axes to the world's: roll, then pitch, then heading."""

    def turn(angle: float, first: int, second: int) -> Array:
        matrix = np.eye(3)
        c, s = math.cos(angle), math.sin(angle)
        matrix[first, first], matrix[first, second], matrix[second, first], matrix[second, second] = c, -s, s, c
        return matrix

    return np.asarray(turn(scene.turned(scene.heading), 0, 1) @ turn(scene.pitch, 2, 0) @ turn(scene.roll, 1, 2))
