"""The sea: its wave spectrum, its surface and its radar clutter.

One state of the sea (wind speed) drives both sensors: slopes and glint of the optical image, mean reflectivity, texture
and roughness of the radar image.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import fft, special

from cmkd.errors import CmkdError
from cmkd.simulators.marine.mesh import Array

Polarization = Literal["HH", "VV"]

GRAVITY = 9.81
"""m/s²."""
LIGHT = 299_792_458.0
"""Speed of light, m/s."""

_DOUGLAS_HEIGHT = np.array([0.0, 0.1, 0.5, 1.25, 2.5, 4.0, 6.0, 9.0])  # upper significant wave height of states 0-7, m
_NRL = {"HH": (-73.0, 20.78, 7.351, 25.65, 0.00540), "VV": (-50.79, 25.93, 0.7093, 21.58, 0.00211)}


def significant_height(wind: float) -> float:
    """Return the significant wave height of a fully developed sea, m: ``0.21 U² / g`` (Pierson and Moskowitz 1964).

    U is the wind's speed 19.5 m above the sea, m/s.

    Example:
        >>> round(significant_height(10.0), 2)
        2.14
    """
    return 0.21 * wind**2 / GRAVITY


def sea_state(wind: float) -> float:
    """Return the continuous Douglas sea state 0..7 of a fully developed sea under `wind` m/s.

    Interpolated so that state s ends at its upper wave height in the WMO table (0.1, 0.5, 1.25, 2.5, 4, 6, 9 m).

    Example:
        >>> round(sea_state(8.0), 2)
        3.1
    """
    return float(np.interp(significant_height(wind), _DOUGLAS_HEIGHT, np.arange(8.0)))


def pierson_moskowitz(wavenumber: Array, wind: float) -> Array:
    """Return the omnidirectional height spectrum, m³: ``S(k) = α/(2k³) exp(-β g²/(k² U⁴))``, α = 0.0081, β = 0.74.

    The wavenumber k is in rad/m, the wind U in m/s; the integral over k is the variance of the height.

    Source:
        Pierson and Moskowitz 1964, with ω² = g k. Gravity waves alone: capillary roughness enters through the slope
        variance of Cox and Munk.
    """
    k = np.maximum(wavenumber, 1e-6)
    return 0.0081 / (2 * k**3) * np.exp(-0.74 * GRAVITY**2 / (k**2 * max(wind, 0.5) ** 4))


def slope_variance(wind: float) -> float:
    """Return the mean square slope of a clean sea, ``0.003 + 0.00512 U`` (Cox and Munk 1954), U in m/s at 12.5 m."""
    return 0.003 + 0.00512 * wind


def surface(
    wind: float, direction: float, extent: float, count: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw one instant of the sea on a periodic square tile.

    A Gaussian surface with the Pierson-Moskowitz spectrum; waves travel within 90° of the wind (``cos²`` spreading).

    Args:
        wind: m/s.
        direction: where the wind blows to, radians from x.
        extent: side of the tile, m.
        count: samples along a side.
        rng: source of the phases.

    Returns:
        Height (m) and its slopes along x and y, each ``(count, count)`` float32 with x along the first axis.
    """
    k = 2 * np.pi * fft.fftfreq(count, extent / count)
    kx, ky = k[:, None], k[None, :]
    size = np.hypot(kx, ky)
    size[0, 0] = 1.0
    spread = np.maximum(kx * math.cos(direction) + ky * math.sin(direction), 0.0) ** 2 / size**2 * (2 / np.pi)
    density = pierson_moskowitz(size, wind) * spread / size
    density[0, 0] = 0.0
    noise = rng.standard_normal((2, count, count), dtype=np.float32)
    # Re(sum of waves) has half the power of the complex sum, hence 2 under the root; noise has variance 2
    wave = (np.sqrt(density) * (2 * np.pi / extent)).astype(np.float32) * (noise[0] + 1j * noise[1]) * count**2
    height = fft.ifft2(wave).real
    slope_x = fft.ifft2(1j * kx.astype(np.float32) * wave).real
    slope_y = fft.ifft2(1j * ky.astype(np.float32) * wave).real
    return height, slope_x, slope_y


def nrl_reflectivity(state: float, grazing: float | Array, frequency: float, polarization: Polarization) -> Array:
    """Return the mean sea reflectivity σ⁰ of the NRL model.

    Args:
        state: Douglas sea state, 0 to 6.
        grazing: grazing angle, degrees, 0.1 to 60.
        frequency: GHz, 0.5 to 35.
        polarization: ``"HH"`` or ``"VV"``.

    Returns:
        dB relative to 1 m² per m². Arguments outside the fitted range are clipped to it.

    Raises:
        CmkdError: the polarization is unknown.

    Source:
        Gregers-Hansen and Mital 2012, An improved empirical model for radar sea clutter reflectivity,
        NRL/MR/5310-12-9346.

    Example:
        >>> round(float(nrl_reflectivity(3, 10.0, 10.0, "VV")), 1)
        -32.5
    """
    if polarization not in _NRL:
        raise CmkdError(f"unknown polarization '{polarization}': use HH or VV")
    c1, c2, c3, c4, c5 = _NRL[polarization]
    psi, ss = np.clip(grazing, 0.1, 60.0), float(np.clip(state, 0, 6))
    slant = (27.5 + c3 * psi) * np.log10(np.clip(frequency, 0.5, 35)) / (1 + 0.95 * psi)
    wind = c4 * (1 + ss) ** (1 / (2 + 0.085 * psi + 0.033 * ss))
    return np.asarray(c1 + c2 * np.log10(np.sin(np.radians(psi))) + slant + wind + c5 * psi**2)


def k_shape(grazing: float, cell_area: float, swell: float, polarization: Polarization) -> float:
    """Return the shape ν of the K-distribution: ``log10 ν = 2/3 log10 φ + 5/8 log10 A - k_pol - cos(2θ)/3``.

    Args:
        grazing: φ, degrees; the fit covers 0.1 to 10 and is extrapolated above (ν grows: clutter tends to Rayleigh).
        cell_area: A, area of a resolution cell on the sea, m².
        swell: θ, angle between the look direction and the swell, radians.
        polarization: k_pol is 1.39 for VV and 2.09 for HH.

    Returns:
        ν, clipped to 0.1 to 50.

    Source:
        Ward, Tough and Watts, Sea Clutter: Scattering, the K Distribution and Radar Performance, IET 2013 (Watts-Ward
        fit of X-band data).

    Example:
        >>> k_shape(1.0, 100.0, 0.0, "HH") < k_shape(1.0, 100.0, 0.0, "VV")
        True
    """
    constant = 1.39 if polarization == "VV" else 2.09
    exponent = (
        2 / 3 * math.log10(max(grazing, 0.1)) + 5 / 8 * math.log10(cell_area) - constant - math.cos(2 * swell) / 3
    )
    return float(np.clip(10**exponent, 0.1, 50.0))


def gamma_texture(gaussian: Array, shape: float) -> Array:
    """Map a standard Gaussian field to a gamma field of mean 1 and shape ν, point by point.

    Source:
        The memoryless non-linear transform of Tough and Ward 1999.

    Example:
        >>> field = gamma_texture(np.random.default_rng(0).standard_normal(100_000), 2.0)
        >>> round(float(field.mean()), 1), round(float(field.var()), 1)
        (1.0, 0.5)
    """
    # A table of the quantile function: gammaincinv for each pixel would take longer than the whole image.
    nodes = np.linspace(-5.0, 5.0, 401)
    quantiles = special.gammaincinv(shape, special.ndtr(nodes)) / shape
    return np.asarray(np.interp(gaussian, nodes, quantiles))


def correlated_gaussian(noise: Array, length_range: float, length_cross: float, crest: float) -> Array:
    """Color white noise ``(n, n)`` to a Gaussian correlation, lightly modulated along the dominant waves.

    Args:
        noise: standard normal.
        length_range: correlation length along the first axis, samples.
        length_cross: correlation length along the second axis, samples.
        crest: wavelength of the dominant waves along the first axis, samples; adds a band of that period.

    Returns:
        ``(n, n)`` standard normal, correlated (variance 1 over the ensemble).
    """
    n = noise.shape[0]
    f, g = fft.fftfreq(n)[:, None], fft.fftfreq(n)[None, :]
    low = np.exp(-((np.pi * f * length_range) ** 2 + (np.pi * g * length_cross) ** 2) / 2)
    ring = np.exp(
        -(((np.abs(f) - 1 / crest) * 2 * np.pi * length_range) ** 2) / 2 - (np.pi * g * length_cross) ** 2 / 2
    )
    gain = low + 0.7 * ring
    gain *= n / np.linalg.norm(gain)
    return np.asarray(fft.ifft2(fft.fft2(noise) * gain).real)


def permittivity(frequency: float) -> complex:
    """Return the relative permittivity of sea water of 20 °C and 35 psu at `frequency` GHz, by one Debye relaxation.

    Source:
        The form of Klein and Swift 1977, with ε_s = 69, ε_∞ = 4.9, τ = 9.2 ps, σ = 4.8 S/m.

    Example:
        >>> value = permittivity(10.0)
        >>> 45 < value.real < 60, -45 < value.imag < -30
        (True, True)
    """
    omega = 2 * np.pi * frequency * 1e9
    return complex(4.9 + (69 - 4.9) / (1 + 1j * omega * 9.2e-12) - 1j * 4.8 / (omega * 8.854e-12))


def fresnel(cosine: Array, relative: complex) -> tuple[Array, Array]:
    """Return the complex reflection coefficients, horizontal and vertical, of the field at a flat half space.

    `cosine` is that of the angle of incidence from the normal, `relative` the permittivity of the half space.
    """
    c = np.clip(cosine, 1e-4, 1.0)
    root = np.sqrt(relative - (1 - c**2))
    return (c - root) / (c + root), (relative * c - root) / (relative * c + root)


def coherent_loss(height: float, cosine: Array, wavelength: float) -> Array:
    """Return the factor on the field reflected by a rough surface: ``exp(-2g²) I₀(2g²)``, ``g = 2π h cosθ / λ``.

    The standard deviation h of the height within the patch and the wavelength λ are in m; θ is the angle of incidence.

    Source:
        Miller, Brown and Vegh 1984 (the form of Ament 1953 with the Bessel term).
    """
    g = 2 * np.pi * height * cosine / wavelength
    return np.asarray(special.i0e(2 * g**2))
