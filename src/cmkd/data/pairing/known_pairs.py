"""Offset and drift of one clock against another, and their estimate from a few known pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.matching import Gate, check_comparable
from cmkd.data.text_table import read_text_table
from cmkd.errors import CmkdError, no_column

MOST_DRIFT = 500e-6
"""Largest drift that is accepted; a quartz clock drifts by up to 100e-6."""


@dataclass(frozen=True)
class Clock:
    """Offset of a clock from the first list's clock, at a time on the first: ``ahead + drift * (time - origin)``."""

    ahead: float  # s; positive if this clock is ahead
    drift: float = 0.0  # s gained per s
    origin: float = 0.0  # s on the first list's clock
    agreeing: int = 0  # number of captures of the first list with a partner within the tolerances, or of known pairs
    share: float = 1.0  # of the shorter list's captures that agree
    error: float = nan  # standard error of `ahead`, s; NaN if the clock is given or comes from a single pair
    drift_error: float = nan  # standard error of `drift`, also where the drift is not significant

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what this clock shows at times of the first list's clock."""
        shown: NDArray[np.float64] = seconds + self.ahead + self.drift * (seconds - self.origin)
        return shown

    def corrected(self, captures: Captures) -> Captures:
        """Return captures with their times on the first list's clock.

        Example:
            >>> clock = Clock(10.0, 100e-6, origin=50.0)
            >>> round(float(clock.at(np.array([1050.0]))[0]), 3)
            1060.1
        """
        seconds = self.origin + (captures.seconds - self.origin - self.ahead) / (1 + self.drift)
        return replace(captures, times=captures.times._replace(seconds=seconds))


def read_known_pairs(path: Path, first: Captures, second: Captures) -> list[tuple[int, int]]:
    """Read a CSV or Parquet file with a column of ids per list, and return positions in both lists.

    Rows with an empty cell in one of the two columns are skipped.

    Raises:
        CmkdError: a column is missing, or an id is not in its list; the message names it.
    """
    table = read_text_table(path, f"the columns {first.name} and {second.name} with ids of captures")
    lists = (first, second)
    for captures in lists:
        if captures.name not in table.header:
            raise no_column(path, captures.name, table.header)
    places = [{name: row for row, name in enumerate(captures.ids)} for captures in lists]
    pairs = []
    for line, *ids in zip(table.lines, *(table.column(captures.name) for captures in lists), strict=True):
        wrong = next((k for k in (0, 1) if ids[k] and ids[k] not in places[k]), None)
        if wrong is not None:
            raise CmkdError(f"{line}: {lists[wrong].source} has no capture '{ids[wrong]}': correct the id")
        if all(ids):
            pairs.append((places[0][ids[0]], places[1][ids[1]]))
    return pairs


def known_clock(first: Captures, second: Captures, pairs: Sequence[tuple[int, int]], gate: Gate) -> Clock:
    """Return the offset and drift of the second list's clock, estimated from known pairs.

    A line is fitted by least squares. Its slope, the drift, is used only if there are at least three pairs, it differs
    from 0 by more than four standard errors, and it changes times by more than a tenth of the tolerance; otherwise the
    drift is 0 and the offset is the mean.

    Args:
        first: one list of captures.
        second: another list of captures.
        pairs: known pairs, as positions in the two lists.
        gate: tolerances in time and place.

    Raises:
        CmkdError: there are no pairs, they disagree by more than the tolerance, or their drift exceeds `MOST_DRIFT`.

    Example:
        >>> from cmkd.data.pairing.times import Times
        >>> lists = []
        >>> for name, times in (("optical", [0.0, 60.0]), ("radar", [7.0, 67.5])):
        ...     (ids, none), read = (["a", "b"], ["", ""]), Times(np.array(times), "own", False)
        ...     lists.append(Captures(name, Path("a.csv"), ids, ids, read, None, False, none, none))
        >>> clock = known_clock(*lists, [(0, 0), (1, 1)], Gate(seconds=2))
        >>> clock.ahead, round(clock.error, 2)
        (7.25, 0.25)
    """
    check_comparable(first, second, gate)
    if not pairs:
        raise CmkdError(f"no known pair of {first.name} and {second.name}: give at least one, or use --offset auto")
    rows = np.asarray(pairs, dtype=np.int64)
    times = first.seconds[rows[:, 0]]
    late = second.seconds[rows[:, 1]] - times
    origin, ahead, count = float(times.mean()), float(late.mean()), len(rows)
    width = float(((times - origin) ** 2).sum())
    slope = float(((times - origin) * late).sum()) / (width or inf)
    left = late - ahead - slope * (times - origin)
    noise = sqrt(float((left**2).sum()) / (count - 2)) if count > 2 else nan
    drift_error = noise / sqrt(width) if width else nan
    if not (count > 2 and abs(slope) > 4 * drift_error and abs(slope) * float(np.ptp(times)) > 0.1 * gate.seconds):
        slope, left = 0.0, late - ahead
        noise = float(late.std(ddof=1)) if count > 1 else nan
    worst = int(np.abs(left).argmax())
    if abs(left[worst]) > gate.seconds or abs(slope) > MOST_DRIFT:
        one, other = first.ids[rows[worst, 0]], second.ids[rows[worst, 1]]
        raise CmkdError(
            f"the known pairs of {first.name} and {second.name} disagree: {ahead:+z.3f} s and {slope * 1e6:+z.0f} ppm "
            f"fit best, but '{one}' with '{other}' is {left[worst]:+z.3f} s off: correct the pairs"
        )
    return Clock(ahead, slope, origin, count, 1.0, noise / sqrt(count), drift_error)
