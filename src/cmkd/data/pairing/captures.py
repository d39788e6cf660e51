"""Lists of captures as a sensor's recorder writes them: a file, a time and a place per capture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.errors import CmkdError

EARTH = 6_371_008.8
"""Mean radius of the Earth, m (IUGG)."""


@dataclass(frozen=True)
class Captures:
    """Captures of one sensor."""

    name: str  # name of the modality
    source: Path  # file of the list; its paths are relative to its folder
    ids: list[str]  # one per capture, unique
    files: list[str]  # path per capture as in the list
    seconds: NDArray[np.float64]  # ``(captures,)`` time, s; since 1970 in UTC if the list has dates
    # ``(captures, 2)`` latitude and longitude, degrees, or x and y, m; None if the list has neither
    place: NDArray[np.float64] | None
    geographic: bool  # whether `place` is in degrees
    dated: bool  # whether the times were dates
    labels: list[str]  # one per capture, empty for none
    groups: list[str]  # one per capture, empty for none

    def __len__(self) -> int:
        return len(self.ids)

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


def read_captures(path: Path, name: str | None = None) -> Captures:
    """Read a list of captures.

    Columns: ``path``; ``time`` in ISO 8601 (without a zone: UTC) or in seconds; ``latitude`` and ``longitude`` in
    degrees, or ``x`` and ``y`` in meters, or neither; optional ``id`` (by default the path), ``label`` and ``group``.

    Args:
        path: a CSV or Parquet file.
        name: name of the modality; by default that of the file.

    Raises:
        CmkdError: a column is missing, or a cell cannot be read; the line names it.
    """
    modality = name or path.stem.lower()
    if not modality.isidentifier():
        raise CmkdError(f"'{modality}' cannot name a modality (letters, digits, underscores): give --names")
    table = _read(path)
    for column in ("path", "time"):
        if column not in table:
            raise CmkdError(f"{path} has no column '{column}': its columns are {', '.join(table.columns)}")
    files = _texts(table, "path")
    ids = _texts(table, "id") if "id" in table else files
    for what, cells in (("path", files), ("id", ids)):
        empty = next((row for row, cell in enumerate(cells) if not cell), None)
        if empty is not None:
            raise CmkdError(f"{path} row {empty + 1} has no {what}: fill it in")
    twice = table.index[pd.Series(ids).duplicated()]
    if len(twice):
        raise CmkdError(f"{path}: id '{ids[twice[0]]}' occurs twice: ids must be unique in a list")
    seconds, dated = _seconds(path, table["time"])
    place, geographic = _place(path, table)
    return Captures(
        modality, path, ids, files, seconds, place, geographic, dated, _texts(table, "label"), _texts(table, "group")
    )


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


def _read(path: Path) -> pd.DataFrame:
    try:
        # as text, so that an id of 007 keeps its zeros
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    except FileNotFoundError:
        raise CmkdError(f"{path} does not exist: give a list of captures as CSV or Parquet") from None
    except (OSError, ValueError) as error:
        raise CmkdError(f"{path} cannot be read as a table ({' '.join(str(error).split())[:80]})") from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    if table.empty:
        raise CmkdError(f"{path} is empty: it needs a row per capture")
    return table.reset_index(drop=True)


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table:
        return [""] * len(table)
    return ["" if pd.isna(cell) else str(cell).strip() for cell in table[column]]


def _seconds(path: Path, column: pd.Series[str]) -> tuple[NDArray[np.float64], bool]:
    numbers = column if pd.api.types.is_numeric_dtype(column) else pd.to_numeric(column, errors="coerce")
    dated = bool(pd.api.types.is_datetime64_any_dtype(column) or numbers.isna().mean() > 0.5)
    if dated:
        dates = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
        numbers = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    wrong = np.flatnonzero(~np.isfinite(numbers.to_numpy(dtype=np.float64)))
    if len(wrong):
        wanted = "a date of ISO 8601" if dated else "a number of seconds"
        raise CmkdError(f"{path} row {wrong[0] + 1}: time '{column.iloc[wrong[0]]}' is not {wanted}, as the others are")
    return numbers.to_numpy(dtype=np.float64), dated


def _place(path: Path, table: pd.DataFrame) -> tuple[NDArray[np.float64] | None, bool]:
    for columns, geographic in ((("latitude", "longitude"), True), (("x", "y"), False)):
        found = [column for column in columns if column in table]
        if len(found) == 1:
            raise CmkdError(f"{path} has only the column '{found[0]}': give {' and '.join(columns)}")
        if found:
            numbers = table[list(columns)].apply(pd.to_numeric, errors="coerce")
            place = numbers.to_numpy(dtype=np.float64)
            bad = ~np.isfinite(place).all(axis=1)
            if geographic:
                bad |= (np.abs(place) > (90, 360)).any(axis=1)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                cells = ", ".join(f"{column} '{table[column].iloc[row]}'" for column in columns)
                raise CmkdError(f"{path} row {row + 1}: {cells} is not a place: correct it or remove the row")
            return place, geographic
    return None, False
