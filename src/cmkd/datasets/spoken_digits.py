"""Written and spoken digits: an MNIST image paired with a recording of the same digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import verify_present
from cmkd.datasets.formats.images import BLOCK, blocks
from cmkd.datasets.formats.sound import log_mel, mel_bank
from cmkd.datasets.fsdd import ADDRESS, RATE, SPEAKERS, Fsdd, recordings
from cmkd.datasets.mnist import PARTS, Mnist, idx_part
from cmkd.errors import CmkdError
from cmkd.types import Modality

MNIST = Mnist.sources[0].url.rpartition("/")[0]
BANDS, FRAMES, SIDE = 32, 32, 28


class SpokenDigits(DataSet):
    """Ten digits, written (rich) and spoken (poor), paired by class: a recording with an image of the same digit.

    ``image`` is an MNIST image ``(1, 28, 28)``. ``sound`` is a series ``(32, 32)`` of a recording at 8 kHz: the energy
    in 32 mel bands (low to high) over time, in dB relative to its loudest cell, -80 to 0, stretched to 32 time steps
    because speakers differ in pace (`cmkd.datasets.formats.sound.log_mel`; a linear model did best on this form for the
    validation speaker).

    Splits are by speaker, in alphabetical order: four for train, one for validation, one for test. Each image is in one
    pair: images of test pairs come from MNIST's test file, the others from its train file, in the file's order. MNIST's
    two files have different writers; train and validation may share writers.

    Args:
        check: whether MNIST's files must have the published checksums.
    """

    name = "spoken_digits"
    title = "Written digits (MNIST) beside spoken ones (FSDD), paired by class, by speaker"
    rich = "image"
    poor = "sound"
    license = f"{Fsdd.license}; {Mnist.license} (MNIST)"
    citation = f"{Fsdd.citation}\n{Mnist.citation}"
    sources = (*Fsdd.sources, *Mnist.sources)
    group = "a speaker"
    cropped = Mnist.cropped
    revision = 2
    unsound = (
        "The pairs are made by class and not measured together, so beyond the class the views share nothing. Test has "
        "one speaker; another would give another accuracy."
    )

    def __init__(self, *, check: bool = True) -> None:
        self.check = check

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from a folder with the recordings and MNIST's files, or with ``fsdd`` and ``mnist`` in it."""
        folder = self.source_folder(source)
        spoken, written = (folder / name if (folder / name).is_dir() else folder for name in ("fsdd", "mnist"))
        if self.check:
            verify_present(written, Mnist.sources)
        place = spoken / self.sources[0].name
        with Archive(place if place.is_file() else spoken, address=ADDRESS) as archive:
            digits = list(recordings(archive))
        labels, splits = [digit.digit for digit in digits], [SPEAKERS[digit.speaker] for digit in digits]
        bank = mel_bank(RATE, BANDS)
        sounds = np.stack([log_mel(digit.samples, RATE, bank, FRAMES) for digit in digits])
        return self.write(
            destination,
            Listing(
                [digit.id for digit in digits],
                labels,
                splits,
                {"method": "by speaker: train george, jackson, lucas, nicolas; validation theo; test yweweler"},
                [{self.rich: _images(written, np.array(labels), np.array(splits)), self.poor: sounds}],
                [digit.speaker for digit in digits],
            ),
            [
                Modality(self.rich, "image", (1, SIDE, SIDE), "uint8"),
                Modality(self.poor, "series", (FRAMES, BANDS), "float32"),
            ],
            classes=[str(digit) for digit in range(10)],
        )


def _images(folder: Path, labels: NDArray[np.int64], splits: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Return a different image for each recording."""
    chosen = np.zeros((len(labels), 1, SIDE, SIDE), dtype=np.uint8)
    for stem in PARTS.values():
        images, digits = idx_part(folder, stem, address=MNIST)
        if images.shape[1:] != (SIDE, SIDE):
            raise CmkdError(f"{images.path} has images of {images.shape[1:]} pixels, not (28, 28): get {MNIST}")
        found: list[tuple[int, int]] = []
        for digit in range(10):
            named = ("train", "validation") if stem == "train" else ("test",)
            places = np.concatenate([np.flatnonzero((labels == digit) & (splits == split)) for split in named])
            offered = np.flatnonzero(digits == digit)
            if len(offered) < len(places):
                raise CmkdError(
                    f"{folder} has {len(offered)} images of {digit} for {len(places)} recordings: get {MNIST}"
                )
            found += zip(offered.tolist(), places.tolist(), strict=False)  # some images are left over
        rows, places = np.array(sorted(found), dtype=np.int64).reshape(-1, 2).T
        for block in blocks(images.blocks(BLOCK), rows):
            chosen[places[: len(block)], 0] = block
            places = places[len(block) :]
    return chosen
