"""Corrupt samples at physically defined severities, to measure how accuracy falls as the sensor gets worse.

Each corruption is a pure function of float64 samples, a severity and random numbers that depend only on a seed and the
pair, so that severities differ only in strength. The meaning of a sample's axes decides which corruptions apply to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.resize import fit
from cmkd.data.manifest.sample import off_nodata
from cmkd.datasets.degradations import PerImage, multiplied
from cmkd.types import Modality

DECIBEL = -3.0
"""A modality without a stated unit is taken to be in dB if all its training means are below this value."""
_DECIBEL, _AMPLITUDE = re.compile(r"(^|[^a-z])(db|decibel)"), re.compile(r"amplitude|magnitude|root of")
SNR = (20.0, 10.0, 5.0, 0.0)
LOOKS = (16.0, 8.0, 4.0, 1.0)
FACTORS = (1.5, 2.0, 3.0, 4.0)
FRACTIONS = (0.1, 0.25, 0.5, 0.75)
SHIFTS = (0.03, 0.06, 0.125, 0.25)
"""Severities of the corruptions: signal-to-noise ratio in dB, number of looks, factors of the pixel size, fractions of
the features or points, and fractions of the side."""

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Corruption:
    """One way in which a sensor gets worse.

    Args:
        name: name of the corruption, a single word.
        title: description of the corruption.
        severities: severities from mild to strong, without the uncorrupted sample.
        labels: the severities as they are shown, with their units.
        apply: function of samples ``(n, *shape)``, a severity and random numbers, which returns corrupted samples.
    """

    name: str
    title: str
    severities: tuple[float, ...]
    labels: tuple[str, ...]
    apply: Callable[[Samples, float, PerImage], Samples]


def corruptions(modality: Modality, *, nonnegative: bool) -> list[Corruption]:
    """Return the corruptions that apply to a modality.

    Args:
        modality: modality of the samples, with its kind, shape and statistics on the training pairs.
        nonnegative: whether no sample holds a negative value, as intensities do.

    Example:
        >>> photo = Modality("optical", "image", (3, 32, 32), "uint8", (99.0,) * 3, (40.0,) * 3)
        >>> [c.name for c in corruptions(photo, nonnegative=True)]
        ['speckle', 'noise', 'resolution', 'missing', 'shift']
        >>> corruptions(photo, nonnegative=True)[-1].labels
        ('1 px', '2 px', '4 px', '8 px')
    """
    found = [_noise(modality)]
    if modality.kind == "image":
        found = [*_speckle(modality, nonnegative), *found, _resolution(modality)]
    found += _points(modality) if modality.kind in ("points", "point_series") else _missing(modality)
    return found + _shift(modality)


def stored(samples: Samples, modality: Modality) -> NDArray[Any]:
    """Return samples as the sensor stores them: rounded and clipped to an integer dtype, and all valid (no nodata)."""
    dtype = np.dtype(modality.dtype)
    if dtype.kind in "iu":
        samples = np.rint(samples).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    found = samples.astype(dtype)
    if isinstance(modality.nodata, int):
        off_nodata(found, modality.nodata)
    return found


def _along(modality: Modality, per_channel: Sequence[float]) -> Samples:
    """Return one number per channel in a shape that broadcasts over samples."""
    values = np.asarray(per_channel, dtype=np.float64)
    return values[:, None, None] if modality.kind == "image" else values


def _speckle(modality: Modality, nonnegative: bool) -> list[Corruption]:
    unit = modality.unit.lower()
    decibel = bool(_DECIBEL.search(unit)) if unit.strip() else max(modality.mean, default=0.0) < DECIBEL
    power = 0.5 if _AMPLITUDE.search(unit) else 1.0  # exponent of the intensity in a value
    if not (decibel or nonnegative):
        return []  # speckle is defined only for intensities, amplitudes and decibels

    def apply(x: Samples, looks: float, generator: PerImage) -> Samples:
        gain = multiplied(np.ones_like(x), looks=looks, generator=generator)
        if not decibel:
            return np.asarray(x * gain**power)
        return np.asarray(x + 10 * np.log10(np.maximum(gain, np.finfo(float).tiny)))

    of = f"values taken as {'decibels' if decibel else 'amplitudes' if power < 1 else 'intensities'}"
    labels = tuple(f"{looks:g} look{'s' if looks > 1 else ''}" for looks in LOOKS)
    return [
        Corruption("speckle", f"gamma-distributed with mean 1, by the number of looks ({of})", LOOKS, labels, apply)
    ]


def _noise(modality: Modality) -> Corruption:
    spread = _along(modality, modality.std)

    def apply(x: Samples, decibel: float, generator: PerImage) -> Samples:
        noisy = x + spread * 10 ** (-decibel / 20) * generator.normal(0.0, 1.0, x.shape)
        if modality.kind in ("points", "point_series"):
            return np.where(x.any(axis=-1, keepdims=True), noisy, x)  # rows of zeros are padding
        return noisy

    title = "Gaussian, by the ratio of each channel's training variance to the noise's"
    return Corruption("noise", title, SNR, tuple(f"{snr:g} dB" for snr in SNR), apply)


def _resolution(modality: Modality) -> Corruption:
    height, width = modality.shape[1:]

    def apply(x: Samples, factor: float, generator: PerImage) -> Samples:
        size = (max(1, round(height / factor)), max(1, round(width / factor)))
        planes = fit(x.reshape(-1, height, width), "image", size)
        return fit(planes, "image", (height, width)).reshape(x.shape)

    return Corruption("resolution", "pixels coarser by a factor", FACTORS, tuple(f"{f:g}x" for f in FACTORS), apply)


def _missing(modality: Modality) -> list[Corruption]:
    """Set some channels of each sample, drawn at random, to their training mean."""
    channels, what = modality.channels, "bands" if modality.kind == "image" else "features"
    counts = tuple(n for n in sorted({min(round(channels * f), channels - 1) for f in FRACTIONS}) if n > 0)
    if not counts:
        return []  # a single channel: without it nothing is left

    def apply(x: Samples, count: float, generator: PerImage) -> Samples:
        lost = generator.random((len(x), channels)).argsort(axis=1) < count
        shape = (len(x), channels, 1, 1) if modality.kind == "image" else (len(x), *(1,) * (x.ndim - 2), channels)
        return np.where(lost.reshape(shape), _along(modality, modality.mean), x)

    labels = tuple(f"{n} of {channels}" for n in counts)
    title = f"{what} set to their training mean"
    return [Corruption("missing", title, tuple(map(float, counts)), labels, apply)]


def _points(modality: Modality) -> list[Corruption]:
    """Drop points at random; a missing point is a row of zeros."""

    def apply(x: Samples, fraction: float, generator: PerImage) -> Samples:
        return np.where(generator.random(x.shape[:-1])[..., None] < fraction, 0.0, x)

    labels = tuple(f"{100 * fraction:g} %" for fraction in FRACTIONS)
    return [Corruption("missing", "fraction of points removed", FRACTIONS, labels, apply)]


def _shift(modality: Modality) -> list[Corruption]:
    """Move each sample by whole pixels or steps in a random direction; the edge repeats."""
    if modality.kind in ("vector", "points"):
        return []
    image = modality.kind == "image"
    sides = modality.shape[1:] if image else modality.shape[:1]
    steps = tuple(n for n in sorted({round(min(sides) * f) for f in SHIFTS}) if n > 0)
    if not steps:
        return []

    def apply(x: Samples, step: float, generator: PerImage) -> Samples:
        if image:
            angle = np.floor(generator.random((len(x), 1))[:, 0] * 8) / 8 * 2 * np.pi
            moved = _moved(x, np.rint(step * np.sin(angle)), axis=2)
            return _moved(moved, np.rint(step * np.cos(angle)), axis=3)
        return _moved(x, np.where(generator.random((len(x), 1))[:, 0] < 0.5, -step, step), axis=1)

    title = "in a random direction; the edge repeats" if image else "forward or back in time; the edge repeats"
    labels = tuple(f"{n} px" if image else f"{n} step{'s' if n > 1 else ''}" for n in steps)
    return [Corruption("shift", title, tuple(map(float, steps)), labels, apply)]


def _moved(x: Samples, by: Samples, axis: int) -> Samples:
    places = (np.arange(x.shape[axis]) - by[:, None].astype(np.int64)).clip(0, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[0], shape[axis] = places.shape
    return np.take_along_axis(x, places.reshape(shape), axis=axis)
