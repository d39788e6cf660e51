"""The assignment is the best of all possible ones, and takes little time on long lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmkd.data.pairing.assignment import MARGIN, ambiguous, assign

Pairs = frozenset[tuple[int, int]]


def totals(cost: dict[tuple[int, int], float], count: int, alone: float) -> list[tuple[float, Pairs]]:
    """Return the total cost and the pairs of every possible one-to-one assignment."""
    found = [(0.0, Pairs())]
    for row in range(count):
        more = [
            (total + cost[pair], pairs | {pair})
            for total, pairs in found
            for pair in cost
            if pair[0] == row and all(pair[1] != other for _, other in pairs)
        ]
        found = [(total + alone, pairs) for total, pairs in found] + more
    return found


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.integers(0, 20), min_size=1, max_size=14),
    st.sampled_from([20, 12]),
)
def test_the_assignment_is_the_best_of_all(steps: dict[tuple[int, int], int], most: int) -> None:
    cost, alone = {pair: step / 20 for pair, step in steps.items() if step <= most}, most / 20
    rows, values = np.array(list(cost), np.int64).reshape(-1, 2), np.array(list(cost.values()))
    chosen = assign(rows, values, (5, 5), alone)
    pairs = {(int(a), int(b)) for a, b in rows[chosen]}
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    every = totals(cost, 5, alone)
    best = min(total for total, _ in every)
    assert sum(cost[pair] for pair in pairs) + (5 - len(pairs)) * alone == pytest.approx(best, abs=1e-6)
    unsure = ambiguous(rows, values, (5, 5), alone, chosen)
    for place, marked in zip(chosen, unsure, strict=True):
        pair = (int(rows[place, 0]), int(rows[place, 1]))
        if sum(pair[0] == a or pair[1] == b for a, b in cost) == 1:
            assert not marked  # no other candidate
            continue
        extra = min(total for total, members in every if pair not in members) - best
        if abs(extra - MARGIN * alone) > 1e-6:  # otherwise a tie up to rounding
            assert marked == (extra < MARGIN * alone), (pair, extra)
