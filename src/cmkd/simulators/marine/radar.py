"""The radar image: a coherent sum in range and azimuth, calibrated to sigma nought, with sea clutter, noise and looks.

The rows are slant or ground range, so layover, foreshortening and shadow follow from geometry. A moving target is
displaced in azimuth by its range rate and defocused by its acceleration. `scattering` computes the returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from cmkd.simulators.marine import clutter, sea
from cmkd.simulators.marine.mesh import Array, Mesh
from cmkd.simulators.marine.modes import WIDTH, RadarMode
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scattering import Scatterers, Surface, shoot
from cmkd.simulators.marine.scene import Scene

FLOOR = 1e-9
"""Smallest sigma nought that is stored, linear."""
REACH = 8
"""Resolution cells from a point to the end of its response without defocus; sidelobes there are at -46 dB."""
MOST_REACH = 256
"""Largest padding on each side of an image, pixels, to limit memory; images of the built-in modes need half of it."""


def window(frequency: Array, resolution: float, *, taper: float) -> Array:
    """Return the weight ``taper + (1 - taper) cos²`` inside the band of a response `resolution` wide, and 0 outside.

    Args:
        frequency: spatial frequency, cycles/m.
        resolution: width of the response of a Hamming window (`taper` 0.08) at -3 dB, m.
        taper: weight at the band's edge; 1 gives a flat band.
    """
    band = WIDTH / resolution
    inside = np.abs(frequency) <= band / 2 * (1 + 1e-9)
    return np.where(inside, taper + (1 - taper) * np.cos(np.pi * frequency / band) ** 2, 0.0)


@dataclass(frozen=True)
class Former:
    """Forms an image of `size` x `size` pixels; pairs of values are for range and azimuth, in the plane of the image.

    The image is periodic: a response that leaves it on one side enters on the other, unless it is formed `padded` and
    then cropped.
    """

    size: int  # pixels along a side
    spacing: tuple[float, float]  # pixel spacing, m
    resolution: tuple[float, float]  # width of a point's response at -3 dB, m
    taper: float = 0.08  # see `window`
    defocus: float = 0.0  # quadratic phase at the ends of the aperture, rad
    fine: int = 4  # grid points per pixel, along each axis, for binning scatterers

    @property
    def reach(self) -> int:
        """Pixels from a point to the end of its response (`REACH`), a multiple of 8 for fast transforms.

        A quadratic phase Q at the band's ends delays these ends by ``2 Q / (π B)``, with B the band of `window`.
        """
        cells = (REACH, REACH + 2 * abs(self.defocus) / (math.pi * WIDTH))
        lengths = zip(cells, self.resolution, self.spacing, strict=True)
        return min(8 * math.ceil(max(count * width / step for count, width, step in lengths) / 8), MOST_REACH)

    def padded(self, margin: int) -> Former:
        """Return the former of an image with `margin` more pixels on each side."""
        return replace(self, size=self.size + 2 * margin)

    @property
    def weights(self) -> tuple[Array, Array]:
        """Weight of each frequency in range and azimuth, each ``(size,)``."""
        frequencies = (fft.fftfreq(self.size, step) for step in self.spacing)
        pairs = zip(frequencies, self.resolution, strict=True)
        return tuple(window(f, width, taper=self.taper) for f, width in pairs)  # type: ignore[return-value]

    @property
    def area(self) -> float:
        """Equivalent area of the point response in the image's plane, m²: its energy divided by its peak power.

        A surface of reflectivity σ⁰ has in each pixel the mean power of a point of cross-section σ⁰ times this area.
        """
        widths = (self.size * float(np.sum(w**2) / np.sum(w) ** 2) for w in self.weights)
        return math.prod(width * step for width, step in zip(widths, self.spacing, strict=True))

    def spectrum(self, amplitude: Array, place: tuple[Array, Array]) -> Array:
        """Return the spectrum of points inside the chip on the oversampled grid, complex64.

        Args:
            amplitude: amplitudes of the points, ``(n,)`` complex.
            place: range and azimuth from the chip's center, m, each ``(n,)``.
        """
        count = self.size * self.fine
        cells = [
            np.floor((p / (self.size * step) + 0.5) * count).astype(int)
            for p, step in zip(place, self.spacing, strict=True)
        ]
        inside = np.all([(c >= 0) & (c < count) for c in cells], axis=0)
        cell, kept = cells[0][inside] * count + cells[1][inside], amplitude[inside]
        grid = np.bincount(cell, kept.real, count**2) + 1j * np.bincount(cell, kept.imag, count**2)
        # a pixel's value is taken at its center, which is half a pixel less half a cell from its first cell
        turn = np.exp(1j * math.pi * (self.fine - 1) * fft.fftfreq(count)).astype(np.complex64)
        return np.asarray(fft.fft2(grid.reshape(count, count).astype(np.complex64)) * turn[:, None] * turn)

    def look(self, spectrum: Array, number: int = 0) -> Array:
        """Return look `number`, ``(size, size)`` complex, from its own band of azimuth frequencies.

        A scatterer at a pixel's center has its own amplitude there, up to the binning error of half a cell.
        """
        count = spectrum.shape[0]
        along, across = self.weights
        relative = fft.fftfreq(self.size, self.spacing[1]) * 2 * self.resolution[1] / WIDTH  # 1 at the band's end
        signed = np.rint(fft.fftfreq(self.size) * self.size).astype(int)
        step = round(WIDTH * self.size * self.spacing[1] / self.resolution[1])
        shift = step * ((number + 1) // 2) * (1 if number % 2 else -1)
        band = spectrum[np.ix_(signed % count, (signed + shift) % count)]
        weight = along[:, None] * (across * np.exp(1j * self.defocus * relative**2))[None, :]
        return np.asarray(fft.ifft2(band * (weight * (self.size**2 / (along.sum() * across.sum())))))

    def spread(self, power: Array) -> Array:
        """Return the power per pixel ``(size, size)`` after convolution with the point response."""
        response = np.abs(fft.ifft2(np.outer(*self.weights))) ** 2
        return np.asarray(np.maximum(fft.ifft2(fft.fft2(power) * fft.fft2(response / response.sum())).real, 0))

    def speckle(self, noise: Array) -> Array:
        """Band-limit white complex noise ``(..., size, size)``, keeping its mean power."""
        weight = np.outer(*self.weights)
        weight *= self.size / np.linalg.norm(weight)
        return np.asarray(fft.ifft2(fft.fft2(noise) * weight.astype(np.float32)))


@dataclass(frozen=True)
class Motion:
    """Effects of a target's motion on its image: displacement and defocus, from the scene and the platform.

    Source:
        Raney 1971, Synthetic aperture imaging radar and moving targets (IEEE T-AES 7): displacement
        ``-R v_r / V``; quadratic phase ``π T² (a_r / 2 - V v_a / R) / λ`` with T the time of a look. The azimuth
        band ``2 V T / (λ R)``, in cycles/m, equals the band of `window`, `WIDTH` / ρ, so ``T = WIDTH λ R / (2 V ρ)``.
    """

    scene: Scene
    radar: RadarMode

    @property
    def lever(self) -> float:
        """Displacement in azimuth per m/s of range rate, m; 0 for a platform at rest."""
        return -self.scene.side * self.scene.range / self.radar.speed if self.radar.speed else 0.0

    def range_rate(self, position: Array) -> Array:
        """Return the range rate, m/s, of points ``(n, 3)`` of the vessel."""
        scene, bow = self.scene, self.scene.turned(self.scene.heading)
        ahead, abeam = np.array([math.cos(bow), math.sin(bow), 0]), np.array([-math.sin(bow), math.cos(bow), 0])
        spin = scene.rates[0] * ahead + scene.rates[1] * abeam
        arm = position - np.array([scene.shift_x, scene.shift_y, scene.heave])
        return np.asarray((scene.speed * ahead + [0, 0, scene.rates[2]] + np.cross(spin, arm)) @ scene.look)

    @property
    def shift(self) -> float:
        """Displacement in azimuth of the vessel's center, m."""
        scene = self.scene
        return self.lever * float(self.range_rate(np.array([[scene.shift_x, scene.shift_y, scene.heave]]))[0])

    @property
    def defocus(self) -> float:
        """Quadratic phase at the ends of the aperture of one look, rad, after autofocus."""
        scene, speed = self.scene, self.radar.speed
        if not speed:
            return scene.extra_defocus
        wavelength = sea.LIGHT / (self.radar.frequency * 1e9)
        duration = WIDTH * wavelength * scene.range / (2 * speed * scene.resolution_azimuth)
        along = scene.side * scene.speed * math.sin(scene.turned(scene.heading))
        bend = scene.surge * scene.look[2] / 2 - speed * along / scene.range
        own = math.pi * duration**2 * float(bend) / wavelength
        return (1 - self.radar.autofocus) * own + scene.extra_defocus


def sea_shadow(scene: Scene, rays: Rays, place: tuple[Array, Array]) -> Array:
    """Return 1 where the radar sees the sea and 0 in shadow.

    Args:
        scene: geometry of the scene.
        rays: ray queries against target and other objects.
        place: ``(size,)`` ground range of the rows and y of the columns, m.
    """
    ground, across = np.meshgrid(*place, indexing="ij")
    origin = np.stack([ground, across, np.full_like(ground, 1e-3)], -1).reshape(-1, 3)
    blocked = rays.blocked(origin, np.broadcast_to(-scene.look, origin.shape))
    return np.where(blocked, 0.0, 1.0).reshape(ground.shape)


def sea_clutter(scene: Scene, radar: RadarMode, former: Former, noise: Array) -> Array:
    """Return the local mean sigma nought of the sea ``(channels, size, size)``: the model's mean times a gamma texture.

    Args:
        scene: sea and geometry.
        radar: frequency and polarizations.
        former: resolution and pixel spacing of the image.
        noise: ``(size, size)`` standard normal noise for the texture, which the channels share.
    """
    direction = scene.turned(scene.wind_direction)
    to_ground = 1 / math.sin(math.radians(scene.incidence)) if radar.plane == "slant" else 1.0
    cell = (former.resolution[0] * to_ground, former.resolution[1])
    step = (former.spacing[0] * to_ground, former.spacing[1])
    crest = 2 * math.pi * scene.wind**2 / (sea.GRAVITY * 0.77)  # wavelength at the Pierson-Moskowitz peak
    # The compound model assumes a constant texture within a cell, so the texture is no finer than that.
    lengths = [max(crest / part, 1.5 * c) / s for part, c, s in zip((8, 4), cell, step, strict=True)]
    ridge = max(crest / max(abs(math.cos(direction)), 0.2) / step[0], 3.0)  # from crest to crest along the look
    gaussian = clutter.correlated_gaussian(noise, lengths[0], lengths[1], ridge)
    found = []
    for polarization in radar.polarizations:
        setting = (scene.wind, scene.incidence, radar.frequency, polarization, direction)
        mean = float(clutter.reflectivity(*setting)) + scene.clutter_db
        found.append(
            10 ** (mean / 10) * clutter.gamma_texture(gaussian, clutter.texture_shape(*setting, math.prod(cell)))
        )
    return np.stack(found)


def image(
    scene: Scene, radar: RadarMode, mesh: Mesh, vessel: int, rays: Rays, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Make the radar chip of `mesh`, whose first `vessel` faces are the target, in place.

    Returns:
        Sigma nought in dB, the mean of the looks, ``(channels, size, size)`` float32, rows from near to far range and
        columns in azimuth; and the first look, complex64 of the same shape, whose squared magnitude is sigma nought.
    """
    motion, size, slope = Motion(scene, radar), radar.size, math.sin(math.radians(scene.incidence))
    former = Former(
        size, (scene.spacing_range, scene.spacing_azimuth), (scene.resolution_range, scene.resolution_azimuth),
        defocus=motion.defocus, fine=4 if radar.looks > 1 else 2,
    )  # fmt: skip
    margin = former.reach if radar.padded else 0
    wide, chip = former.padded(margin), (slice(margin, margin + size),) * 2
    to_ground = 1.0 if radar.plane == "ground" else 1 / slope
    center = (np.arange(size) + 0.5) / size - 0.5
    extent = [size * former.spacing[0] * to_ground, size * former.spacing[1]]
    # the chip is centered on the vessel's image, so azimuth a of the chip shows still objects at y = a + shift
    lit = sea_shadow(scene, rays, (center * extent[0], center * extent[1] + motion.shift))
    found = shoot(
        mesh, rays, scene.look, wavelength=sea.LIGHT / (radar.frequency * 1e9), surface=Surface.marine(),
        transmit=radar.transmit, receive=radar.receive, wind=scene.wind, rng=rng,
        bounds=_bounds(mesh, vessel, extent, motion), widest=widest_tube(scene, radar),
    )  # fmt: skip
    area = wide.area * to_ground
    spectra = [wide.spectrum(a, _places(found, motion, vessel)) for a in found.amplitude / math.sqrt(area)]
    sea_part = sea_clutter(scene, radar, former, rng.standard_normal((size, size)))
    sea_part = sea_part * wide.spread(np.pad(lit, margin, mode="edge"))[chip]
    local = np.sqrt(sea_part + 10 ** (scene.nesz / 10))
    weights = np.array([1.0, *[scene.look_weight] * (radar.looks - 1)])
    weights /= weights.sum()
    total, first = np.zeros(local.shape), np.zeros(local.shape, np.complex64)
    for number, weight in enumerate(weights):
        draws = rng.standard_normal((2, *local.shape), dtype=np.float32) / np.float32(math.sqrt(2))
        if weight == 0:
            continue
        value = former.speckle(draws[0] + 1j * draws[1]) * local
        value += np.stack([wide.look(spectrum, number)[chip] for spectrum in spectra])
        total += weight * np.abs(value) ** 2
        first = value.astype(np.complex64) if number == 0 else first
    return (10 * np.log10(np.maximum(total, FLOOR))).astype(np.float32), first


def widest_tube(scene: Scene, radar: RadarMode) -> float:
    """Return the largest side of a ray tube, m: half a cell of the mode, in azimuth and, on a deck, in range.

    This leaves few cells of a large ship without a return. The side does not depend on the gap, so that a pair has the
    same random numbers at every gap. There is no limit for radars that are not `RadarMode.fine`.
    """
    if not radar.fine:
        return math.inf
    theta = math.radians(scene.incidence)
    slant = radar.resolution[0] * (math.sin(theta) if radar.plane == "ground" else 1.0)
    azimuth = radar.resolution[1] * scene.spacing_azimuth / radar.spacing[1]
    return min(slant / math.tan(theta), azimuth) / 2


def _places(found: Scatterers, motion: Motion, vessel: int) -> tuple[Array, Array]:
    """Return scatterers' positions in the chip, m: range in the image's plane, and azimuth from the vessel's image."""
    slope = math.sin(math.radians(motion.scene.incidence)) if motion.radar.plane == "ground" else 1.0
    own = (found.face >= 0) & (found.face < vessel)
    moved = np.where(own, motion.lever * motion.range_rate(found.position), 0.0)
    return found.range / slope, found.position[:, 1] + moved - motion.shift


def _bounds(mesh: Mesh, vessel: int, extent: list[float], motion: Motion) -> tuple[Array, Array]:
    """Return the box to cover with rays: the vessel and the other objects in the chip, cut at the chip.

    Layover displaces a point at height z by ``z / tan θ``, and the main lobe of a point within two cells of the chip
    reaches into it. The box uses the cells of the mode, so that it does not depend on the gap, like `widest_tube`.
    """
    scene, radar = motion.scene, motion.radar
    if not radar.padded:
        return _corners_inside(mesh, vessel, extent, motion.shift)
    theta, top = math.radians(scene.incidence), max(float(mesh.bounds[1][2]), 0.0)
    cells = (radar.resolution[0] / radar.spacing[0], radar.resolution[1] / radar.spacing[1])
    range_, azimuth = (half * (0.5 + 2 * cell / radar.size) for half, cell in zip(extent, cells, strict=True))
    limit = np.array([range_ + top / math.tan(theta), azimuth, 1e3])
    still = np.zeros((len(mesh), 3))
    still[vessel:, 1] = motion.shift  # the chip is centered on the vessel's image
    low = np.maximum(mesh.triangles.min(1) - still, -limit) + still
    high = np.minimum(mesh.triangles.max(1) - still, limit) + still
    inside = (low <= high).all(1)
    return (low[inside].min(0), high[inside].max(0)) if inside.any() else mesh.bounds


def _corners_inside(mesh: Mesh, vessel: int, extent: list[float], shift: float) -> tuple[Array, Array]:
    """Return the bounding box of the corners in the chip, as in version 4; it misses faces that cross the chip."""
    limit = np.array([0.75 * extent[0], 0.5 * extent[1], 1e3])
    corners = mesh.triangles.reshape(-1, 3)
    own, others = corners[: 3 * vessel], corners[3 * vessel :] - np.array([0, shift, 0], np.float32)
    others = others[(np.abs(others) <= limit).all(1)] + np.array([0, shift, 0], np.float32)
    inside = own[(np.abs(own) <= limit).all(1)]
    points = np.concatenate([inside if len(inside) else own, others])
    return points.min(0), points.max(0)


def display(decibel: Array) -> Array:
    """Convert sigma nought ``(channels, h, w)`` in dB to a picture ``(h, w, 3)`` uint8.

    Each channel is scaled from 8 dB below its median to its 99.8th percentile, over at least 25 dB. A single channel is
    gray; with two channels, red and blue show the co-polarized one and green the cross-polarized one.
    """
    low = np.median(decibel, axis=(1, 2), keepdims=True) - 8
    high = np.maximum(np.percentile(decibel, 99.8, axis=(1, 2), keepdims=True), low + 25)
    shown = np.clip((decibel - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return np.stack([shown[0], shown[1 if len(shown) > 1 else 0], shown[0]], -1)
