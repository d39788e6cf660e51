"""Degradations that imitate a poorer sensor: named, seeded, with a severity from 0 to 1.

Each degradation is a pure function of images, severity and randomness. Images are ``(n, channels, height, width)``
intensities from 0 (black) to 1 (white). Lengths are fractions of the image's height, so a severity means the same at 28
and at 64 pixels. With `PerImage`, the random numbers of an image depend only on the seed and the image, so the result
is the same for any chunks and subsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError, unknown_name

BLUR = 0.15
"""Standard deviation of the point spread function as a fraction of the image's height, at severity 1."""
LOOKS = 0.5
"""Number of looks averaged at severity 1; fewer looks mean stronger speckle."""
NOISE = 0.15
"""Standard deviation of the receiver noise as a fraction of the full range of intensities, at severity 1."""
PHOTONS = 1e4
"""Number of photons that a white pixel collects at severity 0; at severity 1 it collects one."""
READ_NOISE = 1.0
"""Standard deviation of the read-out noise in electrons."""
FLOOR = (-80.0, -20.0)
"""Noise floor of a spectrogram at severity 0 and 1, in dB relative to the constant part of a white image."""
EDGE = (0.01, 0.13)
"""Minimum change of intensity per pixel that makes a stroke, at severity 0 and 1."""
LOST, FALSE = 0.4, 0.05
"""Fraction of stroke pixels that are lost, and of empty pixels that get a false stroke, at severity 1."""
COARSE = 0.75
"""Fraction of the rows and columns of pixels that are dropped at severity 1."""

Values = NDArray[np.floating[Any]]
Name = Literal["speckle", "blur", "sketch", "low_light", "spectrogram", "few_bits"]


class PerImage:
    """Random numbers that depend only on a seed and an image's key, with the interface of `numpy.random.Generator`.

    Args:
        seed: random seed of the data set.
        keys: one number per image, for example from `image_key`.

    Raises:
        CmkdError: the seed is negative.

    Example:
        >>> pair, alone = PerImage(0, [7, 8]).normal(0, 1, (2, 3)), PerImage(0, [8]).normal(0, 1, (1, 3))
        >>> bool((pair[1] == alone[0]).all())
        True
    """

    def __init__(self, seed: int, keys: Sequence[int]) -> None:
        if seed < 0:
            raise CmkdError(f"seed {seed} is negative: give 0 or more")
        self._generators = [np.random.default_rng([seed, key]) for key in keys]

    def gamma(self, shape: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw an array of shape ``size``, whose first axis is the images, from a gamma distribution."""
        return np.stack([generator.gamma(shape, scale, size[1:]) for generator in self._generators])

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw an array of shape ``size`` from a normal distribution."""
        return np.stack([generator.normal(loc, scale, size[1:]) for generator in self._generators])

    def random(self, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw an array of shape ``size`` uniformly from [0, 1)."""
        return np.stack([generator.random(size[1:]) for generator in self._generators])

    def poisson(self, lam: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Draw a Poisson-distributed count for each expectation ``(images, ...)``."""
        pairs = zip(self._generators, lam, strict=True)
        return np.stack([generator.poisson(expected) for generator, expected in pairs])


Randomness = np.random.Generator | PerImage


def image_key(name: str) -> int:
    """Hash an image's name to 64 bits, the same on every machine.

    Example:
        >>> image_key("train00001") == image_key("train00001") != image_key("train00002")
        True
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def gray(images: Values) -> Values:
    """Return the luma ``(n, 1, height, width)`` of three channels (ITU-R BT.601), or a single channel as it is."""
    if images.shape[1] == 1:
        return images
    return np.tensordot(images, np.array([0.299, 0.587, 0.114]), axes=(1, 0))[:, None]


def speckle(
    images: Values,
    *,
    severity: float,
    generator: Randomness,
    full_scale: float = 1.0,
    outside: Literal["nearest", "constant"] = "nearest",
) -> NDArray[np.float32]:
    """Imitate a small coherent sensor (radar, sonar): blur, speckle and receiver noise.

    The result is ``gamma * (psf convolved with image) + noise``. The point spread function is Gaussian, with a standard
    deviation of ``BLUR * severity`` heights. The speckle is multiplicative, gamma-distributed with mean 1 and variance
    ``1/looks``, ``looks = LOOKS / severity²`` (the intensity of a multi-look coherent image). The additive noise is
    Gaussian, with a standard deviation of ``NOISE * severity`` of the full scale.

    Args:
        images: ``(..., height, width)`` intensities, 0 to `full_scale`.
        severity: 0 (the image itself) to 1.
        generator: source of randomness.
        full_scale: intensity of white.
        outside: values beyond the edge of the image: ``nearest`` repeats the edge, ``constant`` is black.

    Returns:
        float32 intensities of the same shape, not clipped.

    Example:
        >>> image = np.full((1, 8, 8), 4.0)
        >>> bool((speckle(image, severity=0.0, generator=np.random.default_rng(0)) == image).all())
        True
    """
    from scipy.ndimage import gaussian_filter

    if severity == 0:
        return images.astype(np.float32)
    width = BLUR * images.shape[-2] * severity
    sigma = (0.0,) * (images.ndim - 2) + (width, width)
    blurred = gaussian_filter(images.astype(np.float64), sigma=sigma, mode=outside)
    speckled = multiplied(blurred, looks=LOOKS / severity**2, generator=generator)
    return (speckled + generator.normal(0.0, NOISE * severity * full_scale, images.shape)).astype(np.float32)


def multiplied(images: Values, *, looks: float, generator: Randomness) -> Values:
    """Return intensities ``(n, ...)`` times speckle: gamma-distributed with mean 1 and variance ``1/looks``."""
    found: Values = images * generator.gamma(looks, 1 / looks, images.shape)
    return found


def _amplitude(images: Values, severity: float, generator: Randomness) -> Values:
    """Return the amplitude that a radar records; 1 (full scale) is twice the amplitude of white."""
    intensity = speckle(gray(images), severity=severity, generator=generator)
    return np.sqrt(np.maximum(intensity, 0.0)) / 2.0


def _blur(images: Values, severity: float, generator: Randomness) -> Values:
    """Defocus with a Gaussian of standard deviation ``BLUR * severity`` heights; colors are kept."""
    from scipy.ndimage import gaussian_filter

    width = BLUR * images.shape[-2] * severity
    blurred: Values = gaussian_filter(images, sigma=(0.0, 0.0, width, width), mode="nearest")
    return blurred


def _sketch(images: Values, severity: float, generator: Randomness) -> Values:
    """Draw strokes (1) on a background of 0 where the intensity changes by more than a threshold.

    The slope comes from a Sobel filter, in intensity per pixel; the threshold rises with the severity from ``EDGE[0]``
    to ``EDGE[1]``. A stroke pixel is lost with probability ``LOST * severity``; any other pixel gets a false stroke
    with probability ``FALSE * severity``. Color, shading and the strength of edges are lost at any severity.
    """
    from scipy.ndimage import correlate1d

    values = gray(images)
    # not scipy's sobel, because it also smooths along images and channels
    across, down = (
        correlate1d(
            correlate1d(values, [-0.5, 0.0, 0.5], along, mode="nearest"), [0.25, 0.5, 0.25], other, mode="nearest"
        )
        for along, other in ((-1, -2), (-2, -1))
    )
    slope = np.hypot(across, down)
    strokes = slope > EDGE[0] + (EDGE[1] - EDGE[0]) * severity
    draw = generator.random(values.shape)
    return np.where(strokes, draw >= LOST * severity, draw < FALSE * severity).astype(np.float32)


def _low_light(images: Values, severity: float, generator: Randomness) -> Values:
    """Count few photons, in gray: Poisson-distributed counts with read-out noise.

    A white pixel gives ``PHOTONS ** (1 - severity)`` photons. Full scale is white plus five standard deviations; values
    outside are clipped, as in an analog-to-digital converter.
    """
    white: float = PHOTONS ** (1.0 - severity)
    counts = generator.poisson(gray(images) * white)
    electrons = counts + generator.normal(0.0, READ_NOISE, counts.shape)
    recorded: Values = electrons / (white + 5.0 * np.sqrt(white + READ_NOISE**2))
    return recorded


def _spectrogram(images: Values, severity: float, generator: Randomness) -> Values:
    """Show the power spectrum of every column, as a receiver without phase does: frequency over position.

    Rows are frequencies from 0 (top) to half a cycle per pixel, each shown twice to keep the height; values are -80 dB
    (0) to 0 dB (1), where 0 dB is a white column. Noise is added to the power (exponentially distributed, like the
    periodogram of noise); its floor rises with the severity from ``FLOOR[0]`` to ``FLOOR[1]`` dB. The position along a
    column is lost.
    """
    values = gray(images)
    height = values.shape[-2]
    window = np.hanning(height + 2)[1:-1, None]
    power = np.square(np.abs(np.fft.rfft(values * window, axis=-2)) / window.sum())
    floor = 10.0 ** ((FLOOR[0] + (FLOOR[1] - FLOOR[0]) * severity) / 10.0)
    power = power + generator.gamma(1.0, floor, power.shape)
    level = 1.0 + 10.0 * np.log10(np.maximum(power, 1e-8)) / 80.0
    return np.repeat(level, 2, axis=-2)[:, :, :height]


def _few_bits(images: Values, severity: float, generator: Randomness) -> Values:
    """Reduce images to few gray pixels of few bits, as for a slow link: average to a coarser grid, dither and round.

    The grid keeps a fraction ``1 - COARSE * severity`` of the rows and columns, at least two of each; a pixel has
    ``8 - 7 * severity`` bits, rounded. The dither is uniform over one step. The result has the original size.
    """
    values = gray(images)
    height, width = values.shape[-2:]
    rows, columns = (max(2, round(side * (1.0 - COARSE * severity))) for side in (height, width))
    averaged = _coarser(height, rows) @ values @ _coarser(width, columns).T
    top = 2 ** round(8 - 7 * severity) - 1
    sent = np.floor(averaged * top + generator.random(averaged.shape)).clip(0, top) / top
    shown: Values = sent[..., np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width]
    return shown


def _coarser(size: int, count: int) -> Values:
    """Return the ``(count, size)`` matrix that averages a line of `size` pixels to `count` coarse pixels.

    Each coarse pixel is the mean of all pixels that it touches.
    """
    first = np.arange(count)[:, None] * size
    pixel = np.arange(size) * count
    touched = (pixel + count > first) & (pixel < first + size)
    weights: Values = touched / touched.sum(axis=1, keepdims=True)
    return weights


@dataclass(frozen=True)
class Degradation:
    """One entry of `DEGRADATIONS`."""

    # function of images, severity and randomness; `degrade` clips values outside 0 to 1
    apply: Callable[[Values, float, Randomness], Values]
    title: str  # description of the imitated sensor
    gray: bool = True  # whether colors are lost
    co_registered: bool = True  # whether a pixel still shows the same place


DEGRADATIONS: Mapping[str, Degradation] = {
    "speckle": Degradation(_amplitude, "low resolution, speckle and receiver noise (amplitude of a coherent sensor)"),
    "blur": Degradation(_blur, "defocus", gray=False),
    "sketch": Degradation(_sketch, "edges alone, some lost and some false"),
    "low_light": Degradation(_low_light, "gray, few photons and read-out noise"),
    "spectrogram": Degradation(_spectrogram, "power spectra of the columns over a noise floor", co_registered=False),
    "few_bits": Degradation(_few_bits, "gray, few pixels of few bits"),
}


def check_severity(severity: float) -> float:
    """Return the severity, or raise `CmkdError` if it is outside 0 to 1."""
    if not 0.0 <= severity <= 1.0:
        raise CmkdError(f"severity {severity} is outside 0 to 1")
    return float(severity)


def degrade(images: NDArray[np.uint8], name: str, *, severity: float, generator: Randomness) -> NDArray[np.uint8]:
    """Return the 8-bit images that the poorer sensor would record of `images`.

    Args:
        images: ``(n, channels, height, width)`` of one or three channels, 0 black to 255 white.
        name: a name in `DEGRADATIONS`.
        severity: 0 (mildest) to 1.
        generator: source of randomness.

    Returns:
        ``(n, channels or 1, height, width)``: 255 is full scale; higher values are clipped.

    Raises:
        CmkdError: the name is unknown, or the severity is outside 0 to 1.

    Example:
        >>> photo = np.full((2, 3, 16, 16), 200, np.uint8)
        >>> degrade(photo, "few_bits", severity=1.0, generator=PerImage(0, [1, 2])).shape
        (2, 1, 16, 16)
    """
    if name not in DEGRADATIONS:
        raise unknown_name("degradation", name, DEGRADATIONS)
    values = DEGRADATIONS[name].apply(images / np.float32(255.0), check_severity(severity), generator)
    return np.rint(values.clip(0.0, 1.0) * 255.0).astype(np.uint8)
