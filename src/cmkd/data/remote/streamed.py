"""An array that is stored in shards at an address and read by rows, one block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.remote.cache import BlockCache
from cmkd.data.remote.layout import AGAIN, ShardedArray
from cmkd.data.remote.store import TRIES, Store
from cmkd.errors import CmkdError
from cmkd.io import checksum

GROUP_BYTES = 16 * 2**20
"""Number of bytes of blocks fetched together and held in memory."""


class StreamedArray:
    """Rows of an array, read from the cache or else from the store; takes numpy indexes along its first axis.

    Args:
        store: store that holds the shards.
        cache: cache of blocks on disk.
        sharded: description of the shards.
        digests: sha256 of each block, ``(blocks, 32)`` uint8.
        shape: ``(rows, ...)`` of the version; the shards may hold more rows.
        dtype: name of the numpy dtype.
    """

    def __init__(
        self,
        store: Store,
        cache: BlockCache,
        sharded: ShardedArray,
        digests: NDArray[np.uint8],
        shape: tuple[int, ...],
        dtype: str,
    ) -> None:
        self._store, self._cache, self._sharded, self._digests = store, cache, sharded, digests
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._positions = np.arange(shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401  # whatever numpy takes as one index
        positions = self._positions[key]
        rows = self._rows(np.atleast_1d(positions).reshape(-1))
        return rows.view(self.dtype).reshape(*np.shape(positions), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401
        return self[:].astype(dtype or self.dtype, copy=False)

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes of all rows, in order."""
        step = max(1, GROUP_BYTES // self._sharded.row_bytes)
        for start in range(0, len(self), step):
            yield self._rows(self._positions[start : start + step]).data

    def _rows(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        sharded = self._sharded
        values = np.empty((len(positions), sharded.row_bytes), np.uint8)
        block, place = np.divmod(positions, sharded.block_rows)
        order = np.argsort(block, kind="stable")
        numbers, first = np.unique(block[order], return_index=True)
        parts = dict(zip(numbers.tolist(), np.split(order, first[1:]), strict=True)) if len(order) else {}

        def take(number: int, content: NDArray[np.uint8]) -> None:
            values[parts[number]] = content.reshape(-1, sharded.row_bytes)[place[parts[number]]]

        missing = []
        for number in parts:
            found = self._cache.get(self._name(number), sharded.place(number)[2])
            if found is None:
                missing.append(number)
            else:
                take(number, found)
        step = max(1, min(GROUP_BYTES, self._cache.limit // 4) // (sharded.block_rows * sharded.row_bytes))
        for start in range(0, len(missing), step):
            fetched = self._fetched(missing[start : start + step])
            for number, content in fetched.items():
                take(number, np.frombuffer(content, np.uint8))
            self._cache.keep({self._name(number): content for number, content in fetched.items()})
        return values

    def _name(self, number: int) -> str:
        return bytes(self._digests[number]).hex()

    def _fetched(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Return blocks from the store, with verified checksums."""
        fetched: dict[int, bytes] = {}
        for _ in range(TRIES):
            wanted: dict[str, dict[int, tuple[int, int]]] = {}
            for number in numbers:
                if number not in fetched:
                    name, start, length = self._sharded.place(number)
                    wanted.setdefault(name, {})[number] = (start, length)
            found = self._store.ranges({name: list(parts.values()) for name, parts in wanted.items()})
            for name, parts in wanted.items():
                for number, content in zip(parts, found[name], strict=True):
                    if checksum([content]) == self._name(number):
                        fetched[number] = content
            if len(fetched) == len(numbers):
                return fetched
        bad = next(number for number in numbers if number not in fetched)
        name = self._sharded.place(bad)[0]
        raise CmkdError(f"{self._store.address}/{name} is damaged (sha256 of a block): {AGAIN}")
