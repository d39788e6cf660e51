"""Reading and checking the table of pairs, from a manifest or from folders by class, before any file is opened."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cmkd.data.manifest.folders import list_folders
from cmkd.data.manifest.readers import SUFFIXES
from cmkd.errors import CmkdError, unknown_name
from cmkd.types import UNLABELED

_KNOWN = ("id", "label", "split", "group")


@dataclass(frozen=True)
class Table:
    """A checked table of pairs."""

    path: Path  # the manifest, or the folder with folders by class
    ids: list[str]  # one per pair
    labels: list[int]  # class positions, -1 for none
    classes: list[str]  # class names, sorted, by value if all are numbers
    splits: list[str] | None  # one per pair, empty if not given; None without the column
    groups: list[str] | None  # one per pair, empty for none; None without the column
    files: dict[str, list[Path | None]]  # modality -> one file per pair, None for an empty cell

    def line(self, row: int) -> str:
        """Return the name of a row, with the header as line 1 of a CSV file."""
        if self.path.is_dir():
            return f"{self.path.name} pair '{self.ids[row]}'"
        return f"{self.path.name} line {row + 2}" if self.path.suffix == ".csv" else f"{self.path.name} row {row + 1}"


def find_manifest(folder: Path) -> Path | None:
    """Return the manifest in `folder`, or None."""
    return next((p for p in (folder / "manifest.csv", folder / "manifest.parquet") if p.is_file()), None)


def holds_pairs(folder: Path) -> bool:
    """Whether a folder has a manifest, or folders that may be modalities."""
    return find_manifest(folder) is not None or (
        folder.is_dir() and any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())
    )


def read_table(folder: Path, *, allow_missing: bool = False) -> Table:
    """Read and check the manifest in `folder`, or list its folders by class.

    Args:
        folder: with ``manifest.csv`` or ``manifest.parquet``, or as `cmkd.data.manifest.folders.list_folders` reads it.
        allow_missing: accept files that do not exist.

    Raises:
        CmkdError: names the wrong row or folder, and how to fix it.
    """
    path = find_manifest(folder)
    if not holds_pairs(folder):
        what = "has no manifest.csv or manifest.parquet" if folder.exists() else "does not exist"
        raise CmkdError(f"{folder} {what}: a manifest has the columns id, label and one per modality")
    if path is None:
        path, (header, rows) = folder, list_folders(folder)
    else:
        header, rows = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    _check_header(path, header, rows)
    column = {name: [row[k] for row in rows] for k, name in enumerate(header)}
    draft = Table(path, column["id"], [], [], column.get("split"), column.get("group"), {})
    _check_ids(draft)
    classes, labels = _labels(draft, column["label"])
    files = {name: _paths(draft, folder, name, column[name]) for name in header if name not in _KNOWN}
    if not any(any(paths) for paths in files.values()):
        raise CmkdError(f"{path} names no file: fill in the columns {', '.join(files)}")
    if not allow_missing:
        _check_exists(draft, files)
    return Table(path, draft.ids, labels, classes, draft.splits, draft.groups, files)


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except UnicodeDecodeError as error:
        raise CmkdError(f"{path} is not UTF-8 (byte {error.start}): save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise CmkdError(f"{path} cannot be read as CSV ({error}): save it again") from error
    while lines and not any(lines[-1]):
        lines.pop()
    if not lines:
        raise CmkdError(f"{path} is empty: it needs the columns id, label and one per modality")
    if len(lines[0]) == 1 and ";" in lines[0][0]:
        raise CmkdError(f"{path} is separated by semicolons: save it with commas")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]):
            raise CmkdError(f"{path.name} line {number} has {len(line)} cells where the header has {len(lines[0])}")
    return lines[0], lines[1:]


def _read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise CmkdError(f"{path} is truncated or not a Parquet file: save it again") from error
    columns = [["" if pd.isna(v) else _plain(v) for v in frame[name].tolist()] for name in frame.columns]
    return [str(name) for name in frame.columns], [list(row) for row in zip(*columns, strict=True)]


def _plain(value: object) -> str:
    # a column of whole numbers with gaps is read as floats
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _check_header(path: Path, header: list[str], rows: list[list[str]]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise CmkdError(f"{path} has two columns '{name}': rename one")
    for name in ("id", "label"):
        if name not in header:
            raise CmkdError(f"{path} has no column '{name}': its columns are {', '.join(header)}")
    if not rows:
        raise CmkdError(f"{path} is empty: it has a header and no pairs")
    modalities = [name for name in header if name not in _KNOWN]
    for name in modalities:
        cells = [row[header.index(name)] for row in rows]
        if not any(cell.lower().endswith(SUFFIXES) for cell in cells) and any(cells):
            hint = str(unknown_name("column", name, _KNOWN))
            raise CmkdError(f"{path}: {hint}; a modality's cells are paths that end in {', '.join(SUFFIXES)}")
        if not name.isidentifier():
            raise CmkdError(f"{path}: modality '{name}' must be a word of letters, digits and underscores: rename it")
    if not modalities:
        raise CmkdError(f"{path} has no column of files: add one per modality, with paths relative to {path.parent}")


def _check_ids(table: Table) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(table.ids):
        if not name:
            raise CmkdError(f"{table.line(row)} has no id: give each pair its own")
        if first.setdefault(name, row) != row:
            raise CmkdError(f"id '{name}' is in {table.line(first[name])} and {table.line(row)}: ids must be unique")


def _labels(table: Table, cells: list[str]) -> tuple[list[str], list[int]]:
    names = sorted(set(cells) - {""})
    if all(re.fullmatch(r"[+-]?\d+", name) for name in names):
        names.sort(key=lambda name: (int(name), name))
    if len(names) < 2:
        raise CmkdError(f"{table.path} has the labels {names}: a classifier needs at least two classes")
    position = {name: k for k, name in enumerate(names)} | {"": UNLABELED}
    return names, [position[cell] for cell in cells]


def _paths(table: Table, folder: Path, name: str, cells: list[str]) -> list[Path | None]:
    paths: list[Path | None] = []
    for row, cell in enumerate(cells):
        # lexically, so that links in the folder may lead anywhere
        if cell and (os.path.isabs(cell) or os.path.normpath(cell).split(os.sep)[0] == ".."):
            raise CmkdError(f"{table.line(row)}, {name}: '{cell}' leaves the folder: give a path relative to {folder}")
        paths.append(folder / cell if cell else None)
    return paths


def _check_exists(table: Table, files: dict[str, list[Path | None]]) -> None:
    missing = [
        (row, name, path)
        for name, paths in files.items()
        for row, path in enumerate(paths)
        if path is not None and not path.is_file()
    ]
    if missing:
        row, name, path = min(missing, key=lambda entry: entry[0])
        raise CmkdError(
            f"{table.line(row)}, {name}: {path} does not exist ({len(missing)} missing in all): correct the path, "
            "or leave the cell empty where the pair lacks the modality"
        )
