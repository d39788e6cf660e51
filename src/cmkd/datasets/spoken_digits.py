"""Written and spoken digits: an MNIST image beside a recording of the same digit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet
from cmkd.datasets.formats import fsdd_recordings as speech
from cmkd.datasets.formats.fetch import verify_present
from cmkd.datasets.formats.idx import Idx, read_idx
from cmkd.datasets.formats.sound import log_mel, mel_bank
from cmkd.datasets.mnist import Mnist
from cmkd.datasets.transformed import BLOCK, blocks
from cmkd.errors import CmkdError
from cmkd.types import Modality

MNIST = Mnist.sources[0].url.rsplit("/", 1)[0]
SPEAKERS = {
    "train": ("george", "jackson", "lucas", "nicolas"),
    "validation": ("theo",),
    "test": ("yweweler",),
}
"""In order of their names, so that nothing but the alphabet chose them."""
BANDS, FRAMES, SIDE = 32, 32, 28
_STEMS = {"train": "train", "validation": "train", "test": "t10k"}
"""Which of MNIST's files a split's images come from."""


class SpokenDigits(DataSet):
    """Ten digits, written (rich) and spoken (poor), paired by class: a recording with an image of the same digit.

    ``image`` is an MNIST image ``(1, 28, 28)``. ``sound`` is a series ``(32, 32)`` of a recording of 8 kHz:
    the energy in 32 mel bands (low to high) over time, in dB below its loudest cell and no less than -80; the time
    axis is stretched to 32 steps, as speakers differ in pace (`cmkd.datasets.formats.sound.log_mel`; of several forms the one on
    which a linear model did best for the validation speaker).

    Splits are by speaker: four train, one validates, one tests, in order of their names. An image is in one pair;
    the images of test pairs come from MNIST's test file, the others from its train file, in the file's order. MNIST's
    two files have different writers; train and validation may share some.

    Args:
        check: whether MNIST's files must have the published checksums.
    """

    name = "spoken_digits"
    title = "Written digits (MNIST) beside spoken ones (FSDD), paired by class, by speaker"
    rich = "image"
    poor = "sound"
    license = f"{speech.LICENSE}; CC BY-SA 3.0 (MNIST)"
    citation = f"""{speech.CITATION}
@article{{lecun1998gradient, title={{Gradient-based Learning Applied to Document Recognition}}, author={{LeCun, Yann and
  Bottou, L{{\\'e}}on and Bengio, Yoshua and Haffner, Patrick}}, journal={{Proceedings of the IEEE}}, year={{1998}}}}"""
    sources = (
        speech.SOURCE,
        *Mnist.sources,
    )
    tiny: ClassVar[Mapping[str, object]] = {"check": False}
    group = "a speaker"
    cropped = Mnist.cropped
    revision = 2
    unsound = (
        "The pairs are made by class and not measured together, so beyond the class the views tell nothing of each "
        "other; one speaker tests, and another would give another figure."
    )

    def __init__(self, *, check: bool = True) -> None:
        self.check = check

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack.

        Args:
            source: a folder with the recordings (or their zip) and MNIST's four IDX files; either may lie in a folder
                ``fsdd`` or ``mnist`` in it.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged, or there are fewer images than recordings of a digit.
        """
        folder = self.source_folder(source)
        split_of = {speaker: split for split, speakers in SPEAKERS.items() for speaker in speakers}
        bank, sounds, spectra = mel_bank(speech.RATE, BANDS), [], []
        for recording in speech.recordings(folder / "fsdd" if (folder / "fsdd").is_dir() else folder):
            if recording.speaker not in split_of:
                raise CmkdError(
                    f"{recording.id} in {folder} is of a speaker outside the release used: get {speech.ADDRESS}"
                )
            sounds.append((recording.id, recording.digit, recording.speaker))
            spectra.append(log_mel(recording.samples, speech.RATE, bank, FRAMES))
        ids, digits, speakers = map(list, zip(*sounds, strict=True))
        splits = [split_of[speaker] for speaker in speakers]
        labels = np.array(digits)
        written = folder / "mnist" if (folder / "mnist").is_dir() else folder
        if self.check:
            verify_present(written, Mnist.sources)
        images = _images(written, labels, np.array(splits))
        record = {
            "method": "by speaker: " + "; ".join(f"{split} {', '.join(names)}" for split, names in SPEAKERS.items()),
            "counts": {split: splits.count(split) for split in SPEAKERS},
        }
        modalities = [
            Modality(self.rich, "image", (1, SIDE, SIDE), "uint8"),
            Modality(self.poor, "series", (FRAMES, BANDS), "float32"),
        ]
        with self.writer(
            destination, classes=[str(digit) for digit in range(10)], modalities=modalities, split=record
        ) as writer:
            writer.add(
                ids,
                labels,
                splits,
                speakers,
                {self.rich: images, self.poor: np.stack(spectra)},
            )
        return Pack.open(destination)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write two made-up takes of each digit and speaker, and an image for each, as published; return the folder."""
        import gzip
        import wave

        from cmkd.datasets.formats.idx import idx_bytes

        generator = np.random.default_rng(0)
        (folder / "fsdd" / "recordings").mkdir(parents=True)
        (folder / "mnist").mkdir()
        for digit in range(10):
            for speaker in speech.SPEAKERS:
                for take in range(2):
                    time = np.arange(generator.integers(1500, 4000)) / speech.RATE
                    tone = 0.3 * np.sin(2 * np.pi * (200 + 150 * digit) * time) + generator.normal(0, 0.02, len(time))
                    path = folder / "fsdd" / "recordings" / f"{digit}_{speaker}_{take}.wav"
                    with wave.open(str(path), "wb") as file:
                        file.setparams((1, 2, speech.RATE, 0, "NONE", "not compressed"))
                        file.writeframes((tone * 32767).astype("<i2").tobytes())
        for stem, each in (("train", 10), ("t10k", 2)):
            labels = np.tile(np.arange(10, dtype=np.uint8), each)
            images = generator.integers(0, 40, (len(labels), SIDE, SIDE)) + 20 * labels[:, None, None]
            for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
                packed = gzip.compress(idx_bytes(values.astype(np.uint8)), mtime=0)
                (folder / "mnist" / f"{stem}-{kind}-ubyte.gz").write_bytes(packed)
        return folder


def _images(folder: Path, labels: NDArray[np.int64], splits: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Return an image for each recording, each image once."""
    chosen = np.zeros((len(labels), 1, SIDE, SIDE), dtype=np.uint8)
    for stem in dict.fromkeys(_STEMS.values()):
        images = Idx(_file(folder, f"{stem}-images-idx3-ubyte"), axes=3, address=MNIST)
        digits = read_idx(_file(folder, f"{stem}-labels-idx1-ubyte"), axes=1, address=MNIST)
        if images.shape != (len(digits), SIDE, SIDE):
            raise CmkdError(
                f"{stem}-images-idx3-ubyte in {folder} has shape {images.shape} for {len(digits)} labels, expected "
                f"images of {SIDE} x {SIDE} pixels: get both from {MNIST}"
            )
        found: list[tuple[int, int]] = []
        for digit in range(10):
            wanted = [np.flatnonzero((labels == digit) & (splits == s)) for s, file in _STEMS.items() if file == stem]
            places, offered = np.concatenate(wanted), np.flatnonzero(digits == digit)
            if len(offered) < len(places):
                raise CmkdError(
                    f"{folder} has {len(offered)} images of {digit} for {len(places)} recordings: get {MNIST}"
                )
            found += zip(offered.tolist(), places.tolist(), strict=False)  # in the file's order; some are left over
        rows, places = np.array(sorted(found), dtype=np.int64).reshape(-1, 2).T
        for block in blocks(images.blocks(BLOCK), rows):
            chosen[places[: len(block)], 0] = block
            places = places[len(block) :]
    return chosen


def _file(folder: Path, stem: str) -> Path:
    packed = folder / f"{stem}.gz"
    path = packed if packed.is_file() else folder / stem
    if not path.is_file():
        raise CmkdError(f"{packed} does not exist: get it from {MNIST}")
    return path
