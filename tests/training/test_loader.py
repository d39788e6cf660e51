"""The loader: order of pairs, shares of processes, views and recorded outputs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.training.answers import Answers
from cmkd.training.loader import PairLoader
from cmkd.training.teacher_cache import Contents, TeacherCache
from cmkd.types import Output


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


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_pairs_that_a_teacher_teaches_equally(world: int, digits: Pack) -> None:
    rows = digits.rows("train")
    taught = np.random.default_rng(0).choice(rows, len(rows) // 10, replace=False)

    def make(rank: int, world: int) -> PairLoader:
        ours = {"rank": rank, "world": world, "taught": taught}
        return PairLoader(digits, rows, ["degraded"], batch_size=32, shuffle=True, **ours)  # type: ignore[arg-type]

    unsorted = PairLoader(digits, rows, ["degraded"], batch_size=32, shuffle=True)
    for step in range(len(unsorted)):
        whole, (alone, _) = unsorted.order(step)[0], make(0, 1)._share(step)
        np.testing.assert_array_equal(alone, whole)  # one process keeps the order
        shares = [make(rank, world)._share(step)[0] for rank in range(world)]
        assert sorted(np.concatenate(shares)) == sorted(whole)
        counts = [int(np.isin(share, taught).sum()) for share in shares]
        assert max(counts) - min(counts) <= 1 and {len(share) for share in shares} == {32 // world}


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
    assert indices(once) == found[:20]  # the first round equals an epoch without `pairs`


def drawn(loader: PairLoader, epochs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices and views of the pairs of several epochs."""
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found += [(batch.index.numpy(), batch.view.numpy()) for batch in loader]
    index, view = (np.concatenate(each) for each in zip(*found, strict=True))
    return index, view


@pytest.mark.parametrize(("count", "batch_size", "pairs"), [(30, 20, None), (30, 7, 90), (50, 32, 20), (20, 20, None)])
def test_rows_come_equally_often_and_each_time_in_another_view(
    count: int, batch_size: int, pairs: int | None, digits: Pack
) -> None:
    rows = digits.rows("train")[:count]
    loader = PairLoader(digits, rows, ["degraded"], batch_size=batch_size, shuffle=True, seed=1, pairs=pairs)
    index, view = drawn(loader, 9)
    passes = [index[start : start + count] for start in range(0, len(index), count)]
    for number, each in enumerate(passes):
        assert len(set(each)) == len(each)  # also across the ends of batches and epochs
        assert set(view[number * count : number * count + len(each)]) == {number}
    assert set(passes[0]) == set(rows) and len(passes) > 3
    assert len({tuple(each) for each in passes[:3]}) == 3
    counts = np.unique(index, return_counts=True)[1]
    assert counts.max() - counts.min() <= 1


def test_a_batch_holds_the_end_of_a_pass_and_the_start_of_the_next(digits: Pack) -> None:
    rows = digits.rows("train")[:30]
    loader = PairLoader(digits, rows, ["degraded"], batch_size=20, shuffle=True, seed=1, pairs=60)
    first, second, third = loader
    assert second.view.tolist() == [0] * 10 + [1] * 10
    assert set(first.index.tolist()) | set(second.index[:10].tolist()) == set(rows.tolist())
    assert set(second.index[10:].tolist()) | set(third.index.tolist()) == set(rows.tolist())


def test_finite_views_come_again_in_the_same_order_of_pairs(digits: Pack) -> None:
    rows = digits.rows("train")[:30]

    def views(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return drawn(PairLoader(digits, rows, ["degraded"], batch_size=15, shuffle=True, views=count), 5)

    (pairs, view), (same, cycled) = views(0), views(2)
    np.testing.assert_array_equal(pairs, same)
    np.testing.assert_array_equal(view, np.repeat([0, 1, 2, 3, 4], 30))
    np.testing.assert_array_equal(cycled, np.repeat([0, 1, 0, 1, 0], 30))


def test_evaluation_sees_the_first_view(digits: Pack) -> None:
    loader = PairLoader(digits, digits.rows("test"), ["optical"], batch_size=50, views=3)
    assert all(bool((batch.view == 0).all()) for batch in loader)


@pytest.fixture
def answers(digits: Pack, tmp_path: Path) -> Answers:
    """Return records of every third training pair in two views, whose values identify pair and view."""
    rows = digits.rows("train")[::3]
    contents = Contents({}, "optical", rows, classes=2, dim=1, stages=2, maps={1: (1, 1, 1)}, views=2)

    def compute(rows: NDArray[np.int64], view: int) -> Output:
        place = torch.from_numpy(rows).float()[:, None]
        return Output(torch.cat([place, torch.full_like(place, view)], 1), -place, (place[..., None, None] / 2,))

    found = TeacherCache(tmp_path, 10**6).answers(contents, compute)
    assert found is not None
    return found


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2)])
def test_a_batch_brings_the_answers_to_its_views_and_says_which_pairs_have_one(
    rank: int, world: int, digits: Pack, answers: Answers
) -> None:
    rows, known = digits.rows("train")[:40], set(digits.rows("train")[::3].tolist())
    loader = PairLoader(
        digits, rows, ["degraded"], batch_size=16, shuffle=True, answers=answers, pairs=120, rank=rank, world=world
    )
    seen = set()
    for batch in loader:
        assert batch.teacher is not None and batch.taught is not None and set(batch.inputs) == {"degraded"}
        assert batch.taught.tolist() == [int(i) in known for i in batch.index]
        assert bool(batch.present["optical"].all()) and bool(batch.present["degraded"].all())
        taught = batch.select(batch.taught)
        assert taught.teacher is not None and 0 < len(taught) < len(batch)
        expected = torch.stack([taught.index, taught.view % 2], 1).float()
        assert torch.equal(taught.teacher.logits, expected) and torch.equal(taught.teacher.embedding, -expected[:, :1])
        shallow, deep = taught.teacher.feature_maps
        assert torch.equal(deep.flatten(), expected[:, 0] / 2) and shallow.shape == (len(taught), 0, 0, 0)
        seen |= set(batch.view.tolist())
    assert seen == {0, 1, 2}
    assert pickle.loads(pickle.dumps(answers)).views == 2  # as passed to a spawned process


def test_windows_hold_every_row_once_and_are_read_in_few_places(digits: Pack) -> None:
    rows = digits.rows("train")
    loader = PairLoader(digits, rows, ["optical"], batch_size=64, shuffle=True, seed=5, window=320)
    order = np.concatenate([loader.order(step)[0] for step in range(len(rows) // 64 + 1)])[: len(rows)]
    assert sorted(order) == sorted(rows)
    assert (np.diff(order) == 1).mean() < 0.1
    for start in range(0, len(order) - 320, 320):
        places = np.searchsorted(rows, np.sort(order[start : start + 320]))
        assert (np.diff(places) > 1).sum() < 16
    loader.set_epoch(1)
    assert loader.order(0)[0].tolist() != order[:64].tolist()
