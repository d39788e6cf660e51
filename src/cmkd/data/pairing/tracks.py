"""Tracks of vessels from archives of AIS reports, with a vessel's place between its reports and just beyond them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from cmkd.data.pairing.places import ground_distance, moved
from cmkd.data.text_table import WHOLE, check_separator
from cmkd.errors import CmkdError, not_let

LONGEST_GAP = 360.0
"""Longest time between two reports that is interpolated, s: twice the slowest interval, 3 min; our choice."""
REACH = 60.0
"""Longest time before the first and after the last report that is dead reckoned, s; our choice."""
FASTEST = 102.2 * 1852 / 3600
"""Largest speed that AIS can state, m/s; two reports that imply a larger one are not joined (ITU-R M.1371)."""
_KNOT = 1852 / 3600
_COLUMNS = {
    "mmsi": "mmsi", "basedatetime": "time", "base_date_time": "time", "# timestamp": "time", "timestamp": "time",
    "lat": "latitude", "latitude": "latitude", "lon": "longitude", "longitude": "longitude", "sog": "speed",
    "cog": "course", "vesseltype": "type", "vessel_type": "type", "ship type": "type",
}  # fmt: skip
_CHUNK = 500_000  # rows
_QUOTES = re.compile(r'''((?:^|(?<=,))"(?:[^"\n]|"")*"(?=,|\r?$))|"''', re.MULTILINE)
"""A quoted cell, or a quotation mark elsewhere."""
_UNKNOWN = {"", "0", "undefined", "unknown", "nan"}  # types of ships


@dataclass(frozen=True)
class Tracks:
    """Reports of vessels, sorted by vessel and time."""

    path: Path
    vessels: list[str]  # MMSI
    types: list[str]  # type of ship per vessel as in the file, in lower case; empty if unknown
    start: NDArray[np.int64]  # ``(vessels + 1,)`` position of each vessel's first report, and the end
    seconds: NDArray[np.float64]  # ``(reports,)`` since 1970, UTC
    place: NDArray[np.float64]  # ``(reports, 2)`` latitude and longitude, degrees
    motion: NDArray[np.float64]  # ``(reports, 2)`` course, degrees, and speed, m/s; NaN where not available
    rows: int  # number of rows of the file, including those that are not used

    def at(self, vessel: int, seconds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the place and motion of a vessel at some times.

        Between two reports at most `LONGEST_GAP` apart the place is interpolated; otherwise it is dead reckoned from
        the nearer one, for at most `REACH`.

        Returns:
            Latitude and longitude ``(times, 2)``, NaN where unknown, and course and speed ``(times, 2)``.
        """
        part = slice(self.start[vessel], self.start[vessel + 1])
        times, place, motion = self.seconds[part], self.place[part], self.motion[part]
        after = np.searchsorted(times, seconds).clip(0, len(times) - 1)
        before = np.where(times[after] > seconds, after - 1, after).clip(0)
        nearer = np.where(np.abs(times[after] - seconds) < np.abs(times[before] - seconds), after, before)
        late = seconds - times[nearer]
        found = moved(place[nearer], motion[nearer], late, geographic=True)
        found[np.abs(late) > REACH] = np.nan
        gap = times[after] - times[before]
        far = ground_distance(place[before], place[after], geographic=True)
        joined = (gap > 0) & (gap <= LONGEST_GAP) & (far <= FASTEST * gap) & (times[before] <= seconds)
        share = np.divide(seconds - times[before], gap, out=np.zeros(len(seconds)), where=joined)[:, None]
        step = place[after] - place[before]
        step[:, 1] = (step[:, 1] + 180) % 360 - 180  # the short way over the date line
        found[joined] = (place[before] + share * step)[joined]
        return found, motion[nearer]


def read_tracks(path: Path, span: tuple[float, float]) -> Tracks:
    """Read a CSV file of AIS reports in the layout of a public archive, plain or compressed, in bounded pieces.

    Args:
        path: file with the columns of MarineCadastre (MMSI, BaseDateTime, LAT, LON, SOG, COG, VesselType; or mmsi,
            base_date_time, latitude, longitude, sog, cog, vessel_type) or of the Danish Maritime Authority
            (# Timestamp, MMSI, Latitude, Longitude, SOG, COG, Ship type); other columns are ignored. Times are in UTC,
            speeds in knots. Quotation marks that do not enclose a cell are ignored.
        span: first and last time of interest, s since 1970; reports far outside are not kept.

    Raises:
        CmkdError: the file cannot be read, lacks a column, has no valid time, or has no report of a ship in the span.

    Source:
        Columns: NOAA InPort item 52807 (fisheries.noaa.gov/inport/item/52807) and the header of the files aisdk-*.csv.
        A speed of 102.3 kn and a course of 360 degrees mean not available (ITU-R M.1371); identities of ships have nine
        digits and begin with 2 to 7 (ITU-R M.585).

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "ais.csv"
        >>> rows = ["219000001,2023-01-01T00:00:00,55.0,10.0,70", "219000001,2023-01-01T00:01:00,55.0027,10.0,"]
        >>> _ = path.write_text(chr(10).join(["MMSI,BaseDateTime,LAT,LON,VesselType", *rows]))
        >>> tracks = read_tracks(path, (1672531200, 1672531260))
        >>> tracks.at(0, np.array([1672531230.0]))[0].round(5).tolist(), tracks.types
        ([[55.00135, 10.0]], ['70'])
    """
    low, high = span[0] - LONGEST_GAP, span[1] + LONGEST_GAP
    kept, types, total, timed = [], [], 0, 0
    for chunk in _chunks(path):
        total, timed = total + len(chunk), timed + int(chunk["time"].notna().sum())
        types.append(chunk.loc[~chunk["type"].isin(_UNKNOWN), ["mmsi", "type"]].drop_duplicates())
        kept.append(_reports(chunk, low, high))
    reports = pd.concat(kept).drop_duplicates(["mmsi", "time"]).sort_values(["mmsi", "time"], kind="stable")
    if total and not timed:
        raise CmkdError(
            f"{path}: none of its {total} rows has a time such as 2026-03-01T12:00:00, or 01/03/2026 12:00:00 in a "
            "column Timestamp: correct them"
        )
    if not len(reports):
        raise CmkdError(f"{path}: none of its {total} rows reports a ship at the time of the captures (UTC)")
    numbers, start = np.unique(reports["mmsi"].to_numpy(), return_index=True)
    vessels = [str(number) for number in numbers]
    known = pd.concat(types).drop_duplicates("mmsi").set_index("mmsi")["type"]
    of_type = known.reindex(vessels).fillna("").astype(str).tolist()
    place, motion = (reports[names].to_numpy(np.float64) for names in (["latitude", "longitude"], ["course", "speed"]))
    ends = np.append(start, len(reports)).astype(np.int64)
    seconds = reports["time"].to_numpy(np.float64)
    return Tracks(path, vessels, of_type, ends, seconds, place, motion, total)


def _chunks(path: Path) -> Iterator[pd.DataFrame]:
    """Yield the columns mmsi, time, latitude, longitude, course, speed and type as text."""
    try:
        header = [str(name).strip() for name in pd.read_csv(path, nrows=0).columns]
        check_separator(path, header)
        names = [_COLUMNS.get(name.lower(), "") for name in header]
        missing = [name for name in ("mmsi", "time", "latitude", "longitude") if names.count(name) != 1]
        if missing:
            raise CmkdError(
                f"{path} has no column for {', '.join(missing)}: it needs the columns of MarineCadastre or of "
                f"the Danish Maritime Authority, and has {', '.join(header)}"
            )
        places = [k for k, name in enumerate(names) if name and names.index(name) == k]
        danish = "timestamp" in header[names.index("time")].lower()
        with LocalFileSystem().open(str(path), "r", encoding="utf-8", newline="", compression="infer") as opened:
            # index_col=False: a comma at the end of each row does not add a column
            for chunk in pd.read_csv(  # type: ignore[call-overload]  # pandas needs no more of a file
                _LoneQuotes(opened), index_col=False, chunksize=_CHUNK, usecols=places, dtype=str,
                keep_default_na=False, on_bad_lines="skip",
            ):  # fmt: skip
                yield _cells(chunk.set_axis([names[k] for k in places], axis=1), danish=danish)
    except FileNotFoundError:
        raise CmkdError(f"{path} does not exist: give a CSV file of AIS reports") from None
    except CmkdError:
        raise
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        damaged = CmkdError(f"{path} cannot be read as CSV ({reason}): save it again")
        raise (not_let(path, error) or damaged) from error


class _LoneQuotes:
    """A text file without those quotation marks that do not enclose a cell.

    Names of ships contain such marks. They would open a cell that ends rows later and swallows the rows between.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[str]:  # pandas requires it
        return iter(self.read, "")

    def read(self, size: int = -1) -> str:
        """Return whole rows of at least `size` characters."""
        text = self._file.read(size) + self._file.readline()
        return _QUOTES.sub(r"\1", text) if '"' in text else text


def _cells(found: pd.DataFrame, *, danish: bool) -> pd.DataFrame:
    """Return a chunk with all columns and normalized cells."""
    for column in ("course", "speed", "type"):
        found[column] = found[column].str.strip().str.lower() if column in found else ""
    for column in ("mmsi", "type"):
        found[column] = found[column].str.strip().str.replace(WHOLE, r"\1", regex=True)
    return found.assign(time=_times(found["time"], danish=danish))


def _times(cells: pd.Series, *, danish: bool) -> pd.Series:
    """Return seconds since 1970, NaN where a cell is not a time."""
    # only for the Danish archive's column name, since other files may write the month first
    form = "%d/%m/%Y %H:%M:%S" if danish and cells.str.contains("/", regex=False).any() else "ISO8601"
    stamps = pd.to_datetime(cells.str.strip(), utc=True, format=form, errors="coerce")
    return (stamps - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def _reports(chunk: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """Return the reports of ships with a place and a time in the span."""
    chunk = chunk[chunk["time"].between(low, high)]
    numbers = {
        name: pd.to_numeric(chunk[name], errors="coerce") for name in ("latitude", "longitude", "course", "speed")
    }
    found = pd.DataFrame({"mmsi": chunk["mmsi"], "time": chunk["time"], **numbers})
    ship = found["mmsi"].str.fullmatch(r"[2-7]\d{8}")
    found = found[ship & found["latitude"].between(-90, 90) & found["longitude"].between(-180, 180)].copy()
    found["mmsi"] = found["mmsi"].astype(np.int64)  # texts would take most of the memory
    found["course"] = found["course"].where(found["course"].between(0, 360, inclusive="left"))
    found["speed"] = found["speed"].where(found["speed"].between(0, 102.2)) * _KNOT
    return found.drop_duplicates(["mmsi", "time"])
