"""Tiny sources of the spoken digits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmkd.datasets.fsdd import SPEAKERS
from data.tiny.files import wav_bytes
from data.tiny.images import write_idx

RATE = 8000


def takes(generator: np.random.Generator) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield the name, the digit and the times in seconds of two takes of each digit and speaker."""
    for digit, speaker, take in ((d, speaker, t) for d in range(10) for speaker in SPEAKERS for t in range(2)):
        yield f"{digit}_{speaker}_{take}.wav", digit, np.arange(generator.integers(1500, 4000)) / RATE


def fsdd(folder: Path, generator: np.random.Generator) -> None:
    """Write the recordings, zipped."""
    with zipfile.ZipFile(folder / "free-spoken-digit-dataset.zip", "w") as archive:
        for name, digit, time in takes(generator):
            tone = np.sin(2 * np.pi * (400 + 250 * digit) * time) + 0.05 * generator.normal(size=len(time))
            archive.writestr(f"recordings/{name}", wav_bytes(tone / 4, RATE))


def spoken_digits(folder: Path, generator: np.random.Generator) -> None:
    """Write the recordings, and an image for each."""
    (folder / "fsdd" / "recordings").mkdir(parents=True)
    (folder / "mnist").mkdir()
    for name, digit, time in takes(generator):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 150 * digit) * time) + generator.normal(0, 0.02, len(time))
        (folder / "fsdd" / "recordings" / name).write_bytes(wav_bytes(tone, RATE))
    for part, each in (("train", 10), ("t10k", 2)):
        labels = np.tile(np.arange(10, dtype=np.uint8), each)
        images = generator.integers(0, 40, (len(labels), 28, 28)) + 20 * labels[:, None, None]
        write_idx(folder / "mnist", part, images.astype(np.uint8), labels)
