"""``stream.json``: where the arrays of a pushed pack lie in shards, and how its blocks are checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from cmkd.documents import parse_json, record
from cmkd.errors import CmkdError
from cmkd.io import checksum
from cmkd.options import Bounds

FORMAT = 1
LAYOUT = "stream.json"
CARD = "card.json"
AGAIN = "push the pack again with `cmkd data push`"
BLOCK_BYTES = 128 * 2**10
"""Approximate size of a block, which one request reads; chosen by measurement (`benchmarks/results/streaming.md`)."""
SHARD_BYTES = 32 * 2**20
"""Approximate size of a shard, which one request writes and a killed push must send again."""
DIGEST_BYTES = 32

Positive = Annotated[int, Bounds(least=1)]


@dataclass(frozen=True, kw_only=True)
class ShardedArray:
    """The array of one modality in shards of equal numbers of rows, except for the last.

    Args:
        rows: number of rows of the latest version.
        row_bytes: number of bytes per row.
        block_rows: number of rows per block.
        shard_blocks: number of blocks per shard.
        shards: sha256 of each shard, in order.
        digests: sha256 of the object that holds the sha256 of all blocks, 32 bytes each.
    """

    rows: Positive
    row_bytes: Positive
    block_rows: Positive
    shard_blocks: Positive
    shards: tuple[str, ...]
    digests: str

    def __post_init__(self) -> None:
        if len(self.shards) != -(-self.blocks // self.shard_blocks):
            raise CmkdError(f"{self.blocks} blocks do not fit in {len(self.shards)} shards of {self.shard_blocks}")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    @property
    def shard_bytes(self) -> int:
        """Bytes of every shard but the last."""
        return self.shard_blocks * self.block_rows * self.row_bytes

    def place(self, block: int) -> tuple[str, int, int]:
        """Return the object that holds a block, its first byte there, and its length."""
        shard, within = divmod(block, self.shard_blocks)
        rows = min(self.block_rows, self.rows - block * self.block_rows)
        return object_name(self.shards[shard]), within * self.block_rows * self.row_bytes, rows * self.row_bytes


@dataclass(frozen=True)
class Layout:
    """Content of ``stream.json``.

    Args:
        history: checksum that identifies each version of the pack; see `identities`.
        arrays: arrays by modality.
    """

    history: tuple[str, ...]
    arrays: Mapping[str, ShardedArray]

    @classmethod
    def parse(cls, content: bytes, what: str) -> Layout:
        """Parse the content of the file.

        Raises:
            CmkdError: the file is damaged, or a newer release wrote it.
        """
        top = record(_LayoutFile, parse_json(content, what, fix=AGAIN), what, fix=AGAIN)
        if top.format > FORMAT:
            raise CmkdError(f"{what} has format {top.format}, but this release reads up to {FORMAT}: upgrade cmkd")
        arrays = {name: record(ShardedArray, entry, what, fix=AGAIN) for name, entry in top.arrays.items()}
        return cls(top.history, arrays)

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        arrays = {name: vars(array) for name, array in self.arrays.items()}
        return json.dumps({"format": FORMAT, "history": self.history, "arrays": arrays}, indent=1).encode() + b"\n"


@dataclass(frozen=True)
class _LayoutFile:
    """Schema of ``stream.json``."""

    format: int
    history: tuple[str, ...]
    arrays: Mapping[str, Mapping[str, Any]]


def object_name(sha256: str) -> str:
    """Return the name of the object with this sha256."""
    return f"objects/{sha256}"


def identities(versions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a checksum that identifies each version of a card, computed from its number of rows and file checksums."""
    said = ([v["rows"], v["sha256"]] for v in versions)
    return tuple(checksum([json.dumps(one, sort_keys=True).encode()]) for one in said)


def card_history(card: bytes, what: str) -> tuple[str, ...]:
    """Return `identities` of the versions of a card from the content of its file; empty if the file lists no versions.

    Raises:
        CmkdError: the card is damaged; the message calls it `what`.
    """
    try:
        return identities(parse_json(card, what, fix=AGAIN).get("versions") or ())
    except (TypeError, KeyError) as error:
        raise CmkdError(f"{what} is damaged (versions): {AGAIN}") from error


def block_digests(content: bytes, block_bytes: int) -> Iterator[bytes]:
    """Yield the sha256 of each block of a shard."""
    for start in range(0, len(content), block_bytes):
        yield hashlib.sha256(memoryview(content)[start : start + block_bytes]).digest()


def as_digests(content: bytes, blocks: int) -> NDArray[np.uint8]:
    """Return the checksums in an object, ``(blocks, 32)``."""
    return np.frombuffer(content, np.uint8).reshape(blocks, DIGEST_BYTES)
