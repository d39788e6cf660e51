"""Find the samples of `cmkd predict` in files, folders, globs, manifests, packs and lists of paths, as one stream."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cmkd.data.manifest.readers import SUFFIXES, TABLES
from cmkd.data.manifest.reading import SIDECAR, Reading, read_sidecar
from cmkd.data.manifest.table import find_manifest
from cmkd.data.remote.streamed import StreamedArray
from cmkd.data.text_table import csv_rows, plain_text, posix_path
from cmkd.errors import CmkdError, no_column
from cmkd.io import expanded, parquet_file
from cmkd.types import Modality

STDIN = "-"
"""The input that stands for a list of paths on standard input, one per line."""


@dataclass(frozen=True)
class Item:
    """One sample to predict.

    Args:
        input: path of the sample, or of the pack that holds it, as the user wrote it.
        source: the file, or a function that returns the values; None for an input that cannot be found.
        id: id of the sample in its manifest or pack.
        reason: reason why there is no source.
        reading: how to read a file, if a ``manifest.yaml`` beside a manifest or in a folder states it; for a pack, it
            states that the values are already masked.
    """

    input: str
    source: Path | Callable[[], NDArray[Any]] | None
    id: str | None = None
    reason: str = ""
    reading: Reading | None = None


@dataclass(frozen=True)
class _Search:
    modality: Modality
    stated: Callable[[Path], Reading | None]  # `stated_of` a folder
    opened: Callable[[Path], object]


def find(
    inputs: Sequence[str], modality: Modality, *, opened: Callable[[Path], object] = lambda path: None
) -> Iterator[Item]:
    """Yield the samples of a modality, one at a time and in a fixed order, without reading them.

    Args:
        inputs: each is a file; a folder, searched with its subfolders for files of supported types (hidden files are
            skipped; beside a subfolder with the modality's name, nothing else is searched); a glob; a manifest (CSV or
            Parquet), or a folder with one; a pack; or `STDIN`. Rows of a manifest or a pack that lack the modality are
            left out. A ``manifest.yaml`` applies to a manifest beside it, to its folder and the files in it as inputs,
            and to everything below a subfolder with the modality's name.
        modality: modality of the samples; its name selects the column of a manifest and the array of a pack.
        opened: called with each path that is a sample, or is read to find samples, before its items are yielded.

    Yields:
        Each sample, and an item without a source for each input that cannot be found or opened.
    """
    search = _Search(modality, cache(partial(stated_of, modality=modality)), opened)
    for text in inputs:
        if text == STDIN:
            opened(Path("/dev/stdin"))  # it may be redirected from a file
            for line in sys.stdin.buffer:
                if name := os.fsdecode(line.rstrip(b"\r\n")):
                    yield _file(Path(name), search)
            continue
        if not text:
            yield Item(text, None, reason="an input is empty: give a path, or . for the current folder")
            continue
        try:
            yield from _of_one(text, search)
        except (CmkdError, OSError) as error:
            yield Item(text, None, reason=_said(text, error))


def _of_one(text: str, search: _Search) -> Iterator[Item]:
    path = expanded(text)
    if os.path.lexists(path) or not glob.has_magic(text):
        yield from _of_path(path, search)
        return
    matches = sorted(glob.glob(os.path.expanduser(text), recursive=True))
    if not matches:
        raise CmkdError(f"no file matches '{text}'")
    for match in matches:
        yield from _of_path(Path(match), search)


def _of_path(path: Path, search: _Search) -> Iterator[Item]:
    search.opened(path)
    if path.is_dir():
        yield from _of_folder(path, search)
    elif path.suffix.lower() in TABLES and path.is_file():
        yield from _of_table(path, search)
    else:
        yield _file(path, search)


def _file(path: Path, search: _Search) -> Item:
    search.opened(path)
    if not os.path.lexists(path):
        return Item(str(path), None, reason=f"{path} does not exist")
    try:
        return Item(str(path), path, reading=search.stated(path.parent))
    except (CmkdError, OSError) as error:
        return Item(str(path), None, reason=_said(path, error))


def _of_folder(folder: Path, search: _Search) -> Iterator[Item]:
    manifest, modality = find_manifest(folder), search.modality
    if (folder / "card.json").is_file():
        yield from _of_pack(folder, search)
    elif manifest is not None:
        yield from _of_manifest(manifest, search)
    else:
        reading = search.stated(folder)
        own = "" if folder.resolve().name == modality.name else modality.name
        for item in _walk(folder, _suffixes(modality), (), own):
            search.opened(Path(item.input))
            yield replace(item, reading=reading)


def stated_of(folder: Path, modality: Modality) -> Reading | None:
    """Return what ``manifest.yaml`` states about the modality for the files of a folder; None if nothing is stated.

    The folder's own ``manifest.yaml`` comes first, then the nearest one beside a folder with the modality's name: this
    folder or one above it.

    Raises:
        CmkdError: if a ``manifest.yaml`` cannot be read, or states another kind or unit.
    """
    whole = folder.resolve()
    named = (above.parent for above in (whole, *whole.parents) if above.name == modality.name)
    for place in (folder, *named):
        said = read_sidecar(place).get(modality.name)
        if said is not None:
            modality.check_stated(place / SIDECAR, "for the student", kind=said.kind, unit=said.unit)
            return said
    return None


def _suffixes(modality: Modality) -> tuple[str, ...]:
    """Return the suffixes of the files that a folder search looks for; tables beside images only describe them."""
    tables = modality.kind in ("series", "points")
    return tuple(suffix for suffix in SUFFIXES if tables or suffix not in TABLES)


def _walk(folder: Path, suffixes: tuple[str, ...], above: tuple[tuple[int, int], ...], own: str) -> Iterator[Item]:
    """Yield the files below a folder; links to folders are followed, except in cycles.

    Where there is a folder with the name `own`, only this one is searched: what is beside it has other modalities.
    """
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        yield Item(str(folder), None, reason=_said(folder, error))
        return
    if here in above:
        return
    if not names and above and folder.suffix.lower() in suffixes:
        yield Item(str(folder), None, reason=f"{folder} is an empty folder, not a file")
    if own in names and (folder / own).is_dir():
        names, own = [own], ""  # below it, a class may have the same name
    for name in names:
        path = folder / name
        if path.is_dir():
            yield from _walk(path, suffixes, (*above, here), own)
        elif path.suffix.lower() in suffixes:
            yield Item(str(path), path)


def _of_table(path: Path, search: _Search) -> Iterator[Item]:
    """Yield the rows of a manifest, or the file itself as one sample if it is a table of numbers."""
    modality = search.modality
    if modality.name in _header(path) and not _is_recording(path, modality):
        yield from _of_manifest(path, search)
    elif path.suffix.lower() in _suffixes(modality):
        yield _file(path, search)
    else:
        raise no_column(path, modality.name, _header(path))


def _is_recording(path: Path, modality: Modality) -> bool:
    """Return whether the column with the modality's name holds numbers, unlike a manifest, where it names files."""
    if path.suffix.lower() not in _suffixes(modality):
        return False
    first = next((cell for (cell,) in _cells(path, [modality.name]) if cell), "")
    try:
        float(first)
    except ValueError:
        return False
    return True


def _header(path: Path) -> list[str]:
    if path.suffix.lower() == ".csv":
        return next(csv_rows(path, "a header", errors="surrogateescape"))[0]
    from pyarrow import ArrowException

    try:
        with parquet_file(path) as file:
            return list(file.schema_arrow.names)
    except ArrowException as error:
        raise CmkdError(f"{path} is truncated or not a Parquet file: replace it") from error


def _of_manifest(path: Path, search: _Search) -> Iterator[Item]:
    search.opened(path)
    header, modality = _header(path), search.modality
    if modality.name not in header:
        raise no_column(path, modality.name, header)
    reading = search.stated(path.parent)
    search = replace(search, stated=lambda folder: reading)  # also for files in other folders
    columns = [modality.name, "id"] if "id" in header else [modality.name]
    for row in _cells(path, columns):
        if row[0]:
            found = _file(path.parent / posix_path(row[0], path.parent), search)
            yield replace(found, id=row[1] if len(row) > 1 else None)


def _cells(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the cells of the given columns of a table, one row at a time."""
    return _csv_rows(path, columns) if path.suffix.lower() == ".csv" else _parquet_rows(path, columns)


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    lines = csv_rows(path, "a header", errors="surrogateescape")  # paths may be any bytes
    header, _ = next(lines)
    places = [header.index(name) for name in columns]
    for row, _ in lines:
        yield [row[place] for place in places]


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    from pyarrow import ArrowException

    try:
        with parquet_file(path) as file:
            for batch in file.iter_batches(batch_size=4096, columns=list(columns)):
                values = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    yield [plain_text(value) for value in row]
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise CmkdError(f"{path} is truncated or not a Parquet file: replace it") from error


def _of_pack(folder: Path, search: _Search) -> Iterator[Item]:
    from cmkd.data.pack.pack import Pack

    pack, modality = Pack.open(folder), search.modality
    search.opened(folder / pack.card.index_file)
    there = pack.modality(modality.name)
    if (there.kind, there.channels, there.dtype) != (modality.kind, modality.channels, modality.dtype):
        raise CmkdError(
            f"'{modality.name}' of {folder} is {there.kind} {there.shape} {there.dtype}, but the student's is "
            f"{modality.kind} {modality.shape} {modality.dtype}: give the pack it was trained on, or one like it"
        )
    modality.check_measured(there, folder, "for the student")
    array, ids, present = pack.array(modality.name), pack.index["id"], pack.index[f"has_{modality.name}"]
    masked = Reading(nodata="none")
    for row in range(len(pack)):
        if present.iat[row]:
            yield Item(str(folder), partial(_sample, there, array, row), str(ids.iat[row]), reading=masked)


def _sample(modality: Modality, array: NDArray[Any] | StreamedArray, row: int) -> NDArray[Any]:
    return modality.masked(array[row])


def _said(where: object, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{where} cannot be opened ({error.strerror or error})"
    return str(error)
