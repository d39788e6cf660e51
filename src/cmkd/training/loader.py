"""Batches of a pack in an order that depends on (seed, epoch) alone; divided over processes, and resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.types import Batch


class PairLoader:
    """Iterate over the batches of one epoch; `set_epoch` selects it.

    Args:
        pack: the pairs.
        rows: positions in the pack, ``(n,)`` int64.
        modalities: the inputs to read.
        batch_size: pairs a step, over all processes together.
        shuffle: for training: a new order each epoch, and no incomplete last batch. Otherwise every row once, in order.
        seed: of the order.
        rank: number of this process.
        world: number of processes; each reads every `world`-th row of a batch.
        pairs: number of pairs in a training epoch; by default all rows once. More repeat rows, equally often.

    Raises:
        CmkdError: the batch size is not a multiple of the number of processes.
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
    ) -> None:
        if batch_size % world:
            raise CmkdError(
                f"a batch of {batch_size} pairs cannot be divided over {world} processes; choose a multiple of {world}"
            )
        self.pack, self.rows, self.modalities = pack, np.asarray(rows, dtype=np.int64), tuple(modalities)
        self.pairs = len(rows) if pairs is None else pairs
        self.batch_size = min(batch_size, self.pairs // world * world) if shuffle else batch_size
        self.shuffle, self.seed, self.rank, self.world = shuffle, seed, rank, world
        self.epoch, self._position = 0, 0

    def __len__(self) -> int:
        count = self.pairs // self.batch_size if self.shuffle else -(-len(self.rows) // self.batch_size)
        return max(1, count)

    def set_epoch(self, epoch: int) -> None:
        """Select an epoch, from 0, and start at its first batch."""
        self.epoch, self._position = epoch, 0

    def order(self, epoch: int) -> np.ndarray:
        """Return the rows in the order of an epoch."""
        if not self.shuffle:
            return self.rows
        generator = np.random.default_rng([self.seed, epoch])
        rounds = -(-self.pairs // len(self.rows))
        return np.concatenate([generator.permutation(self.rows) for _ in range(rounds)])[: max(self.pairs, 1)]

    def __iter__(self) -> Iterator[Batch]:
        order, start = self.order(self.epoch), self._position
        with ThreadPoolExecutor(1) as reader:
            ahead: Future[Batch] = reader.submit(self._read, order, start)
            for step in range(start, len(self)):
                batch = ahead.result()
                if step + 1 < len(self):
                    ahead = reader.submit(self._read, order, step + 1)
                self._position = (step + 1) % len(self)
                yield batch

    def _read(self, order: np.ndarray, step: int) -> Batch:
        rows = order[step * self.batch_size : (step + 1) * self.batch_size][self.rank :: self.world]
        batch = self.pack.batch(rows, self.modalities)
        if torch.cuda.is_available():
            batch = batch.pin_memory()
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return the position of the next batch."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at the saved batch."""
        self.epoch, self._position = state["epoch"], state["position"]
