"""Transformed data sets: published images as the rich view, and a degraded view of each as the poor view."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.data.quality.duplicates import ImageRows, repeated
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.degradations import DEGRADATIONS, Name, PerImage, check_severity, degrade, image_key
from cmkd.datasets.formats.fetch import packed_or_folder, verify
from cmkd.datasets.formats.images import Images
from cmkd.errors import CmkdError, unknown_name
from cmkd.io import checksum
from cmkd.options import Seed
from cmkd.types import Modality

OPTICAL, DEGRADED = "optical", "degraded"


class TransformedImages(DataSet):
    """Images of a published data set, and a degraded view of each.

    A published test split is kept whole; validation is drawn from the rest by a hash of an image's name, so the split
    of an image depends only on its name. Copies of test images are left out of validation and train, and copies of
    validation images out of train; the card counts them. `cmkd.data.quality.duplicates.repeated` defines a copy; a
    second photograph of the same thing is not a copy.

    A subclass defines `shape`, `classes`, `default` and `published`.

    Args:
        degradation: one of `cmkd.datasets.degradations.DEGRADATIONS`; by default the first value of `default`.
        severity: severity of the degradation, 0 to 1; by default the second value of `default`.
        seed: random seed of the degradation.
        train_pairs: number of train pairs to keep, equally many of each class, and a quarter as many for validation; by
            default all. Fewer pairs are a subset of more pairs, except for copies. The test split is always whole.
        check: whether files must have the published checksums.

    Raises:
        CmkdError: the degradation is unknown, or a number is out of range.
    """

    rich = OPTICAL
    poor = DEGRADED
    classes: ClassVar[tuple[str, ...]]
    shape: ClassVar[tuple[int, int, int]]
    """Channels, height and width of an image."""
    default: ClassVar[tuple[Name, float]]
    """Default degradation and its default severity."""
    shares: ClassVar[tuple[float, float]] = (0.1, 0.0)
    """Fraction of validation images, and of test images if the publisher gives no test split."""

    def __init__(
        self,
        *,
        degradation: Name | None = None,
        severity: float | None = None,
        seed: Seed = 0,
        train_pairs: int | None = None,
        check: bool = True,
    ) -> None:
        degradation = self.default[0] if degradation is None else degradation
        severity = self.default[1] if severity is None else severity
        if degradation not in get_args(Name):
            raise unknown_name("degradation", degradation, DEGRADATIONS)
        if train_pairs is not None and train_pairs < len(self.classes):
            raise CmkdError(f"train_pairs {train_pairs} of {self.name} is fewer than one per class")
        self.degradation, self.severity, self.seed = degradation, check_severity(severity), int(seed)
        self.train_pairs, self.check = train_pairs, check

    @abstractmethod
    def published(self, source: Path) -> AbstractContextManager[Sequence[Images]]:
        """Open the published files for the duration of the context.

        Raises:
            CmkdError: a file is missing, damaged or not the expected one.
        """

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack without holding its images in memory; index and signatures take under 1 kB per pair."""
        source = self.source_folder(source)
        remarks = self._verified(source)
        with self.published(source) as parts:
            return self._write(parts, destination, remarks)

    def _verified(self, source: Path) -> list[str]:
        """Check the published files; return remarks for the card about replaced or unchecked files."""
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
        notes = [f"degraded view: {self.degradation} ({view.title}) of severity {self.severity}, seed {self.seed}"]
        rows = [np.flatnonzero(splits != "") for splits in chosen]
        ids = [part.ids[row] for part, kept in zip(parts, rows, strict=True) for row in kept.tolist()]
        record: dict[str, Any] = {
            "method": self._method(parts),
            "seed": "none: by a hash of each image's name",
            "train_pairs": self.train_pairs,
            "images": sum(len(part.ids) for part in parts),
            "left_out_as_copies": copied,
        }
        listing = Listing(
            ids,
            np.concatenate([part.labels[kept] for part, kept in zip(parts, rows, strict=True)]),
            np.concatenate([splits[kept] for splits, kept in zip(chosen, rows, strict=True)]).tolist(),
            record,
            self._views(parts, rows, ids),
        )
        return self.write(
            destination,
            listing,
            [
                Modality(OPTICAL, "image", self.shape, "uint8"),
                Modality(DEGRADED, "image", (1 if view.gray else self.shape[0], *self.shape[1:]), "uint8"),
            ],
            classes=self.classes,
            co_registered=view.co_registered,
            notes="; ".join([*notes, *remarks]) + ".",
        )

    def _views(
        self, parts: Sequence[Images], rows: Sequence[NDArray[np.int64]], ids: Sequence[str]
    ) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """Yield blocks of the images at `rows`, and their degraded views."""
        start = 0
        for images in chain.from_iterable(p.read(kept) for p, kept in zip(parts, rows, strict=True) if len(kept)):
            if images.shape[1:] != self.shape:
                raise CmkdError(
                    f"images of {self.name} have shape {self.shape}, got {images.shape[1:]}: get the files from "
                    f"{self.sources[0].url}"
                )
            keys = [image_key(name) for name in ids[start : start + len(images)]]
            start += len(images)
            generator = PerImage(self.seed, keys)
            poor = degrade(images, self.degradation, severity=self.severity, generator=generator)
            yield {OPTICAL: images, DEGRADED: poor}

    def _without_copies(self, parts: Sequence[Images], chosen: Sequence[NDArray[np.str_]]) -> dict[str, int]:
        """Set the split of copies in `chosen` to empty, and return split -> number of its copies."""
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
        """Return the split of every image, empty if `train_pairs` leaves it out."""
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
        """Return the `quota` rows with the smallest hashes, equally many of each class, or all rows of a rare class."""
        kept = []
        for label in range(len(self.classes)):
            share = quota // len(self.classes) + (label < quota % len(self.classes))
            own = rows[part.labels[rows] == label]
            kept.append(own[np.argsort(places[own], kind="stable")][:share])
        return np.concatenate(kept)


def place(name: str) -> float:
    """Map an image's name to a number from 0 to 1, uniformly distributed over names and the same on every machine.

    Example:
        >>> round(place("train00001"), 3)
        0.688
    """
    return int.from_bytes(hashlib.sha256(f"split {name}".encode()).digest()[:6], "big") / 2**48
