"""One-to-one pairing of captures by time and place, within tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pairing.assignment import ambiguous, assign, uncontested
from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.places import ground_distance, moved
from cmkd.errors import CmkdError

DAY = 86_400.0
"""Seconds of a day, the smallest tolerance for dates without a time of day."""
MOST_CANDIDATES = 10_000_000
"""Number of candidate pairs above which the tolerances are refused."""


class Gate(NamedTuple):
    """Tolerances in time and place.

    Args:
        seconds: largest difference in time.
        meters: largest distance over ground; None to pair by time alone.
    """

    seconds: float
    meters: float | None = None


@dataclass(frozen=True)
class Matching:
    """Captures of one list paired with those of another."""

    rows: NDArray[np.int64]  # ``(pairs, 2)`` positions in the first and the second list
    late: NDArray[np.float64]  # ``(pairs,)`` seconds by which the second is later
    meters: NDArray[np.float64]  # ``(pairs,)`` distance over ground, at one time if courses and speeds are known
    cost: NDArray[np.float64]  # ``(pairs,)`` misfit, from 0 to 1 at the tolerances
    # ``(pairs,)`` whether another assignment costs nearly the same, or the captures are unusually far apart
    ambiguous: NDArray[np.bool_]

    def sure(self) -> Matching:
        """Return the pairs that are not ambiguous."""
        kept = ~self.ambiguous
        return Matching(self.rows[kept], self.late[kept], self.meters[kept], self.cost[kept], self.ambiguous[kept])


def match(first: Captures, second: Captures, gate: Gate) -> Matching:
    """Pair two lists one to one by the assignment with the least total cost.

    The cost of a pair is half the sum of the squares of its time difference and its distance, each divided by its
    tolerance first, so it is 1 at the tolerances. If courses and speeds are known, the captures are moved to one time
    before their distance is computed: both by half the time difference, or only the one whose motion is known, by all
    of it. Captures identified as different vessels are never paired.

    An unpaired capture costs 1, or less (down to a quarter) if captures compete and the nearest ones are much closer
    than the tolerance (`_cost_alone`). The number of pairs is not maximized, because where captures are missing this
    shifts whole runs of captures by one. For 5,000 simulated instants 10 s apart, of which each sensor misses a fifth,
    with 0.7 s of jitter, maximizing makes 7.8, 30.5 and 32.5 % of the pairs wrong at tolerances of 10, 12 and 15 s;
    this method makes 1.9, 0.2 and 0.2 % wrong, and below 0.1 % of the pairs not marked as ambiguous
    (`benchmarks/results/pairing.md`).

    Candidates come from a tree over time and place, and the assignment is sparse: memory and time grow with the number
    of candidates, not with the product of the list lengths.

    Args:
        first: one list of captures.
        second: another list, with times and places in the same units.
        gate: tolerances in time and place.

    Raises:
        CmkdError: the lists cannot be compared, a tolerance is not positive, or there are too many candidates.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.data.pairing.captures import read_captures
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, lines in (("optical", ["a,0,0,0", "b,60,0,0"]), ("radar", ["c,61,30,0", "d,2,0,40"])):
        ...     text = chr(10).join(["path,time,x,y", *lines])
        ...     _ = (folder / f"{name}.csv").write_text(text)
        >>> lists = [read_captures(folder / f"{name}.csv") for name in ("optical", "radar")]
        >>> found = match(*lists, Gate(seconds=5, meters=100))
        >>> found.rows.tolist(), found.late.tolist(), found.meters.tolist()
        ([[0, 1], [1, 0]], [2.0, 1.0], [40.0, 30.0])
    """
    check_comparable(first, second, gate)
    rows, late, meters = _candidates(first, second, gate)
    sizes, cost = (len(first), len(second)), _misfit(late, meters, gate)
    alone = _cost_alone(rows, cost, sizes)
    kept = np.flatnonzero((cost <= alone) | uncontested(rows, sizes))
    worth = np.minimum(cost[kept], alone)
    chosen = assign(rows[kept], worth, sizes, alone)
    pairs = kept[chosen]
    unsure = ambiguous(rows[kept], worth, sizes, alone, chosen) | (cost[pairs] > alone)
    return Matching(rows[pairs], late[pairs], meters[pairs], cost[pairs], unsure)


def nearest(first: Captures, second: Captures, rows: Sequence[int], gate: Gate) -> list[tuple[int, float, float]]:
    """Return, for captures of the first list, the nearest one of the second, measured in units of the tolerances.

    Returns:
        Per capture, the nearest one's position in the second list, the seconds by which it is later, and its distance
        in meters. If a place is unknown, the nearest one in time, with distance NaN.
    """
    from scipy.spatial import KDTree

    picked = np.asarray(rows, dtype=np.int64)
    others = np.zeros(len(picked), np.int64)
    for limits in (Gate(gate.seconds), gate):
        here, there = _scaled(first, limits)[picked], _scaled(second, limits)
        known, placed = (np.flatnonzero(np.isfinite(coordinates).all(axis=1)) for coordinates in (here, there))
        if len(known) and len(placed):
            others[known] = placed[KDTree(there[placed]).query(here[known], p=np.inf)[1]]
    late, meters = _misses(first, second, np.column_stack([picked, others]))
    return [(int(other), float(seconds), float(far)) for other, seconds, far in zip(others, late, meters, strict=True)]


def apart_in_place(first: Captures, second: Captures, gate: Gate) -> str:
    """Return how many captures of lists without a pair match by time alone, and how far apart; empty if none does.

    Raises:
        CmkdError: for the same reasons as `match` by time alone.
    """
    if gate.meters is None or first.place is None or second.place is None:
        return ""
    by_time = Gate(gate.seconds)
    rows, _, meters = _candidates(first, second, by_time)
    nearest_m = float(meters.min(initial=np.inf, where=np.isfinite(meters)))
    if not gate.meters < nearest_m < np.inf:
        return ""
    fix = "use a larger --meters, or correct the places"
    if first.geographic:
        swapped = _misses(first, replace(second, place=second.place[:, ::-1]), rows)[1]
        if swapped.min(initial=np.inf, where=np.isfinite(swapped)) <= gate.meters:
            fix = f"latitude and longitude of {first.name} or {second.name} are swapped: exchange them in that list"
    far = f"{nearest_m / 1000:,.0f} km" if nearest_m >= 10_000 else f"{nearest_m:,.0f} m"
    return f"{len(match(first, second, by_time).rows)} match by time alone, the nearest {far} apart: {fix}"


def check_comparable(first: Captures, second: Captures, gate: Gate) -> None:
    """Raise `CmkdError` unless the times (and places, if used) of both lists are of one kind and fit the tolerances."""
    if not gate.seconds > 0 or (gate.meters is not None and not gate.meters > 0):
        raise CmkdError(f"tolerances must be positive, got {gate.seconds} s and {gate.meters} m")
    clocks = {captures.times.clock: captures for captures in (second, first)}
    if len(clocks) > 1 and "own" in clocks:
        raise CmkdError(
            f"one list has dates, but {clocks['own'].source} has seconds of its own clock: use the same in both "
            "(--time_unit names the unit of numbers)"
        )
    if len(clocks) > 1:
        raise CmkdError(
            f"the times of {clocks['naive'].source} have no time zone, unlike the others: add one, such as Z for UTC"
        )
    for captures in (first, second):
        if captures.times.daily and gate.seconds < DAY:
            raise CmkdError(
                f"{captures.source} has dates without a time of day: add it, or pair with --seconds {DAY:g} or more"
            )
    if gate.meters is None:
        return
    for captures in (first, second):
        if captures.place is None:
            raise CmkdError(f"{captures.source} has no latitude and longitude, or x and y: leave --meters out")
    if first.geographic != second.geographic:
        raise CmkdError(
            f"{first.source} and {second.source} give places in different units: use degrees or meters in both"
        )


def _scaled(captures: Captures, gate: Gate, reach: float = 0.0) -> NDArray[np.float64]:
    """Return ``(captures, 1 or 4)`` coordinates in units of the tolerances, the one in place `reach` m wider."""
    time = (captures.seconds / gate.seconds)[:, None]
    return time if gate.meters is None else np.column_stack([time, captures.points() / (gate.meters + reach)])


def _candidates(
    first: Captures, second: Captures, gate: Gate
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return all pairs within the tolerances, the seconds by which the second is later, and the meters between."""
    from scipy.spatial import KDTree

    # how far both together may move between their times
    reach = gate.seconds * max(captures.fastest for captures in (first, second))
    scaled = [_scaled(captures, gate, reach) for captures in (first, second)]
    placed = [np.flatnonzero(np.isfinite(coordinates).all(axis=1)) for coordinates in scaled]
    trees = [KDTree(coordinates[rows]) for coordinates, rows in zip(scaled, placed, strict=True)]
    slack = 1 + 1e-9
    if (count := trees[0].count_neighbors(trees[1], slack, p=np.inf)) > MOST_CANDIDATES:
        raise CmkdError(f"{count} pairs are within the tolerances: use smaller --seconds or --meters")
    found = trees[0].sparse_distance_matrix(trees[1], slack, p=np.inf, output_type="ndarray")
    rows = np.column_stack([placed[0][found["i"]], placed[1][found["j"]]])
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    late, meters = _misses(first, second, rows)
    within = np.abs(late) <= gate.seconds  # the tree's box is a little larger: a chord is shorter than its arc
    if gate.meters is not None:
        within &= meters <= gate.meters
    within &= ~different_vessels(first, second, rows)
    return rows[within], late[within], meters[within]


def different_vessels(first: Captures, second: Captures, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for which pairs of rows the vessels are known and differ."""
    if first.vessels is None or second.vessels is None:
        return np.zeros(len(rows), np.bool_)
    one, other = (np.asarray(names, dtype=object) for names in (first.vessels, second.vessels))
    one, other = one[rows[:, 0]], other[rows[:, 1]]
    different: NDArray[np.bool_] = ((one != other) & (one != "") & (other != "")).astype(np.bool_)
    return different


def _misses(
    first: Captures, second: Captures, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    late = second.seconds[rows[:, 1]] - first.seconds[rows[:, 0]]
    if first.place is None or second.place is None or first.geographic != second.geographic:
        return late, np.zeros(len(rows))
    places = _at_one_time(first, second, rows, late)
    return late, ground_distance(*places, geographic=first.geographic)


def _at_one_time(
    first: Captures, second: Captures, rows: NDArray[np.int64], late: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places of candidates at one time: halfway between, or the time of the one whose motion is unknown."""
    motions = [captures.motion_of(rows[:, side]) for side, captures in enumerate((first, second))]
    known = [~np.isnan(motion).any(axis=1) for motion in motions]
    share = [np.where(known[side], np.where(known[1 - side], 0.5, 1.0), 0.0) for side in (0, 1)]
    assert first.place is not None and second.place is not None
    return (
        moved(first.place[rows[:, 0]], motions[0], share[0] * late, geographic=first.geographic),
        moved(second.place[rows[:, 1]], motions[1], -share[1] * late, geographic=first.geographic),
    )


def _misfit(late: NDArray[np.float64], meters: NDArray[np.float64], gate: Gate) -> NDArray[np.float64]:
    time = (late / gate.seconds) ** 2
    return time if gate.meters is None else (time + (meters / gate.meters) ** 2) / 2


def _cost_alone(rows: NDArray[np.int64], cost: NDArray[np.float64], sizes: tuple[int, int]) -> float:
    """Return the cost of an unpaired capture: 40 times the median cost of the mutually nearest pairs.

    For normally distributed time differences, this corresponds to 4.3 standard deviations. The cost is at most 1 (the
    tolerance) and at least a quarter (half the tolerance), and 1 if there are fewer than 30 such pairs. These numbers
    are our choice.
    """
    nearest_of = [np.full(size, np.inf) for size in sizes]
    for side in (0, 1):
        np.minimum.at(nearest_of[side], rows[:, side], cost)
    mutual = cost[(cost == nearest_of[0][rows[:, 0]]) & (cost == nearest_of[1][rows[:, 1]])]
    return 1.0 if len(mutual) < 30 else float(np.clip(40 * np.median(mutual), 0.25, 1.0))
