"""Mean and standard deviation per channel of a modality, and its checksum, in one pass over chunks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.io import PIECE_BYTES
from cmkd.types import Modality

BLOCK = 2**18
"""Number of values merged at once; as float64 they fit a processor's cache."""


class ChannelStatistics:
    """Mean and population standard deviation per channel, in float64, in constant memory.

    Chunks are merged by the pairwise update of Chan, Golub and LeVeque (1983), which stays accurate where the mean is
    large compared with the spread.

    Args:
        modality: gives the axis of the channels, whether zero rows are padding, and which values are invalid.

    Example:
        >>> statistics = ChannelStatistics(Modality("vector", "vector", (2,), "float32"))
        >>> statistics.update(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> statistics.result()
        ((2.0, 5.0), (1.0, 1.0))
    """

    def __init__(self, modality: Modality) -> None:
        self._modality = modality
        self._count = np.zeros(modality.channels)
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
        if self._modality.kind in ("points", "point_series"):
            table = table[table.any(axis=(1, 2))]
        if not table.size:
            return
        masked = self._modality.masked(table) if self._modality.nodata is not None else table
        table = np.ma.getdata(masked).astype(np.float64)
        if np.ma.isMaskedArray(masked):
            self._merge_valid(table, ~np.ma.getmaskarray(masked))
            return
        count = np.full(self._modality.channels, float(table.shape[0] * table.shape[2]))
        mean = table.mean(axis=(0, 2))
        self._range(table.min(axis=(0, 2)), table.max(axis=(0, 2)))
        table -= mean[:, None]
        self._add(count, mean, np.einsum("ijk,ijk->j", table, table))

    def _merge_valid(self, table: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        count = valid.sum(axis=(0, 2)).astype(np.float64)
        mean = np.where(valid, table, 0.0).sum(axis=(0, 2)) / np.maximum(count, 1)
        self._range(np.where(valid, table, np.inf).min(axis=(0, 2)), np.where(valid, table, -np.inf).max(axis=(0, 2)))
        table = np.where(valid, table - mean[:, None], 0.0)
        self._add(count, mean, np.einsum("ijk,ijk->j", table, table))

    def _range(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def _add(self, count: NDArray[np.float64], mean: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        total = self._count + count
        share = count / np.maximum(total, 1)
        delta = mean - self._mean
        self._squares += squares + delta**2 * (self._count * share)
        self._mean += delta * share
        self._count = total

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation; 0 and 1 without data, and a deviation of 1 for a constant channel."""
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))
        # by range, since rounding gives a constant channel a deviation of about 1e-17
        deviation[~(self._high > self._low)] = 1.0
        return tuple(self._mean.tolist()), tuple(deviation.tolist())


class Pass(NamedTuple):
    """Result of one pass over a modality's file."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    invalid: tuple[int, int]  # invalid values, and pairs that have any


def statistics_and_checksum(path: Path, modality: Modality, use: NDArray[np.bool_], present: NDArray[np.bool_]) -> Pass:
    """Return statistics of the rows in `use`, invalid counts of the rows in `present`, and the sha256 of all rows."""
    statistics, digest = ChannelStatistics(modality), hashlib.sha256()
    step = max(1, PIECE_BYTES // modality.row_bytes)
    values, pairs = 0, 0
    with path.open("rb") as file:
        for start in range(0, len(use), step):
            kept = use[start : start + step]
            piece = file.read(len(kept) * modality.row_bytes)
            digest.update(piece)
            rows = np.frombuffer(piece, modality.dtype).reshape(-1, *modality.shape)
            statistics.update(rows[kept])
            if modality.nodata is not None:
                invalid = np.ma.getmaskarray(modality.masked(rows[present[start : start + step]]))
                values += int(invalid.sum())
                pairs += int(invalid.reshape(len(invalid), -1).any(axis=1).sum())
    return Pass(*statistics.result(), digest.hexdigest(), (values, pairs))
