"""Packs: paired data as training reads it, with one memory-mapped array per modality and an index.

On disk a pack is a folder:

- ``card.json``: the card of each version (`cmkd.data.pack.card`);
- ``index-0001.parquet``: one row per pair: id, label, split, group, ``has_<modality>``, and metadata;
- ``<modality>.bin``: the raw array ``(rows, *shape)``, shape and dtype in the card.

A pack is append-only. A new version adds rows at the end of the arrays and a new index; replacing ``card.json``
commits it. Version k consists of the first rows of the arrays, index k, and its own statistics and checksums, and
never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.pack.card import AGAIN, SPLITS, Card, CardFile, index_name
from cmkd.data.pack.index import read_index
from cmkd.data.pack.labels import folds_of, hidden_labels, left_out, wrong_labels
from cmkd.data.remote.open import Remote
from cmkd.data.remote.store import is_address
from cmkd.data.remote.streamed import StreamedArray
from cmkd.errors import CmkdError, unknown_name
from cmkd.io import CHUNK_BYTES, checksum, expanded, pieces
from cmkd.progress import Progress, adding, silent
from cmkd.types import UNLABELED, Batch, Modality

if TYPE_CHECKING:
    from torch import Tensor

TOGETHER = 64
"""Maximum number of samples that `Pack.samples` reads at a time."""
LabelCall = tuple[str, tuple[Any, ...]]
"""Name of a `Pack` method that hides or replaces labels or leaves out pairs, and its arguments."""


class Pack:
    """Paired data on disk, opened by `Pack.open`.

    A pickled pack, as sent to data loader workers, holds only its location, its version and `label_calls`.

    Attributes:
        path: the folder; for a pushed pack, the cache folder of its card and index.
        card: the card of the version.
        label_calls: the method calls that turned the stored pack into this one.
        index: one row per pair: ``id`` (str), ``label`` (int64, -1 where unlabeled), ``split``, ``group`` (str, empty
            where there is none), ``has_<modality>`` (bool), and further columns of the manifest (str).

    Example:
        >>> import tempfile
        >>> from cmkd.datasets.digits import Digits
        >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits")
        >>> train = pack.rows("train", modalities=["optical", "degraded"])
        >>> batch = pack.batch(train[:4])
        >>> batch.inputs["optical"].shape, batch.target.dtype
        (torch.Size([4, 1, 8, 8]), torch.int64)
    """

    def __init__(
        self,
        path: Path,
        card: Card,
        index: pd.DataFrame,
        *,
        label_calls: tuple[LabelCall, ...] = (),
        remote: Remote | None = None,
    ) -> None:
        self.path, self.card, self.index, self.label_calls = path, card, index, label_calls
        self._remote = remote
        self._arrays: dict[str, NDArray[Any] | StreamedArray] = {}
        self._labels = index["label"].to_numpy(dtype=np.int64)
        self._splits = index["split"].to_numpy(dtype=object)
        self._present = {name: index[f"has_{name}"].to_numpy(dtype=bool) for name in card.modalities}

    @classmethod
    def open(cls, path: Path | str, version: int | None = None) -> Pack:
        """Open a pack, checking that no file is smaller than the card states.

        Args:
            path: the folder, or the address of a pushed pack, such as ``s3://bucket/ships``, whose arrays are read in
                blocks through a bounded cache (`cmkd.data.remote`).
            version: number of the version; by default the latest.

        Raises:
            CmkdError: there is no pack, a file is missing, truncated or damaged, or there is no such version.
        """
        if is_address(path):
            remote = Remote(path)
            card = CardFile.read(remote.folder).card(remote.folder, version)
            remote.copied(card.index_file, card.sha256[card.index_file])
            return cls(remote.folder, card, read_index(remote.folder, card), remote=remote)
        folder = expanded(str(path))
        card = CardFile.read(folder).card(folder, version)
        for modality in card.modalities.values():
            file, expected = folder / modality.file, card.rows * modality.row_bytes
            size = file.stat().st_size if file.is_file() else None
            # a longer file holds a newer version, or the tail of an interrupted append
            if size is None or size < expected:
                state = "is missing" if size is None else f"is truncated: {size} bytes of {expected}"
                raise CmkdError(f"{file} {state}; {AGAIN}")
        return cls(folder, card, read_index(folder, card))

    def __len__(self) -> int:
        return self.card.rows

    def __repr__(self) -> str:
        shapes = ", ".join(f"{m.name} {m.kind} {m.shape} {m.dtype}" for m in self.modalities.values())
        return f"Pack({self.card.name} v{self.card.version}: {len(self)} pairs, {len(self.classes)} classes; {shapes})"

    def __reduce__(self) -> tuple[Any, ...]:
        place = self._remote.address if self._remote else self.path.absolute()
        return _reopen, (place, self.card.version, self.label_calls)

    def withhold(self, label_fraction: float = 1.0, labels: int | None = None) -> Pack:
        """Return the same pack with the labels of some training pairs hidden; nothing is written.

        Labels are hidden pair by pair, even if pairs share a group. The choice depends on the ids and on which
        modalities a pair has: pairs with every modality keep their label first, so that teacher and student see the
        same labels. The labels visible at a smaller fraction or number are a subset of those at a larger one.
        Validation and test keep all labels.

        Args:
            label_fraction: fraction of the labeled training pairs of each class that keep their label, above 0 and at
                most 1; at least one pair per class keeps it.
            labels: number of labels to keep instead, spread over the classes in proportion, at least one per class.

        Raises:
            CmkdError: the fraction is out of range, `labels` is below the number of classes or above the number of
                labels, or both arguments are given.

        Example:
            >>> import tempfile
            >>> from cmkd.datasets.digits import Digits
            >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits").withhold(0.1)
            >>> len(pack.rows("train", labeled=True)), len(pack.rows("train", labeled=False))
            (110, 967)
            >>> len(pack.withhold(labels=40).rows("train", labeled=True))
            40
        """
        if not 0 < label_fraction <= 1:
            raise CmkdError(f"the fraction of pairs with a label must be above 0 and at most 1, got {label_fraction}")
        if labels is not None and label_fraction != 1:
            raise CmkdError(f"labels is {labels} and label_fraction is {label_fraction}; give one of them")
        if labels is None and label_fraction == 1:
            return self
        rows, own = self._labeled()
        hidden = hidden_labels(self._labels[rows], own["id"], self._partial(rows), label_fraction, labels)
        return self._relabeled(rows[hidden], UNLABELED, ("withhold", (label_fraction, labels)))

    def limit_unlabeled(self, ratio: float) -> Pack:
        """Return the same pack without some of the training pairs that have no label; nothing is written.

        The choice depends on the ids. Pairs with every modality are kept first, and those kept at a smaller ratio are a
        subset of those at a larger one. The pairs that are left out get an empty split.

        Args:
            ratio: number of unlabeled pairs to keep per labeled training pair, at least 0.

        Raises:
            CmkdError: the ratio is negative or not finite.

        Example:
            >>> import tempfile
            >>> from cmkd.datasets.digits import Digits
            >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits").withhold(labels=40)
            >>> len(pack.rows("train")), len(pack.limit_unlabeled(2).rows("train"))
            (1077, 120)
        """
        if not 0 <= ratio < np.inf:
            raise CmkdError(f"the ratio of pairs without a label must be at least 0 and finite, got {ratio}")
        rows = self.rows("train", labeled=False)
        number = min(len(rows), round(ratio * len(self.rows("train", labeled=True))))
        if number == len(rows):
            return self
        out = rows[left_out(self.index["id"].iloc[rows], self._partial(rows), number)]
        splits = self._splits.copy()
        splits[out] = ""
        return self._changed("split", splits, ("limit_unlabeled", (ratio,)))

    def mislabel(self, fraction: float) -> Pack:
        """Return the same pack with a fraction of the visible training labels replaced by another class.

        The choice depends on the ids. Validation and test keep their labels, and nothing is written.

        Args:
            fraction: fraction of the visible labels to replace, at least 0 and below 1.

        Raises:
            CmkdError: the fraction is out of range, or there is only one class.

        Example:
            >>> import tempfile
            >>> from cmkd.datasets.digits import Digits
            >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits")
            >>> int((pack.mislabel(0.1).index["label"] != pack.index["label"]).sum())  # of 1,077 training labels
            108
        """
        if not 0 <= fraction < 1 or len(self.classes) < 2:
            raise CmkdError(
                f"label_noise cannot be {fraction} with {len(self.classes)} classes; give at least 0 and below 1"
            )
        if not fraction:
            return self
        rows, own = self._labeled()
        labels = wrong_labels(self._labels[rows], own["id"], fraction, len(self.classes))
        return self._relabeled(rows, labels, ("mislabel", (fraction,)))

    def _labeled(self) -> tuple[NDArray[np.int64], pd.DataFrame]:
        """Return the labeled training pairs: positions, and their part of the index."""
        rows = self.rows("train", labeled=True)
        return rows, self.index.iloc[rows]

    def _partial(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the pairs lack a modality."""
        lacking: NDArray[np.bool_] = ~np.all([present[rows] for present in self._present.values()], axis=0)
        return lacking

    def _relabeled(self, rows: NDArray[np.int64], labels: NDArray[np.int64] | int, call: LabelCall) -> Pack:
        changed = self._labels.copy()
        changed[rows] = labels
        return self._changed("label", changed, call)

    def _changed(self, column: str, values: NDArray[Any], call: LabelCall) -> Pack:
        index, calls = self.index.assign(**{column: values}), (*self.label_calls, call)
        return Pack(self.path, self.card, index, label_calls=calls, remote=self._remote)

    def folds(self, count: int) -> NDArray[np.int64]:
        """Return the fold of every row ``(rows,)``, from 0; -1 except for training pairs with a visible label.

        Pairs of one group are in the same fold. Groups, and pairs without a group, are dealt in the order of a hash of
        their name, so the folds depend only on the names, and their sizes differ by one group at most.

        Args:
            count: number of folds, at least 2.

        Raises:
            CmkdError: there are fewer groups than folds.
        """
        rows, own = self._labeled()
        fold = np.full(len(self), -1, dtype=np.int64)
        fold[rows] = folds_of(own["group"], own["id"], count)
        return fold

    def without_fold(self, fold: int, count: int) -> Pack:
        """Return the same pack with the labels of one of `count` folds hidden; see `folds`."""
        rows = np.flatnonzero(self.folds(count) == fold)
        return self._relabeled(rows, UNLABELED, ("without_fold", (fold, count)))

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modalities by name."""
        return dict(self.card.modalities)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in them."""
        return self.card.classes

    def modality(self, name: str) -> Modality:
        """Return one modality; for an unknown name, raise `CmkdError` with the nearest one."""
        if name not in self.card.modalities:
            raise unknown_name("modality", name, self.card.modalities)
        return self.card.modalities[name]

    @property
    def place(self) -> Path | str:
        """The folder, or the address of a pushed pack."""
        return self._remote.address if self._remote else self.path

    def array(self, name: str) -> NDArray[Any] | StreamedArray:
        """Return a modality's array ``(rows, *shape)``, read-only; missing rows are zeros.

        The array is memory-mapped. The array of a pushed pack takes one index, along its rows.

        Invalid samples are as stored: `Modality.masked` marks them, and `Modality.filled` returns what a network reads.
        """
        if name not in self._arrays:
            modality = self.modality(name)
            if self._remote is not None:
                self._arrays[name] = self._remote.array(modality, self.card.rows)
                return self._arrays[name]
            mapped = np.memmap(
                self.path / modality.file, dtype=modality.dtype, mode="r", shape=(self.card.rows, *modality.shape)
            )
            self._arrays[name] = np.asarray(mapped)  # a plain view, since gathers from numpy's subclass are slower
        return self._arrays[name]

    def rows(self, split: str, *, modalities: Sequence[str] = (), labeled: bool | None = None) -> NDArray[np.int64]:
        """Return the positions of the pairs of a split, ascending.

        Args:
            split: ``train``, ``validation`` or ``test``.
            modalities: keep only pairs that have all of these.
            labeled: True keeps pairs with a label, False those without, None all.

        Raises:
            CmkdError: the split or a modality is unknown.
        """
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        keep = self._splits == split
        for name in modalities:
            keep = keep & self._present[self.modality(name).name]
        if labeled is not None:
            keep = keep & ((self._labels != UNLABELED) == labeled)
        return np.flatnonzero(keep).astype(np.int64)

    def batch(self, rows: NDArray[np.integer[Any]] | Tensor, modalities: Sequence[str] | None = None) -> Batch:
        """Gather pairs in the stored dtype, on the CPU; invalid and missing values are filled (`Modality.filled`).

        Args:
            rows: ``(batch,)`` positions, in any order, repeats allowed.
            modalities: names of the inputs to read; by default all. `Batch.present` covers all modalities.

        Raises:
            IndexError: a position is outside the pack.
            CmkdError: a modality is unknown.
        """
        import torch  # imported here, since it takes seconds and showing a pack does not need it

        positions = np.asarray(rows, dtype=np.int64).reshape(-1)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"rows {positions.min()} to {positions.max()} are not all within 0 to {len(self) - 1}")
        names = list(self.card.modalities) if modalities is None else [self.modality(name).name for name in modalities]
        return Batch(
            {name: torch.from_numpy(self._filled(name, positions)) for name in names},
            torch.from_numpy(self._labels[positions]),
            torch.from_numpy(positions.copy()),
            {name: torch.from_numpy(present[positions]) for name, present in self._present.items()},
        )

    def _filled(self, name: str, positions: NDArray[np.int64]) -> NDArray[Any]:
        modality, values = self.card.modalities[name], self.array(name)[positions]
        present = self._present[name][positions]
        if modality.nodata is not None:
            values = modality.filled(values)
        if present.all() or modality.kind in ("points", "point_series"):  # zeros are padding there
            return values
        missing = np.broadcast_to(~present.reshape(-1, *[1] * len(modality.shape)), values.shape)
        return modality.filled(np.ma.MaskedArray(values, missing))

    def samples(self, name: str, rows: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """Yield samples of a modality as `array` holds them; reads several at a time, to save requests."""
        array = self.array(name)
        step = max(1, min(TOGETHER, CHUNK_BYTES // self.modality(name).row_bytes))
        for start in range(0, len(rows), step):
            yield from array[rows[start : start + step]]

    def verify(self, *, deep: bool = True, progress: Progress = silent) -> None:
        """Check the pack's files against the card, and the card against its own checksum.

        An edit of the card is found, unless the card's checksum was replaced too.

        Args:
            deep: also compare the sha256 of every file, not only sizes, the card and the index.
            progress: called as bytes are read.

        Raises:
            CmkdError: a file is truncated or changed.
        """
        again = Pack.open(self.place, self.card.version)
        if not CardFile.read(self.path).unedited:
            raise CmkdError(f"{self.place}/card.json was edited by hand (sha256); restore it, or {AGAIN}")
        if deep:
            again.verify_content(progress)

    def verify_content(self, progress: Progress = silent) -> None:
        """Compare the sha256 of every file, indexes of earlier versions included, with the card.

        A card whose texts were edited is accepted.

        Raises:
            CmkdError: a file has changed.
        """
        modalities = {modality.file: modality for modality in self.card.modalities.values()}
        sizes = {name: self.card.rows * modality.row_bytes for name, modality in modalities.items()}
        read = adding(progress, sum(sizes.get(name, 0) for name in self.card.sha256))
        for version in self.card.history[:-1]:
            self._check_index(index_name(version.version), version.index_sha256)
        for name, expected in self.card.sha256.items():
            content: Iterable[bytes | memoryview] = pieces(self.path / name, sizes.get(name))
            if name in modalities and self._remote is not None:
                content = self._remote.array(modalities[name], self.card.rows).pieces()
            if checksum(_told(content, read) if name in sizes else content) != expected:
                raise CmkdError(f"{self.place}/{name} has changed since the pack was made (sha256); {AGAIN}")

    def _check_index(self, name: str, expected: str) -> None:
        """Compare the index of an earlier version, which opening this one does not read."""
        if self._remote is not None:
            self._remote.copied(name, expected)
        elif not (self.path / name).is_file() or checksum(self.path / name) != expected:
            raise CmkdError(f"{self.path / name} is missing or has changed (sha256); {AGAIN}")


def _told(content: Iterable[bytes | memoryview], read: Callable[[float], None]) -> Iterator[bytes | memoryview]:
    for piece in content:
        read(len(piece))
        yield piece


def _reopen(path: Path | str, version: int, calls: Sequence[LabelCall]) -> Pack:
    pack = Pack.open(path, version)
    for method, arguments in calls:
        pack = getattr(pack, method)(*arguments)
    return pack
