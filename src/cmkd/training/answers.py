"""A teacher's outputs as a training reads them: from a filled entry of the cache, row by row, memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmkd.io import lock, read_json
from cmkd.types import Output

ENTRY, ROWS, DONE = "entry.json", "rows.bin", "done.json"
"""Files of an entry beside its arrays; see `cmkd.training.teacher_cache`."""


class Answers:
    """A teacher's outputs on pairs of a pack, from a filled entry of the cache.

    Pickling carries the path only. An entry is not removed before `close`.

    Args:
        folder: of the entry.
        stages: the feature maps to read; the others are delivered as empty tensors.

    Attributes:
        modality: name of the teacher's modality.
        views: number of views with a record of their own; 1 where the views of a pair were averaged.
    """

    def __init__(self, folder: Path, stages: tuple[int, ...] = ()) -> None:
        self.folder, self.stages = folder, stages
        self._held = lock(lock_of(folder), shared=True, wait=True)
        about = read_json(folder / ENTRY)
        self.modality: str = about["modality"]
        self.maps: int = about["maps"]
        self._rows = np.fromfile(folder / ROWS, dtype=np.int64)
        wanted = ("logits", "embedding", *(f"map-{stage}" for stage in stages))
        # the layout that the teacher gives: another would change the order of sums, and so the last bits of a training
        self._channels_last = set(read_json(folder / DONE)["channels_last"])
        self._arrays = {name: self._mapped(name, about["arrays"][name]) for name in wanted}
        self.views: int = about["arrays"]["logits"][0]
        os.utime(folder / ENTRY)  # the time of its last use

    def _mapped(self, name: str, shape: list[int]) -> NDArray[np.float32]:
        if 0 in shape:
            return np.zeros(shape, dtype=np.float32)
        stored = [*shape[:2], *shape[3:], shape[2]] if name in self._channels_last else shape
        return np.asarray(np.memmap(self.folder / f"{name}.bin", dtype=np.float32, mode="r", shape=tuple(stored)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Answers, (self.folder, self.stages)

    def close(self) -> None:
        """Let the entry be removed; nothing is read from it afterwards."""
        held, self._held = getattr(self, "_held", None), None
        if held is not None and held >= 0:
            os.close(held)

    __del__ = close

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the positions have a record."""
        return self._find(rows)[1]

    def _find(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        place = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
        return place, np.asarray(self._rows[place] == rows)

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> tuple[Tensor, Output]:
        """Return which pairs have a record ``(batch,)``, and the records; those of other pairs mean nothing.

        Args:
            rows: ``(batch,)`` positions in the pack.
            views: ``(batch,)`` view of each.
        """
        place, known = self._find(rows)
        values = {name: torch.from_numpy(array[views % self.views, place]) for name, array in self._arrays.items()}
        values |= {name: values[name].permute(0, 3, 1, 2) for name in self._channels_last & values.keys()}
        empty = values["logits"].new_zeros(len(rows), 0, 0, 0)
        maps = tuple(values.get(f"map-{stage}", empty) for stage in range(self.maps))
        return torch.from_numpy(known), Output(values["logits"], values["embedding"], maps)


def lock_of(folder: Path) -> Path:
    """Return the file whose lock keeps an entry; beside it, since a removed folder cannot be locked."""
    return folder.with_name(f".{folder.name}.lock")
