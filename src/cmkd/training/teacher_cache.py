"""A teacher's outputs on the training pairs: computed once, memory-mapped, and shared by students, seeds and runs.

An entry of the cache is a folder that belongs to one teacher, one set of pairs and one augmentation, all identified by
their content:

- ``entry.json``: what the entry belongs to, and the shape of each array;
- ``rows.bin``: positions of the pairs in the pack, ascending;
- ``logits.bin``, ``embedding.bin``, ``map-<stage>.bin``: float32 arrays ``(views, pairs, ...)``;
- ``done.json``: how many samples are filled, and the maps in channels-last order; a fill that was killed resumes there.

Files that are missing, too short or unreadable make an entry empty: it is then filled again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.io import checksum, locked, write_bytes, write_json
from cmkd.progress import Progress
from cmkd.training.answers import DONE, ENTRY, ROWS, Answers, lock_of, read_done, read_entry
from cmkd.types import Output

FORMAT = 2
CHUNK = 256
"""Number of samples that are computed and written at a time."""
SECONDS = 2.0
"""Seconds after which the samples so far count as filled; a killed fill loses at most the samples of this time."""
MapSizes = Mapping[int, tuple[int, int] | None]
"""Stage of a feature map -> height and width to average-pool it to; None keeps its size."""
Compute = Callable[[NDArray[np.int64], int], Output]
"""Function of positions in the pack and a view; returns the teacher's output, with the maps to keep, in order."""


@dataclass(frozen=True)
class Contents:
    """Contents of an entry, before it is filled.

    Args:
        key: everything that the values depend on except the maps, JSON-serializable.
        modality: name of the teacher's modality.
        rows: positions of the pairs in the pack, ``(n,)`` int64, ascending.
        classes: width of the logits.
        dim: width of the embedding.
        stages: number of the teacher's feature maps.
        maps: stage -> shape of each map that is kept.
        views: number of records per pair.
        averaged: number of views over which each record is averaged.
    """

    key: Mapping[str, Any]
    modality: str
    rows: NDArray[np.int64]
    classes: int
    dim: int
    stages: int
    maps: Mapping[int, tuple[int, int, int]]
    views: int
    averaged: int = 1

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each array."""
        first = (self.views, len(self.rows))
        shapes = {"logits": (*first, self.classes), "embedding": (*first, self.dim)}
        return shapes | {f"map-{stage}": (*first, *shape) for stage, shape in self.maps.items()}

    @property
    def samples(self) -> int:
        """Number of records of the entry."""
        return self.views * len(self.rows)

    @property
    def bytes(self) -> int:
        """Size of the arrays on disk, in bytes."""
        return sum(4 * math.prod(shape) for shape in self.arrays.values())

    @property
    def base(self) -> str:
        """Digest of the key; entries that differ only in their maps share it."""
        key = {**self.key, "format": FORMAT, "views": self.views, "averaged": self.averaged}
        text = json.dumps(key, sort_keys=True)
        return checksum([text.encode(), self.rows.tobytes()])[:20]

    @property
    def name(self) -> str:
        """Name of the entry's folder."""
        return f"{self.base}-{checksum([json.dumps(self.arrays).encode()])[:8]}"


@dataclass(frozen=True)
class TeacherCache:
    """A folder of entries with a limited size; the least recently used entries are removed first.

    Two processes can request the same entry at the same time: one fills it while the other waits.

    Args:
        folder: folder that holds the entries.
        limit: largest size of all entries together, in bytes.
    """

    folder: Path
    limit: int

    def answers(self, contents: Contents, compute: Compute, *, progress: Progress | None = None) -> Answers | None:
        """Return the records, computed now or before; None if the limit leaves no room for them.

        Args:
            contents: contents of the wanted entry; an entry that holds more maps serves too.
            compute: function that computes the teacher's outputs.
            progress: function that receives the number of samples done and their total number.

        Raises:
            CmkdError: if the disk is full or cannot be written.
        """
        stages = tuple(sorted(contents.maps))
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(self.folder.glob(f"{contents.base}-*")):
            with locked(lock_of(folder), shared=True, wait=True):
                if _state(folder, contents)["samples"] == contents.samples:
                    return Answers(folder, stages)
        folder = self.folder / contents.name
        with locked(lock_of(folder), shared=True, wait=True):
            folder.mkdir(exist_ok=True)
            with locked(folder / ".filling", wait=True):
                there = self._filled(folder, contents, compute, progress)
            if there:
                return Answers(folder, stages)
        with locked(self.folder / ".room", wait=True):
            _remove(folder)
        return None

    def _filled(self, folder: Path, contents: Contents, compute: Compute, progress: Progress | None) -> bool:
        """Fill the missing part of an entry; return False if there is no room for it."""
        state = _state(folder, contents)
        try:
            if state["samples"] < contents.samples:
                if not self._begin(folder, contents, state):
                    return False
                _fill(folder, contents, state, compute, progress)
        except OSError as error:
            raise CmkdError(
                f"cannot cache the teacher's outputs in '{self.folder}' ({error}); free some space, or set CMKD_CACHE "
                "to another folder"
            ) from error
        return True

    def _begin(self, folder: Path, contents: Contents, state: dict[str, Any]) -> bool:
        """Make room for an entry and describe it; return False if there is no room."""
        with locked(self.folder / ".room", wait=True):
            if not self._make_room(contents, folder):
                return False
            if not state["samples"]:
                (folder / DONE).unlink(missing_ok=True)
                write_bytes(folder / ROWS, contents.rows.tobytes())
                arrays = {name: list(shape) for name, shape in contents.arrays.items()}
                about = {"modality": contents.modality, "maps": contents.stages, "arrays": arrays, "key": contents.key}
                write_json(folder / ENTRY, about)
        return True

    def _make_room(self, contents: Contents, own: Path) -> bool:
        """Remove the least recently used entries that no process has open, until the new one fits."""
        others = [folder for folder in self.folder.iterdir() if folder.is_dir() and folder != own]
        sizes = {folder: _size(folder) for folder in sorted(others, key=_used)}
        excess = sum(sizes.values()) + contents.bytes - self.limit
        if contents.bytes <= self.limit:
            for folder, size in sizes.items():
                if excess > 0 and _remove(folder):
                    excess -= size
        return excess <= 0


def _remove(folder: Path) -> bool:
    """Remove an entry, unless a process has it open; return whether it is gone."""
    with locked(lock_of(folder)) as free:
        if free:
            shutil.rmtree(folder, ignore_errors=True)
    return free


def _used(folder: Path) -> float:
    entry = folder / ENTRY
    return entry.stat().st_mtime if entry.exists() else folder.stat().st_mtime


def _size(folder: Path) -> int:
    """Return the size of an entry in bytes, including what is still to be filled."""
    try:
        return sum(4 * math.prod(shape) for shape in read_entry(folder).arrays.values())
    except CmkdError:
        return sum(file.stat().st_size for file in folder.glob("*.bin"))


def _state(folder: Path, contents: Contents) -> dict[str, Any]:
    """Return how much of the contents an entry holds; no samples if it lacks an array or a file is damaged."""
    try:
        entry, done = read_entry(folder), read_done(folder)
        sizes = {name: 4 * done.samples * math.prod(shape[2:]) for name, shape in contents.arrays.items()}
        if (
            np.array_equal(np.fromfile(folder / ROWS, dtype=np.int64), contents.rows)
            and all(entry.arrays.get(name) == tuple(shape) for name, shape in contents.arrays.items())
            and all((folder / f"{name}.bin").stat().st_size >= size for name, size in sizes.items())
            and set(done.channels_last) <= entry.arrays.keys()
            and (entry.maps, entry.modality) == (contents.stages, contents.modality)
            and done.samples <= contents.samples
        ):
            return {"samples": done.samples, "channels_last": list(done.channels_last)}
    except (OSError, CmkdError):
        pass
    return {"samples": 0}


def _fill(folder: Path, contents: Contents, state: dict[str, Any], compute: Compute, progress: Progress | None) -> None:
    """Compute what is missing. Arrays are written, not mapped, so that a full disk is an error and not a crash."""
    total, done, last = contents.samples, state["samples"], state.get("channels_last")
    with ExitStack() as opened:
        files = {}
        for name in contents.arrays:
            path = folder / f"{name}.bin"
            path.touch()
            files[name] = opened.enter_context(path.open("r+b"))
        saved = time.monotonic()
        while done < total:
            view, start = divmod(done, len(contents.rows))
            rows = contents.rows[start : start + CHUNK]
            output = _averaged(compute, rows, view, contents.averaged)
            kept = dict(zip(sorted(contents.maps), output.feature_maps, strict=True))
            values = {"logits": output.logits, "embedding": output.embedding}
            values |= {f"map-{stage}": value for stage, value in kept.items()}
            last = [name for name, value in values.items() if _is_channels_last(value)] if last is None else last
            for name, file in files.items():
                value = values[name].permute(0, 2, 3, 1) if name in last else values[name]
                array = value.float().cpu().contiguous().numpy()
                file.seek(4 * done * math.prod(contents.arrays[name][2:]))
                file.write(array.tobytes())
            done += len(rows)
            if done == total or time.monotonic() - saved > SECONDS:
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
                write_json(folder / DONE, {"samples": done, "channels_last": last})
                saved = time.monotonic()
            if progress is not None:
                progress(done, total)


def _is_channels_last(value: Tensor) -> bool:
    """Return whether a tensor has the strides of channels-last, even if a side is 1 and other orders look alike."""
    if value.dim() != 4:
        return False
    return value.stride() == torch.empty(value.shape, device="meta", memory_format=torch.channels_last).stride()


def _averaged(compute: Compute, rows: NDArray[np.int64], view: int, count: int) -> Output:
    """Return the output on one view, or averaged over the first `count`.

    Class probabilities, embeddings and maps are averaged. The logits returned have these probabilities, and their
    log-partition is the mean over the views, so that the average of equal outputs is that output.
    """
    if count == 1:
        return compute(rows, view)
    outputs = [compute(rows, k) for k in range(count)]
    logits = torch.stack([o.logits.float() for o in outputs])
    partition = logits.logsumexp(2, keepdim=True)
    mean = (logits - partition).logsumexp(0) - math.log(count) + partition.mean(0)
    return Output(
        mean,
        torch.stack([o.embedding for o in outputs]).mean(0),
        tuple(torch.stack(maps).mean(0) for maps in zip(*(o.feature_maps for o in outputs), strict=True)),
    )
