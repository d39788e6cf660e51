"""The card of a pack: its modalities, classes, statistics, origin and versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from cmkd.data.text_table import OWN_COLUMNS
from cmkd.documents import read_json, record
from cmkd.errors import CmkdError
from cmkd.io import checksum, write_json
from cmkd.options import Bounds, build, plain
from cmkd.types import Modality

SPLITS = ("train", "validation", "test")
FORMAT = 2
"""Format 2 has keys in American spelling, `group`, `unsound` and `description`; format 1 can still be read."""
AGAIN = "make the pack again"
"""Advice in messages about a damaged pack."""
RESERVED = (*OWN_COLUMNS, "position")
"""Columns of a pack's index or of its export; a modality cannot have one of these names."""
_RENAMED = {"licence": "license", "registered": "co_registered"}


@dataclass(frozen=True)
class Version:
    """One entry of a pack's history.

    Args:
        version: number of the version, from 1.
        rows: number of pairs up to and including this version.
        date: date of the commit, ISO 8601 in UTC.
        index_sha256: checksum of the version's index file.
        classes: class names.
        split: how the split was made.
        notes: anything else a reader must know.
    """

    version: int
    rows: int
    date: str
    index_sha256: str
    classes: tuple[str, ...]
    split: Mapping[str, Any]
    notes: str


@dataclass(frozen=True)
class CardInfo:
    """Description of a data set, which is the same in all versions of its pack.

    Args:
        name: short name.
        title: one-line title.
        description: a few paragraphs of Markdown.
        rich: default modality of the teacher.
        poor: default modality of the student.
        co_registered: groups of image modalities that share a pixel grid, to be augmented with one geometric transform.
        mirror: whether a mirrored image is an equally valid sample of its class: true for ships, false for letters.
        cropped: whether each image is cropped to its object, so that large shifts would cut the object.
        group: what a group of pairs is, such as ``a person``.
        license: license of the data, as its publisher states it.
        citation: BibTeX.
        sources: addresses of the published files.
        unsound: known problems of the data set as a benchmark.
        recipe: what a program that generates pairs needs to generate more of them, such as a simulator's name and seed.
    """

    name: str
    title: str = ""
    description: str = ""
    rich: str | None = None
    poor: str | None = None
    co_registered: Sequence[Sequence[str]] = ()
    mirror: bool = False
    cropped: bool = False
    group: str = ""
    license: str = ""
    citation: str = ""
    sources: Sequence[str] = ()
    unsound: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # tuples, so that the lists that JSON makes of tuples compare equal
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "co_registered", tuple(tuple(group) for group in self.co_registered))

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> CardInfo:
        """Rebuild a `CardInfo` from the result of `to_dict`, also after JSON.

        Other keys are ignored; missing keys get their defaults.

        Raises:
            CmkdError: a field has the wrong type.
        """
        return build(CardInfo, said, others=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of `CardInfo` by name, without those of a subclass."""
        return {field.name: getattr(self, field.name) for field in fields(CardInfo)}


@dataclass(frozen=True, kw_only=True)
class Card(CardInfo):
    """The card of one version of a pack: a `CardInfo` and what the version adds.

    Args:
        version: number of this version, from 1.
        classes: class names; a label is a position in them.
        modalities: modalities by name, with the statistics of this version's train split.
        split: how the split was made: method, seed, counts.
        rows: number of pairs.
        sha256: file name -> checksum of the bytes that belong to this version (the first `rows` rows of an array).
        history: all versions up to this one.
        invalid: modality -> number of invalid values, and of pairs with any, if the modality may have invalid values.
        notes: anything else a reader must know.
    """

    version: int
    classes: tuple[str, ...]
    modalities: Mapping[str, Modality]
    split: Mapping[str, Any]
    rows: int
    sha256: Mapping[str, str]
    history: tuple[Version, ...]
    notes: str = ""
    invalid: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def index_file(self) -> str:
        """Name of this version's index file."""
        return index_name(self.version)

    @property
    def identity(self) -> dict[str, Any]:
        """What identifies the data of this version, ready for JSON: its bytes, how to read them, and how to use them.

        Means and standard deviations are left out, since they follow from these.
        """
        names = ("version", "sha256", "classes", "rich", "poor", "co_registered", "mirror", "cropped")
        how = ("kind", "shape", "dtype", "nodata")
        modalities = {name: {key: plain(getattr(m, key)) for key in how} for name, m in self.modalities.items()}
        return {name: plain(getattr(self, name)) for name in names} | {"modalities": modalities}


@dataclass(frozen=True, kw_only=True)
class _Written:
    """Schema of a version's record in ``card.json``; its statistics and the header are checked as a `Modality`."""

    version: int
    rows: Annotated[int, Bounds(least=1)]
    date: str
    classes: tuple[str, ...]
    split: Mapping[str, Any]
    notes: str
    statistics: Mapping[str, Mapping[str, Any]]
    sha256: Mapping[str, str]
    invalid: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Top:
    """Schema of ``card.json``."""

    format: int
    header: Mapping[str, Any]
    versions: tuple[Mapping[str, Any], ...]
    sha256: str = ""  # checksum of the card itself; empty in cards of earlier releases


@dataclass
class CardFile:
    """``card.json``: what all versions share, and one record per version."""

    header: dict[str, Any]  # the fields of `CardInfo`, and kind, shape and dtype of the modalities, ready for JSON
    # one record per version: ``version, rows, date, classes, split, notes, statistics, sha256``
    versions: list[dict[str, Any]] = field(default_factory=list)
    unedited: bool = True  # whether the checksum in the file matches its content, or is absent

    @classmethod
    def read(cls, folder: Path) -> CardFile:
        """Read the card of the pack in `folder`.

        Raises:
            CmkdError: there is no card, it is damaged, or a newer release wrote it.
        """
        path = folder / "card.json"
        if not path.is_file():
            raise CmkdError(f"{folder} is not a pack: it has no card.json; make one with `cmkd data build`")
        content = read_json(path, fix=AGAIN)
        top = record(_Top, content, f"'{path}'", fix=AGAIN)
        header = upgraded(top.header, top.format, path)
        if not top.versions:
            raise CmkdError(f"'{path}' is damaged (it lists no version): {AGAIN}")
        return cls(header, list(map(dict, top.versions)), top.sha256 in ("", _seal(content)))

    def write(self, folder: Path) -> None:
        """Replace the card in `folder` atomically, which commits a version."""
        content = {"format": FORMAT, "header": self.header, "versions": self.versions}
        write_json(folder / "card.json", content | {"sha256": _seal(content)})

    def declared(self, modalities: Mapping[str, Modality]) -> dict[str, Modality]:
        """Return modalities with their declared nodata value, also where this version has no invalid values."""
        entries = self.header["modalities"]
        return {name: replace(known, nodata=entries[name].get("nodata")) for name, known in modalities.items()}

    def card(self, folder: Path, version: int | None = None) -> Card:
        """Return the card of one version, by default the latest.

        Raises:
            CmkdError: there is no such version, or the card is damaged.
        """
        number = len(self.versions) if version is None else version
        if not 1 <= number <= len(self.versions):
            raise CmkdError(f"{folder} has no version {number}: choose 1 to {len(self.versions)}")
        what = f"'{folder / 'card.json'}'"
        written = [record(_Written, said, what, fix=AGAIN) for said in self.versions[:number]]
        try:
            card = self._card(written)
            check_card(card)
        except CmkdError as error:
            raise CmkdError(f"{what} is damaged ({error}): {AGAIN}") from error
        return card

    def _card(self, written: list[_Written]) -> Card:
        latest, described = written[-1], build(_Modalities, self.header, others=True).modalities
        for number, (one, before) in enumerate(zip(written, (None, *written), strict=False), 1):
            if one.version != number or (before and one.rows < before.rows):
                raise CmkdError(f"version {number} is numbered {one.version} and has {one.rows} rows")
        for name in described:
            if name not in latest.statistics:
                raise CmkdError(f"statistics.{name} is missing")
        return Card(
            **CardInfo.from_dict(self.header).to_dict(),
            **{name: getattr(latest, name) for name in ("version", "rows", "split", "notes", "sha256", "classes")},
            invalid=latest.invalid,
            modalities={
                name: Modality.from_dict(
                    {**_used(entry, latest.invalid.get(name)), **latest.statistics[name], "name": name}
                )
                for name, entry in described.items()
            },
            history=tuple(
                Version(v.version, v.rows, v.date, v.sha256.get(index_name(v.version), ""), v.classes, v.split, v.notes)
                for v in written
            ),
        )


@dataclass(frozen=True)
class _Modalities:
    """Schema of the modalities in a header; the rest of the header is checked as a `CardInfo`."""

    modalities: Mapping[str, Mapping[str, Any]]


def check_card(card: Card) -> None:
    """Raise `CmkdError` unless the parts of a card fit each other."""
    check_names(card.classes, list(card.modalities.values()), card)
    for modality in card.modalities.values():
        if not modality.mean or not modality.std or min(modality.std) < 0:
            raise CmkdError(f"statistics.{modality.name} lacks mean or std, or has a negative one")
    for name, (values, pairs) in card.invalid.items():
        if name not in card.modalities or values < 0 or (values and not 1 <= pairs <= card.rows):
            raise CmkdError(f"invalid.{name} is not a number of values and of pairs with them")
    files = {card.index_file, *(modality.file for modality in card.modalities.values())}
    if set(card.sha256) != files:
        raise CmkdError(f"sha256 names {', '.join(sorted(card.sha256)) or 'no file'}, not {', '.join(sorted(files))}")


def check_names(classes: Sequence[str], modalities: Sequence[Modality], info: CardInfo) -> None:
    """Raise `CmkdError` unless classes, modalities, roles and co-registered groups fit each other."""
    names = [modality.name for modality in modalities]
    if not names or len(set(names)) < len(names):
        raise CmkdError(f"a pack needs at least one modality, with unique names; got {names}")
    if reserved := next((name for name in names if name in RESERVED), None):
        raise CmkdError(f"a modality cannot be named '{reserved}': name it as its sensor, such as radar")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise CmkdError(f"a pack needs at least two different classes, got {list(classes)}")
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise CmkdError(f"the class {name!a} has characters that are not UTF-8: rename it") from None
    for name in (*filter(None, (info.rich, info.poor)), *(name for group in info.co_registered for name in group)):
        if name not in names:
            raise CmkdError(f"'{name}' is not a modality of this pack: {', '.join(names)}")
    by_name = {modality.name: modality for modality in modalities}
    for group in info.co_registered:
        sizes = {name: by_name[name].shape[1:] for name in group}
        if any(by_name[name].kind != "image" for name in group) or len(set(sizes.values())) > 1:
            raise CmkdError(f"co-registered modalities must be images of the same height and width, got {sizes}")
    grouped = list(chain.from_iterable(info.co_registered))
    if twice := next((name for name in names if grouped.count(name) > 1), None):
        joined = "+".join(dict.fromkeys(chain.from_iterable(group for group in info.co_registered if twice in group)))
        raise CmkdError(f"'{twice}' is in two groups of co-registered modalities: join them, as in {joined}")


def _seal(content: Mapping[str, Any]) -> str:
    """Return the checksum of a card's content, independent of the order and spacing of its JSON."""
    kept = {name: value for name, value in content.items() if name != "sha256"}
    return checksum([json.dumps(kept, sort_keys=True).encode()])


def upgraded(said: Mapping[str, Any], number: int, path: Path) -> dict[str, Any]:
    """Return the content of a card of format `number` with the keys of this release.

    Raises:
        CmkdError: a newer release wrote the file.

    Example:
        >>> upgraded({"name": "ships", "licence": "CC0"}, 1, Path("card.json"))
        {'name': 'ships', 'license': 'CC0'}
    """
    if number > FORMAT:
        raise CmkdError(f"{path} has format {number}, but this release reads up to {FORMAT}: upgrade cmkd")
    return {_RENAMED.get(key, key): value for key, value in said.items()}


def index_name(version: int) -> str:
    """Return the name of a version's index file.

    Example:
        >>> index_name(1)
        'index-0001.parquet'
    """
    return f"index-{version:04d}.parquet"


def modality_entry(modality: Modality) -> dict[str, Any]:
    """Return the fields of a modality that are the same in all versions, ready for JSON."""
    return {key: value for key, value in asdict(modality).items() if key not in ("name", "mean", "std")}


def _used(entry: Mapping[str, Any], invalid: tuple[int, int] | None) -> dict[str, Any]:
    """Return the fields, without ``nodata`` for a float modality that may have invalid values (NaN) but has none."""
    none = entry.get("nodata") == "nan" and not (invalid and invalid[0])
    return {key: value for key, value in entry.items() if not (none and key == "nodata")}
