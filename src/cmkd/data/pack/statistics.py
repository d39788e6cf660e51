"""Mean and standard deviation per channel of a modality, and its checksum, in one pass over chunks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.io import PIECE_BYTES
from cmkd.types import Modality

BLOCK = 2**18
"""Values merged at once; as float64 they fit a processor's cache."""


class ChannelStatistics:
    """Mean and population standard deviation per channel, in float64, without holding the data.

    Chunks are merged by the pairwise update of Chan, Golub and LeVeque (1983), which stays accurate where the mean is
    large compared with the spread.

    Args:
        modality: gives the axis of the channels, and whether zero rows are padding.

    Example:
        >>> statistics = ChannelStatistics(Modality("vector", "vector", (2,), "float32"))
        >>> statistics.update(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> statistics.result()
        ((2.0, 5.0), (1.0, 1.0))
    """

    def __init__(self, modality: Modality) -> None:
        self._modality = modality
        self._count = 0
        self._mean = np.zeros(modality.channels)
        self._squares = np.zeros(modality.channels)
        self._low = np.full(modality.channels, np.inf)
        self._high = np.full(modality.channels, -np.inf)

    def update(self, values: NDArray[Any]) -> None:
        """Merge pairs ``(n, *shape)``."""
        step = max(1, BLOCK // int(np.prod(self._modality.shape)))
        for start in range(0, len(values), step):
            self._merge(values[start : start + step])

    def _merge(self, values: NDArray[Any]) -> None:
        # channels on axis 1; images keep their layout, since moving axes costs more than the sums
        image = self._modality.kind == "image"
        table = values.reshape(
            (len(values), self._modality.channels, -1) if image else (-1, self._modality.channels, 1)
        )
        table = table.astype(np.float64)
        if self._modality.kind in ("points", "point_series"):
            table = table[table.any(axis=(1, 2))]
        count = table.shape[0] * table.shape[2]
        if not count:
            return
        mean = table.mean(axis=(0, 2))
        self._low = np.minimum(self._low, table.min(axis=(0, 2)))
        self._high = np.maximum(self._high, table.max(axis=(0, 2)))
        table -= mean[:, None]
        squares = np.einsum("ijk,ijk->j", table, table)
        total = self._count + count
        delta = mean - self._mean
        self._squares += squares + delta**2 * (self._count * count / total)
        self._mean += delta * (count / total)
        self._count = total

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation; 0 and 1 without data, and a deviation of 1 for a constant."""
        deviation = np.sqrt(self._squares / max(self._count, 1))
        # by range, since rounding gives a constant channel a deviation of about 1e-17
        deviation[~(self._high > self._low)] = 1.0
        return tuple(self._mean.tolist()), tuple(deviation.tolist())


def statistics_and_checksum(
    path: Path, modality: Modality, use: NDArray[np.bool_]
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], str]:
    """Return statistics over the rows in `use`, and the sha256 of all rows, in one pass over the file."""
    statistics, digest = ChannelStatistics(modality), hashlib.sha256()
    step = max(1, PIECE_BYTES // modality.row_bytes)
    with path.open("rb") as file:
        for start in range(0, len(use), step):
            kept = use[start : start + step]
            piece = file.read(len(kept) * modality.row_bytes)
            digest.update(piece)
            statistics.update(np.frombuffer(piece, modality.dtype).reshape(-1, *modality.shape)[kept])
    return statistics.result(), digest.hexdigest()
