"""Spoken digits of the Free Spoken Digit Dataset: reading the published recordings, whatever they are paired with."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.base import Source
from cmkd.datasets.formats.archive import Archive
from cmkd.errors import CmkdError

RATE = 8000
"""Samples a second."""
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset"
LICENSE = "CC BY-SA 4.0 (Free Spoken Digit Dataset)"
CITATION = """@misc{jackson2016fsdd, author={Jackson, Zohar and Souza, C{\\'e}sar and Flaks, Jason and Pan, Yuxin and
  Nicolas, Hereman and Thite, Adhish}, title={Free Spoken Digit Dataset}, year={2016}, doi={10.5281/zenodo.1342401}}"""
SOURCE = Source("free-spoken-digit-dataset.zip", f"{ADDRESS}/tree/26eb9aa")
_NAME = re.compile(r"(?:^|/)(\d)_([a-z]+)_(\d+)\.wav$")


@dataclass(frozen=True)
class Recording:
    """One spoken digit.

    Args:
        digit: 0 to 9.
        speaker: first name, as in the file's.
        number: of the take, from 0.
        samples: ``(samples,)`` float32 in -1 to 1, `RATE` a second.
    """

    digit: int
    speaker: str
    number: int
    samples: NDArray[np.float32]

    @property
    def id(self) -> str:
        """Its file name without the ending."""
        return f"{self.digit}_{self.speaker}_{self.number}"


def recordings(place: Path) -> Iterator[Recording]:
    """Yield the recordings in order of digit, speaker and take.

    Args:
        place: the published repository, its zip, or the folder that holds `SOURCE`'s zip.

    Raises:
        CmkdError: the place holds no recordings, or one is damaged or has another rate.
    """
    with _opened(place) as archive:
        found = _found(archive)
        if not found:
            raise CmkdError(f"{place} holds no recordings such as recordings/7_jackson_3.wav: get it from {ADDRESS}")
        for match, name in sorted(found, key=lambda pair: (pair[0][1], pair[0][2], int(pair[0][3]))):
            samples = _samples(archive.read(name), f"{name} in {place}")
            yield Recording(int(match[1]), match[2], int(match[3]), samples)


def count(place: Path) -> int:
    """Return how many recordings there are, without reading one."""
    with _opened(place) as archive:
        return len(_found(archive))


def _opened(place: Path) -> Archive:
    packed = place / SOURCE.name
    return Archive(packed if packed.is_file() else place, address=ADDRESS)


def _found(archive: Archive) -> list[tuple[re.Match[str], str]]:
    return [(match, name) for name in archive.sizes if (match := _NAME.search(name))]


def _samples(content: bytes, what: str) -> NDArray[np.float32]:
    try:
        with wave.open(io.BytesIO(content)) as file:
            form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            expected, frames = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise CmkdError(f"{what} is damaged: get it again from {ADDRESS}") from error
    if form != (RATE, 1, 2) or not expected:
        raise CmkdError(
            f"{what} has {form[0]} Hz, {form[1]} channels, {8 * form[2]} bits and {expected} samples, expected "
            f"{RATE} Hz, 1 channel of 16 bits: get it from {ADDRESS}"
        )
    if len(frames) != 2 * expected:
        raise CmkdError(f"{what} is truncated: get it again from {ADDRESS}")
    return (np.frombuffer(frames, "<i2") / 32768.0).astype(np.float32)
