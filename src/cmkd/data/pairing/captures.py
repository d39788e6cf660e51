"""Lists of captures as a sensor's recorder writes them: a file, a time and a place per capture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.pairing.times import Times, TimeUnit, read_times, when
from cmkd.data.text_table import OWN_COLUMNS, TextTable, check_names, posix_path, read_text_table
from cmkd.errors import CmkdError

EARTH = 6_371_008.8
"""Mean radius of the Earth, m (IUGG)."""

_ALIASES = {"lat": "latitude", "lon": "longitude", "lng": "longitude", "long": "longitude"}


@dataclass(frozen=True)
class Captures:
    """Captures of one sensor."""

    name: str  # name of the modality
    source: Path  # file of the list; its paths are relative to its folder
    ids: list[str]  # one per capture, unique
    files: list[str]  # path per capture as in the list
    times: Times  # ``(captures,)`` seconds, and what they are counted from
    # ``(captures, 2)`` latitude and longitude, degrees, or x and y, m; None if the list has neither
    place: NDArray[np.float64] | None
    geographic: bool  # whether `place` is in degrees
    labels: list[str]  # one per capture, empty for none
    groups: list[str]  # one per capture, empty for none

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

    def points(self) -> NDArray[np.float64]:
        """Return ``(captures, 3)`` coordinates, m, whose straight distance never exceeds the distance over ground."""
        if self.place is None:
            return np.zeros((len(self), 3))
        if not self.geographic:
            return np.column_stack([self.place, np.zeros(len(self))])
        latitude, longitude = np.radians(self.place).T
        flat = np.cos(latitude)
        unit = np.column_stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)])
        return EARTH * unit


def read_captures(path: Path, name: str | None = None, *, unit: TimeUnit | None = None) -> Captures:
    """Read a list of captures.

    Columns: ``path``; ``time`` as `cmkd.data.pairing.times.read_times` reads it; ``latitude`` and ``longitude`` (or
    ``lat`` and ``lon``) in degrees, or ``x`` and ``y`` in meters, or neither; optional ``id`` (by default the path),
    ``label`` and ``group``.

    Args:
        path: a CSV or Parquet file.
        name: name of the modality; by default that of the file.
        unit: unit of times that are numbers; by default told by their magnitude.

    Raises:
        CmkdError: a column is missing, or a cell cannot be read; the line names it.
    """
    modality = name or path.stem.lower()
    if not modality.isidentifier() or modality in OWN_COLUMNS:
        others = f"and not {', '.join(OWN_COLUMNS)}"
        raise CmkdError(f"'{modality}' cannot name a modality (letters, digits, underscores, {others}): give --names")
    table = read_text_table(path, "a row per capture with path and time")
    table = replace(table, header=[_ALIASES.get(c, c) for c in map(str.lower, table.header)])
    check_names(table, ["path", "id", "label", "group"])
    twice_named = next((column for column in table.header if table.header.count(column) > 1), None)
    if twice_named is not None:
        raise CmkdError(f"{path} has two columns for '{twice_named}': rename one")
    for column in ("path", "time"):
        if column not in table.header:
            raise CmkdError(f"{path} has no column '{column}': its columns are {', '.join(table.header)}")
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
    labels, groups = table.column("label"), table.column("group")
    return Captures(modality, path, ids, files, read_times(table, unit), place, geographic, labels, groups)


def ground_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], *, geographic: bool
) -> NDArray[np.float64]:
    """Return the distances, m, between places ``(n, 2)`` row by row.

    Latitudes and longitudes in degrees are compared along the great circle, x and y in m in the plane.

    Source:
        The haversine formula on a sphere of radius `EARTH`, within 0.6 % of the ellipsoid.

    Example:
        >>> equator, pole = np.array([[0.0, 0.0]]), np.array([[90.0, 0.0]])
        >>> round(float(ground_distance(equator, pole, geographic=True)[0]) / 1000)
        10008
    """
    if not geographic:
        plane: NDArray[np.float64] = np.hypot(*(first - second).T)
        return plane
    (north, east), (other_north, other_east) = np.radians(first).T, np.radians(second).T
    chord = np.sin((other_north - north) / 2) ** 2
    chord = chord + np.cos(north) * np.cos(other_north) * np.sin((other_east - east) / 2) ** 2
    arc: NDArray[np.float64] = 2 * EARTH * np.arcsin(np.sqrt(chord.clip(0, 1)))
    return arc


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
                raise CmkdError(f"{table.lines[row]}: {cells} is not a place: correct it or remove the row")
            return place, geographic
    return None, False
