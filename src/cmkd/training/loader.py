"""Batches of a pack in an order that depends on (seed, step) alone; divided over processes, and resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.training.answers import Answers
from cmkd.types import Batch

RUNS = 16
"""Number of runs of neighboring rows per window; our choice, so that a window holds pairs from 16 places."""


def windowed(rows: NDArray[np.int64], window: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return all rows, shuffled so that each window of `window` rows comes from few places.

    Runs of ``window / RUNS`` neighbors are put in random order, and then the rows within each window are shuffled.

    Args:
        rows: ``(n,)``, rows to shuffle.
        window: number of rows that are shuffled together.
        generator: random generator of the order.

    Example:
        >>> mixed = windowed(np.arange(64), 32, np.random.default_rng(0))
        >>> mixed[:32].tolist() != sorted(mixed[:32]), sorted(mixed) == list(range(64))
        (True, True)
    """
    run = max(1, window // RUNS)
    starts = generator.permutation(np.arange(0, len(rows), run))
    mixed = np.concatenate([rows[start : start + run] for start in starts])
    for start in range(0, len(mixed), window):
        generator.shuffle(mixed[start : start + window])
    return mixed


class PairLoader:
    """Iterate over the batches of one epoch; `set_epoch` selects the epoch.

    Training draws from one stream: all rows in random order, then all rows in another order, and so on. Each time a row
    comes again, it is another view of the pair, so no two samples of a training are the same, unless `views` is set.
    Epochs are consecutive parts of the stream.

    Args:
        pack: pack that holds the pairs.
        rows: positions in the pack, ``(n,)`` int64.
        modalities: modalities to read as inputs.
        batch_size: pairs per step, over all processes together.
        shuffle: use the stream above, for training; otherwise read every row once, in order.
        seed: random seed of the order.
        rank: number of this process.
        world: number of processes; each reads every `world`-th row of a batch, in which the `taught` rows come first.
        pairs: number of pairs in a training epoch; by default the number of rows.
        views: number of different views of a pair, repeated in turn; 0 for no limit.
        window: shuffle by `windowed` instead of over all rows.
        answers: the teacher's outputs, delivered as `Batch.teacher`; `Batch.taught` says which pairs have one.
        taught: rows with the teacher's outputs that the method reads, by default all. Each process gets an equal share
            of them, because a method is skipped in a step in which one process has none.

    Raises:
        CmkdError: if the batch size is not a multiple of the number of processes, or there are fewer training rows than
            processes.
    """

    def __init__(
        self,
        pack: Pack,
        rows: np.ndarray,
        modalities: Sequence[str],
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        pairs: int | None = None,
        views: int = 0,
        window: int | None = None,
        answers: Answers | None = None,
        taught: np.ndarray | None = None,
    ) -> None:
        if batch_size % world:
            raise CmkdError(
                f"a batch of {batch_size} pairs cannot be split over {world} processes; choose a multiple of {world}"
            )
        if shuffle and len(rows) < world:
            raise CmkdError(f"{len(rows)} training pairs cannot be split over {world} processes; use fewer devices")
        self.pack, self.rows, self.modalities = pack, np.asarray(rows, dtype=np.int64), tuple(modalities)
        self.pairs = len(rows) if pairs is None else pairs
        self.batch_size = min(batch_size, self.pairs // world * world) if shuffle else batch_size
        self.shuffle, self.seed, self.rank, self.world = shuffle, seed, rank, world
        self.views, self.window, self.answers = views, window, answers
        self.taught = np.full(len(pack), taught is None)
        self.taught[[] if taught is None else taught] = True
        self.epoch, self._position = 0, 0
        self._permuted = lru_cache(2)(self._permutation)  # a batch may cover the end of one and the start of another

    def __len__(self) -> int:
        count = self.pairs // self.batch_size if self.shuffle else -(-len(self.rows) // self.batch_size)
        return max(1, count)

    def set_epoch(self, epoch: int) -> None:
        """Select an epoch, from 0, and start at its first batch."""
        self.epoch, self._position = epoch, 0

    def order(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of a step of the current epoch, over all processes, and the view of each."""
        if not self.shuffle:
            rows = self.rows[step * self.batch_size : (step + 1) * self.batch_size]
            return rows, np.zeros_like(rows)
        first = (self.epoch * len(self) + step) * self.batch_size
        round_, place = np.divmod(np.arange(first, first + self.batch_size), len(self.rows))
        rows = np.concatenate([self._permuted(int(r))[place[round_ == r]] for r in np.unique(round_)])
        return rows, round_ % self.views if self.views else round_

    def _permutation(self, round_: int) -> NDArray[np.int64]:
        generator = np.random.default_rng([self.seed, round_])
        return generator.permutation(self.rows) if self.window is None else windowed(self.rows, self.window, generator)

    def __iter__(self) -> Iterator[Batch]:
        start = self._position
        with ThreadPoolExecutor(1) as reader:
            ahead: Future[Batch] = reader.submit(self._read, start)
            for step in range(start, len(self)):
                batch = ahead.result()
                if step + 1 < len(self):
                    ahead = reader.submit(self._read, step + 1)
                self._position = (step + 1) % len(self)
                yield batch

    def _share(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return this process's rows of a step, and their views."""
        rows, views = self.order(step)
        if self.world > 1:
            dealt = np.argsort(~self.taught[rows], kind="stable")
            rows, views = rows[dealt], views[dealt]
        return rows[self.rank :: self.world], views[self.rank :: self.world]

    def _read(self, step: int) -> Batch:
        rows, views = self._share(step)
        batch = self.pack.batch(rows, self.modalities)
        batch = replace(batch, view=torch.from_numpy(views), labeled_rows=batch.labeled.nonzero()[:, 0])
        if self.answers is not None:
            known, teacher = self.answers.read(rows, views)
            batch = replace(batch, teacher=teacher, taught=known)
        if torch.cuda.is_available():
            batch = batch.pin_memory()
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return the position of the next batch."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at the saved batch."""
        self.epoch, self._position = state["epoch"], state["position"]
