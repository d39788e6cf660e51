"""The radar image: a coherent sum into range and cross-range, sea clutter, thermal noise, looks.

The image is in slant range and cross-range (the horizontal axis across the look direction, tilted by the target's
rotation), so layover, foreshortening and shadow follow from geometry. `scattering` makes the returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft

from cmkd.simulators.marine import clutter, sea
from cmkd.simulators.marine.mesh import Array, Mesh
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scattering import Axis, Scatterers, Surface, shoot
from cmkd.simulators.marine.scene import Scene

_OVERSAMPLING = 4  # of the grid that scatterers are binned on: positions are rounded to an eighth of a pixel
_REFERENCE_RANGE = 3000.0  # m, at which `Scene.snr_db` holds


def window(frequency: Array, resolution: float, *, taper: float) -> Array:
    """Return the band's weight, ``taper + (1 - taper) cos²`` within ``|f| ≤ 1/(2 resolution)``, 0 outside.

    Args:
        frequency: spatial, cycles/m.
        resolution: c/(2B) in range, λ/(2 Δθ) in cross-range, m.
        taper: weight at the band's edge: 0.08 gives a Hamming window, 1 a flat one.
    """
    inside = np.abs(frequency) <= 0.5 / resolution * (1 + 1e-9)
    return np.where(inside, taper + (1 - taper) * np.cos(np.pi * frequency * resolution) ** 2, 0.0)


@dataclass(frozen=True)
class Former:
    """Forms an image of `size` pixels over `swath` m at `resolution` m, in both directions."""

    size: int  # pixels along a side
    swath: float  # m
    resolution: float  # m, at least a pixel: ``swath / size``
    taper: float = 0.08  # of the window, see `window`
    defocus: float = 0.0  # quadratic phase at the ends of the aperture, rad

    def spectrum(self, scatterers: Scatterers, tilt: float = 0.0) -> Array:
        """Return the spectrum of the scatterers inside the chip on the oversampled grid, complex64."""
        fine = self.size * _OVERSAMPLING
        cross = scatterers.position[:, 1] + math.tan(tilt) * scatterers.position[:, 2]
        place = [np.floor((p / self.swath + 0.5) * fine).astype(int) for p in (scatterers.range, cross)]
        inside = np.all([(p >= 0) & (p < fine) for p in place], axis=0)
        cell = place[0][inside] * fine + place[1][inside]
        amplitude = scatterers.amplitude[0, inside]
        real = np.bincount(cell, amplitude.real, fine * fine)
        grid = real + 1j * np.bincount(cell, amplitude.imag, fine * fine)
        return np.asarray(fft.fft2(grid.reshape(fine, fine).astype(np.complex64)))

    def look(self, spectrum: Array, number: int = 0) -> Array:
        """Return look `number`, ``(size, size)`` complex, from its own band of cross-range frequencies.

        A scatterer of cross-section σ at a pixel's center has amplitude √σ there.
        """
        size, fine = self.size, spectrum.shape[0]
        frequency = fft.fftfreq(size, self.swath / size)
        weight_range = window(frequency, self.resolution, taper=self.taper)
        weight_cross = window(frequency, self.resolution, taper=self.taper)
        chirp = np.exp(1j * self.defocus * (2 * frequency * self.resolution) ** 2)
        signed = np.rint(frequency * self.swath).astype(int)
        shift = round(self.swath / self.resolution) * ((number + 1) // 2) * (1 if number % 2 else -1)
        band = spectrum[np.ix_(signed % fine, (signed + shift) % fine)]
        weight = weight_range[:, None] * (weight_cross * chirp)[None, :]
        gain = size**2 / (weight_range.sum() * weight_cross.sum())
        return np.asarray(fft.ifft2(band * weight * gain))

    def speckle(self, noise: Array) -> Array:
        """Band-limit white complex noise ``(size, size)``, keeping its mean power."""
        frequency = fft.fftfreq(self.size, self.swath / self.size)
        weight = np.outer(*[window(frequency, self.resolution, taper=self.taper)] * 2)
        weight *= self.size / np.linalg.norm(weight)
        return np.asarray(fft.ifft2(fft.fft2(noise) * weight))


def noise_section(scene: Scene) -> float:
    """Return the cross-section in m² that equals the thermal noise of a pixel, by the radar equation.

    Received power falls as ``σ / R⁴``. `Scene.snr_db` is the ratio for a resolution cell full of a surface of 1 m² per
    m² at 3 km after compression, so its negative is the noise-equivalent reflectivity of SAR modes.
    """
    return scene.resolution**2 * 10 ** (-scene.snr_db / 10) * (scene.range / _REFERENCE_RANGE) ** 4


def sea_shadow(scene: Scene, rays: Rays, size: int) -> Array:
    """Return 1 where the radar sees the sea and 0 in the target's shadow, ``(size, size)`` as the chip."""
    psi = math.radians(scene.grazing)
    place = ((np.arange(size) + 0.5) / size - 0.5) * scene.radar_swath
    ground, across = np.meshgrid(place / math.cos(psi), place, indexing="ij")
    origin = np.stack([ground, across, np.full_like(ground, 1e-3)], -1).reshape(-1, 3)
    blocked = rays.blocked(origin, np.broadcast_to(-scene.look, origin.shape))
    return np.where(blocked, 0.0, 1.0).reshape(size, size)


def clutter_power(scene: Scene, former: Former, noise: Array) -> Array:
    """Return the local mean power of sea clutter ``(size, size)``, m²: mean times a correlated gamma texture."""
    psi = math.radians(scene.grazing)
    area = scene.resolution**2 / math.cos(psi)
    setting = (scene.wind, 90.0 - scene.grazing, scene.frequency, scene.polarization, scene.wind_direction)
    mean_db = clutter.reflectivity(*setting) + scene.clutter_db
    shape = clutter.texture_shape(*setting, area)
    pixel = former.swath / former.size
    crest = 2 * math.pi * scene.wind**2 / (sea.GRAVITY * 0.77)  # wavelength at the Pierson-Moskowitz peak
    along = abs(math.cos(scene.wind_direction)) * math.cos(psi)
    # The compound model assumes a constant texture within a cell, so it is no finer than the resolution.
    lengths = [max(crest / part, 1.5 * scene.resolution) / pixel for part in (8, 4)]
    texture = clutter.gamma_texture(
        clutter.correlated_gaussian(noise, lengths[0], lengths[1], max(crest * max(along, 0.2) / pixel, 3.0)), shape
    )
    return 10 ** (float(mean_db) / 10) * area * texture


def image(scene: Scene, mesh: Mesh, rays: Rays, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Make the radar chip of `mesh`: target and other objects, in place.

    Returns:
        The mean intensity of the looks, ``(size, size)`` float32 in dB of 1 m², first axis slant range away from the
        radar, second cross-range; and the first look, complex64 in m.
    """
    former = Former(size, scene.radar_swath, scene.resolution, defocus=scene.defocus)
    lit_sea = sea_shadow(scene, rays, size)
    power = clutter_power(scene, former, rng.standard_normal((size, size)))
    draws = rng.standard_normal((4, 4, size, size), dtype=np.float32) / np.float32(math.sqrt(2))
    low, high = mesh.bounds
    half = scene.radar_swath / 2
    low, high = np.maximum(low, [-half * 1.5, -half, -9]), np.minimum(high, [half * 1.5, half, 1e3])
    antenna: Axis = "V" if scene.polarization == "VV" else "H"
    found = shoot(mesh, rays, scene.look, wavelength=scene.wavelength, transmit=antenna, receive=(antenna,),
                  surface=Surface.marine(), wind=scene.wind, bounds=(low, high), rng=rng)  # fmt: skip
    spectrum = former.spectrum(found, scene.tilt)
    thermal = math.sqrt(noise_section(scene))
    weights = np.array([1.0, *[scene.look_weight] * 3])
    looks, total = [], np.zeros((size, size))
    for number, weight in enumerate(weights):
        if weight == 0:
            continue
        waves = np.sqrt(power) * former.speckle(lit_sea * (draws[number, 0] + 1j * draws[number, 1]))
        receiver = thermal * former.speckle(draws[number, 2] + 1j * draws[number, 3])
        looks.append(former.look(spectrum, number) + waves + receiver)
        total += weight / weights.sum() * np.abs(looks[-1]) ** 2
    return (10 * np.log10(np.maximum(total, 1e-9))).astype(np.float32), looks[0].astype(np.complex64)


def display(decibel: Array, *, dynamic: float = 42.0) -> Array:
    """Quantize log-amplitude to 8 bits over `dynamic` dB below the chip's 99.7th percentile, as ``(1, size, size)``."""
    top = float(np.percentile(decibel, 99.7))
    return np.clip((decibel - top) / dynamic * 255 + 255, 0, 255).astype(np.uint8)[None]
