"""One-to-one pairing of captures by time and place, within tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pairing.captures import Captures, ground_distance
from cmkd.errors import CmkdError

DAY = 86_400.0
"""Seconds of a day, the least tolerance for dates without a time of day."""
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
    meters: NDArray[np.float64]  # ``(pairs,)`` distance over ground
    contested: int  # number of captures of the first list with more than one candidate


def match(first: Captures, second: Captures, gate: Gate) -> Matching:
    """Pair two lists one to one by the assignment with the least sum of misfits.

    A pair's misfit is half the sum of its squared time and distance, each divided by its tolerance. It is at most 1,
    which is also the cost of an unpaired capture, so no pair exceeds a tolerance, and as many captures as possible are
    paired. All pairs are assigned at once, since a greedy choice of the nearest can take the partner that another
    capture needs: of 300 simulated captures 10 s apart with 2.5 s of jitter on both clocks, a tolerance of 9 s and none
    lost, 4 % of the pairs were wrong instead of 10 %. If captures are missing and the tolerance is wider than their
    interval, greedy is better (jitter 0.7 s, a fifth missing, 15 s: 7 % instead of 13 %), so choose a tolerance below
    half the interval; at 5 s both had 0.1 %. Candidates come from a tree over time and place, and the assignment is
    sparse: memory and time grow with the number of candidates, not with the product of the lists.

    Args:
        first: one list.
        second: another, with times and places in the same units.
        gate: tolerances.

    Raises:
        CmkdError: the lists cannot be compared, a tolerance is not positive, or it admits too many candidates.

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
    chosen = _assign(rows, _misfit(late, meters, gate), (len(first), len(second)))
    contested = int((np.bincount(rows[:, 0], minlength=len(first)) > 1).sum())
    return Matching(rows[chosen], late[chosen], meters[chosen], contested)


def nearest(first: Captures, second: Captures, rows: Sequence[int], gate: Gate) -> list[tuple[int, float, float]]:
    """Return the nearest capture of the second list for captures of the first, in units of the tolerances.

    Returns:
        Per capture, position in the second list, seconds it is later, and distance in meters.
    """
    from scipy.spatial import KDTree

    if not len(rows):
        return []
    picked = np.asarray(rows, dtype=np.int64)
    _, others = KDTree(_scaled(second, gate)).query(_scaled(first, gate)[picked], p=np.inf)
    late, meters = _misses(first, second, np.column_stack([picked, others]))
    return [
        (int(other), float(later), float(far))
        for other, later, far in zip(np.atleast_1d(others), late, meters, strict=True)
    ]


def check_comparable(first: Captures, second: Captures, gate: Gate) -> None:
    """Raise `CmkdError` unless times, and places if they count, are of one kind, and the tolerances fit them."""
    if not gate.seconds > 0 or (gate.meters is not None and not gate.meters > 0):
        raise CmkdError(f"tolerances must be positive, got {gate.seconds} s and {gate.meters} m")
    clocks = {captures.times.clock: captures for captures in (second, first)}
    if len(clocks) > 1 and "own" in clocks:
        raise CmkdError(
            f"one list has dates and {clocks['own'].source} has seconds of its own clock: use one of them in both "
            "(--time_unit names the unit of numbers)"
        )
    if len(clocks) > 1:
        raise CmkdError(
            f"the times of {clocks['naive'].source} have no time zone and the others' have: add one, such as Z for UTC"
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


def _scaled(captures: Captures, gate: Gate) -> NDArray[np.float64]:
    """Return ``(captures, 1 or 4)`` coordinates in units of the tolerances."""
    time = (captures.seconds / gate.seconds)[:, None]
    return time if gate.meters is None else np.column_stack([time, captures.points() / gate.meters])


def _candidates(
    first: Captures, second: Captures, gate: Gate
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return all pairs within the tolerances, the seconds by which the second is later, and the meters between."""
    from scipy.spatial import KDTree

    trees = [KDTree(_scaled(captures, gate)) for captures in (first, second)]
    slack = 1 + 1e-9
    if (count := trees[0].count_neighbors(trees[1], slack, p=np.inf)) > MOST_CANDIDATES:
        raise CmkdError(f"{count} pairs are within the tolerances: use smaller --seconds or --meters")
    found = trees[0].sparse_distance_matrix(trees[1], slack, p=np.inf, output_type="ndarray")
    rows = np.column_stack([found["i"], found["j"]]).astype(np.int64)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    late, meters = _misses(first, second, rows)
    within = np.abs(late) <= gate.seconds  # the tree's box is a little larger: a chord is shorter than its arc
    if gate.meters is not None:
        within &= meters <= gate.meters
    return rows[within], late[within], meters[within]


def _misses(
    first: Captures, second: Captures, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    late = second.seconds[rows[:, 1]] - first.seconds[rows[:, 0]]
    if first.place is None or second.place is None or first.geographic != second.geographic:
        return late, np.zeros(len(rows))
    places = first.place[rows[:, 0]], second.place[rows[:, 1]]
    return late, ground_distance(*places, geographic=first.geographic)


def _misfit(late: NDArray[np.float64], meters: NDArray[np.float64], gate: Gate) -> NDArray[np.float64]:
    time = (late / gate.seconds) ** 2
    return time if gate.meters is None else (time + (meters / gate.meters) ** 2) / 2


def _assign(rows: NDArray[np.int64], misfit: NDArray[np.float64], sizes: tuple[int, int]) -> NDArray[np.int64]:
    """Return the candidates of the assignment of least cost, where an unpaired capture costs 1."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not len(rows):
        return np.zeros(0, np.int64)
    count, others = sizes
    # each capture of the first list may get a dummy partner; 1 is added to all costs, since a zero would be no edge
    alone = np.arange(count)
    start, end = np.concatenate([rows[:, 0], alone]), np.concatenate([rows[:, 1], others + alone])
    cost = np.concatenate([misfit, np.full(count, 1 + 1e-9)]) + 1
    # scipy below 1.15 reads 32-bit indices alone
    graph = csr_array((cost, (start.astype(np.int32), end.astype(np.int32))), shape=(count, others + count))
    chosen = min_weight_full_bipartite_matching(graph)
    partner = np.empty(count, np.int64)
    partner[chosen[0]] = chosen[1]
    return np.flatnonzero(partner[rows[:, 0]] == rows[:, 1])
