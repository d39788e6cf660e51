"""Building of packs from a folder with a manifest, or with one folder per class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Literal, TypeVar

from numpy.typing import NDArray

from cmkd.data.manifest.column import may_lack, read_column, warn_of_undeclared
from cmkd.data.manifest.header import FileHeader
from cmkd.data.manifest.readers import inspect
from cmkd.data.manifest.reading import Reading, stated
from cmkd.data.manifest.sample import header_of, load_stored
from cmkd.data.manifest.table import Table, check_case, read_flagged, read_table
from cmkd.data.pack.card import SPLITS, CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.validator import check_classes
from cmkd.data.pack.writer import PackExistsError, PackWriter, refuse_existing
from cmkd.data.split import ALIASES, assign_splits, hashed_splits
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.progress import Progress
from cmkd.types import UNLABELED, Modality

T = TypeVar("T")


def build(
    folder: Path | str,
    out: Path | str,
    *,
    seed: int = 0,
    readings: Mapping[str, Reading] | None = None,
    co_registered: Sequence[Sequence[str]] = (),
    rich: str | None = None,
    poor: str | None = None,
    exclude: Path | str | None = None,
    license: str = "",
    workers: int = 1,
    progress: Progress | None = None,
) -> Pack:
    """Make a pack from a folder with ``manifest.csv`` or ``manifest.parquet``, or with folders by class.

    A manifest has the columns ``id`` and ``label``, optionally ``split`` (train, validation or val, test; missing
    splits are assigned by `cmkd.data.split.assign_splits`) and ``group`` (never in two splits), and one column per
    modality with a path relative to the folder: PNG, JPEG, TIFF, GeoTIFF, NPY, WAV, or a series as CSV or Parquet.
    Other columns are kept as text in the pack's index. An empty cell is a missing modality. A pair without a label is
    used for distillation only: its label is -1, and its split is train or the split of its group. Without a manifest,
    files named ``MODALITY/CLASS/NAME.png`` or ``SPLIT/MODALITY/CLASS/NAME.png`` are paired by class and name
    (`cmkd.data.manifest.folders`). A ``manifest.yaml`` in the folder may state how to read a modality
    (`cmkd.data.manifest.reading`). Samples that are NaN, or that a GeoTIFF's tag marks as nodata, are invalid: they are
    left out of the statistics, counted on the card, and filled when the pack is read for a network. The padding of a
    series is invalid too; only integers without a nodata value are padded with zeros that count as valid. Everything
    that can be checked from the table and from the headers of the files is checked before anything is written.

    Args:
        folder: folder with the manifest, or with the folders by class.
        out: folder of the pack to make; it appears whole or not at all.
        seed: random seed of the splits that are not given.
        readings: modality -> how to read its files, such as ``{"radar": Reading(kind="points")}``.
        co_registered: groups of image modalities that share a pixel grid.
        rich: default modality of the teacher.
        poor: default modality of the student.
        exclude: ``faults.json`` of `cmkd data check`; the pairs that it flags are left out, and counted on the card.
        license: license of the data, for the card.
        workers: number of threads that read files.
        progress: callback, called as pairs are written.

    Raises:
        CmkdError: a file or row is wrong; the message names it and says how to fix it. Nothing half-built remains.
    """
    destination = Path(out)
    if destination.exists():
        home, place = Path(folder).resolve(), destination.resolve()
        inside = home.is_relative_to(place) or place.is_relative_to(home)
        if inside and not (place / "card.json").is_file():
            raise PackExistsError(f"{destination} holds data of {folder}: choose another path for the pack")
    refuse_existing(destination)
    _check_numbers(workers, seed)
    if rich is not None and rich == poor:
        raise CmkdError(f"'{rich}' is given as the rich and as the poor modality; name two")
    flagged, left_out = read_flagged(exclude, folder)
    table = read_table(Path(folder), exclude=flagged)
    if len(table.classes) < 2:
        raise CmkdError(f"{table.path} has only the labels {table.classes}: a classifier needs at least two classes")
    said = stated(Path(folder), table.files, readings)
    splits, record = assign_splits(table.labels, table.groups, table.splits, seed=seed)
    warn_of_empty_classes(table.labels, table.classes, splits)
    for name, paths in table.files.items():
        if not any(path is not None and split == "train" for path, split in zip(paths, splits, strict=True)):
            raise CmkdError(f"modality '{name}' is missing from every train pair: remove its column or fill some cells")
    if len(table.files) > 1 and not any(sum(map(bool, pair)) > 1 for pair in zip(*table.files.values(), strict=True)):
        raise CmkdError(f"no row of {table.path} has files of two modalities: put both files of a pair in one row")
    with ThreadPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        run = pool.map if pool is not None else map
        columns = {
            name: read_column(table, name, said[name], _read(table, partial(_header, said[name])), run)
            for name in table.files
        }
        found = [column.modality for column in columns.values()]
        marks = {name: column.marks(said[name].nodata) for name, column in columns.items()}
        writer = PackWriter(
            destination,
            CardInfo(
                Path(folder).resolve().name,
                title="made from " + ("folders by class" if table.path.is_dir() else table.path.name),
                rich=rich,
                poor=poor,
                co_registered=co_registered,
                license=license,
            ),
            classes=table.classes,
            modalities=[may_lack(modality) for modality in found],
            split=record,
            notes=f"made by cmkd data build from {_origin(table, Path(folder))}{left_out}",
        )
        with writer:
            _fill(writer, table, splits, said, marks, run, progress)
    pack = Pack.open(destination)
    warn_of_undeclared(pack, found)
    return pack


def append(
    pack: Path | str,
    folder: Path | str,
    *,
    new_classes: Literal["refuse", "allow"] = "refuse",
    exclude: Path | str | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Pack:
    """Add the pairs of a manifest to a pack as its next version.

    The pack's modalities stay the same: images are resized to their size in the pack, series and points are padded or
    cut. A ``manifest.yaml`` in the folder is followed as in `build`, for the new files only. A group that the pack
    already has keeps its split. A new group, or a labeled pair without a group, for which the manifest gives no split
    gets one by a hash of its name and the seed of the pack's first version, in the proportions of the labeled pairs of
    that version, so that the order of deliveries does not matter. An unlabeled pair without a group is in the train
    split, as in `build`.

    Args:
        pack: folder of the pack.
        folder: folder of the new pairs, with a manifest or with folders by class.
        new_classes: whether labels that the pack does not have are refused, or become classes after the old ones.
        exclude: ``faults.json`` of `cmkd data check`; the pairs that it flags are left out.
        workers: number of threads that read files.
        progress: callback, called as pairs are written.

    Raises:
        CmkdError: for the same reasons as `build`; also if a modality, dtype, number of channels or sampling rate
            differs, a label is unknown, the pack already has an id, or the pack has groups and the manifest neither
            groups nor splits. The pack is then unchanged.
    """
    _check_numbers(workers)
    old = Pack.open(pack)
    flagged, left_out = read_flagged(exclude, folder)
    table = _without_empty(read_table(Path(folder), exclude=flagged), old)
    _check_new(table, old)
    stated_new = stated(Path(folder), table.files)
    said = {name: _agreed(table.path, old.modality(name), one) for name, one in stated_new.items()}
    classes = check_classes(old, table.classes, new_classes, table.path)
    check_case(table.path, classes)
    labels = [classes.index(table.classes[label]) if label != UNLABELED else label for label in table.labels]
    splits, record = _appended_splits(Pack.open(pack, 1), old, table)
    warn_of_empty_classes([*old.index["label"], *labels], classes, [*old.index["split"], *splits])
    renamed = replace(table, labels=labels, classes=classes)
    with ThreadPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        run, marks = pool.map if pool is not None else map, dict[str, frozenset[float]]()
        for name in table.files:
            modality = old.modalities[name]
            header = _read(table, partial(header_of, modality, channels=said[name].channels))
            column = read_column(table, name, said[name], header, run)
            found, marks[name] = column.modality, column.marks(stated_new[name].nodata, said[name].nodata)
            if (found.shape, found.dtype) != (modality.shape, modality.dtype):
                raise CmkdError(
                    f"{name} in {table.path} is {found.shape} {found.dtype}, but the pack has {modality.shape} "
                    f"{modality.dtype}: convert the files"
                )
            modality.check_stated(
                table.path, "in the pack", rate=found.rate, columns=found.columns, fix="resample the files"
            )
        added_from = f"version {old.card.version + 1} adds {_origin(table, Path(folder))}{left_out}"
        notes = "; ".join(filter(None, (old.card.notes.rstrip("."), added_from)))
        latest = old.card.version
        with PackWriter.append(old.path, classes=classes, split=record, notes=notes, latest=latest) as writer:
            _fill(writer, renamed, splits, said, marks, run, progress)
    return Pack.open(old.path)


def _check_new(table: Table, old: Pack) -> None:
    known = set(old.index["id"])
    again = [name for name in table.ids if name in known]
    if again:
        fix = "rename the files or give a manifest with new ids" if table.path.is_dir() else "give them new ids"
        share = f"{len(again)} of {len(table.ids)} ids"
        raise CmkdError(f"the pack already has '{again[0]}' ({share}): if these are other pairs, {fix}")


def _without_empty(table: Table, old: Pack) -> Table:
    """Return the table with its empty columns turned into metadata if the pack has metadata of that name."""
    empty = {name for name in table.files if name not in old.modalities and name in old.index}
    empty = {name for name in empty if not any(table.files[name])}
    files = {name: paths for name, paths in table.files.items() if name not in empty}
    return replace(table, files=files, metadata=table.metadata | {name: [""] * len(table.ids) for name in empty})


def _agreed(where: Path, modality: Modality, said: Reading) -> Reading:
    """Return how to read new files of a modality: as stated for them, or else like the files of the pack.

    Raises:
        CmkdError: the stated reading does not fit the pack.
    """
    fix = "convert the files, or make a pack of their own"
    modality.check_stated(where, "in the pack", kind=said.kind, size=said.size, unit=said.unit, fix=fix)
    nodata = modality.file_nodata if said.nodata is None else said.nodata
    return Reading(modality.kind, modality.size, said.channels, nodata, modality.unit)  # type: ignore[arg-type]  # as stated


def _check_numbers(workers: int, seed: int = 0) -> None:
    if workers < 1:
        raise CmkdError(f"workers is {workers}; give at least 1")
    if not 0 <= seed < 2**31:
        raise CmkdError(f"seed is {seed}; give 0 to {2**31 - 1}")


def _origin(table: Table, folder: Path) -> str:
    what = "folders by class" if table.path.is_dir() else table.path.name
    return f"{what} of the folder '{folder.resolve().name}'"


def _appended_splits(first: Pack, old: Pack, table: Table) -> tuple[list[str], dict[str, Any]]:
    """Return the split of every new pair, and a record of how the splits were made."""
    seed, labeled = int(first.card.split.get("seed") or 0), first.index[first.index["label"] != UNLABELED]
    drawn_from = labeled if len(labeled) else first.index  # an unlabeled pair is in train whatever the proportions
    shares = {split: float((drawn_from["split"] == split).mean()) for split in SPLITS}
    groups, marked = table.groups or [""] * len(table.ids), table.splits or [""] * len(table.ids)
    if not table.grouped and not all(marked) and old.index["group"].any():
        raise CmkdError(
            f"{table.path} has no column 'group', but pairs of the pack have groups, which must not cross splits: add "
            "it, with an empty cell for a pair of no group, or give each pair a split"
        )
    names = [f"group {group}" if group else f"pair {name}" for group, name in zip(groups, table.ids, strict=True)]
    # the pack's own groups take precedence over the splits that the new manifest gives
    known = {group: split for group, split in zip(groups, marked, strict=True) if group and split}
    known |= dict(zip(old.index["group"].tolist(), old.index["split"].tolist(), strict=True))
    drawn = hashed_splits(names, shares, seed)
    splits = []
    for mark, group, label, draw in zip(marked, groups, table.labels, drawn, strict=True):
        new = draw if group or label != UNLABELED else "train"
        splits.append(mark or (known.get(group) if group else None) or new)
    method = "given, else by the pack's groups, else by a hash of the group in the proportions of version 1's labels"
    record = {"method": method, "seed": seed, "before": dict(old.card.split)}
    return [ALIASES.get(split, split) for split in splits], record


def _read(table: Table, read: Callable[[Any], T]) -> Callable[[Any], T]:
    """Return a function that reads a file; if that fails, its error says how to find all unreadable files."""

    def reads(path: Any) -> T:  # noqa: ANN401  # a path, or None
        try:
            return read(path)
        except CmkdError as error:
            folder = quote(str(table.path if table.path.is_dir() else table.path.parent))
            raise CmkdError(
                f"{error}. `cmkd data check {folder} --out faults` finds all damaged files, and `cmkd data build` with "
                "--exclude faults/faults.json leaves them out"
            ) from error

    return reads


def _header(reading: Reading, path: Path) -> FileHeader:
    return inspect(path, reading.kind, channels=reading.channels)


def _fill(
    writer: PackWriter,
    table: Table,
    splits: Sequence[str],
    said: Mapping[str, Reading],
    marks: Mapping[str, Collection[float]],
    run: Any,  # noqa: ANN401  # map or its like
    progress: Progress | None,
) -> None:
    total, modalities = len(table.ids), writer.modalities
    for start in range(0, total, writer.pairs_per_chunk):
        chunk = slice(start, min(start + writer.pairs_per_chunk, total))
        files = {m.name: table.files.get(m.name, [None] * total)[chunk] for m in modalities}
        loads = {m.name: partial(_load, m, said.get(m.name, Reading()), marks.get(m.name, ())) for m in modalities}
        samples = {name: list(run(_read(table, load), files[name])) for name, load in loads.items()}
        groups = table.groups[chunk] if table.groups is not None else None
        metadata = {name: cells[chunk] for name, cells in table.metadata.items()}
        writer.add_samples(table.ids[chunk], table.labels[chunk], splits[chunk], groups, samples, metadata)
        if progress is not None:
            progress(chunk.stop, total)


def _load(modality: Modality, said: Reading, marks: Collection[float], path: Path | None) -> NDArray[Any] | None:
    return None if path is None else load_stored(replace(modality, file_nodata=said.nodata), path, said.channels, marks)


def warn_of_empty_classes(labels: Sequence[int], classes: Sequence[str], splits: Sequence[str]) -> None:
    """Warn about splits that have no pair of some class."""
    for split in SPLITS:
        found = {label for label, s in zip(labels, splits, strict=True) if s == split}
        lost = [name for position, name in enumerate(classes) if position not in found]
        if lost:
            untrained = ", which no model can learn" if split == "train" else ""
            warnings.warn(
                f"the {split} split lacks {len(lost)} of {len(classes)} classes, such as '{lost[0]}'{untrained}",
                CmkdWarning,
                stacklevel=3,
            )
