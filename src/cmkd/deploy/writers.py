"""Write tables of predictions batch by batch as CSV, Parquet or JSON lines; a file appears only when it is complete."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cmkd.data.text_table import PrintedCells
from cmkd.errors import CmkdError
from cmkd.io import CHUNK_BYTES, atomic

if TYPE_CHECKING:
    import pyarrow

Write = Callable[[Mapping[str, Sequence[Any]]], None]
"""Function that appends rows, given as columns; every call must have the same column names."""
FORMATS = (".csv", ".parquet", ".jsonl")


def check_format(out: Path | None) -> None:
    """Raise `CmkdError` if the suffix of a file is not in `FORMATS`; None stands for CSV on standard output."""
    if out is not None and out.suffix.lower() not in FORMATS:
        raise CmkdError(f"'{out}' has an unsupported file type; supported: {', '.join(FORMATS)}, and .tif with --tile")


@contextmanager
def table(out: Path | None) -> Iterator[Write]:
    """Yield a function that appends rows to a table, which appears at `out` when the block succeeds.

    In CSV, numbers have six significant digits, and a text that a spreadsheet would run as a formula gets an apostrophe
    before it. This gives a warning, because a changed id no longer joins with other tables. Parquet and JSON lines keep
    every text unchanged.

    Args:
        out: file to write, with one of the suffixes in `FORMATS`; None writes CSV to standard output.

    Example:
        >>> with table(None) as write:
        ...     write({"input": ["ship", "-1"], "probability": [0.123456789, 1.0]})
        input,probability
        ship,0.123457
        -1,1
    """
    check_format(out)
    cells = PrintedCells()
    if out is None:
        yield _csv(sys.stdout, cells)
        cells.warn("the table", "--out with .parquet or .jsonl keeps them")
        return
    with atomic(out) as temporary:
        if out.suffix.lower() == ".parquet":
            # opened, since pyarrow takes a path such as runs:1/table.parquet for a URI
            with temporary.open("wb") as binary, _parquet(binary) as write:
                yield write
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield _csv(file, cells) if out.suffix.lower() == ".csv" else _json_lines(file)
    cells.warn(out, "--out with .parquet or .jsonl keeps them")


def _csv(file: IO[str], cells: PrintedCells) -> Write:
    rows, begun = csv.writer(file, lineterminator="\n"), False

    def write(columns: Mapping[str, Sequence[Any]]) -> None:
        nonlocal begun
        if not begun:
            rows.writerow([cells.safe(name) for name in columns])
            begun = True
        rows.writerows([_cell(value, cells) for value in row] for row in zip(*columns.values(), strict=True))

    return write


def _cell(value: object, cells: PrintedCells) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return cells.safe(value) if isinstance(value, str) else value


def _json_lines(file: IO[str]) -> Write:
    def write(columns: Mapping[str, Sequence[Any]]) -> None:
        for row in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")

    return write


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Write]:
    """Collect rows into large row groups: many small groups are slow to read, and each one adds to the footer."""
    import pyarrow
    from pyarrow import parquet

    waiting: list[pyarrow.Table] = []
    writer: parquet.ParquetWriter | None = None

    def flush() -> None:
        nonlocal writer
        if waiting:
            writer = writer or parquet.ParquetWriter(file, waiting[0].schema)
            writer.write_table(pyarrow.concat_tables(waiting).combine_chunks())
            waiting.clear()

    def write(columns: Mapping[str, Sequence[Any]]) -> None:
        made = pyarrow.table(dict(columns))
        if waiting and not waiting[0].num_rows:  # columns without values have no types either
            waiting.clear()
        if made.num_rows or not (waiting or writer):
            waiting.append(made)
        if sum(part.nbytes for part in waiting) > CHUNK_BYTES:
            flush()

    try:
        yield write
        flush()
    finally:
        if writer is not None:
            writer.close()
