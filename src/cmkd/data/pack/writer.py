"""Writer of packs in chunks: a new pack appears whole or not at all, and an append is committed by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.pack.card import CardFile, CardInfo, check_names, index_name, modality_entry
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.statistics import statistics_and_checksum
from cmkd.data.pack.validator import ChunkValidator, complete_index
from cmkd.errors import CmkdError
from cmkd.io import CHUNK_BYTES, checksum, claim, lock, remove_all_stale, remove_stale, sync_folder, write_bytes
from cmkd.types import Modality


class PackExistsError(CmkdError):
    """A pack or file to be written already exists; nothing was overwritten."""


def refuse_existing(path: Path) -> None:
    """Raise `PackExistsError` if the path to be written already exists."""
    if os.path.lexists(path):
        raise PackExistsError(f"{path} already exists: remove it or choose another path")


class PackWriter:
    """Writes a pack, or appends to one, in chunks; only the index is held in memory.

    As a context manager, it commits on exit, or removes what it wrote if there was an exception. A new pack is
    built in a hidden sibling folder and renamed. Data left by a killed append lies beyond the end of every committed
    version, and the next append removes it.

    Args:
        destination: folder of the pack to make; must not exist.
        info: description of the data set.
        classes: class names; a label is a position in them.
        modalities: kinds, shapes and dtypes; their statistics are filled in on closing.
        split: how the split was made, for the card.
        notes: anything else a reader must know.

    Raises:
        CmkdError: the destination exists, or the classes, modalities and roles do not fit each other.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "pack"
        >>> sensor = Modality("x", "vector", (2,), "float32")
        >>> with PackWriter(folder, CardInfo("toy"), classes=["a", "b"], modalities=[sensor]) as writer:
        ...     values = np.array([[1, 2], [3, 4]], np.float32)
        ...     writer.add(["0", "1"], [0, 1], ["train", "test"], None, {"x": values})
        >>> Pack.open(folder)
        Pack(toy v1: 2 pairs, 2 classes; x vector (2,) float32)
    """

    def __init__(
        self,
        destination: Path | str,
        info: CardInfo,
        *,
        classes: Sequence[str],
        modalities: Sequence[Modality],
        split: Mapping[str, Any] | None = None,
        notes: str = "",
    ) -> None:
        self._destination = Path(destination)
        check_names(classes, modalities, info)
        refuse_existing(self._destination)
        header = info.to_dict() | {"modalities": {modality.name: modality_entry(modality) for modality in modalities}}
        try:
            self._destination.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(self._destination)
            folder, held = claim(self._destination)
        except OSError as error:
            raise CmkdError(f"cannot write to {self._destination.parent}: {error.strerror or error}") from error
        self._start(folder, CardFile(header), {m.name: m for m in modalities}, tuple(classes), split, notes, held)

    @classmethod
    def append(
        cls,
        path: Path | str,
        *,
        classes: Sequence[str] | None = None,
        split: Mapping[str, Any] | None = None,
        notes: str = "",
        latest: int | None = None,
    ) -> PackWriter:
        """Return a writer that adds pairs to a pack as its next version.

        Args:
            path: folder of the pack.
            classes: class names, if there are new ones: the old names in their order, then the new ones.
            split: how the split of the new pairs was made; by default the last version's record.
            notes: notes of the new version.
            latest: version for which the arguments were prepared, which must still be the latest; by default the
                present one.

        Raises:
            CmkdError: the path is not a pack, another writer locked it or added a version, or the old classes changed.
        """
        old = Pack.open(path)
        names = old.classes if classes is None else tuple(classes)
        latest = old.card.version if latest is None else latest
        if latest == old.card.version and names[: len(old.classes)] != old.classes:
            raise CmkdError(f"an append can only add classes at the end: {list(old.classes)} became {list(names)}")
        check_names(names, list(old.modalities.values()), old.card)
        made = cls.__new__(cls)
        made._destination = old.path
        modalities = CardFile.read(old.path).declared(old.modalities)
        made._start(old.path, None, modalities, names, old.card.split if split is None else split, notes, None, latest)
        return made

    def _start(
        self,
        folder: Path,
        card: CardFile | None,
        modalities: dict[str, Modality],
        classes: tuple[str, ...],
        split: Mapping[str, Any] | None,
        notes: str,
        held: int | None = None,
        latest: int = 0,
    ) -> None:
        self._folder, self._modalities, self._classes = folder, modalities, classes
        self._split, self._notes = dict(split or {}), notes
        self._lock = lock(folder) if held is None else held
        if self._lock is None:
            raise CmkdError(f"{folder} is being written by another process: wait for it to end")
        self._files = {}
        try:
            # under the lock, since another writer may have committed a version after the pack was opened
            self._card = card if card is not None else CardFile.read(folder)
            self._old = Pack.open(folder) if card is None else None
            if self._old and self._old.card.version != latest:
                raise CmkdError(f"{folder} got version {self._old.card.version} meanwhile: repeat the command")
            if self._old:
                self._old.verify_content()  # the new version's checksums cover the old pairs too
            self._base = len(self._old) if self._old else 0
            remove_all_stale(folder)
            for modality in modalities.values():
                file = self._files[modality.name] = (folder / modality.file).open("r+b" if self._old else "wb")
                file.truncate(self._base * modality.row_bytes)
                file.seek(0, os.SEEK_END)
        except BaseException:
            if card is not None:
                shutil.rmtree(folder, ignore_errors=True)
            self._release()
            raise
        self._parts: list[pd.DataFrame] = []
        self._rows = self._base
        self._validator = ChunkValidator(classes, modalities, self._old.index if self._old else None)
        self._open = True

    def add(
        self,
        ids: Sequence[str],
        labels: Sequence[int] | NDArray[np.integer[Any]],
        splits: Sequence[str],
        groups: Sequence[str] | None,
        arrays: Mapping[str, NDArray[Any]],
        present: Mapping[str, NDArray[np.bool_]] | None = None,
        metadata: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add a chunk of pairs.

        Args:
            ids: one per pair, unique in the pack.
            labels: positions in the classes, -1 for an unlabeled pair.
            splits: ``train``, ``validation`` or ``test``.
            groups: groups that must not cross splits (a vessel, a person); empty or None for none.
            arrays: modality -> ``(pairs, *shape)`` in the modality's dtype; no entry if the whole chunk lacks it.
            present: modality -> ``(pairs,)`` bool; by default all True. Absent rows are stored as zeros.
            metadata: further columns of the index -> one text per pair.

        Raises:
            CmkdError: sizes, shapes or dtypes differ from those declared, a value is NaN or infinite, an id repeats, a
                label or split is unknown, or a group is in two splits. The chunk is then ignored.
        """
        count = len(ids)
        table, checked = self._validator.validate(ids, labels, splits, groups, arrays, present or {}, metadata or {})
        try:
            for name, file in self._files.items():
                if name in checked:
                    file.write(checked[name].data)
                else:
                    file.seek(count * self._modalities[name].row_bytes, os.SEEK_CUR)
        except OSError as error:
            raise CmkdError(f"cannot write {self._folder}: {error.strerror or error}") from error
        self._parts.append(table)
        self._rows += count

    def add_samples(
        self,
        ids: Sequence[str],
        labels: Sequence[int],
        splits: Sequence[str],
        groups: Sequence[str] | None,
        samples: Mapping[str, Sequence[NDArray[Any] | None]],
        metadata: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add a chunk of pairs as `add` does, from one array per sample, None where a pair lacks the modality."""
        arrays, present = {}, {}
        for name, values in samples.items():
            blank = np.zeros(self._modalities[name].shape, self._modalities[name].dtype)
            arrays[name] = np.stack([blank if value is None else value for value in values])
            present[name] = np.array([value is not None for value in values])
        self.add(ids, labels, splits, groups, arrays, present, metadata)

    @property
    def modalities(self) -> list[Modality]:
        """Modalities to write; a float modality may hold NaN, for invalid samples, if it declares this nodata value."""
        return list(self._modalities.values())

    @property
    def pairs_per_chunk(self) -> int:
        """Number of pairs to add at a time, so that a chunk takes little memory."""
        return max(1, min(1024, CHUNK_BYTES // sum(modality.row_bytes for modality in self._modalities.values())))

    def close(self) -> Pack:
        """Compute the statistics, commit, and return the pack.

        Raises:
            CmkdError: nothing was added, or a modality (or the whole split) has no train pair.
        """
        try:
            self._commit()
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise CmkdError(f"cannot write {self._destination}: {error.strerror or error}") from error
            raise
        self._release()
        return Pack.open(self._destination)

    def _commit(self) -> None:
        index = complete_index(self._old.index if self._old else None, self._parts, list(self._modalities))
        statistics, sha256, invalid = {}, {}, {}
        for name, modality in self._modalities.items():
            file = self._files[name]
            file.truncate(self._rows * modality.row_bytes)  # extends the file by zeros if the last rows lack it
            file.flush()
            os.fsync(file.fileno())
            present = index[f"has_{name}"].to_numpy()
            use = (index["split"] == "train").to_numpy() & present
            found = statistics_and_checksum(self._folder / modality.file, modality, use, present)
            statistics[name] = {"mean": list(found.mean), "std": list(found.std)}
            sha256[modality.file] = found.sha256
            if modality.nodata is not None:
                invalid[name] = list(found.invalid)
        version = len(self._card.versions) + 1
        sha256[index_name(version)] = _write_index(index, self._folder / index_name(version))
        self._card.versions.append(
            {
                "version": version,
                "rows": self._rows,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "classes": list(self._classes),
                "split": self._split,
                "notes": self._notes,
                "statistics": statistics,
                "invalid": invalid,
                "sha256": sha256,
            }
        )
        self._card.write(self._folder)
        if self._old is None:
            self._rename()

    def _rename(self) -> None:
        try:
            os.rename(self._folder, self._destination)
        except OSError as error:
            if self._destination.exists():
                raise PackExistsError(f"{self._destination} appeared meanwhile: nothing was overwritten") from error
            raise CmkdError(f"cannot write {self._destination}: {error.strerror or error}") from error
        sync_folder(self._destination.parent)

    def discard(self) -> None:
        """Remove what this writer wrote; an existing pack stays at its last version."""
        if not self._open:
            return
        if self._old is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        else:
            # read from disk, since an interrupt may come just after the card was replaced and so committed
            kept = int(CardFile.read(self._folder).versions[-1]["rows"])
            for name, file in self._files.items():
                file.truncate(kept * self._modalities[name].row_bytes)
        self._release()

    def _release(self) -> None:
        self._open = False
        for file in self._files.values():
            file.close()
        if self._lock is not None and self._lock >= 0:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.discard()
        elif self._open:
            self.close()


def _write_index(index: pd.DataFrame, path: Path) -> str:
    content = index.to_parquet(index=False)
    write_bytes(path, content)
    return checksum([content])
