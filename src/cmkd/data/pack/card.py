"""What a pack says about itself: its modalities, classes, statistics, origin and versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmkd.errors import CmkdError
from cmkd.io import write_json
from cmkd.types import Modality

SPLITS = ("train", "validation", "test")
FORMAT = 1


@dataclass(frozen=True)
class Version:
    """One entry of a pack's history.

    Args:
        version: its number, from 1.
        rows: pairs up to and including this version.
        date: when it was committed, ISO 8601 in UTC.
        index_sha256: checksum of its index file.
    """

    version: int
    rows: int
    date: str
    index_sha256: str


@dataclass(frozen=True)
class Card:
    """What a pack says about itself, for one of its versions.

    Args:
        name: short name.
        title: one line.
        version: number of this version, from 1.
        classes: class names; a label is a position in it.
        modalities: by name, with the statistics of this version's train split.
        rich: the teacher's modality unless told otherwise.
        poor: the student's modality unless told otherwise.
        co_registered: groups of image modalities that share a pixel grid, to be augmented with one geometric transform.
        mirror: whether a mirrored image is as good a sample of its class: of a ship it is, of a letter it is not.
        cropped: whether each image is cropped to what it shows, so that large shifts would cut it.
        license: of the data, as its publisher states it.
        citation: BibTeX, or empty.
        sources: addresses of the published files.
        split: how the split was made: method, seed, counts.
        rows: number of pairs.
        sha256: file name -> checksum of the bytes that belong to this version (the first `rows` rows of an array).
        history: all versions up to this one.
        notes: anything a reader must know.
    """

    name: str
    title: str
    version: int
    classes: tuple[str, ...]
    modalities: Mapping[str, Modality]
    rich: str | None
    poor: str | None
    co_registered: tuple[tuple[str, ...], ...]
    mirror: bool
    cropped: bool
    license: str
    citation: str
    sources: tuple[str, ...]
    split: Mapping[str, Any]
    rows: int
    sha256: Mapping[str, str]
    history: tuple[Version, ...]
    notes: str

    @property
    def index_file(self) -> str:
        """Name of this version's index file."""
        return index_name(self.version)


@dataclass
class CardFile:
    """``card.json``: what all versions share, and one record per version.

    Args:
        header: the fields of `Card` that never change, ready for JSON.
        versions: one record per version: ``version, rows, date, classes, split, notes, statistics, sha256``.
    """

    header: dict[str, Any]
    versions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> CardFile:
        """Read the card of the pack in `folder`.

        Raises:
            CmkdError: there is no card, it is damaged, or a newer release wrote it.
        """
        path = folder / "card.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            made = cls(dict(content["header"]), list(content["versions"]))
            number = int(content["format"])
        except FileNotFoundError:
            raise CmkdError(f"{folder} is not a pack: it has no card.json; make one with `cmkd data build`") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CmkdError(f"{path} is damaged ({type(error).__name__}): make the pack again") from error
        if number > FORMAT:
            raise CmkdError(f"{path} has format {number}, this release reads up to {FORMAT}: upgrade cmkd")
        if not made.versions:
            raise CmkdError(f"{path} is damaged (no version in it): make the pack again")
        return made

    def write(self, folder: Path) -> None:
        """Replace the card in `folder` atomically; this is what commits a version."""
        content = {"format": FORMAT, "header": self.header, "versions": self.versions}
        write_json(folder / "card.json", content)

    def card(self, folder: Path, version: int | None = None) -> Card:
        """Return the card of one version, the latest unless told otherwise.

        Raises:
            CmkdError: there is no such version, or the card is damaged.
        """
        number = len(self.versions) if version is None else version
        if not 1 <= number <= len(self.versions):
            raise CmkdError(f"{folder} has no version {number}: choose 1 to {len(self.versions)}")
        record, head = self.versions[number - 1], self.header
        try:
            return Card(
                **{key: head[key] for key in ("name", "title", "rich", "poor", "license", "citation")},
                **{key: record[key] for key in ("version", "rows", "split", "notes", "sha256")},
                classes=tuple(record["classes"]),
                sources=tuple(head["sources"]),
                co_registered=tuple(tuple(group) for group in head["co_registered"]),
                mirror=bool(head.get("mirror", False)),
                cropped=bool(head.get("cropped", False)),
                modalities={
                    name: Modality(
                        name,
                        entry["kind"],
                        tuple(entry["shape"]),
                        entry["dtype"],
                        tuple(record["statistics"][name]["mean"]),
                        tuple(record["statistics"][name]["std"]),
                    )
                    for name, entry in head["modalities"].items()
                },
                history=tuple(
                    Version(v["version"], v["rows"], v["date"], v["sha256"][index_name(v["version"])])
                    for v in self.versions[:number]
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CmkdError(f"{folder / 'card.json'} is damaged ({error}): make the pack again") from error


def index_name(version: int) -> str:
    """Return the name of a version's index file.

    Example:
        >>> index_name(1)
        'index-0001.parquet'
    """
    return f"index-{version:04d}.parquet"


def modality_entry(modality: Modality) -> dict[str, Any]:
    """Return the part of a modality that no version changes, ready for JSON."""
    return {key: value for key, value in asdict(modality).items() if key in ("kind", "shape", "dtype")}
