"""A teacher's outputs, as training reads them: row by row and memory-mapped, from a filled entry of the cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmkd.documents import read_json, record
from cmkd.io import lock
from cmkd.options import Bounds
from cmkd.types import Output

ENTRY, ROWS, DONE = "entry.json", "rows.bin", "done.json"
"""Files of an entry beside its arrays; see `cmkd.training.teacher_cache`."""
AGAIN = "remove its folder, and it is made again"
"""Advice for a damaged entry."""


@dataclass(frozen=True)
class Entry:
    """Schema of ``entry.json``: description of the arrays of an entry.

    Args:
        modality: name of the teacher's modality.
        maps: number of the teacher's feature maps.
        arrays: name -> shape ``(views, pairs, ...)``.
    """

    modality: str
    maps: Annotated[int, Bounds(least=0)]
    arrays: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Done:
    """Schema of ``done.json``: how far an entry is filled.

    Args:
        samples: number of records that are filled.
        channels_last: names of the arrays that are stored in channels-last order.
    """

    samples: Annotated[int, Bounds(least=0)]
    channels_last: tuple[str, ...]


def read_entry(folder: Path) -> Entry:
    """Read the description of the arrays of an entry.

    Raises:
        CmkdError: if the file is missing or damaged.
    """
    return record(Entry, read_json(folder / ENTRY, fix=AGAIN), f"'{folder / ENTRY}'", fix=AGAIN)


def read_done(folder: Path) -> Done:
    """Read how far an entry is filled.

    Raises:
        CmkdError: if the file is missing or damaged.
    """
    return record(Done, read_json(folder / DONE, fix=AGAIN), f"'{folder / DONE}'", fix=AGAIN)


class Answers:
    """A teacher's outputs on pairs of a pack, from a filled entry of the cache.

    Pickling carries only the path and the stages. An entry is not removed before `close`.

    Args:
        folder: folder of the entry.
        stages: feature maps to read; the others are delivered as empty tensors.

    Attributes:
        modality: name of the teacher's modality.
        views: number of views with a record of their own; 1 if the views of a pair were averaged.
    """

    def __init__(self, folder: Path, stages: tuple[int, ...] = ()) -> None:
        self.folder, self.stages = folder, stages
        self._held = lock(lock_of(folder), shared=True, wait=True)
        about, done = read_entry(folder), read_done(folder)
        self.modality, self.maps = about.modality, about.maps
        self._rows = np.fromfile(folder / ROWS, dtype=np.int64)
        wanted = ("logits", "embedding", *(f"map-{stage}" for stage in stages))
        # the layout of the teacher's output: another would change the order of sums, and thus the last bits of results
        self._channels_last = set(done.channels_last)
        self._arrays = {name: self._mapped(name, about.arrays[name]) for name in wanted}
        self.views = about.arrays["logits"][0]
        os.utime(folder / ENTRY)  # marks the time of last use

    def _mapped(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if 0 in shape:
            return np.zeros(shape, dtype=np.float32)
        stored = (*shape[:2], *shape[3:], shape[2]) if name in self._channels_last else shape
        return np.asarray(np.memmap(self.folder / f"{name}.bin", dtype=np.float32, mode="r", shape=stored))

    def __reduce__(self) -> tuple[Any, ...]:
        return Answers, (self.folder, self.stages)

    def close(self) -> None:
        """Release the entry, so that it may be removed; nothing may be read from it afterwards."""
        held, self._held = getattr(self, "_held", None), None
        if held is not None and held >= 0:
            os.close(held)

    __del__ = close

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return a mask of the rows that have a record."""
        return self._find(rows)[1]

    def _find(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        place = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
        return place, np.asarray(self._rows[place] == rows)

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> tuple[Tensor, Output]:
        """Return a mask ``(batch,)`` of the pairs with a record, and the records; those of other pairs are meaningless.

        Args:
            rows: ``(batch,)`` positions in the pack.
            views: ``(batch,)`` view of each pair.
        """
        place, known = self._find(rows)
        values = {name: torch.from_numpy(array[views % self.views, place]) for name, array in self._arrays.items()}
        values |= {name: values[name].permute(0, 3, 1, 2) for name in self._channels_last & values.keys()}
        empty = values["logits"].new_zeros(len(rows), 0, 0, 0)
        maps = tuple(values.get(f"map-{stage}", empty) for stage in range(self.maps))
        return torch.from_numpy(known), Output(values["logits"], values["embedding"], maps)


def lock_of(folder: Path) -> Path:
    """Return the lock file that keeps an entry; it is beside the folder, since a removed folder cannot be locked.

    The file is never removed, since a process that waits for its lock would get the lock of a removed file.
    """
    return folder.with_name(f".{folder.name}.lock")
