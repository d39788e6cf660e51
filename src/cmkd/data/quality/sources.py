"""Sources of pairs to check: a folder with a manifest or folders by class, or a pack, read one sample at a time."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import SIGNATURE_BYTES, begins_as
from cmkd.data.manifest.readers import PICTURES, inspect, read
from cmkd.data.manifest.reading import Reading, stated
from cmkd.data.manifest.shared_files import real_place
from cmkd.data.manifest.table import holds_pairs, read_table
from cmkd.data.pack.pack import Pack
from cmkd.data.split import ALIASES
from cmkd.data.text_table import OWN_COLUMNS
from cmkd.errors import CmkdError, unknown_name
from cmkd.types import Kind


@dataclass(frozen=True)
class Cell:
    """One sample as it was found."""

    array: NDArray[Any] | None = None  # content, masked where it is invalid; None if the sample could not be read
    kind: Kind = "image"  # meaning of the axes
    fault: str = ""  # ``unreadable`` or ``truncated`` if the sample could not be read, else empty
    message: str = ""  # reason why the sample could not be read


class Source(ABC):
    """Pairs that are read one sample at a time.

    Attributes:
        place: folder of the pairs.
        ids: id of each pair.
        labels: class position of each pair, -1 for none.
        classes: names of the classes.
        splits: split of each pair, empty if unknown.
        groups: group of each pair, empty for none.
        modalities: names of the modalities.
        co_registered: groups of modalities that share a pixel grid.
        metadata: further column -> one cell per pair, empty for none; ``has_<modality>`` is 1 or 0.
    """

    place: Path
    ids: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]
    splits: Sequence[str]
    groups: Sequence[str]
    modalities: Sequence[str]
    co_registered: Sequence[Sequence[str]]
    metadata: Mapping[str, Sequence[str]]
    resized: Collection[str] = ()
    """Modalities whose samples may have any size, because a size is stated to which they are resized."""

    @abstractmethod
    def cell(self, row: int, modality: str) -> Cell | None:
        """Return a sample, or None if the pair lacks the modality."""

    def orientation(self, row: int, modality: str) -> int:
        """Return the EXIF orientation that a sample's file states; 1, which is upright, if it states none."""
        return 1

    def shared(self, row: int, other: int, modality: str) -> bool:
        """Return whether two pairs may share a sample on purpose, because they are in the same group."""
        return bool(self.groups[row]) and self.groups[row] == self.groups[other]

    def picture(self, row: int, modality: str) -> NDArray[Any] | None:
        """Return the part of a sample that can be shown, even if the sample is damaged."""
        cell = self.cell(row, modality)
        return cell.array if cell else None


class FolderSource(Source):
    """Pairs of a folder with a manifest or folders by class; files may be missing or damaged.

    Args:
        folder: folder with the manifest or with the folders by class.
        readings: modality -> how to read its files.
        co_registered: groups of image modalities that share a pixel grid.

    Raises:
        CmkdError: the manifest, its sidecar or the layout is wrong, or an unknown modality is named.
    """

    def __init__(
        self,
        folder: Path,
        *,
        readings: Mapping[str, Reading] | None = None,
        co_registered: Sequence[Sequence[str]] = (),
    ) -> None:
        table = read_table(folder, allow_missing=True)
        blank = [""] * len(table.ids)
        self.place, self.ids, self.co_registered = folder, table.ids, _declared(co_registered, list(table.files))
        self.labels, self.classes = table.labels, table.classes
        self.splits = [ALIASES.get(split, split) for split in table.splits or blank]
        self.groups, self.modalities = table.groups or blank, list(table.files)
        self._files, self._readings = table.files, stated(folder, table.files, readings)
        self.resized = [name for name, reading in self._readings.items() if reading.size]
        there = {name: [path is not None for path in paths] for name, paths in table.files.items()}
        self.metadata = table.metadata | _presence(there)

    def cell(self, row: int, modality: str) -> Cell | None:
        """Read the file of a sample; a reading error is returned in the cell."""
        path = self._files[modality][row]
        if path is None:
            return None
        if not path.is_file():  # reading a pipe might never end
            return Cell(fault="unreadable", message="is no regular file")
        said = self._readings[modality]
        try:
            array = read(path, said.kind, channels=said.channels, nodata=said.nodata, finite=False)
        except CmkdError as error:
            message = " ".join(str(error).replace(f"{path} ", "").split())
            # an intact file may be unusable too, so the message decides
            damaged = re.search("truncated|damaged", message) and _starts_well(path)
            return Cell(fault="truncated" if damaged else "unreadable", message=message)
        return Cell(array, said.kind or _usual_kind(array))

    def shared(self, row: int, other: int, modality: str) -> bool:
        """Return whether two pairs name the same file, even by different paths."""
        one, two = self._files[modality][row], self._files[modality][other]
        return one is not None and two is not None and real_place(one) == real_place(two)

    def orientation(self, row: int, modality: str) -> int:
        """Return the EXIF orientation in the header of a picture; 1 for other files."""
        path = self._files[modality][row]
        if path is None or path.suffix.lower() not in PICTURES:
            return 1
        try:
            return inspect(path, channels="first").orientation
        except CmkdError:  # `cell` returns the reason
            return 1

    def picture(self, row: int, modality: str) -> NDArray[Any] | None:
        """Read the file of a sample; for a damaged image, return the rows that can be decoded."""
        array, path = super().picture(row, modality), self._files[modality][row]
        return _what_is_left(path) if array is None and path is not None else array


class PackSource(Source):
    """Pairs of a pack, with its splits and co-registered groups."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self.place, self.co_registered = pack.path, pack.card.co_registered
        self.ids, self.splits = pack.index["id"].tolist(), pack.index["split"].tolist()
        self.groups, self.modalities = pack.index["group"].tolist(), list(pack.modalities)
        self.labels, self.classes = pack.index["label"].tolist(), pack.classes
        self._present = {name: pack.index[f"has_{name}"].tolist() for name in self.modalities}
        own = {*OWN_COLUMNS, *(f"has_{name}" for name in self.modalities)}
        others = {str(name): pack.index[name].tolist() for name in pack.index if name not in own}
        self.metadata = others | _presence(self._present)

    def cell(self, row: int, modality: str) -> Cell | None:
        """Return the stored array."""
        if not self._present[modality][row]:
            return None
        known = self._pack.modalities[modality]
        return Cell(known.masked(self._pack.array(modality)[row]), known.kind)


def open_source(
    place: Path, *, readings: Mapping[str, Reading] | None = None, co_registered: Sequence[Sequence[str]] = ()
) -> Source:
    """Return the pairs of a pack, or of a folder with a manifest or folders by class.

    Args:
        place: the folder.
        readings: modality -> how to read its files; must be empty for a pack.
        co_registered: groups of image modalities that share a pixel grid; by default those on a pack's card.

    Raises:
        CmkdError: the folder is neither, a pack is given with `readings`, or an unknown modality is named.
    """
    if (place / "card.json").is_file():
        if readings:
            raise CmkdError(f"{place} is a pack, whose card states the kinds and nodata: leave these options out")
        source = PackSource(Pack.open(place))
        source.co_registered = _declared(co_registered, source.modalities) if co_registered else source.co_registered
        return source
    if not holds_pairs(place):
        state = "is neither a pack nor a folder with manifest.csv" if place.exists() else "does not exist"
        raise CmkdError(f"{place} {state}: give the folder of a pack, or one with a manifest or folders by class")
    return FolderSource(place, readings=readings, co_registered=co_registered)


def _declared(co_registered: Sequence[Sequence[str]], modalities: Sequence[str]) -> list[list[str]]:
    for name in (name for group in co_registered for name in group):
        if name not in modalities:
            raise unknown_name("modality", name, modalities)
    return [list(group) for group in co_registered]


def _presence(there: Mapping[str, Sequence[bool]]) -> dict[str, list[str]]:
    return {f"has_{name}": [str(int(present)) for present in rows] for name, rows in there.items()}


def _usual_kind(array: NDArray[Any]) -> Kind:
    kinds: dict[int, Kind] = {1: "vector", 2: "series", 3: "image"}
    return kinds[array.ndim]


def _starts_well(path: Path) -> bool:
    """Whether a file begins with the signature of its suffix's format, or is empty."""
    try:
        with path.open("rb") as file:
            head = file.read(SIGNATURE_BYTES)
    except OSError:
        return False
    return not head or begins_as(head, path.suffix.lower())


def _what_is_left(path: Path) -> NDArray[Any] | None:
    """Decode the part of a damaged PNG or JPEG that is present; None for other files."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        return None
    from PIL import Image, ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES  # pillow's only switch for this is global
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            array = np.asarray(image.convert("RGB"))
    except Exception:  # decoders raise any exception on damaged bytes; the page then shows no picture
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return np.moveaxis(array, -1, 0)
