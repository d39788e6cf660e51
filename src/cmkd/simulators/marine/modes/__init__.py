"""Sensor modes: the radar and the camera of one delivery, described in small typed files.

A mode is a YAML file beside this one, or the user's own file. Its figures are published ones where its sources say
so. A chip has a fixed number of pixels of a fixed size in meters, so a small vessel is small and a vessel longer than
the chip is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, cast

from cmkd.documents import read_yaml
from cmkd.errors import CmkdError, unknown_name
from cmkd.io import expanded
from cmkd.options import Bounds, build
from cmkd.simulators.marine.sea import Polarization

SAMPLES = 2
"""Rays per pixel of an optical image, along each axis."""
FINE = 10.0
"""Radars whose resolution is finer than this, m, have ray tubes of at most half a cell."""
EARTH = 6371.0
"""Mean radius of the Earth, km."""

Range = tuple[float, float]
"""Lower and upper limit of a value that is drawn for each scene."""
Positive = Annotated[float, Bounds(above=0)]
Pixels = Annotated[int, Bounds(least=16, most=512)]
Fraction = Annotated[float, Bounds(least=0, most=1)]


@dataclass(frozen=True, kw_only=True)
class RadarMode:
    """A radar and its images.

    Args:
        frequency: center frequency, GHz.
        transmit: transmitted polarization.
        receive: received polarizations, a channel each; the first is the co-polarized one.
        incidence: incidence at the target, degrees from the vertical.
        resolution: width at -3 dB in range and azimuth, m, in the plane of the image.
        spacing: pixel spacing in range and azimuth, m.
        size: pixels along a side.
        nesz: noise-equivalent sigma nought, dB.
        looks: number of looks of equal weight, added as intensities; each has the stated resolution.
        altitude: altitude of a satellite, km; the slant range follows from it.
        range: slant range of a platform without an altitude, km.
        speed: speed of the platform, m/s; 0 where the antenna's beam alone gives the resolution in azimuth.
        plane: ``ground`` range or ``slant`` range along the rows.
        polar: resolution and spacing in azimuth hold at 1 km and grow with the range, as for a rotating antenna.
        autofocus: fraction of the target's own quadratic phase that processing removes.

    Raises:
        CmkdError: values are out of range or do not fit each other.
    """

    frequency: Positive
    transmit: Literal["H", "V"]
    receive: tuple[Literal["H", "V"], ...]
    incidence: Range
    resolution: Range
    spacing: Range
    size: Pixels
    nesz: Range
    looks: Annotated[int, Bounds(least=1, most=7)] = 1
    altitude: Positive | None = None
    range: Range | None = None
    speed: Annotated[float, Bounds(least=0)] = 0.0
    plane: Literal["ground", "slant"] = "ground"
    polar: bool = False
    autofocus: Fraction = 0.0

    def __post_init__(self) -> None:
        _check_range("incidence", self.incidence, 0, 89.9)
        _check_range("nesz", self.nesz, -100, 20)
        if (self.altitude is None) == (self.range is None):
            raise CmkdError("give either the altitude of a satellite or the range of another platform")
        if self.range is not None:
            _check_range("range", self.range, 0.05, 500)
        if not self.receive or self.receive[0] != self.transmit or len(set(self.receive)) < len(self.receive):
            raise CmkdError(f"receive must begin with the transmitted polarization {self.transmit} and name each once")
        for pair in (self.resolution, self.spacing):
            if len(pair) != 2 or min(pair) <= 0:
                raise CmkdError(f"expected two lengths in m, in range and azimuth, got {list(pair)}")
        for fine, step in zip(self.resolution, self.spacing, strict=True):
            if fine < WIDTH * step:
                raise CmkdError(f"pixels of {step} m alias a resolution of {fine} m: use at most {fine / WIDTH:.3g} m")
        most = int(4 * self.resolution[1] / self.spacing[1] / WIDTH)
        if self.looks > most:
            raise CmkdError(f"{self.looks} looks overlap in azimuth: pixels of {self.spacing[1]} m allow {most}")

    @property
    def polarizations(self) -> tuple[Polarization, ...]:
        """Names of the channels, such as ``VV`` and ``VH``: transmitted, then received."""
        return tuple(cast(Polarization, self.transmit + received) for received in self.receive)

    @property
    def band(self) -> str:
        """Letter of the frequency band (IEEE 521)."""
        limits = {"UHF": 1, "L": 2, "S": 4, "C": 8, "X": 12, "Ku": 18, "K": 27}
        return next((letter for letter, most in limits.items() if self.frequency < most), "Ka")

    @property
    def fine(self) -> bool:
        """Whether the resolution is so fine that ray tubes must be adapted to it (`FINE`)."""
        return min(self.resolution) < FINE

    @property
    def padded(self) -> bool:
        """Whether images are formed on a wider grid, so that they are not periodic.

        Coarse radars keep the bytes of version 4, on which published networks were trained, and stay periodic. Rotating
        antennas are the exception, since their chips showed this most.
        """
        return self.fine or self.polar

    def slant_range(self, incidence: float) -> float:
        """Return the slant range of a satellite, m, over a spherical Earth.

        Args:
            incidence: incidence at the target, degrees from the vertical.

        Example:
            >>> round(mode("iw").radar.slant_range(39.0) / 1000)
            865
        """
        assert self.altitude is not None
        down = EARTH * math.cos(math.radians(incidence))
        return 1e3 * (math.sqrt(down**2 + 2 * EARTH * self.altitude + self.altitude**2) - down)


@dataclass(frozen=True, kw_only=True)
class OpticalMode:
    """A camera and its images of three channels: red, green and blue.

    Args:
        spacing: pixel spacing at the target, m.
        size: pixels along a side.
        incidence: incidence at the target, degrees from the vertical; images are orthorectified to the sea plane.
        beside: the camera stands beside the radar and looks along it, in perspective.
        mtf: modulation transfer of lens and detector at the Nyquist frequency; the detector alone has 0.71.
        noise: read noise as a fraction of full scale.
        haze: optical depth of the haze along the line of sight.
        cloud: opacity of the clouds between camera and sea where they are thickest.
        night: darkness, 0 for day to 1 for a hundredth of its light.

    Raises:
        CmkdError: values are out of range.
    """

    spacing: Positive
    size: Pixels
    incidence: Range = (0.0, 0.0)
    beside: bool = False
    mtf: Annotated[float, Bounds(above=0, below=0.7)] = 0.15
    noise: Range = (0.002, 0.012)
    haze: Range = (0.0, 0.5)
    cloud: Range = (0.0, 0.0)
    night: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, most in (("incidence", 80), ("haze", 10), ("cloud", 1), ("night", 1)):
            _check_range(name, getattr(self, name), 0, most)
        _check_range("noise", self.noise, 1e-6, 1)  # its logarithm is drawn

    @property
    def blur(self) -> float:
        """Standard deviation of the lens's Gaussian blur, in rays; with the mean over a pixel's rays it gives `mtf`."""
        detector = 1 / (SAMPLES * math.sin(math.pi / (2 * SAMPLES)))
        return SAMPLES * math.sqrt(-2 * math.log(self.mtf / detector)) / math.pi


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A radar and a camera that see the same targets.

    Args:
        title: description in one line.
        radar: the poor modality.
        optical: the rich modality.
        sources: publications with the figures.

    Example:
        >>> found = mode("iw")
        >>> found.radar.band, found.radar.polarizations, found.radar.size * found.radar.spacing[0]
        ('C', ('VV', 'VH'), 640)
    """

    title: str
    radar: RadarMode
    optical: OpticalMode
    sources: Sequence[str] = ()

    def sized(self, size: int) -> Mode:
        """Return the mode with radar chips of `size` x `size` pixels, and optical chips scaled alike."""
        optical = max(16, round(self.optical.size * size / self.radar.size))
        return replace(self, radar=replace(self.radar, size=size), optical=replace(self.optical, size=optical))


WIDTH = 1.303
"""Width at -3 dB of a Hamming window's response, in units of the reciprocal of the bandwidth (Harris 1978)."""


def modes() -> tuple[str, ...]:
    """Return the names of the modes that come with the package."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))


def mode(name: str) -> Mode:
    """Read a sensor mode.

    Args:
        name: one of `modes`, or the path of your own file.

    Raises:
        CmkdError: the mode is unknown, or its file is invalid.
    """
    own = expanded(name)
    path = own if own.suffix in (".yaml", ".yml") else Path(__file__).parent / f"{name}.yaml"
    if path is not own and name not in modes():
        raise unknown_name("sensor mode", name, modes())
    try:
        return build(Mode, read_yaml(path, example="title: my satellite"))
    except CmkdError as error:
        raise CmkdError(f"{path.name}: {error}") from error


def _check_range(name: str, values: Range, least: float, most: float) -> None:
    if len(values) != 2 or not least <= values[0] <= values[1] <= most:
        raise CmkdError(f"{name} must be two numbers from {least} to {most}, the smaller first; got {list(values)}")
