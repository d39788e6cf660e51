"""Lists of captures as a sensor's recorder writes them: a file, a time and a place per capture."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.pairing.places import straight
from cmkd.data.pairing.times import Times, TimeUnit, read_times, when
from cmkd.data.split import ALIASES
from cmkd.data.text_table import OWN_COLUMNS, TextTable, check_names, posix_path, read_text_table, whole
from cmkd.errors import CmkdError, no_column

_ALIASES = {"lat": "latitude", "lon": "longitude", "lng": "longitude", "long": "longitude"}
_FASTEST = 1000.0
"""Largest accepted speed, m/s; a larger value indicates a wrong unit."""


@dataclass(frozen=True)
class Captures:
    """Captures of one sensor."""

    name: str  # name of the modality
    source: Path  # file of the list; the paths in it are relative to its folder
    ids: list[str]  # one per capture, unique
    files: list[str]  # path per capture as in the list
    times: Times  # ``(captures,)`` seconds, and what they are counted from
    # ``(captures, 2)`` latitude and longitude, degrees, or x and y, m, NaN where unknown; None without columns
    place: NDArray[np.float64] | None
    geographic: bool  # whether `place` is in degrees
    labels: list[str]  # one per capture, empty for none
    groups: list[str]  # one per capture, empty for none
    # ``(captures, 2)`` course, degrees clockwise from north, and speed, m/s, NaN where unknown; None without columns
    motion: NDArray[np.float64] | None = None
    vessels: list[str] | None = None  # MMSI per capture, empty if unknown; None if not identified
    splits: list[str] | None = None  # one per capture, empty for none; None without the column

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """``(captures,)`` time, s."""
        return self.times.seconds

    @property
    def span(self) -> str:
        """First and last time, for a message."""
        first, last = (when(float(end), self.times.clock) for end in (self.seconds.min(), self.seconds.max()))
        return f"{self.name} {first} to {last}"

    @property
    def fastest(self) -> float:
        """Largest known speed, m/s; 0 if none is known."""
        return 0.0 if self.motion is None else float(np.nan_to_num(self.motion[:, 1]).max())

    def motion_of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``(rows, 2)`` course and speed of some captures, NaN where unknown."""
        return np.full((len(rows), 2), np.nan) if self.motion is None else self.motion[rows]

    def points(self) -> NDArray[np.float64]:
        """Return ``(captures, 3)`` coordinates, m, whose Euclidean distance never exceeds the ground distance."""
        if self.place is None:
            return np.zeros((len(self), 3))
        return straight(self.place, geographic=self.geographic)


def read_captures(path: Path, name: str | None = None, *, unit: TimeUnit | None = None) -> Captures:
    """Read a list of captures.

    Columns: ``path``; ``time`` as `cmkd.data.pairing.times.read_times` reads it; ``latitude`` and ``longitude`` (or
    ``lat`` and ``lon``) in degrees, or ``x`` (east) and ``y`` (north) in meters, or neither; optional ``course`` in
    degrees clockwise from north and ``speed`` in m/s, with empty cells where unknown; optional ``id`` (by default the
    path), ``label``, ``split``, ``group`` and ``mmsi`` (nine digits of the vessel, also the default group).

    Args:
        path: a CSV or Parquet file.
        name: name of the modality; by default the file name without suffix, in lower case.
        unit: unit of times that are numbers; by default inferred from their magnitude.

    Raises:
        CmkdError: a column is missing, or a cell cannot be read; the message names it.
    """
    modality = name or path.stem.lower()
    if not modality.isidentifier() or modality in OWN_COLUMNS:
        others = f"and not {', '.join(OWN_COLUMNS)}"
        raise CmkdError(f"'{modality}' cannot name a modality (letters, digits, underscores, {others}): give --names")
    table = read_text_table(path, "a row per capture with path and time")
    table = replace(table, header=[_ALIASES.get(c, c) for c in map(str.lower, table.header)])
    check_names(table, ["path", "id", "label", "split", "group", "mmsi"])
    twice_named = next((column for column in table.header if table.header.count(column) > 1), None)
    if twice_named is not None:
        raise CmkdError(f"{path} has two columns for '{twice_named}': rename one")
    for column in ("path", "time"):
        if column not in table.header:
            raise no_column(path, column, table.header)
    files = [posix_path(cell, path.parent) for cell in table.column("path")]
    ids = table.column("id") if "id" in table.header else files
    for what, cells in (("path", files), ("id", ids)):
        empty = next((row for row, cell in enumerate(cells) if not cell), None)
        if empty is not None:
            raise CmkdError(f"{table.lines[empty]} has no {what}: fill it in")
    twice = np.flatnonzero(pd.Series(ids, dtype=object).duplicated())
    if len(twice):
        raise CmkdError(f"{path}: id '{ids[twice[0]]}' occurs twice: ids must be unique in a list")
    place, geographic = _place(table)
    labels, groups, mmsi = ([whole(cell) for cell in table.column(name)] for name in ("label", "group", "mmsi"))
    wrong = next((row for row, cell in enumerate(mmsi) if cell and not re.fullmatch(r"\d{9}", cell)), None)
    if wrong is not None:
        raise CmkdError(
            f"{table.lines[wrong]}: mmsi '{mmsi[wrong]}' is not nine digits: leave it empty if it is unknown"
        )
    groups = [group or vessel for group, vessel in zip(groups, mmsi, strict=True)]
    vessels = mmsi if "mmsi" in table.header else None
    splits = [ALIASES.get(cell, cell) for cell in table.column("split")] if "split" in table.header else None
    known = (labels, groups, _motion(table), vessels, splits)
    return Captures(modality, path, ids, files, read_times(table, unit), place, geographic, *known)


def _place(table: TextTable) -> tuple[NDArray[np.float64] | None, bool]:
    for columns, geographic in ((("latitude", "longitude"), True), (("x", "y"), False)):
        found = [column for column in columns if column in table.header]
        if len(found) == 1:
            raise CmkdError(f"{table.path} has only the column '{found[0]}': give {' and '.join(columns)}")
        if found:
            numbers = [pd.to_numeric(pd.Series(table.column(c), dtype=object), errors="coerce") for c in columns]
            place = np.column_stack([column.to_numpy(dtype=np.float64) for column in numbers])
            bad = ~np.isfinite(place).all(axis=1)
            if geographic:
                bad |= (np.abs(place) > (90, 360)).any(axis=1)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                cells = ", ".join(f"{column} '{table.column(column)[row]}'" for column in columns)
                raise CmkdError(f"{table.lines[row]}: {cells} is not a valid place: correct it or remove the row")
            return place, geographic
    return None, False


def _motion(table: TextTable) -> NDArray[np.float64] | None:
    found = [column for column in ("course", "speed") if column in table.header]
    if len(found) == 1:
        raise CmkdError(f"{table.path} has only the column '{found[0]}': give course (degrees) and speed (m/s)")
    if not found:
        return None
    cells = [table.column(column) for column in found]
    numbers = [pd.to_numeric(pd.Series(column, dtype=object).replace("", "nan"), errors="coerce") for column in cells]
    motion = np.column_stack([column.to_numpy(dtype=np.float64) for column in numbers])
    given = np.column_stack([[cell != "" for cell in column] for column in cells])
    bad = (given & ~((np.abs(motion) <= (360, _FASTEST)) & (motion >= (-360, 0)))).any(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise CmkdError(
            f"{table.lines[row]}: course '{cells[0][row]}', speed '{cells[1][row]}' is not in degrees and m/s: "
            "correct it or leave both empty"
        )
    return motion
