"""Minimum-cost one-to-one assignment on sparse candidates, and detection of ambiguous pairs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MARGIN = 0.25
"""Another assignment costs nearly the same if its extra cost is below this fraction of the cost of an unpaired capture.
Our choice: if the tolerance is three standard deviations of the time differences, the other assignment is about a
third as likely."""
_BATCH = 512  # candidates solved together, since the solver's time grows with the square of their number
_ROUNDS = 200  # maximum number of exchanges in a chain that are followed
_KNOT = 64  # maximum number of interlocked pairs whose cyclic exchanges are examined; in a larger set all are ambiguous


def assign(
    rows: NDArray[np.int64], cost: NDArray[np.float64], sizes: tuple[int, int], alone: float
) -> NDArray[np.int64]:
    """Return which candidates form the one-to-one assignment with the least total cost.

    The total is the sum of the costs of all pairs, plus `alone` for every capture of the first list without a partner.
    Candidates that share no capture, directly or through others, do not affect each other, so every connected part is
    solved separately.

    Args:
        rows: ``(candidates, 2)`` positions in the two lists, without repeats.
        cost: ``(candidates,)`` costs from 0 to `alone`.
        sizes: lengths of the lists.
        alone: cost of a capture without a partner.

    Source:
        LAPJVsp (Jonker and Volgenant 1987), as in `scipy.sparse.csgraph.min_weight_full_bipartite_matching`.

    Example:
        >>> rows = np.array([[0, 0], [0, 1], [1, 0]])
        >>> assign(rows, np.array([0.1, 0.3, 0.4]), (2, 2), alone=1.0).tolist()
        [1, 2]
    """
    lone = uncontested(rows, sizes)
    others = np.flatnonzero(~lone)
    chosen = [others[part[_cheapest(rows[others[part]], cost[others[part]], alone)]] for part in _parts(rows[others])]
    return np.sort(np.concatenate([np.flatnonzero(lone), *chosen]))


def ambiguous(
    rows: NDArray[np.int64],
    cost: NDArray[np.float64],
    sizes: tuple[int, int],
    alone: float,
    chosen: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return which chosen pairs are missing from another assignment whose total is at most slightly larger (`MARGIN`).

    Other assignments differ by chains (a capture takes the partner of another capture, which takes the next partner, a
    free one or none; likewise from the second list) and by cyclic exchanges. A pair whose captures have no
    other candidate is never ambiguous.

    Args:
        rows: candidates, as in `assign`.
        cost: costs of the candidates, as in `assign`.
        sizes: lengths of the lists.
        alone: cost of a capture without a partner.
        chosen: result of `assign`.

    Example:
        >>> rows, cost = np.array([[0, 0], [0, 1], [1, 2]]), np.array([0.1, 0.2, 0.1])
        >>> ambiguous(rows, cost, (2, 3), 1.0, np.array([0, 2])).tolist()
        [True, False]
    """
    own, pair = cost[chosen], [np.full(size, -1) for size in sizes]
    for side in (0, 1):
        pair[side][rows[chosen, side]] = np.arange(len(chosen))
    rest = np.ones(len(rows), np.bool_)
    rest[chosen] = False
    ends, more = np.column_stack([pair[0][rows[rest, 0]], pair[1][rows[rest, 1]]]), cost[rest]
    # both chains count the loss of the pair itself, so it is subtracted once
    leaving = _chains(ends, more, own, alone)
    extra = leaving + _chains(ends[:, ::-1], more, own, alone) - (alone - own)
    extra = np.minimum(extra, _cycles(ends, more, own, leaving, MARGIN * alone))
    found: NDArray[np.bool_] = ~uncontested(rows, sizes)[chosen] & (extra < MARGIN * alone)
    return found


def uncontested(rows: NDArray[np.int64], sizes: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which candidates are the only candidate of both their captures."""
    one = [np.bincount(rows[:, side], minlength=sizes[side])[rows[:, side]] == 1 for side in (0, 1)]
    both: NDArray[np.bool_] = one[0] & one[1]
    return both


def _parts(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield connected parts of the candidates, several small ones together."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return
    start, end = _numbered(rows[:, 0]), _numbered(rows[:, 1])
    count = int(start.max()) + int(end.max()) + 2
    graph = csr_array((np.ones(len(rows), np.int8), (start, end + start.max() + 1)), shape=(count, count))
    label = connected_components(graph, directed=False)[1][start]
    size = np.bincount(label)
    batch = ((np.cumsum(size) - size) // _BATCH)[label]
    order = np.argsort(batch, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(batch[order])) + 1)


def _cheapest(rows: NDArray[np.int64], cost: NDArray[np.float64], alone: float) -> NDArray[np.int64]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    first, second = _numbered(rows[:, 0]), _numbered(rows[:, 1])
    count, others = int(first.max()) + 1, int(second.max()) + 1
    # each capture of the first list may get a dummy partner; 1 is added to all costs, since scipy reads 0 as no edge
    dummy = np.arange(count, dtype=np.int32)
    ends = np.concatenate([first, dummy]), np.concatenate([second, others + dummy])
    costs = np.concatenate([cost, np.full(count, alone + 1e-9)]) + 1
    found = min_weight_full_bipartite_matching(csr_array((costs, ends), shape=(count, others + count)))
    partner = np.empty(count, np.int64)
    partner[found[0]] = found[1]
    return np.flatnonzero(partner[first] == second)


def _numbered(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return values renumbered from 0, in 32 bits, since scipy below 1.15 reads no other integers."""
    return np.unique(values, return_inverse=True)[1].astype(np.int32)


def _chains(
    ends: NDArray[np.int64], more: NDArray[np.float64], own: NDArray[np.float64], alone: float
) -> NDArray[np.float64]:
    """Return, per pair, how much the total grows if its first capture gets another place and its second gets none.

    Args:
        ends: ``(others, 2)`` pairs that the captures of the other candidates belong to, -1 for none.
        more: ``(others,)`` costs of these candidates.
        own: ``(pairs,)`` costs of the pairs.
        alone: cost of a capture without a partner.
    """
    moved = ends[ends[:, 0] >= 0]
    step = more[ends[:, 0] >= 0] - own[moved[:, 0]]
    grown = np.append(alone - own, 0.0)  # the last entry is for a free place
    for _ in range(_ROUNDS):
        before = grown.copy()
        np.minimum.at(grown, moved[:, 0], step + before[moved[:, 1]])
        if np.array_equal(before, grown):
            break
    return grown[:-1]


def _cycles(
    ends: NDArray[np.int64],
    more: NDArray[np.float64],
    own: NDArray[np.float64],
    leaving: NDArray[np.float64],
    limit: float,
) -> NDArray[np.float64]:
    """Return, per pair, how much the total grows if it exchanges partners in a cycle; infinite above `limit`.

    `leaving` is the length of the shortest path to a free place. Used as a potential, it makes the cost of every
    exchange at least 0, so only exchanges that cost less than the limit matter.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components, dijkstra

    grown = np.full(len(own), np.inf)
    (one, other), step = ends.T, more - own[ends[:, 0]] + leaving[ends[:, 1]] - leaving[ends[:, 0]]
    tight = (ends >= 0).all(axis=1) & (step < limit)
    # scipy reads 0 as no edge
    one, other, step = one[tight], other[tight], step[tight].clip(1e-12)
    graph = csr_array((step, (one, other)), shape=(len(own), len(own)))
    knot = connected_components(graph, connection="strong")[1]
    order, sizes = np.argsort(knot, kind="stable"), np.bincount(knot)
    for members in (part for part in np.split(order, np.cumsum(sizes)[:-1]) if len(part) > 1):
        if len(members) > _KNOT:
            grown[members] = 0.0
            continue
        inner = graph[members][:, members]
        back = dijkstra(inner, limit=limit)
        start, end = inner.nonzero()
        np.minimum.at(grown, members[start], inner.data + back[end, start])
    return grown
