"""The IDX format of MNIST: a header of big-endian sizes, then the values; compressed with gzip or not."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import unpacked
from cmkd.errors import CmkdError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Idx:
    """One IDX file, read in blocks in constant memory.

    Args:
        path: the file, gzip or plain.
        axes: expected number of axes, 1 for labels and 3 for gray images, by which swapped files are detected.
        address: where the file is published, for error messages.

    Attributes:
        shape: shape of the whole array.
        dtype: dtype of the values.

    Raises:
        CmkdError: the file is missing, damaged, empty, not an IDX file, or has another number of axes.

    Source:
        The layout is described on the page of MNIST (LeCun, Cortes and Burges).
    """

    def __init__(self, path: Path, *, axes: int, address: str) -> None:
        self.path, self.address = path, address
        stream = unpacked(path, address=address, size=4 + 4 * axes)
        head = next(stream, b"")
        stream.close()  # type: ignore[attr-defined]  # a generator
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
            raise CmkdError(f"{path} is not an IDX file: get it again from {address}")
        if head[3] != axes or len(head) < 4 + 4 * axes:
            raise CmkdError(
                f"{path} has {head[3]} axes, expected {axes}: is it another file with this name? "
                f"Labels have 1, images 3; get it from {address}"
            )
        self.shape = struct.unpack(f">{axes}I", head[4:])
        if not min(self.shape):
            raise CmkdError(f"{path} is empty: its sizes are {self.shape}; get it again from {address}")
        self.dtype = np.dtype(_TYPES[head[2]])
        self._start = len(head)

    def __len__(self) -> int:
        return int(self.shape[0])

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """Yield arrays ``(rows, *shape[1:])``; the last one may be shorter.

        Raises:
            CmkdError: the file holds fewer or more values than its header says.
        """
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        expected = len(self) * row_bytes
        rest, seen = b"", -self._start
        for block in unpacked(self.path, address=self.address, limit=self._start + expected + 1):
            if seen < 0:  # the header is in the first block
                block, seen = block[self._start :], 0
            seen += len(block)
            rest += block
            while len(rest) >= rows * row_bytes:
                yield self._array(rest[: rows * row_bytes])
                rest = rest[rows * row_bytes :]
        if seen != expected:
            more = "more" if seen > expected else f"{seen}"
            raise CmkdError(
                f"{self.path} holds {more} of the {expected} bytes in its header: get it again from {self.address}"
            )
        if rest:
            yield self._array(rest)

    def _array(self, content: bytes) -> NDArray[Any]:
        values = np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])
        return values.astype(self.dtype.newbyteorder("="), copy=False)


def read_idx(path: Path, *, axes: int, address: str) -> NDArray[Any]:
    r"""Return the whole array of an IDX file; arguments and errors are those of `Idx`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(b"\0\0\x08\x01\0\0\0\x03\x07\x02\x01")
        >>> read_idx(path, axes=1, address="https://example.org")
        array([7, 2, 1], dtype=uint8)
    """
    file = Idx(path, axes=axes, address=address)
    return np.concatenate([np.empty((0, *file.shape[1:]), file.dtype.newbyteorder("=")), *file.blocks(4096)])
