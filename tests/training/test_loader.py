"""The order of pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.training.loader import PairLoader


def indices(loader: PairLoader) -> list[int]:
    return torch.cat([batch.index for batch in loader]).tolist()


def test_an_epoch_is_a_permutation_that_seed_and_number_fix(digits: Pack) -> None:
    rows = digits.rows("train")
    loader = PairLoader(digits, rows, ["degraded"], batch_size=100, shuffle=True, seed=3)
    first = indices(loader)
    assert len(first) == len(set(first)) == len(loader) * 100
    assert set(first) <= set(rows.tolist())
    loader.set_epoch(1)
    assert indices(loader) != first
    loader.set_epoch(0)
    assert indices(loader) == first
    other = PairLoader(digits, rows, ["degraded"], batch_size=100, shuffle=True, seed=4)
    assert indices(other) != first


def test_a_loader_continues_where_another_was(digits: Pack) -> None:
    make = lambda: PairLoader(digits, digits.rows("train"), ["degraded"], batch_size=100, shuffle=True)  # noqa: E731
    loader, other = make(), make()
    loader.set_epoch(2)
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    other.load_state_dict(loader.state_dict())
    assert indices(other) == [i for batch in iterator for i in batch.index.tolist()]


def test_processes_share_each_batch(digits: Pack) -> None:
    def make(rank: int, world: int) -> PairLoader:
        return PairLoader(
            digits, digits.rows("train"), ["optical"], batch_size=64, shuffle=True, rank=rank, world=world
        )

    for whole, first, second in zip(make(0, 1), make(0, 2), make(1, 2), strict=True):
        assert set(whole.index.tolist()) == set(first.index.tolist()) | set(second.index.tolist())
        assert len(first) == len(second) == 32


def test_evaluation_reads_every_row_once_in_order(digits: Pack) -> None:
    rows = digits.rows("test")
    assert indices(PairLoader(digits, rows, ["optical"], batch_size=50)) == rows.tolist()


def test_fewer_pairs_than_a_batch_are_one_batch(digits: Pack) -> None:
    assert [len(b) for b in PairLoader(digits, np.arange(10), ["optical"], batch_size=64, shuffle=True)] == [10]


def test_a_batch_that_cannot_be_shared_is_refused(digits: Pack) -> None:
    with pytest.raises(CmkdError, match="multiple of 2"):
        PairLoader(digits, np.arange(10), ["optical"], batch_size=3, world=2)


def test_an_epoch_of_more_pairs_than_rows_takes_each_as_often(digits: Pack) -> None:
    rows = digits.rows("train")[:30]
    loader = PairLoader(digits, rows, ["degraded"], batch_size=20, shuffle=True, pairs=90)
    found = indices(loader)
    assert len(found) == 80 and min(found.count(int(row)) for row in rows) >= 2
    once = PairLoader(digits, rows, ["degraded"], batch_size=20, shuffle=True)
    assert indices(once) == found[:20]  # the first round is the order of an epoch that has no more
