"""Offset and drift between the clocks of two lists of captures, estimated from the captures alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.known_pairs import MOST_DRIFT, Clock
from cmkd.data.pairing.matching import MOST_CANDIDATES, Gate, check_comparable
from cmkd.data.quality.limits import NORMAL, robust
from cmkd.errors import CmkdError

CHANCE = 0.001
"""Largest chance that as many captures of unrelated lists agree at some offset; above it, the offset is refused."""
AMBIGUOUS = 0.8
"""The best offset is ambiguous if another one has more than this fraction of its agreeing captures."""
_ANCHORS, _PEAKS, _SAMPLE = 6, 3, 2000
_LEAST, _MOST = 32, 512  # smallest and largest number of captures of an anchor
_DIFFERENCES = 2_000_000  # maximum number of time differences of an anchor; bounds time and memory
_MOST_DRIFTS = 33
_BESIDE = (*range(-13, -2, 2), *range(3, 14, 2))  # offsets, in widths, of the wrong clocks that show chance agreement


@dataclass(frozen=True)
class _Lists:
    """Two lists sorted by time."""

    first: NDArray[np.float64]  # s, ascending
    second: NDArray[np.float64]  # s, ascending
    points: tuple[NDArray[np.float64], NDArray[np.float64]] | None  # ``(captures, 3)`` of both, m; None without a limit
    meters: float

    def near(self, rows: NDArray[np.int64], others: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """Return whether captures of the two lists are within the distance; the two arguments broadcast."""
        assert self.points is not None
        apart = np.linalg.norm(self.points[0][rows] - self.points[1][others], axis=-1)
        within: NDArray[np.bool_] = apart <= self.meters
        return within

    def chance(self, width: float) -> float:
        """Return the probability that a capture of the shorter list has a partner at a wrong offset."""
        longer = max((self.first, self.second), key=len)
        partners = 2 * width * len(longer) / max(float(np.ptp(longer)), width)
        if self.points is not None:
            rows, others = (_even(np.arange(len(times)), 300) for times in (self.first, self.second))
            partners *= float(self.near(rows[:, None], others[None]).mean())
        return 1 - exp(-partners)

    def late(
        self, clock: Clock, width: float, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return which of `rows` have a partner within `width` s, and by how many s the nearest one is late."""
        shown = clock.at(self.first[rows])
        start = np.searchsorted(self.second, shown - width)
        counts = np.searchsorted(self.second, shown + width, side="right") - start
        if (total := int(counts.sum())) > MOST_CANDIDATES:
            raise CmkdError(f"{total} pairs are within the tolerances: use a smaller --seconds")
        which = np.repeat(np.arange(len(rows)), counts)
        others = np.arange(total) + np.repeat(start - (np.cumsum(counts) - counts), counts)
        late = self.second[others] - shown[which]
        if self.points is not None:
            near = self.near(rows[which], others)
            which, late = which[near], late[near]
        order = np.lexsort((np.abs(late), which))
        order = order[np.diff(which[order], prepend=-1) > 0]  # the nearest of each
        return rows[which[order]], late[order]


def estimate_clock(first: Captures, second: Captures, gate: Gate) -> Clock:
    """Return the offset and drift of the second list's clock that most captures agree with.

    Any offset at which the lists overlap may be found, and drifts up to `MOST_DRIFT`. Anchors, which are runs of
    consecutive captures of the first list, are compared with the whole second list: the time differences of all
    captures within the tolerance in place are sorted, and the windows of two tolerances with the most differences are
    candidates. Each candidate is refined over ever longer parts of the lists by fitting a line to the nearest partners,
    without outliers; the line with which most captures agree wins. If another line fits nearly as well, narrower
    windows are tried, since captures more frequent than the tolerance agree with any offset. The agreement expected by
    chance is the share of captures that agree with slightly wrong clocks, or the share for evenly spread captures if
    that is larger. A drift that noise may explain, or that changes times by less than a tenth of the tolerance, is set
    to 0.

    Args:
        first: one list of captures.
        second: another list, with times and places in the same units.
        gate: tolerances in time and place.

    Raises:
        CmkdError: for the same reasons as `match`; also if too few captures agree, or nearly as many agree with another
            offset (as for captures at regular intervals).

    Example:
        >>> from pathlib import Path
        >>> from cmkd.data.pairing.times import Times
        >>> times = np.array([0.0, 70.0, 90.0, 200.0, 310.0, 350.0])
        >>> lists = []
        >>> for name, seconds in (("optical", times), ("radar", times + 7200.25)):
        ...     (ids, none), read = (list("abcdef"), [""] * 6), Times(seconds, "own", False)
        ...     lists.append(Captures(name, Path("a.csv"), ids, ids, read, None, False, none, none))
        >>> clock = estimate_clock(*lists, Gate(seconds=2))
        >>> clock.ahead, clock.drift, clock.agreeing
        (7200.25, 0.0, 6)
    """
    check_comparable(first, second, gate)
    lists = _in_order(first, second, gate)
    doubts = []
    widths = [gate.seconds, gate.seconds / 4, gate.seconds / 16]
    for width in [width for width in widths if lists.chance(width) <= AMBIGUOUS] or widths[-1:]:
        ranked = _ranked(lists, width)
        if not ranked:
            break
        best = ranked[0]
        rival = next((c for c in ranked if _apart(lists, best, c) > 2 * width), None)
        if _convincing(lists, width, best, rival):
            return _final(lists, best, width, gate)
        doubts.append((best, rival))
    raise CmkdError(_doubt(first, second, doubts))


def _in_order(first: Captures, second: Captures, gate: Gate) -> _Lists:
    orders = [np.argsort(captures.seconds, kind="stable") for captures in (first, second)]
    points = None if gate.meters is None else (first.points()[orders[0]], second.points()[orders[1]])
    return _Lists(first.seconds[orders[0]], second.seconds[orders[1]], points, gate.meters or 0.0)


def _ranked(lists: _Lists, width: float) -> list[Clock]:
    """Return candidate clocks, starting with the one with which most captures agree."""
    found: list[Clock] = []
    count, drifts = _anchor(lists, width)
    for start in np.unique(np.linspace(0, len(lists.first) - count, _ANCHORS).astype(np.int64)):
        rows = np.arange(start, start + count)
        for peak in _peaks(lists, rows, drifts, width):
            clock = _follow(lists, peak, float(np.ptp(lists.first[rows])) / 2, width)
            found.append(_counted(lists, clock, width, _even(np.arange(len(lists.first)))))
    return sorted(found, key=lambda clock: (-clock.agreeing, abs(clock.drift), abs(clock.ahead)))


def _anchor(lists: _Lists, width: float) -> tuple[int, NDArray[np.float64]]:
    """Return the number of captures of an anchor, and trial drifts so close together that one shows the peak."""
    total, spacing = len(lists.first), float(np.ptp(lists.first)) / max(len(lists.first) - 1, 1)
    count = min(_MOST, total)
    while True:
        steps = min(ceil(MOST_DRIFT * spacing * count / width), _MOST_DRIFTS) | 1
        if count <= _LEAST or count * len(lists.second) * steps <= _DIFFERENCES:
            return count, np.linspace(-MOST_DRIFT, MOST_DRIFT, steps) if steps > 1 else np.zeros(1)
        count = max(count // 2, _LEAST)


def _peaks(lists: _Lists, rows: NDArray[np.int64], drifts: NDArray[np.float64], width: float) -> list[Clock]:
    """Return the clocks with which most differences of an anchor agree."""
    times = lists.first[rows]
    origin = float(times.mean())
    # only the part around the anchor of a very long list, so that memory stays bounded
    most = max(_DIFFERENCES // len(rows), 1)
    start = max(int(np.searchsorted(lists.second, origin)) - most // 2, 0)
    part = slice(start, start + most)
    near = None if lists.points is None else np.stack([lists.near(rows[k : k + 1], part) for k in range(len(rows))])
    found: list[tuple[float, Clock]] = []
    for drift in drifts:
        matrix = lists.second[None, part] - Clock(0.0, drift, origin).at(times)[:, None]
        late = np.sort(matrix.ravel() if near is None else matrix[near])
        if not len(late):
            continue
        ends = np.searchsorted(late, late + 2 * width, side="right")
        # among equal counts, the offset nearest zero is preferred
        scores = ends - np.arange(len(late)) - 0.5 * np.abs(late) / max(float(np.abs(late[[0, -1]]).max()), 1e-9)
        for _ in range(_PEAKS):
            top = int(scores.argmax())
            if not scores[top] > 0:
                break
            found.append((float(scores[top]), Clock(float(np.median(late[top : ends[top]])), float(drift), origin)))
            left, right = np.searchsorted(late, (late[top] - 2 * width, late[top] + 2 * width))
            scores[left : right + 1] = -1
    ranked = [clock for _, clock in sorted(found, key=lambda entry: (-ceil(entry[0]), abs(entry[1].drift), -entry[0]))]
    # a wrong drift may give more differences than zero drift, but not more agreeing captures in the end
    peaks = [_distinct(clocks, width) for clocks in (ranked, [clock for clock in ranked if not clock.drift])]
    return list(dict.fromkeys(peaks[0] + peaks[1]))


def _distinct(ranked: Sequence[Clock], width: float) -> list[Clock]:
    """Return the first clocks whose offsets differ, so that a clock is not repeated with another drift."""
    found: list[Clock] = []
    for clock in ranked:
        if all(abs(clock.ahead - other.ahead) > 2 * width for other in found):
            found.append(clock)
    return found[:_PEAKS]


def _follow(lists: _Lists, clock: Clock, half: float, width: float) -> Clock:
    """Fit a clock to ever longer parts of the lists around its origin.

    A drift is kept only if three of its standard errors stay within the tolerance up to the ends of the next part.
    """
    half, furthest = max(half, width), max(float(np.abs(lists.first[[0, -1]] - clock.origin).max()), width)
    while True:
        ends = np.searchsorted(lists.first, (clock.origin - half, clock.origin + half))
        rows = np.arange(ends[0], ends[1])
        for _ in range(4):  # the captures that agree change with the line
            agreeing, late = lists.late(clock, width, _even(rows))
            clock = _fitted(clock, lists.first[agreeing] - clock.origin, late, width / 3 / min(3 * half, furthest))
        if len(rows) == len(lists.first):
            return clock
        half *= 3


def _fitted(clock: Clock, times: NDArray[np.float64], late: NDArray[np.float64], most_error: float) -> Clock:
    """Return the clock corrected by a line through the delays `late`, refitted without outliers.

    A slope with a larger standard error than `most_error` is ignored.
    """
    if not len(late):
        return clock
    if len(late) < 8 or not np.ptp(times):
        return replace(clock, ahead=clock.ahead + float(np.median(late)))
    kept, slope, shift = np.ones(len(late), dtype=bool), 0.0, 0.0
    for _ in range(3):
        slope, shift = np.polyfit(times[kept], late[kept], 1)
        misses = np.abs(late - slope * times - shift)
        kept = misses <= max(3 * NORMAL * float(np.median(misses)), 1e-6)
        if kept.sum() < 8 or not np.ptp(times[kept]):
            break
    scale = sqrt(kept.sum()) * float(times[kept].std())
    error = NORMAL * float(np.median(misses[kept])) / (scale or inf)
    if abs(clock.drift + slope) > MOST_DRIFT or error > most_error:
        return replace(clock, ahead=clock.ahead + float(np.median(late)))
    return replace(clock, ahead=clock.ahead + float(shift), drift=clock.drift + float(slope))


def _final(lists: _Lists, clock: Clock, width: float, gate: Gate) -> Clock:
    """Return the clock with its origin at the mean time of the agreeing captures, without an insignificant drift."""
    rows = np.arange(len(lists.first))
    agreeing, late = lists.late(clock, width, rows)
    times = lists.first[agreeing]
    origin = float(times.mean())
    moved = replace(clock, ahead=clock.ahead + clock.drift * (origin - clock.origin), origin=origin)
    spread, span = float(times.std()), float(np.ptp(times))
    _, noise = robust(late)
    sure = spread > 0 and abs(clock.drift) > 4 * noise / (sqrt(len(times)) * spread)
    scale = sqrt(len(times))
    # the standard error of a median is 1.25 times the standard error of a mean
    moved = replace(moved, error=1.25 * noise / scale, drift_error=noise / (scale * spread or inf))
    if not (sure and len(times) >= 8 and abs(clock.drift) * span > 0.1 * gate.seconds):
        moved = replace(moved, drift=0.0)
        for _ in range(2):  # the second time around the median, so that the edges of the window do not matter
            moved = replace(moved, ahead=moved.ahead + float(np.median(lists.late(moved, gate.seconds, rows)[1])))
    return _counted(lists, moved, gate.seconds, rows)


def _counted(lists: _Lists, clock: Clock, width: float, rows: NDArray[np.int64]) -> Clock:
    agreeing = len(lists.late(clock, width, rows)[0])
    shorter = min(len(lists.first), len(lists.second)) * len(rows) / len(lists.first)
    return replace(clock, agreeing=agreeing, share=min(agreeing / shorter, 1.0))


def _even(rows: NDArray[np.int64], most: int = _SAMPLE) -> NDArray[np.int64]:
    """Return at most `most` rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _apart(lists: _Lists, one: Clock, other: Clock) -> float:
    """Return the difference of two clocks in the middle of the first list, s."""
    middle = lists.first[len(lists.first) // 2 : len(lists.first) // 2 + 1]
    return float(np.abs(one.at(middle) - other.at(middle))[0])


def _convincing(lists: _Lists, width: float, best: Clock, rival: Clock | None) -> bool:
    """Return whether more captures agree than regular intervals or chance explain."""
    from scipy.stats import binom

    if rival is not None and rival.agreeing > AMBIGUOUS * best.agreeing:
        return False
    span, other = float(np.ptp(lists.first)), float(np.ptp(lists.second))
    tried = (1 + (span + other) / width) * (1 + 2 * MOST_DRIFT * span / width)
    asked = max(round(best.agreeing / max(best.share, 1e-9)), best.agreeing)
    chance = max(lists.chance(width), _beside(lists, best, width))
    return bool(tried * binom.sf(best.agreeing - 1, asked, chance) <= CHANCE)


def _beside(lists: _Lists, clock: Clock, width: float) -> float:
    """Return the mean share of captures that agree with slightly wrong clocks, which is high if they come in passes."""
    rows = _even(np.arange(len(lists.first)))
    moved = (replace(clock, ahead=clock.ahead + k * width) for k in _BESIDE)
    return float(np.mean([_counted(lists, other, width, rows).share for other in moved]))


def _doubt(first: Captures, second: Captures, doubts: Sequence[tuple[Clock, Clock | None]]) -> str:
    lists, spans = f"the clocks of {first.name} and {second.name}", f"{first.span}; {second.span}"
    if not doubts:
        places = "use a larger --meters, or correct the places (are latitude and longitude swapped in one list?)"
        return f"no capture of {second.name} is within the distance of one of {first.name}: {places}"
    best, rival = doubts[0]
    fit = f"{best.ahead:+z.3f} s ({best.share:.0%} of the captures agree)"
    if rival is not None and rival.agreeing > AMBIGUOUS * best.agreeing:
        return (
            f"more than one offset fits {lists}: {fit} and {rival.ahead:+z.3f} s ({rival.share:.0%}); give the right "
            "one with --offset, or use smaller tolerances"
        )
    return f"cannot determine an offset of {lists}: {fit} fits best, but chance may explain it ({spans}); give --offset"
