"""Trivial features of a sample, and metadata of pairs as numbers: neither should reveal the class on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.quality.sources import Source
from cmkd.types import Kind

QUANTILES = (0.05, 0.5, 0.95)
SIDE = 64
"""Maximum pixels along the longer side of an image; of more, only every second (third ...) pixel is used."""
MOST_VALUES = SIDE * SIDE
"""Maximum values per channel for kinds other than images; of more, only every second (third ...) value is used."""
MOST_CATEGORIES = 50
"""Maximum number of different texts in a column that is read as categories."""


def trivial_features(array: NDArray[Any], kind: Kind) -> NDArray[np.float32]:
    """Return nine numbers for each channel of a sample, and the sizes of its other axes.

    Eight numbers describe the valid values of a channel: mean, standard deviation, the quantiles 5, 50 and 95 %, the
    fractions at the lowest and at the highest value (black, zero, saturated), and the fraction above the midpoint
    between median and highest value (a bright area). The ninth is the fraction of invalid values; padding of points
    counts as invalid here. A vector is one channel.

    Args:
        array: one sample, masked or NaN where it is invalid.
        kind: meaning of the axes.

    Returns:
        ``(9 channels + other axes,)``: eight numbers for each channel, the invalid fractions, and the sizes. The eight
        numbers of a channel without valid values are NaN.

    Example:
        >>> trivial_features(np.array([[[0, 0, 2, 2]]], np.uint8), "image").tolist()
        [1.0, 1.0, 0.0, 0.0, 2.0, 0.5, 0.5, 0.5, 0.0, 1.0, 4.0]
    """
    sizes = array.shape[1:] if kind == "image" else array.shape[:-1]
    values = _channels(array, kind)
    used = np.isfinite(values)
    if "point" in kind:
        used &= (np.where(used, values, 1) != 0).any(axis=0)
    values = np.where(used, values, np.nan)
    count = used.sum(axis=1)
    ordered = np.sort(values, axis=1)  # NaN come last
    last = np.maximum(count - 1, 0)
    places = [np.zeros_like(last), *(np.floor(q * last).astype(int) for q in QUANTILES), last]
    lowest, *middle, highest = (ordered[np.arange(len(ordered)), place] for place in places)
    total = np.maximum(count, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(used, values, 0).sum(axis=1) / total
        deviation = np.sqrt(np.where(used, (values - mean[:, None]) ** 2, 0).sum(axis=1) / total)
        bright = (middle[1] + highest) / 2
        shares = [values == lowest[:, None], values == highest[:, None], values > bright[:, None]]
        found = np.stack([mean, deviation, *middle, *(share.sum(axis=1) / total for share in shares)])
        found[:, count == 0] = np.nan
        numbers = np.concatenate([found.T.ravel(), 1 - count / values.shape[1], sizes])
        limit = float(np.finfo(np.float32).max)
        return numbers.clip(-limit, limit).astype(np.float32)


def _channels(array: NDArray[Any], kind: Kind) -> NDArray[np.float64]:
    """Return a sample as ``(channels, values)``, subsampled, and NaN where masked."""
    if kind == "image":
        step = -(-max(array.shape[1:]) // SIDE)
        array = array[:, ::step, ::step].reshape(len(array), -1)
    else:
        array = array[None] if kind == "vector" else array.reshape(-1, array.shape[-1]).T
        array = array[:, :: -(-array.shape[1] // MOST_VALUES)]
    plain: NDArray[np.float64] = np.ma.filled(array.astype(np.float64), np.nan)
    return plain


def metadata_ranks(source: Source, rows: NDArray[np.int64]) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Return the usable metadata columns as ranks, with NaN for empty cells, and the other columns with a reason.

    A column of numbers, or of dates in ISO 8601, is ranked by value, since trees use only the order; any other column
    with few different texts is read as categories. Columns with only one value are left out without a reason.

    Args:
        source: the pairs.
        rows: rows of the pairs to return.
    """
    found, left_out = {}, {}
    for name, cells in source.metadata.items():
        chosen = [cells[row] for row in rows]
        if len(set(chosen)) < 2:
            continue
        numbers, measured = _numbers(cells)
        whole = not measured and numbers is not None
        reason = _identifies(cells, source.groups, numbers) if numbers is None or whole else ""
        if not reason and numbers is None and len(set(cells)) > MOST_CATEGORIES:
            reason = f"{len(set(cells))} different texts"
        if reason:
            left_out[name] = reason
            continue
        values, filled = np.array(cells, dtype=object) if numbers is None else numbers, np.array(cells, object) != ""
        ranks = np.full(len(cells), np.nan)
        ranks[filled] = np.unique(values[filled], return_inverse=True)[1]
        found[name] = ranks[rows]
    return found, left_out


def _numbers(cells: Sequence[str]) -> tuple[NDArray[np.float64] | None, bool]:
    """Return cells as numbers (None if they are not numbers or dates), and whether some have fractions or are dates."""
    texts = pd.Series(cells, dtype=object)
    filled = (texts != "").to_numpy()
    numbers = pd.to_numeric(texts.where(filled), errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(numbers[filled]).all():
        return numbers, bool((numbers[filled] % 1).any())
    if not texts[filled].str.match(r"\d{4}-\d\d").all():
        return None, False
    dates = pd.to_datetime(texts.where(filled), errors="coerce", format="ISO8601", utc=True)
    if dates[filled].isna().any():
        return None, False
    # in microseconds, since nanoseconds end in 2262, and 9999-12-31 is a usual way to write "without end"
    counts = dates.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    return np.where(filled, counts / 1e6, np.nan), True


def _identifies(cells: Sequence[str], groups: Sequence[str], numbers: NDArray[np.float64] | None) -> str:
    """Return the reason why a column identifies pairs or groups by texts or whole numbers; empty if it does not."""
    filled = [cell for cell in cells if cell]
    distinct = len(set(filled))
    if numbers is None and distinct > len(filled) / 2:
        return "it has nearly one text per pair"
    if numbers is not None and distinct == len(filled) and np.nanmax(numbers) - np.nanmin(numbers) < 2 * distinct:
        return "it numbers the pairs"
    both = {(cell, group) for cell, group in zip(cells, groups, strict=True) if cell and group}
    named = {group for _, group in both}
    # a text that occurs in a single group says nothing about other groups, except by its place in the alphabet; a
    # number may be a measurement
    if len(named) > 1 and len(both) == distinct and (numbers is None or distinct == len(named)):
        return "it names the group"
    return ""
