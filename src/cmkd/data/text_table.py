"""CSV and Parquet files read as tables of text; used for manifests and for lists of captures."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd.errors import CmkdError, CmkdWarning, has_control, not_let
from cmkd.io import parquet_file

OWN_COLUMNS = ("id", "label", "split", "group")
"""Columns of a manifest that cannot name a modality."""
WHOLE = r"^(-?\d+)\.0*$"
"""Pattern of whole numbers as pandas saves them in a column with empty cells: 70.0, -1.0."""
_FORMULA = re.compile(r"[=+\-@\t\r\n\0\uff1d\uff0b\uff0d\uff20]")  # first characters listed by OWASP: CSV Injection
_SEPARATOR_LINE = re.compile(r"sep=.?", re.IGNORECASE)  # a spreadsheet's first line
UNNAMED = re.compile(r"__index_level_\d+__")
"""Name that pandas gives an unnamed index in a Parquet file."""


@dataclass(frozen=True)
class TextTable:
    """Table of text cells without surrounding spaces; a missing value is an empty cell."""

    path: Path  # the file, or the folder that was listed
    header: list[str]  # names of the columns, without repeats
    rows: list[list[str]]  # a cell per column
    lines: list[str]  # name of every row in messages, such as ``manifest.csv line 3``

    def column(self, name: str) -> list[str]:
        """Return the cells of a column; all are empty if there is no such column."""
        if name not in self.header:
            return [""] * len(self.rows)
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def read_text_table(path: Path, needs: str) -> TextTable:
    r"""Read a CSV or Parquet file.

    Every cell is kept as it stands: ``None``, ``NA`` and ``null`` are text, and 007 keeps its zeros. Blank lines, byte
    order marks, a line ``sep=,``, and columns and cells of a CSV file with neither name nor content are skipped. In
    Parquet, missing values and NaN are empty, whole floats lose their fraction, and dates are written in ISO 8601.

    Args:
        path: the file, read as Parquet if its suffix is ``.parquet``, otherwise as CSV.
        needs: description of the required columns, for error messages.

    Raises:
        CmkdError: the file cannot be read, is empty or ragged, or a column holds lists or bytes; the message names it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "list.csv"
        >>> _ = path.write_text("id,label\n007,NA\n\n008,\n")
        >>> table = read_text_table(path, "the columns id and label")
        >>> table.rows, table.lines
        ([['007', 'NA'], ['008', '']], ['list.csv line 2', 'list.csv line 4'])
    """
    header, rows, lines = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, needs)
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        raise CmkdError(f"{path} has two columns '{repeated}': rename one")
    if not rows:
        raise CmkdError(f"{path} is empty: it has a header and no rows; it needs {needs}")
    return TextTable(path, header, rows, lines)


def check_names(table: TextTable, columns: Sequence[str]) -> None:
    """Refuse names with characters that would break messages and reports.

    Raises:
        CmkdError: a cell of `columns` holds a line break, a control character or invalid UTF-8; the message names it.
    """
    for name in columns:
        for line, cell in zip(table.lines, table.column(name), strict=True):
            if has_control(cell):
                raise CmkdError(f"{line}: {name} '{cell}' holds a line break or unprintable characters: rename it")


def posix_path(cell: str, folder: Path) -> str:
    r"""Return a path with slashes instead of backslashes, unless the unchanged path is a file in `folder`.

    Example:
        >>> posix_path("o\\1.png", Path("nowhere"))
        'o/1.png'
    """
    return cell if "\\" not in cell or os.path.isfile(folder / cell) else cell.replace("\\", "/")


def whole(cell: str) -> str:
    """Return a whole number without its zero fraction; any other text is returned unchanged.

    Example:
        >>> [whole(cell) for cell in ("219000001.0", "7.", "007", "1.50", "v1.0")]
        ['219000001', '7', '007', '1.50', 'v1.0']
    """
    return re.sub(WHOLE, r"\1", cell)


class PrintedCells:
    """Cells of a CSV file that people open: a text that a spreadsheet would run as a formula gets an apostrophe.

    Numbers are unchanged, also negative ones. Files that are read back, such as manifests, do not use this class.

    Example:
        >>> cells = PrintedCells()
        >>> [cells.safe(text) for text in ("=1+1", "-3", "-3e2", "a-b", "-a")], cells.changed
        (["'=1+1", '-3', '-3e2', 'a-b', "'-a"], 2)
    """

    def __init__(self) -> None:
        self.changed = 0

    def safe(self, text: str) -> str:
        """Return a text in the form that is safe to write, and count it if it was changed."""
        if not _FORMULA.match(text) or is_number(text):
            return text
        self.changed += 1
        return f"'{text}"

    def warn(self, where: object, exact: str) -> None:
        """Warn if texts were changed.

        Args:
            where: name of the file, for the message.
            exact: clause on where the texts are unchanged, such as ``manifest.csv has them``.
        """
        if self.changed:
            warnings.warn(
                f"{where}: {self.changed} cells that a spreadsheet would run as formulas now begin with an apostrophe; "
                f"{exact} unchanged",
                CmkdWarning,
                stacklevel=3,
            )


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def csv_rows(path: Path, needs: str, *, errors: str = "strict") -> Iterator[tuple[list[str], str]]:
    """Yield the header and then the rows of a CSV file, each with its name for messages, in constant memory.

    Args:
        path: the file.
        needs: description of the required columns, for error messages.
        errors: handling of invalid UTF-8, as in `open`.

    Raises:
        CmkdError: for the same reasons as `read_text_table`, once the invalid line is reached.
    """
    header: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="", errors=errors) as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                row, line = [cell.strip() for cell in cells], f"{path.name} line {reader.line_num}"
                if not any(row) or (not header and _SEPARATOR_LINE.fullmatch(row[0])):
                    continue
                if any("\0" in cell for cell in row):
                    raise CmkdError(f"{line} holds zero bytes, as UTF-16 has: save it as CSV UTF-8")
                if not header:
                    header = row = [name.strip("\ufeff\u200b") for name in row]  # second BOM, zero-width space
                    check_separator(path, header)
                while len(row) > len(header) and not row[-1]:  # a comma too many
                    row.pop()
                if len(row) != len(header):
                    hint = "a cell with a comma in it needs quotation marks"
                    raise CmkdError(f"{line} has {len(row)} cells, but the header has {len(header)}; {hint}")
                yield row, line
    except FileNotFoundError:
        raise CmkdError(f"{path} does not exist: give a CSV or Parquet file with {needs}") from None
    except IsADirectoryError:
        raise CmkdError(f"{path} is a folder: give a CSV or Parquet file with {needs}") from None
    except UnicodeDecodeError as error:
        raise CmkdError(f"{path} is not UTF-8 (byte {error.start}): save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        damaged = CmkdError(f"{path} cannot be read as CSV ({error}): save it again")
        raise (not_let(path, error) or damaged) from error
    if not header:
        raise CmkdError(f"{path} is empty: it needs {needs}")


def check_separator(path: object, header: Sequence[str]) -> None:
    """Raise `CmkdError` if a header was read as one column because its separator is not a comma."""
    for mark, name in {";": "semicolons", "\t": "tabs", "|": "bars"}.items():
        if len(header) == 1 and mark in header[0]:
            raise CmkdError(f"{path} is separated by {name}: save it with commas")


def _read_csv(path: Path, needs: str) -> tuple[list[str], list[list[str]], list[str]]:
    rows, lines = map(list, zip(*csv_rows(path, needs), strict=True))
    # a spreadsheet saves an emptied column as one without name and content
    kept = [k for k, name in enumerate(rows[0]) if name or any(row[k] for row in rows)]
    header, *rest = ([row[k] for k in kept] for row in rows)
    return header, rest, lines[1:]


def _read_parquet(path: Path) -> tuple[list[str], list[list[str]], list[str]]:
    import pyarrow as pa

    try:
        with parquet_file(path) as file:
            _check_types(path, file.schema_arrow)
            table = file.read()
        columns = {
            str(name): [plain_text(value) for value in column.to_pylist()]
            for name, column in zip(table.column_names, table.columns, strict=True)
            if not UNNAMED.fullmatch(str(name))
        }
    except FileNotFoundError:
        raise CmkdError(f"{path} does not exist") from None
    except CmkdError:
        raise
    except OverflowError as error:
        raise CmkdError(f"{path} has times outside of the years 1 to 9999: correct them") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        damaged = CmkdError(f"{path} is truncated or not a Parquet file: save it again")
        raise (not_let(path, error) or damaged) from error
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return list(columns), rows, [f"{path.name} row {row + 1}" for row in range(len(rows))]


def _check_types(path: Path, schema: Any) -> None:  # noqa: ANN401  # a pyarrow.Schema, which has no types
    import pyarrow as pa

    names: Sequence[str] = schema.names
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise CmkdError(f"{path} has two columns '{repeated}': rename one")
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise CmkdError(
                f"{path}: column '{field.name}' holds {field.type}, not text or numbers: remove it, or save one value "
                "per cell"
            )


def plain_text(value: Any) -> str:  # noqa: ANN401  # whatever a cell holds
    """Return a value as the text of a table cell; empty for a missing value.

    Example:
        >>> [plain_text(value) for value in ("imo7", 3.0, 0, None, float("nan"))]
        ['imo7', '3', '0', '', '']
    """
    import pandas as pd

    if pd.isna(value) is True:  # None, NaN, NaT, NA; an array gives an array
        return ""
    if isinstance(value, float) and value.is_integer():  # pandas stores whole numbers with gaps as floats
        return str(int(value))
    iso = getattr(value, "isoformat", None)
    return str(iso() if iso is not None else value).strip()
