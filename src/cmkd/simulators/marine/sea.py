"""The sea: its wave spectrum, its surface and its reflection.

The wind speed sets the state of the sea for both sensors: slopes and glint of the optical image, roughness and
clutter (see `clutter`) of the radar image.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import fft, special

from cmkd.simulators.marine.mesh import Array

Polarization = Literal["HH", "VV", "HV", "VH"]
"""Transmitted and received polarization."""

GRAVITY = 9.81
"""Gravitational acceleration, m/s²."""
LIGHT = 299_792_458.0
"""Speed of light, m/s."""

_DOUGLAS_HEIGHT = np.array([0.0, 0.1, 0.5, 1.25, 2.5, 4.0, 6.0, 9.0])  # upper significant wave height of states 0-7, m


def significant_height(wind: float) -> float:
    """Return the significant wave height of a fully developed sea, m: ``0.21 U² / g`` (Pierson and Moskowitz 1964).

    U is the wind speed at 19.5 m, m/s. The simulator passes the wind speed at 10 m, which is up to a tenth lower.

    Example:
        >>> round(significant_height(10.0), 2)
        2.14
    """
    return 0.21 * wind**2 / GRAVITY


def sea_state(wind: float) -> float:
    """Return the continuous Douglas sea state 0..7 of a fully developed sea under `wind` m/s.

    It is interpolated so that state s ends at its upper wave height in the WMO table (0.1, 0.5, 1.25, 2.5, 4, 6, 9 m).

    Example:
        >>> round(sea_state(8.0), 2)
        3.1
    """
    return float(np.interp(significant_height(wind), _DOUGLAS_HEIGHT, np.arange(8.0)))


def pierson_moskowitz(wavenumber: Array, wind: float) -> Array:
    """Return the omnidirectional height spectrum, m³: ``S(k) = α/(2k³) exp(-β g²/(k² U⁴))``, α = 0.0081, β = 0.74.

    The wavenumber k is in rad/m, the wind U in m/s; the integral over k is the variance of the height.

    Source:
        Pierson and Moskowitz 1964, with ω² = g k. Gravity waves only; capillary roughness enters through the slope
        variance of Cox and Munk.
    """
    k = np.maximum(wavenumber, 1e-6)
    return 0.0081 / (2 * k**3) * np.exp(-0.74 * GRAVITY**2 / (k**2 * max(wind, 0.5) ** 4))


def slope_variance(wind: float) -> float:
    """Return the mean square slope of a clean sea, ``0.003 + 0.00512 U`` (Cox and Munk 1954), U in m/s at 12.5 m.

    The simulator passes the wind speed at 10 m, which is only slightly lower.
    """
    return 0.003 + 0.00512 * wind


def surface(
    wind: float, direction: float, extent: float, count: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw the sea surface at one instant on a periodic square tile.

    A Gaussian surface with the Pierson-Moskowitz spectrum; waves travel within 90° of the wind (``cos²`` spreading).

    Args:
        wind: wind speed, m/s.
        direction: direction toward which the wind blows, radians from x.
        extent: side of the tile, m.
        count: samples along a side.
        rng: random generator of the waves.

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


def permittivity(frequency: float) -> complex:
    """Return the relative permittivity of sea water of 20 °C and 35 psu at `frequency` GHz, with one Debye relaxation.

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
    """Return the complex field reflection coefficients of a flat half space, for horizontal and vertical polarization.

    `cosine` is the cosine of the angle of incidence from the normal; `relative` is the relative permittivity.
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
