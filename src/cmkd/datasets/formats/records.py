"""Binary files of equal records, a few label bytes and then the pixels of one image: the layout of CIFAR and STL-10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.transformed import BLOCK, blocks
from cmkd.errors import CmkdError


@dataclass(frozen=True)
class Records:
    """Files of records that belong together, read in blocks.

    Args:
        archive: an open archive or folder.
        names: the files in it, in order.
        head: label bytes before an image.
        shape: ``(channels, height, width)`` of an image.
    """

    archive: Archive
    names: Sequence[str]
    head: int
    shape: tuple[int, int, int]

    @property
    def bytes(self) -> int:
        """Of one record."""
        return self.head + int(np.prod(self.shape))

    def labels(self, column: int, classes: int) -> NDArray[np.int64]:
        """Return one label byte of every record.

        Args:
            column: which of the label bytes.
            classes: how many there are.

        Raises:
            CmkdError: a file holds no whole number of records, or a label is none.
        """
        for name in self.names:
            size = self.archive.sizes[name]
            if size % self.bytes or not size:
                raise CmkdError(
                    f"{name} in {self.archive.place} holds {size} bytes, which is no whole number of records of "
                    f"{self.bytes}: it is truncated or another file; get it again from {self.archive.address}"
                )
        # a copy of the column: a view of it would keep every block, and so every image, in memory
        found = np.concatenate([block[:, column].astype(np.int64) for block in self._blocks()])
        if found.max() >= classes:
            raise CmkdError(
                f"{self.names[0]} in {self.archive.place} holds a label {found.max()}, expected 0 to {classes - 1}: it "
                f"is another file; get it from {self.archive.address}"
            )
        return found

    def read(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield blocks ``(some, channels, height, width)`` of ascending rows."""
        for block in blocks(self._blocks(), rows):
            yield block[:, self.head :].reshape(-1, *self.shape)

    def _blocks(self) -> Iterator[NDArray[np.uint8]]:
        for name in self.names:
            for block in self.archive.blocks(name, BLOCK * self.bytes):
                yield np.frombuffer(block, np.uint8).reshape(-1, self.bytes)
