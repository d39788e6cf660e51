"""The reader of series in CSV and Parquet files, tables of numbers whose columns are features and rows are times."""

from __future__ import annotations

from io import SEEK_END
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.header import Decoded, FileHeader
from cmkd.data.manifest.size_limit import check_size
from cmkd.data.text_table import UNNAMED, check_separator, is_number
from cmkd.errors import CmkdError

_HEADER_BYTES = 2**16


def decode_csv(path: File, *, values: bool) -> Decoded:
    """Read a CSV file ``(time, features)`` as 64-bit floats, because its columns have no types."""
    from pyarrow import ArrowInvalid, csv

    with path.open("rb") as file:
        # a value takes at least two bytes of text, so four times the text bounds the array
        check_size(path, (file.seek(0, SEEK_END),), 4)
        file.seek(0)
        header = file.readline(_HEADER_BYTES).decode("utf-8", "replace").split(",")
        file.seek(0)
        try:
            table = csv.read_csv(file)
            _check_header(path, table.column_names)
            _check_columns(path, table.schema)
        except (ArrowInvalid, CmkdError):
            check_separator(path, header)
            raise
    check_size(path, table.shape, 8)
    array = np.stack([column.to_numpy() for column in table.columns], axis=1).astype(np.float64, copy=False)
    return _table(array, table.column_names), array if values else None


def decode_parquet(path: File, *, values: bool) -> Decoded:
    """Read a Parquet file ``(time, features)`` in a dtype that can hold all of its columns."""
    from pyarrow import parquet

    with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
        schema = file.schema_arrow
        _check_columns(path, schema)
        check_size(path, (file.metadata.num_rows, len(schema.names)), 8)
        columns = [column.to_numpy() for column in file.read().columns]
    array = np.stack(columns, axis=1).astype(np.result_type(*columns), copy=False)
    return _table(array, schema.names), array if values else None


def _table(array: NDArray[Any], names: list[str]) -> FileHeader:
    return FileHeader("series", array.shape, array.dtype.name, names=tuple(name.strip() for name in names))


def _check_header(path: File, names: list[str]) -> None:
    """Refuse a first line of numbers, because it would be lost as column names.

    The numbers 0, 1, 2 and so on are accepted: pandas writes them for columns without names.
    """
    pandas = len(names) > 1 and names == [str(place) for place in range(len(names))]
    if names and not pandas and all(map(is_number, names)):
        raise CmkdError(
            f"{path} holds numbers in its first line, which is read as the names of the columns: add a line above it, "
            "such as x,y,z; or if these are names, put a letter before each"
        )


def _check_columns(path: File, schema: Any) -> None:  # noqa: ANN401  # pyarrow has no types
    from pyarrow import types

    if not schema.names:
        raise CmkdError(f"{path} has no columns: a series needs one column per feature")
    for place, (name, kind) in enumerate(zip(schema.names, schema.types, strict=True), 1):
        if not name.strip() or UNNAMED.fullmatch(name):
            raise CmkdError(
                f"{path}: column {place} has no name, where pandas writes the numbers of the rows: save the table with "
                "index=False, or name the column"
            )
        if not (types.is_integer(kind) or types.is_floating(kind)):
            raise CmkdError(f"{path}: column '{name}' holds {kind}, not numbers: leave it out")
