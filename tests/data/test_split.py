"""Splits: groups never cross, given splits are kept, every class keeps a train pair."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cmkd.data.split import assign_splits
from cmkd.errors import CmkdError

SPLITS = ("train", "validation", "test")


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[int], list[str], list[str], int]:
    groups = draw(st.integers(3, 12))
    rows = draw(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, groups - 1)), min_size=6, max_size=60))
    chosen = draw(st.lists(st.sampled_from(["", "", "train", "val", "test"]), min_size=groups, max_size=groups))
    blanks = draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    names = ["" if group == 0 else f"g{group}" for _, group in rows]
    marked = [
        "" if blank or not name else chosen[group] for (_, group), blank, name in zip(rows, blanks, names, strict=True)
    ]
    return [label for label, _ in rows], names, marked, draw(st.integers(0, 5))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grouped())
@example(([0, 0, 0, 0, 0, -1], ["", "g2", "g2", "g2", "g3", "g3"], ["", *["train"] * 5], 0))
def test_properties(case: tuple[list[int], list[str], list[str], int]) -> None:
    labels, groups, marked, seed = case
    try:
        splits, record = assign_splits(labels, groups, marked, seed=seed)
    except CmkdError as error:
        assert "\n" not in str(error)
        return
    assert (splits, record) == assign_splits(labels, groups, marked, seed=seed)
    of: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        if group:
            of.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in of.values())
    assert record["counts"] == {name: splits.count(name) for name in SPLITS}
    assert all(record["counts"][name] for name in SPLITS)
    kept = {"train": ("train", "validation", "test"), "val": ("validation",), "test": ("test",)}
    assert all(split in kept[mark] for mark, split in zip(marked, splits, strict=True) if mark)
    given_away = {
        label
        for label, g, m in zip(labels, groups, marked, strict=True)
        if m in ("val", "test")
        or (g and any(n in ("val", "test") for n, h in zip(marked, groups, strict=True) if h == g))
    }
    everywhere = {label for label in labels if label >= 0}
    in_train = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    assert everywhere - given_away <= in_train


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=12, max_size=80), st.integers(0, 3))
def test_without_groups_every_class_stays_in_train(labels: list[int], seed: int) -> None:
    try:
        splits, _ = assign_splits(labels, seed=seed)
    except CmkdError:
        assert max(labels.count(label) for label in set(labels)) < 4 or len(set(labels)) > len(labels) // 4
        return
    assert {label for label, split in zip(labels, splits, strict=True) if split == "train"} == set(labels)
    assert set(splits) == set(SPLITS)


def test_is_stratified() -> None:
    labels = [0] * 800 + [1] * 200
    splits, record = assign_splits(labels, seed=3)
    assert record["counts"] == {"train": 700, "validation": 150, "test": 150}
    assert sum(split == "test" for split in splits[800:]) == 30


def test_seed_changes_the_draw_and_nothing_else() -> None:
    labels = [0, 1] * 50
    first, second = (assign_splits(labels, seed=seed)[0] for seed in (0, 1))
    assert first != second
    assert [first.count(s) for s in SPLITS] == [second.count(s) for s in SPLITS]


def test_given_test_split_is_complete() -> None:
    splits, record = assign_splits([0, 1] * 50, given=["test"] * 20 + [""] * 80)
    assert splits[:20] == ["test"] * 20
    assert splits.count("test") == 20
    assert record["given"] == ["test"]
    assert record["made"] == ["validation"]
    assert record["counts"]["validation"] == 14  # 80 * 0.15 / 0.85


def test_validation_is_carved_out_of_train_by_group() -> None:
    groups = [f"vessel{k // 5}" for k in range(100)]
    splits, _ = assign_splits([k % 2 for k in range(100)], groups, ["train"] * 80 + ["test"] * 20)
    carved = {group for group, split in zip(groups, splits, strict=True) if split == "validation"}
    assert 2 <= len(carved) <= 4
    assert all(split == "validation" for group, split in zip(groups, splits, strict=True) if group in carved)
    assert splits[80:] == ["test"] * 20


def test_all_given_is_untouched() -> None:
    marked = ["train", "val", "test", "train"]
    splits, record = assign_splits([0, 1, 0, 1], given=marked)
    assert splits == ["train", "validation", "test", "train"]
    assert record["method"] == "given"


def test_unlabeled_pairs_train_or_follow_their_group() -> None:
    labels = [0, 1] * 10 + [-1] * 4
    groups = [f"g{k // 2}" for k in range(20)] + ["", "alone", "alone", "g0"]
    splits, _ = assign_splits(labels, groups)
    assert splits[20:23] == ["train"] * 3
    assert splits[23] == splits[0]


def test_class_in_a_single_group_stays_in_train() -> None:
    labels, groups = [0, 1] * 20 + [2] * 3, [f"g{k // 4}" for k in range(40)] + ["rare"] * 3
    for seed in range(5):
        assert assign_splits(labels, groups, seed=seed)[0][40:] == ["train"] * 3


@pytest.mark.parametrize(
    ("labels", "groups", "marked", "says"),
    [
        ([0, 1, 0, 1], ["a", "a", "b", "b"], None, "from 2 labeled groups"),
        ([0, 1, 0, 1], ["a", "a", "b", "b"], ["train", "test", "", ""], "group 'a' is in both train and test"),
        ([0, 1, 0, 1], None, ["train", "tset", "", ""], "did you mean 'test'"),
        ([0, 1, 0], None, ["test", "test", "val"], "no pair is in the train split"),
        ([0], None, None, "from 1 labeled pairs"),
        ([0, 1, 2], ["a", "b", "c"], None, "in only one group"),
    ],
)
def test_errors_are_one_line(labels: list[int], groups: list[str] | None, marked: list[str] | None, says: str) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        assign_splits(labels, groups, marked)
    assert "\n" not in str(caught.value)


def test_fractions_are_checked() -> None:
    with pytest.raises(CmkdError, match="three positive numbers"):
        assign_splits([0, 1] * 5, fractions=(0.8, 0.2, 0.0))
    for wrong in (math.nan, math.inf):
        with pytest.raises(CmkdError, match="three positive numbers"):
            assign_splits([0, 1] * 5, fractions=(wrong, 0.2, 0.1))
