"""A bounded, deterministic sample of a modality's training values, for statistics that need the values in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack

PAIRS, VALUES = 2048, 2**18
"""Largest number of pairs that are read, and about the largest number of values of a channel."""
GOLDEN = (5**0.5 - 1) / 2
"""Golden ratio minus 1: its multiples modulo 1 fill the interval evenly (Weyl 1916), so each sample is read at other
places."""


def train_values(pack: Pack, name: str) -> NDArray[np.float32]:
    """Return values of the training pairs that have a modality, ``(n, channels)``.

    Pairs, and places within a pair, are evenly spaced. Zero rows of points, which are padding, and places with an
    invalid value are left out.

    Args:
        pack: pack to read; labels do not matter.
        name: name of the modality.

    Returns:
        At least one row; a row of zeros if all values are padding or invalid.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.datasets.digits import Digits
        >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits")
        >>> train_values(pack, "optical").shape  # 1077 pairs of 64 pixels
        (68928, 1)
    """
    modality, rows = pack.modality(name), pack.rows("train", modalities=(name,))
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), PAIRS)).astype(np.int64)]
    each, found = max(1, VALUES // max(1, len(chosen))), [np.zeros((0, modality.channels), modality.dtype)]
    for position, sample in enumerate(pack.samples(name, chosen)):
        image = modality.kind == "image"
        table = sample.reshape(modality.channels, -1).T if image else sample.reshape(-1, modality.channels)
        if modality.kind in ("points", "point_series"):
            table = table[table.any(axis=1)]
        if modality.nodata is not None:
            table = table[~np.ma.getmaskarray(modality.masked(table)).any(axis=1)]
        if len(table) > each:
            shift = position * GOLDEN % 1.0
            table = table[((np.arange(each) + shift) * (len(table) / each)).astype(np.int64)]
        found.append(table)
    values = np.concatenate(found).astype(np.float32)
    return values if len(values) else np.zeros((1, modality.channels), np.float32)
