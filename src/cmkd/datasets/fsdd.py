"""Free Spoken Digit Dataset: clean spectrograms beside spectrograms of the same sound through a poor channel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.degradations import PerImage, Randomness, check_severity, image_key
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.sound import mel_bank, read_wav
from cmkd.errors import CmkdError
from cmkd.options import Seed
from cmkd.types import Modality

RATE = 8000
"""Samples per second."""
SPEAKERS = {
    **dict.fromkeys(("george", "jackson", "lucas", "nicolas"), "train"),
    "theo": "validation",
    "yweweler": "test",
}
"""Speaker -> split, in alphabetical order."""
ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_NAME = re.compile(r"(?:^|/)(\d)_([a-z]+)_(\d+)\.wav$")
SAMPLES = 6400
"""Number of samples of a recording that are kept (0.8 s); 98 % of the recordings are shorter."""
WINDOW, HOP = 256, 100
"""Number of samples in a frame (32 ms), and between the starts of frames (12.5 ms)."""
BANDS, FRAMES, BLOCK = 40, SAMPLES // HOP, 256
RANGE = 80.0
"""Dynamic range below the loudest possible value, dB; lower values are clipped."""
LOW = 300.0
"""Lower edge of the channel in Hz, as in a telephone."""
HIGH = (3400.0, 700.0)
"""Upper edge of the channel in Hz, at severity 0 and 1."""
SIGNAL_TO_NOISE = (40.0, -5.0)
"""Ratio of speech power before the filter to noise power in dB, at severity 0 and 1."""


@dataclass(frozen=True)
class SpokenDigit:
    """One recording."""

    digit: int  # 0 to 9
    speaker: str  # first name, as in the file name
    number: int  # number of the take, from 0
    samples: NDArray[np.float32]  # ``(samples,)`` float32 from -1 to 1, `RATE` per second

    @property
    def id(self) -> str:
        """File name without its suffix."""
        return f"{self.digit}_{self.speaker}_{self.number}"


def recordings(archive: Archive) -> Iterator[SpokenDigit]:
    """Yield the recordings sorted by digit, speaker and take.

    Raises:
        CmkdError: there are no recordings, one is damaged or has another rate, or a speaker is unknown.
    """
    found = [match for name in archive.sizes if (match := _NAME.search(name))]
    if not found:
        raise CmkdError(
            f"{archive.place} holds no recordings such as recordings/7_jackson_3.wav: get it from {ADDRESS}"
        )
    for match in sorted(found, key=lambda match: (match[1], match[2], int(match[3]))):
        if match[2] not in SPEAKERS:
            raise archive.error(match.string, f"is by {match[2]}, a speaker who is not in the supported release")
        rate, samples = read_wav(archive, match.string)
        if rate != RATE:
            raise archive.error(match.string, f"has {rate} Hz, expected {RATE} Hz")
        yield SpokenDigit(int(match[1]), match[2], int(match[3]), samples)


class Fsdd(DataSet):
    """3,000 spoken digits of six people: the clean spectrogram, and the spectrogram after a narrow, noisy channel.

    Both views are images ``(1, 40, 64)``: the logarithm of the power in 40 mel bands (HTK's formula, 0 to 4 kHz, high
    bands on top) and 64 frames of 12.5 ms, in dB relative to full scale, -80 to 0. A recording is normalized to a root
    mean square of 0.1, cut to 0.8 s, and padded with zeros.

    The poor view imitates a radio or an intercom: the sound passes a band-pass filter from 300 Hz to an upper edge that
    falls from 3400 to 700 Hz with the severity; then white noise within 0 to 4 kHz is added, with a ratio of speech
    before the filter to noise that falls from 40 to -5 dB. The spectrogram is computed from the result.

    Splits are by speaker, in alphabetical order: four for train, one for validation, one for test.

    Args:
        severity: severity of the channel, 0 to 1. The default lowers a random forest's validation accuracy from 0.79 to
            0.56 (``benchmarks/degradation_gap.py``).
        seed: random seed of the noise.

    Raises:
        CmkdError: the severity is outside 0 to 1.
    """

    name = "fsdd"
    title = "Spoken digits: clean spectrogram beside that of a narrow, noisy channel, by speaker"
    rich = "clean"
    poor = "channel"
    license = "CC BY-SA 4.0 (Free Spoken Digit Dataset)"
    citation = """@misc{jackson2016fsdd, author={Jackson, Zohar and Souza, C{\'e}sar and Flaks, Jason and Pan, Yuxin and
  Nicolas, Hereman and Thite, Adhish}, title={Free Spoken Digit Dataset}, year={2016}, doi={10.5281/zenodo.1342401}}"""
    sources = (PublishedFile("free-spoken-digit-dataset.zip", f"{ADDRESS}/tree/26eb9aa"),)
    group = "a speaker"
    unsound = "Four speakers in train and one in test: accuracies say more about that one voice than about voices."

    def __init__(self, *, severity: float = 0.7, seed: Seed = 0) -> None:
        self.severity, self.seed = check_severity(severity), int(seed)

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the published repository, its zip, or the folder that holds the zip."""
        with self.opened(source, packed=True) as archive:
            digits = list(recordings(archive))
        shape = (1, BANDS, FRAMES)
        return self.write(
            destination,
            Listing(
                [digit.id for digit in digits],
                [digit.digit for digit in digits],
                [SPEAKERS[digit.speaker] for digit in digits],
                {"method": "by speaker: theo validation, yweweler test", "seed": "none"},
                self._views(digits),
                [digit.speaker for digit in digits],
            ),
            [Modality(self.rich, "image", shape, "float32"), Modality(self.poor, "image", shape, "float32")],
            classes=[str(digit) for digit in range(10)],
            co_registered=True,
            notes=f"channel of severity {self.severity}, noise seed {self.seed}.",
        )

    def _views(self, digits: list[SpokenDigit]) -> Iterator[dict[str, NDArray[np.float32]]]:
        for start in range(0, len(digits), BLOCK):
            part = digits[start : start + BLOCK]
            sound = np.stack([leveled(digit.samples) for digit in part])
            generator = PerImage(self.seed, [image_key(digit.id) for digit in part])
            narrow = channel(sound, severity=self.severity, generator=generator)
            yield {self.rich: spectrogram(sound), self.poor: spectrogram(narrow)}


def leveled(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Normalize a recording to a root mean square of 0.1, then cut or pad it to `SAMPLES` samples."""
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    kept = np.zeros(SAMPLES)
    kept[: len(samples)] = samples[:SAMPLES] * (0.1 / max(level, 1e-6))
    return kept


def channel(sound: NDArray[np.float64], *, severity: float, generator: Randomness) -> NDArray[np.float64]:
    """Pass sound ``(n, samples)`` through a narrow, noisy channel; `HIGH` and `SIGNAL_TO_NOISE` set its quality.

    The sound has `RATE` samples per second and a root mean square of 0.1 during speech.
    """
    from scipy.signal import butter, sosfiltfilt

    upper = HIGH[0] + (HIGH[1] - HIGH[0]) * severity
    narrow = sosfiltfilt(butter(4, (LOW, upper), "bandpass", fs=RATE, output="sos"), sound, axis=-1)
    ratio = SIGNAL_TO_NOISE[0] + (SIGNAL_TO_NOISE[1] - SIGNAL_TO_NOISE[0]) * severity
    noisy: NDArray[np.float64] = narrow + generator.normal(0.0, 0.1 * 10 ** (-ratio / 20), sound.shape)
    return noisy


def spectrogram(sound: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the spectrogram ``(n, 1, BANDS, FRAMES)`` in dB, -`RANGE` to 0, of sound ``(n, SAMPLES)``.

    Frames are centered on multiples of `HOP`, with silence beyond the ends. A sine of amplitude 1 is 0 dB in its bin;
    the value of a band is the weighted mean power of its bins.
    """
    padded = np.pad(sound, ((0, 0), (WINDOW // 2, WINDOW // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=-1)[:, : FRAMES * HOP : HOP]
    window = np.hanning(WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=-1)) * 2.0 / window.sum())
    level = 10.0 * np.log10(np.maximum(power @ mel_bands().T, 10.0 ** (-RANGE / 10.0)))
    return np.ascontiguousarray(level.clip(-RANGE, 0.0).transpose(0, 2, 1)[:, None, ::-1], dtype=np.float32)


@cache
def mel_bands() -> NDArray[np.float64]:
    """Return the filters ``(BANDS, WINDOW // 2 + 1)`` of `mel_bank` from 0 to 4 kHz, each normalized to sum 1."""
    triangles, bins = mel_bank(RATE, BANDS, lowest=0.0), np.fft.rfftfreq(WINDOW, 1.0 / RATE)
    centers = 700.0 * (10.0 ** (np.linspace(0.0, np.log10(1.0 + RATE / 2 / 700.0), BANDS + 2)[1:-1]) - 1.0)
    # a low band may fall between two bins of the transform; it then takes the nearest bin
    for band in np.flatnonzero(triangles.sum(1) == 0):
        triangles[band, np.abs(bins - centers[band]).argmin()] = 1.0
    bands: NDArray[np.float64] = triangles / triangles.sum(1, keepdims=True)
    return bands
