"""Reading and checking of the table of pairs, from a manifest or folders by class, before any file is opened."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from unicodedata import normalize

from cmkd.data.manifest.folders import list_folders
from cmkd.data.manifest.readers import SUFFIXES
from cmkd.data.manifest.shared_files import check_splits, shared_files, united
from cmkd.data.pack.card import RESERVED
from cmkd.data.text_table import OWN_COLUMNS, TextTable, check_names, posix_path, read_text_table, whole
from cmkd.errors import CmkdError, CmkdWarning, no_column, unknown_name
from cmkd.types import UNLABELED

NEEDS = "the columns id, label and one per modality"
LOOKED_AT = 10
"""Number of cells of a metadata column that are checked for names of files."""
_NOTHING = {"nan", "NaN", "NA", "N/A", "None", "null", "NULL"}
"""Texts that programs write into a cell without a value."""
_DRIVE = re.compile(r"[A-Za-z]:/")


@dataclass(frozen=True)
class Table:
    """A checked table of pairs."""

    path: Path  # the manifest, or the folder with folders by class
    lines: list[str]  # name of every row in messages
    ids: list[str]  # one per pair
    labels: list[int]  # class positions, -1 for none
    classes: list[str]  # sorted class names; by value if all are numbers
    splits: list[str] | None  # one per pair, empty if not given; None without the column
    groups: list[str] | None  # one per pair, empty for none; None without the column and without shared files
    grouped: bool  # whether there is a column ``group``
    files: dict[str, list[Path | None]]  # modality -> one file per pair, None for an empty cell
    metadata: dict[str, list[str]]  # other column -> one cell per pair


def find_manifest(folder: Path) -> Path | None:
    """Return the manifest in `folder`, or None.

    Raises:
        CmkdError: there are two manifests, which may differ.
    """
    found = [path for path in (folder / "manifest.csv", folder / "manifest.parquet") if path.is_file()]
    if len(found) > 1:
        raise CmkdError(
            f"{folder} has both manifest.csv and manifest.parquet: remove or rename the one that is not meant"
        )
    return found[0] if found else None


def holds_pairs(folder: Path) -> bool:
    """Whether a folder has a manifest, or folders that may be modalities."""
    return find_manifest(folder) is not None or (
        folder.is_dir() and any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())
    )


def read_table(folder: Path, *, allow_missing: bool = False, exclude: Collection[str] = ()) -> Table:
    """Read and check the manifest in `folder`, or list its folders by class.

    Args:
        folder: folder with ``manifest.csv`` or ``manifest.parquet``, or in the layout that
            `cmkd.data.manifest.folders.list_folders` reads.
        allow_missing: accept files that do not exist.
        exclude: ids of pairs that are left out before anything else is checked.

    Raises:
        CmkdError: a row or the folder is wrong; the message names it and says how to fix it.
    """
    path = find_manifest(folder)
    if not holds_pairs(folder):
        raise CmkdError(f"{folder} {_no_folder(folder)}")
    text = list_folders(folder) if path is None else read_text_table(path, NEEDS)
    text = _without(text, exclude) if exclude else text
    modalities, metadata = _columns(text, folder)
    check_names(text, [name for name in text.header if name not in metadata])
    _check_ids(text)
    classes, labels = _labels(text.path, _names(text, "label"))
    files = {name: _paths(text, folder, name) for name in modalities}
    if not any(any(paths) for paths in files.values()):
        raise CmkdError(f"{text.path} lists no files: fill in the columns {', '.join(files)}")
    if not allow_missing:
        _check_exists(text, files)
    splits = text.column("split") if "split" in text.header else None
    groups = _names(text, "group") if "group" in text.header else None
    groups = _groups_of_files(text, files, splits, groups)
    kept = {name: text.column(name) for name in metadata}
    grouped = "group" in text.header
    return Table(text.path, text.lines, text.column("id"), labels, classes, splits, groups, grouped, files, kept)


def read_flagged(report: Path | str | None, folder: Path | str) -> tuple[list[str], str]:
    """Return the ids that a ``faults.json`` flags, and the note about them for a card; both empty without a report.

    A report that was made for another folder causes a warning, because its ids may belong to other pairs.

    Raises:
        CmkdError: the file is not a report of `cmkd data check`.
    """
    if report is None:
        return [], ""
    from cmkd.data.quality.faults import FaultReport  # imported late, since the checks load slow libraries

    found = FaultReport.read(Path(report))
    if Path(found.source).resolve() != Path(folder).resolve():
        said = f"{report} was made of {found.source}, not of {folder}: its ids may be those of other pairs"
        warnings.warn(said, CmkdWarning, stacklevel=3)
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.counts.items() if count)
    return found.flagged, f", without {len(found.flagged)} pairs that cmkd data check flagged ({kinds or 'none'})"


def _no_folder(place: Path) -> str:
    if (place / "card.json").is_file():
        return "is already a pack: give the folder of the files that it was made from"
    if place.is_file():
        return "is a file: give the folder that holds it, with manifest.csv and the files it names"
    state = "has no manifest.csv or manifest.parquet" if place.exists() else "does not exist"
    return f"{state}: a manifest has {NEEDS}"


def _without(table: TextTable, exclude: Collection[str]) -> TextTable:
    names, left_out = table.column("id"), set(exclude)
    unknown = sorted(left_out - set(names))
    if unknown:
        raise CmkdError(
            f"{table.path} lacks {len(unknown)} pairs to leave out, such as '{unknown[0]}': check this folder again"
        )
    kept = [row for row, name in enumerate(names) if name not in left_out]
    if not kept:
        raise CmkdError(f"{table.path}: every pair would be left out: exclude fewer")
    labels = table.column("label")
    lost = sorted(set(labels) - {labels[row] for row in kept})
    if lost:
        warnings.warn(
            f"{len(lost)} classes have no pairs after the exclusion, such as '{lost[0]}'", CmkdWarning, stacklevel=3
        )
    return replace(table, rows=[table.rows[row] for row in kept], lines=[table.lines[row] for row in kept])


def _columns(table: TextTable, folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the modality columns and of the metadata columns."""
    path, header = table.path, table.header
    for name in ("id", "label"):
        if name not in header:
            raise no_column(path, name, header)
    modalities, metadata = [], []
    for name in (name for name in header if name not in OWN_COLUMNS):
        cells = table.column(name)
        if any(cells) and not any(cell.lower().endswith(SUFFIXES) for cell in cells):
            _check_metadata(table, folder, name)
            metadata.append(name)
            continue
        if name in RESERVED:
            raise CmkdError(f"{path}: '{name}' is a reserved name: rename the column as its sensor, such as radar")
        if not name.isidentifier():
            raise CmkdError(
                f"{path}: modality '{name}' must be a word of letters, digits and underscores that "
                "begins with no digit: rename it"
            )
        modalities.append(name)
    if not modalities:
        raise CmkdError(f"{path} has no column of files: add one per modality, with paths relative to {path.parent}")
    return modalities, metadata


def _check_metadata(table: TextTable, folder: Path, name: str) -> None:
    """Refuse a column that is probably not metadata: its name is misspelled, or it names files of unsupported type."""
    absent = [known for known in OWN_COLUMNS if known not in table.header]
    if get_close_matches(name.lower(), absent, 1, 0.75):
        raise CmkdError(f"{table.path}: {unknown_name('column', name, absent)}")
    if name in ("", *RESERVED) or name.startswith("has_"):
        raise CmkdError(f"{table.path}: '{name}' is a reserved name for a metadata column: rename it")
    for cell in islice(filter(None, table.column(name)), LOOKED_AT):
        if Path(cell).suffix and os.path.exists(folder / posix_path(cell, folder)):  # False for a name that is too long
            raise CmkdError(
                f"{table.path}: column '{name}' names {cell}; a modality's files end in {', '.join(SUFFIXES)}: convert "
                "them"
            )


def _check_ids(table: TextTable) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(table.column("id")):
        if not name:
            raise CmkdError(f"{table.lines[row]} has no id: give each pair a unique one")
        if first.setdefault(name, row) != row:
            raise CmkdError(f"id '{name}' is in {table.lines[first[name]]} and {table.lines[row]}: ids must be unique")


def _groups_of_files(
    table: TextTable, files: dict[str, list[Path | None]], splits: list[str] | None, groups: list[str] | None
) -> list[str] | None:
    """Return the group of every row; if splits are drawn, rows that name the same file get one group."""
    shared = shared_files(files)
    check_splits(shared, splits or [""] * len(table.rows), table.lines)
    given = groups or [""] * len(table.rows)
    if nothing := next((group for group in given if group in _NOTHING), None):
        warnings.warn(
            f"{table.path}: '{nothing}' is read as a group of {given.count(nothing)} pairs; leave the cell empty where "
            "there is no group",
            CmkdWarning,
            stacklevel=3,
        )
    apart = [(path, one, other) for path, one, other in shared if not given[one] or given[one] != given[other]]
    if not apart or (splits and all(splits)):
        return groups
    path, one, other = apart[0]
    warnings.warn(
        f"{path} is in {table.lines[one]} and {table.lines[other]}: rows that share files are one group, "
        "which stays in one split",
        CmkdWarning,
        stacklevel=3,
    )
    return united(shared, table.column("id"), given)


def _names(table: TextTable, column: str) -> list[str]:
    """Return the cells of a column with names in one spelling: 7.0, which pandas may write for 7, becomes 7."""
    return [normalize("NFC", whole(cell)) for cell in table.column(column)]


def check_case(path: Path, classes: Sequence[str]) -> None:
    """Raise `CmkdError` if two classes differ only in case; single letters may, since handwriting has both cases."""
    first: dict[str, str] = {}
    for name in filter(lambda name: len(name) > 1, classes):
        other = first.setdefault(name.casefold(), name)
        if other != name:
            raise CmkdError(f"{path}: classes '{other}' and '{name}' differ only in case: name them alike")


def _labels(path: Path, cells: list[str]) -> tuple[list[str], list[int]]:
    names = sorted(set(cells) - {""})
    check_case(path, names)
    if nothing := next((name for name in names if name in _NOTHING), None):
        warnings.warn(
            f"{path}: '{nothing}' is read as a class; leave the cell empty where there is no label",
            CmkdWarning,
            stacklevel=3,
        )
    if all(re.fullmatch(r"[+-]?\d{1,18}", name) for name in names):
        if UNLABELED in map(int, names):
            raise CmkdError(
                f"{path} has the label {UNLABELED}: leave the cell empty for a pair without a label, or give the class "
                "another name"
            )
        names.sort(key=lambda name: (int(name), name))
    position = {name: k for k, name in enumerate(names)} | {"": UNLABELED}
    return names, [position[cell] for cell in cells]


def _paths(table: TextTable, folder: Path, name: str) -> list[Path | None]:
    paths: list[Path | None] = []
    for line, cell in zip(table.lines, table.column(name), strict=True):
        # lexically, so that links in the folder may lead anywhere
        cell = posix_path(cell, folder)
        if cell and (_DRIVE.match(cell) or os.path.isabs(cell) or os.path.normpath(cell).split(os.sep)[0] == ".."):
            raise CmkdError(f"{line}, {name}: '{cell}' leaves the folder: give a path relative to {folder}")
        paths.append(folder / cell if cell else None)
    return paths


def _check_exists(table: TextTable, files: dict[str, list[Path | None]]) -> None:
    missing = [
        (row, name, path)
        for name, paths in files.items()
        for row, path in enumerate(paths)
        if path is not None and not os.path.isfile(path)  # False also for a name that is too long
    ]
    if missing:
        lost = Counter(name for _, name, _ in missing)
        row, name, path = min(missing, key=lambda entry: entry[0])
        found = {other: sum(map(bool, paths)) - lost[other] for other, paths in files.items()}
        metadata = not found[name] and any(found.values())
        raise CmkdError(
            f"{table.lines[row]}, {name}: {path} does not exist ({len(missing)} missing in total): correct the path, "
            "or leave the cell empty where the pair lacks the modality"
            + (f"; if '{name}' is metadata, remove the suffix from its cells, or the column" if metadata else "")
        )
