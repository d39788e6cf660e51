"""Times of captures: ISO 8601 and compact dates, counts since 1970 in an inferred unit, and a sensor's own clock."""

from __future__ import annotations

import re
import time
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.text_table import TextTable
from cmkd.errors import CmkdError

TimeUnit = Literal["s", "ms", "us", "ns", "date"]
"""Unit of times that are numbers, or ``date`` for digits such as 202301311200."""
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EPOCH = (631_152_000.0, 4_102_444_800.0)
"""1990 and 2100 in seconds since 1970: counts since then in s, ms, us and ns lie in four separate ranges."""
_AHEAD = 366 * 86_400.0
"""How far in the future a count of no stated unit may lie, s; later ones are dates, such as 2023031120000 (day 31)."""
_DATE = re.compile(
    r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[Tt _]?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>[Zz]|UTC|[+-]\d\d(?::?\d\d)?)?)?"
)
_DIGITS = re.compile(r"(?:19|20)\d{6}(?:\d{6}(?:\.\d+)?)?")  # YYYYMMDD, YYYYMMDDhhmmss


class Times(NamedTuple):
    """Times of a list of captures."""

    seconds: NDArray[np.float64]  # one per capture, s; since 1970 in UTC if `clock` is not ``own``
    clock: Literal["own", "UTC", "naive"]  # sensor's own count; date with zone or count since 1970; date without zone
    daily: bool  # whether they are dates without a time of day


def read_times(table: TextTable, unit: TimeUnit | None = None) -> Times:
    """Read the column ``time``, whose cells are all of one form.

    Dates are ISO 8601, with or without a zone, or compact, as in 20230131, 20230131T120000Z or 20230131120000. Numbers
    are counts since 1970 if in some unit they lie between 1990 and a year from now; smaller numbers are seconds of
    the sensor's own clock. All other numbers are refused.

    Args:
        table: table with the column ``time``.
        unit: unit of numbers; by default inferred from their magnitude. Dates with separators are still read as dates.

    Raises:
        CmkdError: a cell has a different form from most cells, or the unit is unclear; the message names it.

    Example:
        >>> from pathlib import Path
        >>> cells = ["20230101000050", "20230101001000"]
        >>> table = TextTable(Path("a.csv"), ["time"], [[cell] for cell in cells], ["line 2", "line 3"])
        >>> times = read_times(table)
        >>> times.seconds.tolist(), times.clock
        ([1672531250.0, 1672531800.0], 'naive')
    """
    cells = pd.Series(table.column("time"), dtype=object)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers)
    if wrong.mean() > 0.5 or unit == "date" or (unit is None and _mostly_dates(cells)):
        return _dates(table, cells)
    _refuse(table, wrong, "a number")
    return _counts(table, numbers, unit)


def when(seconds: float, clock: str) -> str:
    """Return a time for a message.

    Example:
        >>> when(1672531250.5, "UTC"), when(12.5, "own")
        ('2023-01-01T00:00:50Z', '12.5 s')
    """
    if clock == "own":
        return f"{seconds:,.10g} s"
    return f"{np.datetime64(round(seconds), 's')}{'Z' if clock == 'UTC' else ''}"


def _mostly_dates(cells: pd.Series) -> bool:
    """Return whether most cells are dates written as eight or fourteen digits."""
    digits = cells.map(lambda cell: _DIGITS.fullmatch(cell) is not None)
    return bool(digits.mean() > 0.5 and _stamps(cells[digits])[0].notna().mean() > 0.5)


def _dates(table: TextTable, cells: pd.Series) -> Times:
    stamps, parts = _stamps(cells)
    _refuse(table, stamps.isna().to_numpy(), "a date such as 2023-01-31T12:00:00Z")
    daily, zoned = parts["hour"].isna().to_numpy(), parts["zone"].notna().to_numpy()
    if daily.any() and not daily.all():
        row = int(np.flatnonzero(daily)[0])
        raise CmkdError(f"{table.lines[row]}: time '{cells[row]}' has no time of day, unlike others: add it")
    if zoned.any() and not zoned.all():
        row = int(np.flatnonzero(~zoned)[0])
        raise CmkdError(f"{table.lines[row]}: time '{cells[row]}' has no time zone, unlike others: add it")
    # in microseconds, since nanoseconds span only the years 1677 to 2262
    counts = stamps.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    return Times(counts / 1e6, "UTC" if zoned.all() else "naive", bool(daily.all()))


def _stamps(cells: pd.Series) -> tuple[pd.Series, pd.DataFrame]:
    """Return times in UTC, NaT where a cell is not a date, and the parts of the dates as text."""
    found = [match.groupdict() if (match := _DATE.fullmatch(cell)) else {} for cell in cells]
    names = ("year", "month", "day", "hour", "minute", "second", "fraction", "zone")
    parts = pd.DataFrame([{name: part.get(name) for name in names} for part in found], columns=names, dtype=object)
    texts = [_iso(part) for part in found]
    stamps = pd.to_datetime(pd.Series(texts, dtype=object), utc=True, format="ISO8601", errors="coerce")
    return stamps, parts


def _iso(part: dict[str, str | None]) -> str:
    if not part:
        return ""
    hour, minute, second = (part[name] or "00" for name in ("hour", "minute", "second"))
    zone = (part["zone"] or "Z").replace(":", "")
    zone = f"{zone[:3]}:{zone[3:] or '00'}" if zone[0] in "+-" else "Z"
    fraction = (part["fraction"] or "0")[:9]
    return f"{part['year']}-{part['month']}-{part['day']}T{hour}:{minute}:{second}.{fraction}{zone}"


def _counts(table: TextTable, numbers: NDArray[np.float64], unit: TimeUnit | None) -> Times:
    low, high = float(numbers.min()), float(numbers.max())
    units = [u for u, per in _PER_SECOND.items() if _EPOCH[0] <= low / per and high / per <= _EPOCH[1]]
    told = [u for u in units if high / _PER_SECOND[u] <= time.time() + _AHEAD]
    if unit is None and not told and max(abs(low), abs(high)) >= _EPOCH[0]:
        raise CmkdError(
            f"{table.path}: times {low:.15g} to {high:.15g} have an unclear unit: give it with --time_unit "
            "(s, ms, us, ns, or date for digits such as 202301311200)"
        )
    chosen = unit or (told[0] if told else "s")
    return Times(numbers / _PER_SECOND[chosen], "UTC" if chosen in units else "own", False)


def _refuse(table: TextTable, wrong: NDArray[np.bool_], wanted: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        cell = table.column("time")[rows[0]]
        raise CmkdError(f"{table.lines[rows[0]]}: time '{cell}' is not {wanted}, unlike the others")
