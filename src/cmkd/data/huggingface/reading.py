"""Import of packs from a data set of the hub that was downloaded to a folder."""

from __future__ import annotations

import heapq
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cmkd.data.huggingface.columns import from_arrow, picture
from cmkd.data.huggingface.writing import DESCRIPTION
from cmkd.data.pack.card import SPLITS, CardInfo, upgraded
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter, refuse_existing
from cmkd.data.split import ALIASES, assign_splits
from cmkd.data.text_table import plain_text
from cmkd.documents import read_json, record
from cmkd.errors import CmkdError, CmkdWarning, not_let
from cmkd.io import parquet_file
from cmkd.progress import Progress, adding, silent
from cmkd.types import UNLABELED, Modality

AGAIN = "export the pack again, or remove the file"
"""Advice in messages about a damaged description."""
_Row = dict[str, pa.Scalar]
_ABSENT = pa.scalar(None)


@dataclass(frozen=True)
class _Format:
    """Schema of the format number in a description."""

    format: int


@dataclass(frozen=True, kw_only=True)
class _Described:
    """Schema of the entries of a description that are not in `CardInfo`."""

    classes: tuple[str, ...]
    split: Mapping[str, Any]
    notes: str
    modalities: Mapping[str, Mapping[str, Any]]
    metadata: tuple[str, ...] = ()


def import_folder(folder: Path | str, out: Path | str, *, progress: Progress = silent) -> Pack:
    """Make a pack from a folder of Parquet files in the hub's layout.

    A folder written by `export_pack` gives the same pack, byte for byte, except for its history. In any other data set,
    columns of embedded pictures (all of one size and type) become modalities, ``label`` must be a class label, and
    ``id`` and ``group`` are optional; a file's name begins with its split, and a split without files is drawn from
    train. The first train file determines the columns; if another file has no label column or lacks the column of a
    modality, its pairs have no label or lack the modality.

    Args:
        folder: folder with ``*.parquet`` files, either in it or in its subfolder ``data``.
        out: folder of the pack to make; it appears whole or not at all.
        progress: callback, called as pairs are read.

    Raises:
        CmkdError: data are missing or inconsistent, such as a group in two splits.
    """
    home, destination = Path(folder), Path(out)
    refuse_existing(destination)
    files = _files(home)
    about = _about(home, files)
    described = (home / DESCRIPTION).is_file()
    what, fix = (f"'{home / DESCRIPTION}'", AGAIN) if described else (f"'{files['train'][0]}'", "rename the columns")
    said = record(_Described, about, what, fix=fix)
    info = record(CardInfo, about, what, fix=fix)
    entries = [{**entry, "name": name} for name, entry in said.modalities.items()]
    modalities = [record(Modality, entry, what, fix=fix) for entry in entries]
    count = sum(_check_columns(path, said, described) for path in chain.from_iterable(files.values()))
    # files of all splits are merged by position, so that the pairs keep their order
    streams = [_rows(paths, split, described) for split, paths in files.items()]
    rows = heapq.merge(*streams, key=lambda row: row[0])
    classes, notes = said.classes, said.notes
    read = adding(progress, count)
    splits, split = (None, said.split) if described else _splits(files)
    with PackWriter(destination, info, classes=classes, modalities=modalities, split=split, notes=notes) as writer:
        while chunk := list(islice(rows, writer.pairs_per_chunk)):
            _add(writer, chunk, modalities, said.metadata, splits)
            read(len(chunk))
    return Pack.open(destination)


def _splits(files: Mapping[str, list[Path]]) -> tuple[Iterator[str], dict[str, Any]]:
    """Return the split of each row of a data set that cmkd did not export, and the record of how it was made."""
    given, labels, groups = list[str](), list[int](), list[str]()
    for split in (split for split in SPLITS if split in files):
        for _, row in _rows(files[split], split, described=False, only=("label", "group")):
            given.append(split)
            labels.append(_label(row))
            groups.append(_group(row))
    splits, made = assign_splits(labels, groups if any(groups) else None, given)
    return iter(splits), made


def _label(row: _Row) -> int:
    value = row.get("label", _ABSENT).as_py()
    return UNLABELED if value is None else int(value)


def _group(row: _Row) -> str:
    return plain_text(row["group"].as_py()) if "group" in row else ""


def _files(home: Path) -> dict[str, list[Path]]:
    """Return the sorted Parquet files of each split."""
    found: dict[str, list[Path]] = {}
    parts = dict[tuple[str, int], set[int]]()
    for path in sorted([*home.glob("*.parquet"), *home.glob("data/*.parquet")]):
        start = re.match(r"[a-z]+", path.name.lower())
        split = ALIASES.get(start[0], start[0]) if start else ""
        if split not in SPLITS:
            raise CmkdError(f"{path} has no split: its name must begin with {', '.join(SPLITS)}")
        found.setdefault(split, []).append(path)
        if part := re.search(r"-(\d+)-of-(\d+)", path.stem):
            parts.setdefault((path.name[: part.start()], int(part[2])), set()).add(int(part[1]))
    for (name, count), there in parts.items():
        if missing := sorted(set(range(count)) - there):
            raise CmkdError(f"{home} lacks part {missing[0]} of {count} of {name}: download the data set again")
    if not found:
        raise CmkdError(f"{home} has no Parquet files: give the folder of a data set in the hub's layout")
    if "train" not in found:
        raise CmkdError(f"{home} has no train split: rename its files to train-*.parquet")
    return found


def _about(home: Path, files: Mapping[str, list[Path]]) -> dict[str, Any]:
    """Return the data set's description, from ``cmkd.json`` or else from the schema and first rows."""
    path = home / DESCRIPTION
    if path.is_file():
        about = read_json(path, fix=AGAIN)
        return upgraded(about, record(_Format, about, f"'{path}'", fix=AGAIN).format, path)
    first = files["train"][0]
    with _open(first) as file:
        schema = file.schema_arrow
    label = _features(schema).get("label")
    if not isinstance(label, dict) or not isinstance(label.get("names"), list) or "label" not in schema.names:
        raise CmkdError(f"{first} has no column 'label' of class labels: add one with the names of the classes")
    pictures = [field.name for field in schema if _is_picture(field.type)]
    if not pictures:
        raise CmkdError(f"{first} has no column of embedded pictures; its columns are {', '.join(schema.names)}")
    left = [f"{field.name} ({field.type})" for field in schema if field.name not in pictures and _is_nested(field.type)]
    if left:
        warnings.warn(
            f"{first}: columns are left out that are no embedded pictures: {', '.join(left)}; build a pack from files "
            "(cmkd data build) to have them",
            CmkdWarning,
            stacklevel=3,
        )
    found: dict[str, Any] = {}
    for _, row in _rows(files["train"], "train", described=False):
        for name in pictures:
            if name not in found and name in row and row[name].is_valid:
                array = picture(row[name].as_py()["bytes"], f"{first}, {name}")
                nodata = "nan" if array.dtype.kind == "f" else None
                found[name] = {"kind": "image", "shape": array.shape, "dtype": array.dtype.name, "nodata": nodata}
        if len(found) == len(pictures):
            break
    told = {"classes": label["names"], "modalities": found, "split": {}, "notes": ""}
    return {"name": home.resolve().name} | told


def _is_picture(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _is_nested(kind: pa.DataType) -> bool:
    """Whether a column may hold samples of a sensor, like `Array2D` and sequences."""
    return bool(pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType))


def _check_columns(path: Path, said: _Described, described: bool) -> int:
    """Return a file's number of rows, and raise `CmkdError` unless its columns match the description.

    If cmkd did not export the data set, the label and the pictures may be absent.
    """
    with _open(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
    if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
        raise CmkdError(f"{path} has two columns '{twice}': keep one of them")
    for name in ("label", *said.metadata, *said.modalities):
        if name not in schema.names:
            if described:
                raise CmkdError(f"{path} has no column '{name}', which {DESCRIPTION} lists: export the data set again")
            continue
        kind = schema.field(name).type
        if name == "label" and not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise CmkdError(f"{path}: column 'label' holds {kind}, not class labels: give the positions of the classes")
        if name in said.modalities and not described and not _is_picture(kind):
            raise CmkdError(f"{path}: column '{name}' holds {kind}, not embedded pictures as in the train split")
    label = _features(schema).get("label")
    names = label.get("names") if isinstance(label, dict) else None
    if names not in (None, list(said.classes)):
        raise CmkdError(f"{path} names other classes than the rest: give all files the same class labels in one order")
    return int(count)


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with parquet_file(path) as file:
            yield file
    except CmkdError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        damaged = CmkdError(f"{path} is truncated or not a Parquet file: download it again")
        raise (not_let(path, error) or damaged) from error


def _rows(
    paths: list[Path], split: str, described: bool, only: Sequence[str] | None = None
) -> Iterator[tuple[tuple[int, int], _Row]]:
    """Yield the rows of a split with their rank: the position in an exported pack, else the split and the row in it.

    Args:
        paths: files of the split.
        split: name of the split.
        described: whether cmkd exported the files.
        only: columns to read; by default all.
    """
    count = 0
    for path in paths:
        with _open(path) as file:
            for batch in _batches(file, path, only):
                columns = {name: batch.column(name) for name in batch.schema.names}
                for row in range(batch.num_rows):
                    cells = {name: column[row] for name, column in columns.items()} | {"split": pa.scalar(split)}
                    own = described and "position" in cells
                    rank = (_position(cells, path), 0) if own else (SPLITS.index(split), count)
                    count += 1
                    cells.setdefault("id", pa.scalar(f"{split}-{count:06d}"))
                    yield rank, cells


def _position(row: _Row, path: Path) -> int:
    found = row["position"].as_py()
    if not isinstance(found, int):
        raise CmkdError(f"{path}: column 'position' holds {found!r}, which is no row number: export the data set again")
    return found


def _batches(file: pq.ParquetFile, path: Path, only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(batch_size=256, columns=only):
            batch.validate(full=True)  # finds, for example, text that is not UTF-8
            yield batch
    except (OSError, ValueError, pa.ArrowException) as error:
        damaged = CmkdError(f"{path} is damaged ({str(error).splitlines()[0][:100]}): download it again")
        raise (not_let(path, error) or damaged) from error


def _add(
    writer: PackWriter,
    chunk: list[tuple[tuple[int, int], _Row]],
    modalities: list[Modality],
    extra: Sequence[str],
    splits: Iterator[str] | None,
) -> None:
    rows = [row for _, row in chunk]
    ids = [str(row["id"].as_py()) for row in rows]
    samples = {
        m.name: [
            from_arrow(m, row[m.name], f"{m.name} of {name}") if row.get(m.name, _ABSENT).is_valid else None
            for row, name in zip(rows, ids, strict=True)
        ]
        for m in modalities
    }
    metadata = {name: [plain_text(row[name].as_py()) for row in rows] for name in extra}
    of = [row["split"].as_py() for row in rows] if splits is None else list(islice(splits, len(rows)))
    writer.add_samples(ids, list(map(_label, rows)), of, list(map(_group, rows)), samples, metadata)
