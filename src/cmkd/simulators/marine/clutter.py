"""Radar clutter of the sea: mean reflectivity and texture, from published models within their ranges.

| band | polarization | incidence, degrees | wind, m/s | model |
|---|---|---|---|---|
| C (4 to 8 GHz) | VV | 18 to 58 | 0.2 to 35 | CMOD5.N, with the wind's direction |
| C (4 to 8 GHz) | HV, VH | 18 to 49 | 0.2 to 20 | Vachon and Wolfe 2011, linear in the wind |
| 0.5 to 35 GHz | HH, VV | 30 to 89.9 | 0.2 to 17 | NRL 2012, mean over the wind's direction |
| X (8 to 12 GHz) | HV, VH | 30 to 89.9 | 0.2 to 17 | an estimate, see `_cross_estimate` |

The first row that covers the arguments is used; one row covers all angles of an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import fft, special

from cmkd.errors import CmkdError
from cmkd.simulators.marine.mesh import Array
from cmkd.simulators.marine.sea import GRAVITY, Polarization, sea_state

_NRL = {"HH": (-73.0, 20.78, 7.351, 25.65, 0.00540), "VV": (-50.79, 25.93, 0.7093, 21.58, 0.00211)}
# fmt: off
_CMOD = (-0.6878, -0.7957, 0.3380, -0.1728, 0.0, 0.0040, 0.1103, 0.0159, 6.7329, 2.7713, -2.2885, 0.4971, -0.7250,
         0.0450, 0.0066, 0.3222, 0.0120, 22.7, 2.0813, 3.0, 8.3659, -3.3428, 1.3236, 6.2437, 2.3893, 0.3249, 4.1590,
         1.6930)
# fmt: on
_SHAPES = (0.05, 10_000.0)
_GUSTS = 0.1  # standard deviation of the wind over the chip relative to its mean; our choice


def nrl(wind: float, incidence: Array, frequency: float, polarization: Polarization, azimuth: float = 0.0) -> Array:
    """Return the mean reflectivity of the NRL model, dB; see `reflectivity` for the arguments.

    The sea is fully developed; winds of 16.7 to 17 m/s count as sea state 6, the highest one of the fit.

    Source:
        Gregers-Hansen and Mital 2012, An improved empirical model for radar sea clutter reflectivity,
        NRL/MR/5310-12-9346. The fit covers grazing angles of 0.1 to 60 degrees and averages over the azimuth.
    """
    c1, c2, c3, c4, c5 = _NRL[polarization]
    psi, state = 90.0 - incidence, min(sea_state(wind), 6.0)
    slant = (27.5 + c3 * psi) * math.log10(frequency) / (1 + 0.95 * psi)
    rough = c4 * (1 + state) ** (1 / (2 + 0.085 * psi + 0.033 * state))
    return np.asarray(c1 + c2 * np.log10(np.sin(np.radians(psi))) + slant + rough + c5 * psi**2)


def cmod5n(wind: float, incidence: Array, frequency: float, polarization: Polarization, azimuth: float = 0.0) -> Array:
    """Return the C-band VV reflectivity of CMOD5.N, dB; see `reflectivity` for the arguments.

    ``σ⁰ = B0 (1 + B1 cos φ + B2 cos 2φ)^1.6``, with φ = 0 looking into the wind.

    Source:
        Hersbach, Stoffelen and de Haan 2007 (J. Geophys. Res. 112, appendix) for the form; Hersbach 2010 (J. Atmos.
        Oceanic Technol. 27) for the coefficients, for the equivalent neutral wind at 10 m.
    """
    c, x, v = (0.0, *_CMOD), (incidence - 40.0) / 25.0, wind
    start, slow = c[12] + c[13] * x, (c[7] + c[8] * x) * wind
    rise = 1 / (1 + np.exp(-np.maximum(slow, start)))
    rise = np.where(slow < start, rise * np.abs(slow / start) ** (start * (1 - rise)), rise)
    power = c[1] + c[2] * x + c[3] * x**2 + c[4] * x**3 + (c[5] + c[6] * x) * v
    b0 = rise ** (c[9] + c[10] * x + c[11] * x**2) * 10**power
    b1 = c[14] * (1 + x) - c[15] * v * (0.5 + x - np.tanh(4 * (x + c[16] + c[17] * v)))
    b1 = b1 / (math.exp(0.34 * (v - c[18])) + 1)
    y0, n = c[19], c[20]
    ratio = v / (c[21] + c[22] * x + c[23] * x**2) + 1
    bent = y0 - (y0 - 1) / n + (ratio - 1) ** n / (n * (y0 - 1) ** (n - 1))
    ratio = np.where(ratio < y0, bent, ratio)
    b2 = (-(c[24] + c[25] * x + c[26] * x**2) + (c[27] + c[28] * x) * ratio) * np.exp(-ratio)
    phi = azimuth + math.pi
    return np.asarray(10 * np.log10(b0 * (1 + b1 * math.cos(phi) + b2 * math.cos(2 * phi)) ** 1.6))


def _cross_linear(wind: float, incidence: Array, frequency: float, polarization: Polarization, azimuth: float) -> Array:
    """Return ``-35.6 + 0.59 U`` dB at any incidence (Vachon and Wolfe 2011, IEEE GRSL 8; RADARSAT-2)."""
    return np.full(np.shape(incidence), -35.6 + 0.59 * wind)


def _cross_estimate(
    wind: float, incidence: Array, frequency: float, polarization: Polarization, azimuth: float
) -> Array:
    """Return an estimate for X band: the C-band relation, at least 5 dB below the weaker co-polarized return."""
    weaker = np.minimum(*(nrl(wind, incidence, frequency, co) for co in ("HH", "VV")))
    return np.asarray(np.minimum(_cross_linear(wind, incidence, frequency, polarization, azimuth), weaker - 5.0))


class _Model(NamedTuple):
    name: str
    frequency: tuple[float, float]
    polarizations: tuple[str, ...]
    incidence: tuple[float, float]
    wind: tuple[float, float]
    decibel: Callable[[float, Array, float, Polarization, float], Array]


_MODELS = (
    _Model("CMOD5.N", (4.0, 8.0), ("VV",), (18.0, 58.0), (0.2, 35.0), cmod5n),
    _Model("Vachon and Wolfe 2011", (4.0, 8.0), ("HV", "VH"), (18.0, 49.0), (0.2, 20.0), _cross_linear),
    _Model("NRL 2012", (0.5, 35.0), ("HH", "VV"), (30.0, 89.9), (0.2, 17.0), nrl),
    _Model("X-band estimate", (8.0, 12.0), ("HV", "VH"), (30.0, 89.9), (0.2, 17.0), _cross_estimate),
)


def _model(wind: float, incidence: Array, frequency: float, polarization: Polarization) -> _Model:
    """Return the first model whose range covers the arguments."""
    near = [m for m in _MODELS if polarization in m.polarizations and m.frequency[0] <= frequency <= m.frequency[1]]
    for model in near:
        angles, winds = model.incidence, model.wind
        if angles[0] <= np.min(incidence) and np.max(incidence) <= angles[1] and winds[0] <= wind <= winds[1]:
            return model
    ranges = "; ".join(
        f"{m.name}: incidence {m.incidence[0]:g} to {m.incidence[1]:g} degrees, wind {m.wind[0]:g} to {m.wind[1]:g} m/s"
        for m in near
    ) or "HH and VV: 0.5 to 35 GHz; HV and VH: 4 to 12 GHz"  # fmt: skip
    asked = f"{np.min(incidence):g} to {np.max(incidence):g}"
    raise CmkdError(
        f"no sea clutter model for {frequency:g} GHz {polarization} at incidence {asked} degrees and wind {wind:g} m/s "
        f"({ranges})"
    )


def reflectivity(
    wind: float, incidence: float | Array, frequency: float, polarization: Polarization, azimuth: float = 0.0
) -> Array:
    """Return the mean reflectivity σ⁰ of the sea, dB relative to 1 m² per m²; the module's table names the models.

    Args:
        wind: wind speed at 10 m, m/s.
        incidence: angle from the vertical, degrees; a number or an array.
        frequency: radar frequency, GHz.
        polarization: HH, VV, HV or VH.
        azimuth: direction toward which the wind blows, radians from the look direction; at π, the radar looks into the
            wind.

    Raises:
        CmkdError: no model covers the arguments.

    Example:
        >>> round(float(reflectivity(7.9, 80.0, 10.0, "VV")), 1), round(float(reflectivity(10, 40, 5.4, "VV")), 1)
        (-32.3, -13.7)
    """
    angles = np.asarray(incidence, float)
    model = _model(wind, angles, frequency, polarization)
    return model.decibel(wind, angles, frequency, polarization, azimuth)


def texture_shape(
    wind: float, incidence: float, frequency: float, polarization: Polarization, azimuth: float, area: float
) -> float:
    """Return the shape ν of the K-distribution; the local mean has relative variance 1/ν.

    In X band at grazing angles of 0.1 to 10 degrees and cells of 50 m² or more, ν is the fit of Watts and Ward,
    ``log10 ν = 2/3 log10 φ + 5/8 log10 A - k - cos(2θ)/3`` with φ the grazing angle in degrees, A the area, θ the
    azimuth, k = 1.39 for VV and 2.09 for HH. Elsewhere, ν is the reciprocal of `modulation`. Cross-polarized
    returns get the shape of VV, an estimate.

    Args:
        wind: wind speed at 10 m, m/s.
        incidence: angle from the vertical, degrees.
        frequency: radar frequency, GHz.
        polarization: HH, VV, HV or VH.
        azimuth: direction toward which the wind blows, radians from the look direction.
        area: area of the resolution cell on the sea, m².

    Returns:
        ν, limited to 0.05 to 10,000; above about 50, no test can distinguish the clutter from Rayleigh.

    Raises:
        CmkdError: no model covers the arguments.

    Source:
        Ward, Tough and Watts, Sea Clutter: Scattering, the K Distribution and Radar Performance, IET 2013. The limit
        of 50 m² is our choice: the fitted cells were of meters by tens of meters.

    Example:
        >>> [round(texture_shape(8, 89.0, 9.4, "HH", 1.6, 500.0), 1), round(texture_shape(8, 37, 5.4, "VV", 0, 200.0))]
        [0.9, 13]
    """
    co: Polarization = "HH" if polarization == "HH" else "VV"
    grazing = 90.0 - incidence
    if 8.0 <= frequency <= 12.0 and 0.1 <= grazing <= 10.0 and area >= 50.0:
        constant = 1.39 if co == "VV" else 2.09
        exponent = 2 / 3 * math.log10(grazing) + 5 / 8 * math.log10(area) - constant - math.cos(2 * azimuth) / 3
        shape = 10**exponent
    else:
        shape = 1 / modulation(wind, incidence, frequency, co, azimuth, area)
    return float(np.clip(shape, *_SHAPES))


def modulation(
    wind: float, incidence: float, frequency: float, polarization: Polarization, azimuth: float, area: float
) -> float:
    """Return the variance of the local reflectivity over its squared mean, from tilt and gusts; a model of our own.

    Waves longer than two cells tilt the sea: the reflectivity follows ``sin(grazing)^n``, with n from the mean's slope
    over incidence, and faces that are turned away return nothing. Slopes along the look direction are Gaussian, with
    the variance of the Pierson-Moskowitz spectrum with ``cos²`` spreading: ``α/4 E1(β g² / (K² U⁴)) (1/4 + cos²θ/2)``,
    K = π/√area. Gusts, a tenth of the wind, act through the mean's slope over wind. For the arguments, see
    `texture_shape`.
    """
    model = _model(wind, np.asarray(incidence), frequency, polarization)

    def logarithm(speed: float, angle: float) -> float:
        return float(model.decibel(speed, np.asarray(angle), frequency, polarization, azimuth)) * math.log(10) / 10

    steep, flat = max(incidence - 0.5, model.incidence[0]), min(incidence + 0.5, model.incidence[1])
    per_radian = (logarithm(wind, steep) - logarithm(wind, flat)) / math.radians(flat - steep)
    cotangent = math.tan(math.radians(incidence))
    cut = math.pi / math.sqrt(area)
    slopes = 0.0081 / 4 * special.exp1(0.74 * GRAVITY**2 / (cut**2 * wind**4)) * (0.25 + math.cos(azimuth) ** 2 / 2)
    spread = np.linspace(-4.0, 4.0, 161)
    weight = np.exp(-(spread**2) / 2)
    local = np.maximum(1 + cotangent * math.sqrt(slopes) * spread, 0.0) ** max(per_radian / cotangent, 0.0)
    mean, square = float(np.average(local, weights=weight)), float(np.average(local**2, weights=weight))
    lower = max(0.95 * wind, model.wind[0])
    gust = (logarithm(wind, incidence) - logarithm(lower, incidence)) / math.log(wind / lower) if lower < wind else 0.0
    return square / mean**2 - 1 + (gust * _GUSTS) ** 2


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
    """Filter white noise ``(n, n)`` to a Gaussian correlation, lightly modulated along the dominant waves.

    Args:
        noise: standard normal noise.
        length_range: correlation length along the first axis, samples.
        length_cross: correlation length along the second axis, samples.
        crest: wavelength of the dominant waves along the first axis, samples; adds a band of that period.

    Returns:
        Correlated standard normal field ``(n, n)`` (variance 1 over the ensemble).
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
