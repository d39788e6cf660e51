"""Opening of the data that a user names after ``--data``: a pack, a data set's name, or a folder of pairs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmkd.data.manifest.build import build
from cmkd.data.manifest.reading import Reading, stated
from cmkd.data.manifest.table import Table, holds_pairs, read_table
from cmkd.data.pack.card import FORMAT
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackExistsError, refuse_existing
from cmkd.data.remote.store import is_address
from cmkd.datasets.base import DATASETS, DataSet
from cmkd.datasets.formats.fetch import fetch
from cmkd.errors import CmkdError, unknown_name
from cmkd.expression import Call, parse_call
from cmkd.io import cache_folder, checksum, expanded, files_below, temporary_sibling, writable_cache
from cmkd.options import check
from cmkd.progress import Progress
from cmkd.registry import is_reference

FETCHED = "sources"
"""Subfolder of the cache for downloaded published files, with one folder per data set."""
PREPARATION = 2
"""Increase when all packs must be prepared again; older cached packs are then ignored."""


def open_data(
    reference: str | Path,
    *,
    version: int | None = None,
    seed: int = 0,
    readings: Mapping[str, Reading] | None = None,
    co_registered: Sequence[Sequence[str]] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> Pack:
    """Open paired data; prepare it first if needed.

    A prepared pack is kept in the cache (``CMKD_CACHE``, else the user's cache folder) under a key of everything it
    depends on: the data set's options or the manifest and its files, and the format. Files are identified by size and
    time, or by content if ``CMKD_CACHE_KEY`` is ``content``.

    Args:
        reference: one of: the folder of a pack, with ``@N`` for its version N; the address of a pushed pack, such as
            ``s3://bucket/ships``; a folder with ``manifest.csv`` or ``manifest.parquet``, or with folders by class; a
            data set's name, such as ``digits`` or ``digits(severity=0.3)``, followed by a colon and the path of its
            files if it needs them: ``mars:downloads/mars``; by default the path is ``$CMKD_DATA/<name>``. A bare name
            is a data set; write ``./digits`` for a folder.
        version: version of a pack; by default the latest.
        seed: random seed of the splits that are not given. This and the following arguments apply to a folder of files;
            see `cmkd.data.manifest.build.build`.
        readings: modality -> how to read its files.
        co_registered: groups of image modalities that share a pixel grid.
        workers: number of threads that read files.
        progress: callback, called as pairs are written.

    Raises:
        CmkdError: the data do not exist (the message suggests the nearest valid name) or cannot be prepared.

    Example:
        >>> open_data("digits(severty=0.3)")
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: unknown option of digits 'severty': did you mean 'severity'? Known: seed, severity
    """
    text = str(reference)
    if not text:
        raise CmkdError("the name of the data is empty; for the current folder, give .")
    place, number = split_version(text)
    if number is not None and version is None and (is_address(place) or (expanded(place) / "card.json").is_file()):
        return Pack.open(place, number)
    if is_address(text):
        return Pack.open(text, version)
    named = _named(text)
    if named is not None:
        call, source = named
        return prepare(call, source, progress=progress)
    folder = expanded(text)
    if (folder / "card.json").is_file():
        return Pack.open(folder, version)
    if holds_pairs(folder):
        table = read_table(folder)
        said = stated(folder, table.files, readings)
        options: dict[str, Any] = {"seed": seed, "co_registered": [list(group) for group in co_registered]}
        identity = {
            "folder": str(folder.resolve()),
            "files": _manifest_stats(table),
            "readings": {name: asdict(reading) for name, reading in said.items()},
        }
        return _cached(
            folder.resolve().name,
            options | identity,
            lambda out: build(folder, out, readings=said, workers=workers, progress=progress, **options),
        )
    if folder.exists():
        raise CmkdError(f"{folder} is neither a pack (card.json) nor a folder with manifest.csv or folders by class")
    if re.fullmatch(r"[\w-]+", text):
        raise CmkdError(f"{unknown_name('data set', text, DATASETS)}; and there is no folder '{text}'")
    raise CmkdError(f"{text} does not exist: give a data set ({', '.join(DATASETS)}) or a folder")


def prepare(
    call: Call, source: Path | None = None, *, out: Path | None = None, progress: Progress | None = None
) -> Pack:
    """Prepare a data set known by name, or find it in the cache.

    Missing published files are downloaded into the cache first if their checksums are known.

    Args:
        call: name and options of the data set.
        source: path of the published files.
        out: folder of the pack to make instead of the cache; must not exist.
        progress: callback, called as pairs are written.

    Raises:
        CmkdError: the name or an option is unknown, an option has a wrong type, or the source is missing or damaged.
    """
    kind = DATASETS.find(call.name)
    options = check(call.name, kind, call.options)
    data_set = kind(**options)
    data_set.progress = progress
    place = source if source is not None else default_source(call.name)
    if place is None and kind.sources and all(file.fetchable for file in kind.sources):
        place = fetch(kind.sources, writable_cache(FETCHED, call.name))
    if place is not None and not place.exists():
        where = f": get it from {kind.sources[0].url}" if kind.sources else ""
        raise CmkdError(f"{place}, where the files of {call.name} should be, does not exist{where}")
    if out is not None:
        refuse_existing(out)
        return data_set.prepare(place, out)
    key = {
        "name": call.name,
        "revision": data_set.revision,
        "options": options,
        "source": _stats(place) if place is not None else None,
        **data_set.identity(),
    }
    return _cached(call.name, key, lambda destination: data_set.prepare(place, destination))


def default_source(name: str) -> Path | None:
    """Return the default path of a data set's files, ``$CMKD_DATA/<name>``, if it exists.

    The folder's name may have hyphens in place of underscores.
    """
    root = os.environ.get("CMKD_DATA")
    if not root or not DATASETS[name].sources:
        return None
    folders = (expanded(root) / spelt for spelt in (name, name.replace("_", "-")))
    return next((folder for folder in folders if folder.exists()), None)


def without_files(reference: str) -> type[DataSet] | None:
    """Return the data set that `reference` names if published files that it needs are missing; download nothing."""
    named = _named(reference)
    if named is None or named[1] is not None or default_source(named[0].name) is not None:
        return None
    kind = DATASETS[named[0].name]
    fetched = cache_folder() / FETCHED / kind.name
    return None if all(file.fetchable and (fetched / file.name).exists() for file in kind.sources) else kind


def parse_reference(text: str) -> tuple[Call, Path | None]:
    """Split ``name(options):source`` into a call and the path of the source.

    Raises:
        CmkdError: `text` does not have this form.

    Example:
        >>> parse_reference("mars(protocol=time):data/mars")
        (Call(name='mars', options={'protocol': 'time'}, weight=1.0), PosixPath('data/mars'))
    """
    match = re.fullmatch(r"(\w+\s*(?:\([^()]*\))?)\s*(?::(.+))?", text.strip())
    if match is None:
        raise CmkdError(f"cannot read '{text}': write a data set as name, name(option=value) or name:FOLDER")
    return parse_call(match[1]), expanded(match[2]) if match[2] else None


def split_version(text: str) -> tuple[str, int | None]:
    """Split ``PACK@N`` into the place of a pack and a version number; an existing folder ``PACK@N`` is not split.

    Example:
        >>> split_version("ships@2"), split_version("ships")
        (('ships', 2), ('ships', None))
    """
    place, _, number = text.rpartition("@")
    return (place, int(number)) if place and number.isdecimal() and not expanded(text).exists() else (text, None)


def portable(reference: str) -> str:
    """Return a reference that opens the same data set on any machine; empty for a pack or a folder.

    Example:
        >>> portable("mnist(train_pairs=4000):downloads/mnist"), portable("digits"), portable("./digits")
        ('mnist(train_pairs=4000):FOLDER', 'digits', '')
    """
    match = re.match(r"(\w+)\s*(?:\([^()]*\))?", reference)
    if match is None or _named(reference) is None:
        return ""
    return match[0].strip() + (":FOLDER" if DATASETS[match[1]].sources else "")


def without_folder(reference: str) -> str:
    """Return a data reference without the folder of a known data set's files, as shown in tables.

    Example:
        >>> without_folder("mnist(train_pairs=4000):downloads/mnist"), without_folder("my_pkg.data:Ships")
        ('mnist(train_pairs=4000)', 'my_pkg.data:Ships')
    """
    return portable(reference).removesuffix(":FOLDER") or reference


def without_options(reference: str) -> str:
    """Return the name of a known data set, whose variants share their pairs; for other data, return the reference.

    Example:
        >>> without_options("mnist(train_pairs=4000):downloads/mnist"), without_options("./mnist (new)")
        ('mnist', './mnist (new)')
    """
    return re.split(r"\W", reference, maxsplit=1)[0] if portable(reference) else reference


def is_own(reference: str) -> bool:
    """Return whether a reference names a ``Dataset`` of the user's own, ``package.module:Name``.

    Example:
        >>> is_own("my_pkg.data:Ships"), is_own("mars:downloads")
        (True, False)
    """
    return is_reference(reference) and reference.partition(":")[0] not in DATASETS


def _named(text: str) -> tuple[Call, Path | None] | None:
    """Return the data set that `text` names, or None if it must be a path."""
    match = re.match(r"\w+", text)
    if match is None:
        return None
    rest = text[match.end() :].lstrip()
    if match[0] in DATASETS and (not rest or rest[0] in "(:"):
        return parse_reference(text)
    if rest.startswith("(") and not Path(text).exists():
        raise unknown_name("data set", match[0], DATASETS)
    return None


def _stats(place: Path) -> list[tuple[int | str, ...]]:
    files = files_below(place) if place.is_dir() else [place]
    return [(str(path.resolve()), *_identity(path)) for path in files]


def _manifest_stats(table: Table) -> list[Any]:
    digest = checksum(table.path) if table.path.is_file() else ""
    files = (path for paths in table.files.values() for path in paths if path is not None)
    return [digest, *((str(path), *_identity(path)) for path in files)]


def _identity(path: Path) -> tuple[int | str, ...]:
    """Return values by which a changed file is detected: size and time, or a checksum if ``CMKD_CACHE_KEY`` says so."""
    kind = os.environ.get("CMKD_CACHE_KEY", "time")
    if kind == "content":
        return (checksum(path),)
    if kind != "time":
        raise CmkdError(f"CMKD_CACHE_KEY is '{kind}'; set it to time or content")
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _cached(name: str, key: Mapping[str, Any], make: Callable[[Path], Pack]) -> Pack:
    """Open the pack that `key` describes; make it first if it does not exist or is damaged."""
    content = json.dumps([FORMAT, PREPARATION, dict(key)], sort_keys=True, default=str)
    folder = cache_folder() / "packs" / f"{name}-{checksum([content.encode()])[:16]}"
    if folder.exists():
        try:
            return Pack.open(folder)
        except CmkdError:
            _retire(folder)
    writable_cache("packs")
    try:
        return make(folder)
    except PackExistsError:  # another process wrote the same content first
        return Pack.open(folder)


def _retire(folder: Path) -> None:
    """Move a damaged pack out of the way, then remove it."""
    aside = temporary_sibling(folder)
    try:
        os.rename(folder, aside)
    except FileNotFoundError:  # another process already moved it
        return
    shutil.rmtree(aside, ignore_errors=True)
