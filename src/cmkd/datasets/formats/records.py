"""Binary files of fixed-size records, label bytes and then the pixels of an image: the layout of CIFAR and STL-10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.images import BLOCK, blocks


@dataclass(frozen=True)
class Records:
    """Files of records that belong together, read in blocks."""

    archive: Archive  # an open archive or folder
    names: Sequence[str]  # names of the files in the archive, in order
    head: int  # number of label bytes before an image
    shape: tuple[int, int, int]  # ``(channels, height, width)`` of an image

    @property
    def bytes(self) -> int:
        """Size of one record in bytes."""
        return self.head + int(np.prod(self.shape))

    def labels(self, column: int, classes: int) -> NDArray[np.int64]:
        """Return the label byte at position `column` of every record.

        Raises:
            CmkdError: a file does not consist of whole records, or a label is not below `classes`.
        """
        for name in self.names:
            size = self.archive.sizes[name]
            if size % self.bytes or not size:
                raise self.archive.error(
                    name, f"holds {size} bytes, not a whole number of records of {self.bytes} bytes; truncated?"
                )
        # copy the column, because a view would keep every block, and so every image, in memory
        found = np.concatenate([block[:, column].astype(np.int64) for block in self._blocks()])
        if found.max() >= classes:
            raise self.archive.error(self.names[0], f"holds a label {found.max()}, expected 0 to {classes - 1}")
        return found

    def read(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of ascending rows in blocks ``(some, channels, height, width)``."""
        for block in blocks(self._blocks(), rows):
            yield block[:, self.head :].reshape(-1, *self.shape)

    def _blocks(self) -> Iterator[NDArray[np.uint8]]:
        for name in self.names:
            for block in self.archive.blocks(name, BLOCK * self.bytes):
                yield np.frombuffer(block, np.uint8).reshape(-1, self.bytes)
