"""Free Spoken Digit Dataset: a clean spectrogram beside that of the same sound through a poor channel."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.datasets.base import DataSet
from cmkd.datasets.degradations import PerImage, Randomness, check_severity, image_key
from cmkd.datasets.formats.fsdd_recordings import (
    ADDRESS,
    CITATION,
    LICENSE,
    RATE,
    SOURCE,
    SPEAKERS,
    Recording,
    count,
    recordings,
)
from cmkd.errors import CmkdError
from cmkd.types import Modality

SAMPLES = 6400
"""Samples of a recording that are kept, 0.8 s; 98 % of the recordings are shorter."""
WINDOW, HOP = 256, 100
"""Samples of a frame (32 ms), and from one to the next (12.5 ms)."""
BANDS, FRAMES = 40, SAMPLES // HOP
RANGE = 80.0
"""Decibels below the loudest possible value that are kept."""
LOW = 300.0
"""Lower edge of the channel in Hz, as a telephone's."""
HIGH = (3400.0, 700.0)
"""Upper edge of the channel in Hz, at severity 0 and 1."""
SIGNAL_TO_NOISE = (40.0, -5.0)
"""Power of the speech over that of the noise in the channel in dB, at severity 0 and 1."""
VALIDATION, TEST = "theo", "yweweler"


class Fsdd(DataSet):
    """3,000 spoken digits of six people: the clean spectrogram, and the one a narrow and noisy channel leaves.

    Both views are images of the logarithm of the power in 40 mel bands (HTK's formula, 0 to 4 kHz) and 64 frames of
    12.5 ms: one channel of 40 x 64, in dB below full scale from -80 to 0, high bands on top. A recording is brought to
    one level (root mean square 0.1), cut to 0.8 s, and filled with zeros behind its end.

    The poor view is made from the sound, as a radio or an intercom would: a band-pass filter from 300 Hz to an upper
    edge that falls from 3400 to 700 Hz with the severity, then white noise within 0 to 4 kHz; the ratio of speech to
    noise falls from 40 to -5 dB. The spectrogram is taken after that.

    Splits are by speaker, fixed by the alphabet: the last of the six is the test, the one before it validation. With
    four people to train on and one to test on, scores say more about that one voice than about voices.

    Args:
        severity: of the channel, 0 to 1. At the default a random forest's validation accuracy falls from 0.79 to 0.56
            (``benchmarks/degradation_gap.py``).
        seed: of the noise.

    Raises:
        CmkdError: if the severity is outside 0 to 1.
    """

    name = "fsdd"
    title = "Spoken digits: clean spectrogram beside that of a narrow, noisy channel, by speaker"
    rich = "clean"
    poor = "channel"
    license = LICENSE
    citation = CITATION
    sources = (SOURCE,)
    group = "a speaker"
    unsound = "Four speakers in train and one in test: scores say more about that one voice than about voices."

    def __init__(self, *, severity: float = 0.7, seed: int = 0) -> None:
        self.severity, self.seed = check_severity(severity), int(seed)

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack.

        Args:
            source: the published repository, its zip, or the folder that holds ``free-spoken-digit-dataset.zip``.
            destination: folder of the pack to make.

        Raises:
            CmkdError: there are no recordings, one is damaged, or a speaker is unknown.
        """
        if source is None:
            raise CmkdError(f"fsdd needs its files: get {ADDRESS} and give their place, as in fsdd:PATH")
        counts = dict.fromkeys(("train", "validation", "test"), 0)
        shape = (1, BANDS, FRAMES)
        with self.writer(
            destination,
            classes=[str(digit) for digit in range(10)],
            modalities=[Modality(self.rich, "image", shape, "float32"), Modality(self.poor, "image", shape, "float32")],
            co_registered=[(self.rich, self.poor)],
            split={"method": f"by speaker: {VALIDATION} validation, {TEST} test", "seed": "none", "counts": counts},
            notes=f"channel of severity {self.severity}, noise seed {self.seed}.",
        ) as writer:
            every = count(source)
            for _, group in groupby(recordings(source), key=lambda recording: recording.digit):
                self._write(writer, list(group), counts)
                if self.progress is not None:
                    self.progress(sum(counts.values()), every)
        return Pack.open(destination)

    def _write(self, writer: PackWriter, group: list[Recording], counts: dict[str, int]) -> None:
        unknown = sorted({recording.speaker for recording in group} - set(SPEAKERS))
        if unknown:
            raise CmkdError(f"speaker {unknown[0]} is not in the release that fsdd reads: get {SOURCE.url}")
        splits = [{VALIDATION: "validation", TEST: "test"}.get(r.speaker, "train") for r in group]
        for split in splits:
            counts[split] += 1
        sound = np.stack([leveled(recording.samples) for recording in group])
        generator = PerImage(self.seed, [image_key(recording.id) for recording in group])
        views = {
            self.rich: spectrogram(sound),
            self.poor: spectrogram(channel(sound, severity=self.severity, generator=generator)),
        }
        writer.add(
            [recording.id for recording in group],
            [recording.digit for recording in group],
            splits,
            [recording.speaker for recording in group],
            views,
        )

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write two made-up recordings of each digit and speaker in the publisher's layout, zipped."""
        from scipy.io import wavfile

        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        with zipfile.ZipFile(folder / SOURCE.name, "w") as archive:
            for name in (f"{d}_{speaker}_{take}" for d in range(10) for speaker in SPEAKERS for take in range(2)):
                time = np.arange(generator.integers(1500, 4000)) / RATE
                tone = np.sin(2 * np.pi * (400 + 250 * int(name[0])) * time) + 0.05 * generator.normal(size=len(time))
                content = io.BytesIO()
                wavfile.write(content, RATE, (8000 * tone).astype(np.int16))
                archive.writestr(f"recordings/{name}.wav", content.getvalue())
        return folder


def leveled(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return `SAMPLES` samples at a root mean square of 0.1, taken before they were cut or filled with zeros."""
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    kept = np.zeros(SAMPLES)
    kept[: len(samples)] = samples[:SAMPLES] * (0.1 / max(level, 1e-6))
    return kept


def channel(sound: NDArray[np.float64], *, severity: float, generator: Randomness) -> NDArray[np.float64]:
    """Return what a narrow and noisy channel leaves of `sound`.

    Args:
        sound: ``(n, samples)``, `RATE` a second, of root mean square 0.1 where there is speech.
        severity: 0 to 1; see `HIGH` and `SIGNAL_TO_NOISE`.
        generator: source of the noise.
    """
    from scipy.signal import butter, sosfiltfilt

    upper = HIGH[0] + (HIGH[1] - HIGH[0]) * severity
    narrow = sosfiltfilt(butter(4, (LOW, upper), "bandpass", fs=RATE, output="sos"), sound, axis=-1)
    ratio = SIGNAL_TO_NOISE[0] + (SIGNAL_TO_NOISE[1] - SIGNAL_TO_NOISE[0]) * severity
    noisy: NDArray[np.float64] = narrow + generator.normal(0.0, 0.1 * 10 ** (-ratio / 20), sound.shape)
    return noisy


def spectrogram(sound: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return ``(n, 1, BANDS, FRAMES)`` dB below full scale, -`RANGE` to 0, of ``(n, SAMPLES)`` sound.

    Frames are centered on multiples of `HOP`, with silence beyond the ends. A sine of
    amplitude 1 is 0 dB in its bin; a band is the weighted mean of its bins' power.
    """
    padded = np.pad(sound, ((0, 0), (WINDOW // 2, WINDOW // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=-1)[:, : FRAMES * HOP : HOP]
    window = np.hanning(WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=-1)) * 2.0 / window.sum())
    level = 10.0 * np.log10(np.maximum(power @ mel_bands().T, 10.0 ** (-RANGE / 10.0)))
    return np.ascontiguousarray(level.clip(-RANGE, 0.0).transpose(0, 2, 1)[:, None, ::-1], dtype=np.float32)


@cache
def mel_bands() -> NDArray[np.float64]:
    """Return the triangles ``(BANDS, WINDOW // 2 + 1)`` of the mel scale, 0 to 4 kHz, each of sum 1."""
    top = 2595.0 * np.log10(1.0 + RATE / 2 / 700.0)
    corners = 700.0 * (10.0 ** (np.linspace(0.0, top, BANDS + 2) / 2595.0) - 1.0)
    bins = np.fft.rfftfreq(WINDOW, 1.0 / RATE)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    triangles = np.minimum(rising, falling).clip(0.0)
    # at low pitch a band may fall between two bins of the transform: it takes the nearest
    for band in np.flatnonzero(triangles.sum(1) == 0):
        triangles[band, np.abs(bins - corners[band + 1]).argmin()] = 1.0
    bands: NDArray[np.float64] = triangles / triangles.sum(1, keepdims=True)
    return bands
