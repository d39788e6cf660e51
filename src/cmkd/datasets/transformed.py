"""What the transformed data sets share: published images as the rich view, a degraded view of each as the poor one."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.data.quality.duplicates import ImageRows, repeated
from cmkd.datasets.base import DataSet
from cmkd.datasets.degradations import DEGRADATIONS, Name, PerImage, check_severity, degrade, image_key
from cmkd.datasets.formats.fetch import packed_or_folder, verify
from cmkd.errors import CmkdError, unknown_name
from cmkd.io import checksum
from cmkd.types import Modality

BLOCK = 256
"""Images that are read, degraded and written at a time."""
OPTICAL, DEGRADED = "optical", "degraded"


@dataclass(frozen=True)
class Images:
    """Labeled images of one published part, in the publisher's order.

    Args:
        split: ``train`` or ``test`` as published; empty where the publisher gives no split.
        ids: a name for each, the same in whatever packaging it was found.
        labels: ``(images,)`` class positions.
        read: for ascending positions, yields blocks ``(some, channels, height, width)`` uint8 of all of them in order.
    """

    split: str
    ids: Sequence[str]
    labels: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]]


class TransformedImages(DataSet):
    """Images of a published data set, and a degraded view of each.

    Where the publisher gives a test split it is kept whole; validation is drawn from the rest by a hash of an image's
    name, so the split of an image depends on its name alone. Copies of a test image are left out of validation and
    train, and copies of a validation image out of train; the card counts them. What counts as a copy says
    `cmkd.data.quality.duplicates.repeated`; the same thing photographed twice does not.

    Args:
        degradation: one of `cmkd.datasets.degradations.DEGRADATIONS`.
        severity: of the degradation, 0 to 1.
        seed: of its random numbers.
        train_pairs: keep so many train pairs, as many of each class, and a quarter as many for validation; all unless
            given. Fewer pairs are a subset of more. The test split is always whole.
        check: whether files must have the published checksums.

    Raises:
        CmkdError: an unknown degradation, or a number out of range.
    """

    rich = OPTICAL
    poor = DEGRADED
    classes: ClassVar[tuple[str, ...]]
    shape: ClassVar[tuple[int, int, int]]
    """Channels, height and width of an image."""
    unsound: ClassVar[str] = ""
    """What is known to be unsound about it as a benchmark; the card says it."""
    shares: ClassVar[tuple[float, float]] = (0.1, 0.0)
    """Of validation, and of test where the publisher gives none."""

    def __init__(self, *, degradation: Name, severity: float, seed: int, train_pairs: int | None, check: bool) -> None:
        if degradation not in get_args(Name):
            raise unknown_name("degradation", degradation, DEGRADATIONS)
        if train_pairs is not None and train_pairs < len(self.classes):
            raise CmkdError(f"train_pairs {train_pairs} of {self.name} is less than one of each class")
        self.degradation, self.severity, self.seed = degradation, check_severity(severity), int(seed)
        self.train_pairs, self.check = train_pairs, check

    @abstractmethod
    def published(self, source: Path) -> AbstractContextManager[Sequence[Images]]:
        """Open the published files; files stay open while the context lasts.

        Args:
            source: folder or file.

        Raises:
            CmkdError: a file is missing, damaged or not what it should be.
        """

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack without holding its images: the index and a signature of each are held, under 1 kB a pair.

        Args:
            source: folder with the published files, or the file itself where there is but one.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing, damaged, another than was published, or swapped with another.
        """
        if source is None:
            addresses = " and ".join(dict.fromkeys(file.url for file in self.sources))
            raise CmkdError(
                f"{self.name} needs its files: get {addresses} and give their place, as in {self.name}:PATH"
            )
        remarks = self._verified(source)
        with self.published(source) as parts:
            return self._write(parts, destination, remarks)

    def _verified(self, source: Path) -> list[str]:
        """Check the published files that are there; return what the card must say about others."""
        remarks = []
        for file in self.sources:
            path = packed_or_folder(source, file.name) if len(self.sources) == 1 else source / file.name
            if path.name != file.name or not path.is_file():
                read = f"{path.name} (sha256 {checksum(path)})" if path.is_file() else "unpacked or renamed files"
                remarks.append(f"read from {read} in place of the published {file.name}")
            elif self.check:
                verify(path, file)
            else:
                remarks.append(f"{file.name} was not compared with its published checksum")
        return remarks

    def _write(self, parts: Sequence[Images], destination: Path, remarks: list[str]) -> Pack:
        chosen = self._chosen(parts)
        copied = self._without_copies(parts, chosen)
        view = DEGRADATIONS[self.degradation]
        poor_shape = (1 if view.gray else self.shape[0], *self.shape[1:])
        notes = [f"degraded view: {self.degradation} ({view.title}) of severity {self.severity}, seed {self.seed}"]
        record: dict[str, Any] = {
            "method": self._method(parts),
            "seed": "none: by a hash of each image's name",
            "train_pairs": self.train_pairs,
            "images": sum(len(part.ids) for part in parts),
            "counts": {split: sum(int((splits == split).sum()) for splits in chosen) for split in SPLITS},
            "left_out_as_copies": copied,
        }
        with self.writer(
            destination,
            classes=self.classes,
            modalities=[
                Modality(OPTICAL, "image", self.shape, "uint8"),
                Modality(DEGRADED, "image", poor_shape, "uint8"),
            ],
            co_registered=[(OPTICAL, DEGRADED)] if view.co_registered else [],
            split=record,
            notes="; ".join([*notes, *remarks]) + ".",
        ) as writer:
            self._fill(writer, parts, chosen)
        return Pack.open(destination)

    def _fill(self, writer: PackWriter, parts: Sequence[Images], chosen: Sequence[NDArray[np.str_]]) -> None:
        total, done = sum(int((splits != "").sum()) for splits in chosen), 0
        for part, splits in zip(parts, chosen, strict=True):
            rows = np.flatnonzero(splits != "")
            start = 0
            for images in part.read(rows) if len(rows) else ():
                here = rows[start : start + len(images)]
                start += len(images)
                self._add(writer, part, splits[here].tolist(), here, images)
                done += len(images)
                if self.progress is not None:
                    self.progress(done, total)

    def _add(
        self,
        writer: PackWriter,
        part: Images,
        splits: list[str],
        rows: NDArray[np.int64],
        images: NDArray[np.uint8],
    ) -> None:
        if images.shape[1:] != self.shape:
            raise CmkdError(
                f"images of {self.name} have shape {self.shape}, got {images.shape[1:]}: get the files from "
                f"{self.sources[0].url}"
            )
        ids = [part.ids[row] for row in rows]
        generator = PerImage(self.seed, [image_key(name) for name in ids])
        poor = degrade(images, self.degradation, severity=self.severity, generator=generator)
        writer.add(ids, part.labels[rows], splits, None, {OPTICAL: images, DEGRADED: poor})

    def _without_copies(self, parts: Sequence[Images], chosen: Sequence[NDArray[np.str_]]) -> dict[str, int]:
        """Clear the split of copies in `chosen`, and count them by the split they were in."""
        left_out = dict.fromkeys(SPLITS, 0)
        kept = [
            {split: ImageRows.of(part.read, np.flatnonzero(splits == split)) for split in SPLITS}
            for part, splits in zip(parts, chosen, strict=True)
        ]
        for later, earlier in (("test", "validation"), ("test", "train"), ("validation", "train")):
            for splits, mine in zip(chosen, kept, strict=True):
                for theirs in kept:
                    rows = repeated(mine[earlier], theirs[later])
                    left_out[earlier] += int((splits[rows] != "").sum())
                    splits[rows] = ""
        return left_out

    def _method(self, parts: Sequence[Images]) -> str:
        share = f"{self.shares[0]:.0%}"
        if all(part.split for part in parts):
            method = f"published test; validation: {share} of the rest by a hash of the name"
        else:
            method = f"by a hash of the name: {share} validation, {self.shares[1]:.0%} test"
        if self.train_pairs is None:
            return method
        return f"{method}; of these {self.train_pairs} for train and a quarter as many for validation, by class"

    def _chosen(self, parts: Sequence[Images]) -> list[NDArray[np.str_]]:
        """Return the split of every image, empty where it is left out to keep `train_pairs`."""
        found = []
        for part in parts:
            places = np.array([place(name) for name in part.ids])
            splits = np.full(len(places), part.split or "train", dtype="<U10")
            validation, test = self.shares
            if part.split != "test":
                splits[places < validation] = "validation"
            if not part.split:
                splits[(places >= validation) & (places < validation + test)] = "test"
            if self.train_pairs is not None:
                quotas = {"train": self.train_pairs, "validation": max(len(self.classes), self.train_pairs // 4)}
                for split, quota in quotas.items():
                    rows = np.flatnonzero(splits == split)
                    splits[np.setdiff1d(rows, self._balanced(part, rows, places, quota))] = ""
            found.append(splits)
        return found

    def _balanced(
        self, part: Images, rows: NDArray[np.int64], places: NDArray[np.float64], quota: int
    ) -> NDArray[np.int64]:
        """Return `quota` of `rows`, as many of each class, by the smallest hash, or all there are."""
        kept = []
        for label in range(len(self.classes)):
            share = quota // len(self.classes) + (label < quota % len(self.classes))
            own = rows[part.labels[rows] == label]
            kept.append(own[np.argsort(places[own], kind="stable")][:share])
        return np.concatenate(kept)


def place(name: str) -> float:
    """Return where an image's name falls between 0 and 1: uniform over names, the same on every machine.

    Example:
        >>> round(place("train00001"), 3)
        0.688
    """
    return int.from_bytes(hashlib.sha256(f"split {name}".encode()).digest()[:6], "big") / 2**48


def blocks(arrays: Iterator[NDArray[Any]], rows: NDArray[np.int64], size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """Pick ascending rows out of a stream of arrays, and yield them in blocks of about `size`.

    Args:
        arrays: ``(some, ...)`` each, together all rows in order; read to the end, so that its own checks are made.
        rows: ascending positions.
        size: rows to collect before a block is yielded.
    """
    kept: list[NDArray[Any]] = []
    start = number = 0
    for array in arrays:
        end = int(np.searchsorted(rows, start + len(array)))
        if end > number:
            kept.append(array[rows[number:end] - start])
        start, number = start + len(array), end
        if sum(map(len, kept)) >= size:
            yield np.concatenate(kept)
            kept = []
    if kept:
        yield np.concatenate(kept)


def tiny_images(generator: np.random.Generator, labels: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return made-up images for fixtures: a bright bar whose place tells the class, over noise."""
    images = generator.integers(0, 80, (len(labels), *shape), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = int(label) * shape[1] // (int(labels.max()) + 1)
        image[:, top : top + max(2, shape[1] // 8)] += 150
    return images
