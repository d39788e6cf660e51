"""Train, validation and test splits: given ones are kept, the others are drawn by class and group, and recorded."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
from cmkd.errors import CmkdError, unknown_name
from cmkd.types import UNLABELED

ALIASES = {"val": "validation", "valid": "validation", "dev": "validation"}


def assign_splits(
    labels: Sequence[int] | NDArray[np.integer[Any]],
    groups: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> tuple[list[str], dict[str, Any]]:
    """Return the split of every pair, and a record of how it was made.

    A validation or test split named in `given` is complete: nothing is added to it. A split not named there is drawn,
    stratified by class and in whole groups, from the pairs without a split and, if these are too few, from the
    train split. The rest is train. Pairs without a label get the split of their group, or train. Every class keeps
    at least one train pair if `given` allows it.

    Args:
        labels: ``(pairs,)`` class positions, -1 for unlabeled pairs.
        groups: group of each pair, which must not cross splits; empty for a pair without one, None if no pair has one.
        given: split of each pair: ``train``, ``validation`` (or ``val``), ``test``, empty to draw it; None to draw all.
        fractions: relative sizes of train, validation and test among the pairs to divide.
        seed: random seed of the draw.

    Returns:
        The split of each pair, and a record with ``method, seed, fractions, given, made, counts``.

    Raises:
        CmkdError: a group is given in two splits, no train pair is left, or there are too few pairs or groups.

    Source:
        scikit-learn's stratified group folds and stratified shuffling.

    Example:
        >>> splits, record = assign_splits([0, 1] * 10, seed=1)
        >>> record["counts"]
        {'train': 14, 'validation': 3, 'test': 3}
        >>> assign_splits([0, 1] * 10, given=["train"] * 16 + ["test"] * 4)[1]["made"]
        ['validation']
    """
    targets = np.asarray(labels, dtype=np.int64)
    numbers = np.ndim(fractions) == 1 and all(isinstance(one, int | float | np.number) for one in fractions)
    if not numbers or len(fractions) != 3 or not all(0 < fraction < math.inf for fraction in fractions):
        raise CmkdError(f"fractions of train, validation and test must be three positive numbers, got {fractions}")
    codes = _codes(groups, len(targets))
    splits = _spread(_named(given, len(targets)), codes, groups)
    named = [split for split in SPLITS if (splits == split).any()]
    # an unlabeled pair cannot be stratified: it gets the split of its group, below
    blank, labeled = splits == "", targets != UNLABELED
    wanted = [split for split in SPLITS[1:] if split not in named]
    share = dict(zip(SPLITS, fractions, strict=True))
    divided = (blank | (splits == "train")) & labeled
    parts = {split: share[split] / (share["train"] + sum(share[w] for w in wanted)) for split in wanted}
    if not ((splits == "train") | blank).any():
        raise CmkdError("no pair is in the train split: mark some rows 'train', or leave the split of some rows empty")
    if wanted:
        needed = sum(parts.values()) * divided.sum()
        pool = blank & labeled if (blank & labeled).sum() > needed else divided
        scale = divided.sum() / max(pool.sum(), 1)
        _require(codes[pool], wanted, named, grouped=groups is not None)
        for position, split in enumerate(wanted):
            left = 1.0 - sum(parts[done] * scale for done in wanted[:position])
            drawn = _draw(np.flatnonzero(pool), targets, codes, parts[split] * scale / left, seed + position, splits)
            splits[np.isin(codes, codes[drawn])] = split  # also the unlabeled pairs of a group
            pool[drawn] = False
    _follow(splits, codes)
    splits[splits == ""] = "train"
    counts = {split: int((splits == split).sum()) for split in SPLITS}
    by = "stratified by class" + ("" if groups is None else ", whole groups at a time")
    record = {
        "method": f"{' and '.join(wanted)} drawn {by}" if wanted else "given",
        "seed": seed,
        "fractions": list(fractions),
        "given": named,
        "made": wanted,
        "counts": counts,
    }
    return splits.tolist(), record


def hashed_splits(names: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """Return a split per name, chosen only by a hash of the name and the seed.

    A name therefore always gets the same split, whatever the other names are and in whatever order.

    Args:
        names: names of groups.
        shares: split -> expected share of the names; the shares sum to 1.
        seed: number hashed with each name; another seed gives other splits.

    Example:
        >>> hashed_splits(["vessel 1", "vessel 2", "vessel 3"], {"train": 0.6, "validation": 0.2, "test": 0.2}, 3)
        ['train', 'train', 'test']
    """
    ends = np.cumsum([shares[split] for split in SPLITS])
    digests = (hashlib.sha256(f"split {seed} {name}".encode()).digest() for name in names)
    drawn = [int.from_bytes(digest[:8], "big") / 2**64 * ends[-1] for digest in digests]
    # if rounding leads beyond the end, the last split with a share
    return [SPLITS[int(min(np.searchsorted(ends, value, side="right"), np.argmax(ends)))] for value in drawn]


def _codes(groups: Sequence[str] | None, count: int) -> NDArray[np.int64]:
    """Return the number of each pair's group; a pair without a group is a group of its own."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise CmkdError(f"expected one group per label, got {len(groups)} and {count}")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(g or f"\0{row}", len(numbers)) for row, g in enumerate(groups)], dtype=np.int64)


def _named(given: Sequence[str] | None, count: int) -> NDArray[np.object_]:
    if given is None:
        return np.full(count, "", dtype=object)
    if len(given) != count:
        raise CmkdError(f"expected one split per label, got {len(given)} and {count}")
    names = [ALIASES.get(name, name) for name in given]
    wrong = next((name for name in names if name not in (*SPLITS, "")), None)
    if wrong is not None:
        raise unknown_name("split", wrong, SPLITS)
    return np.array(names, dtype=object)


def _spread(splits: NDArray[np.object_], codes: NDArray[np.int64], groups: Sequence[str] | None) -> NDArray[np.object_]:
    """Give all pairs of a group the split that some of them have."""
    of: dict[int, str] = {}
    for row in np.flatnonzero(splits != ""):
        if of.setdefault(int(codes[row]), splits[row]) != splits[row]:
            name = groups[int(row)] if groups is not None else row
            raise CmkdError(
                f"group '{name}' is in both {of[int(codes[row])]} and {splits[row]}: a group must stay in one split"
            )
    _follow(splits, codes)
    return splits


def _follow(splits: NDArray[np.object_], codes: NDArray[np.int64]) -> None:
    of = {int(codes[row]): splits[row] for row in np.flatnonzero(splits != "")}
    for row in np.flatnonzero(splits == ""):
        splits[row] = of.get(int(codes[row]), "")


def _require(codes: NDArray[np.int64], wanted: list[str], named: list[str], *, grouped: bool) -> None:
    available, needed = len(np.unique(codes)), len(wanted) + ("train" not in named)
    if available < max(needed, 2):
        what = "groups" if grouped else "pairs"
        raise CmkdError(
            f"cannot make the {' and '.join(wanted)} split from {available} labeled {what}: give more {what}, "
            "or fill in the split column"
        )


def _draw(
    pool: NDArray[np.int64],
    targets: NDArray[np.int64],
    codes: NDArray[np.int64],
    fraction: float,
    seed: int,
    splits: NDArray[np.object_],
) -> NDArray[np.int64]:
    """Draw about `fraction` of `pool`, whole groups at a time, leaving every class something to train on."""
    outside = np.setdiff1d(np.flatnonzero(splits == "train"), pool)
    # a class that occurs in only one group stays in train, and so does that group
    groups_of = {int(c): np.unique(codes[pool][targets[pool] == c]) for c in np.unique(targets[pool])}
    safe = set(targets[outside].tolist())
    pinned = [group[0] for c, group in groups_of.items() if len(group) == 1 and c not in safe]
    free = pool[~np.isin(codes[pool], pinned)]
    if len(np.unique(codes[free])) < 1 + (not pinned and not len(outside)):
        raise CmkdError(
            "cannot make the split: nearly every class is in only one group; give more groups per class, "
            "or fill in the split column"
        )
    target = fraction * len(pool)
    alone = len(np.unique(codes[free])) == len(free)
    folds = (
        [_shuffled(free, targets, target, seed)]
        if alone
        else _group_folds(free, targets, codes, min(target / len(free), 1.0), seed)
    )
    scored = []
    for order, fold in enumerate(folds):
        kept = _give_back(fold, pool, outside, targets, codes)
        if len(kept):
            classes = len(np.unique(targets[kept]))
            scored.append((-classes, abs(len(kept) - target), order, kept))
    if not scored:
        raise CmkdError("cannot make the split: no class would keep train pairs; fill in the split column")
    best: NDArray[np.int64] = min(scored, key=lambda entry: entry[:3])[3]
    return best


def _shuffled(free: NDArray[np.int64], targets: NDArray[np.int64], target: float, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    _, counts = np.unique(targets[free], return_counts=True)
    size = min(max(round(target), 1), max(len(free) - 1, 1))
    stratify = counts.min() >= 2 and len(free) >= 2 * len(counts)
    if stratify:  # at least one of each class on either side
        size = min(max(size, len(counts)), len(free) - len(counts))
    if len(free) == 1:
        return free
    splitter = (StratifiedShuffleSplit if stratify else ShuffleSplit)(n_splits=1, test_size=size, random_state=seed)
    _, drawn = next(splitter.split(free, targets[free]))
    chosen: NDArray[np.int64] = free[drawn]
    return chosen


def _group_folds(
    free: NDArray[np.int64], targets: NDArray[np.int64], codes: NDArray[np.int64], fraction: float, seed: int
) -> list[NDArray[np.int64]]:
    from sklearn.model_selection import StratifiedGroupKFold

    groups = len(np.unique(codes[free]))
    folds = min(max(round(1 / fraction), 2), groups, int(np.unique(targets[free], return_counts=True)[1].max()))
    if folds < 2:
        return [free]
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # scikit-learn warns of classes smaller than the number of folds; we check below
        warnings.simplefilter("ignore", UserWarning)
        return [free[drawn] for _, drawn in splitter.split(free, targets[free], codes[free])]


def _give_back(
    fold: NDArray[np.int64],
    pool: NDArray[np.int64],
    outside: NDArray[np.int64],
    targets: NDArray[np.int64],
    codes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the fold without the smallest groups that must stay in train so that every class has a train pair."""
    while len(fold):
        left = np.concatenate([np.setdiff1d(pool, fold), outside])
        lost = np.setdiff1d(targets[pool], targets[left])
        if not len(lost):
            break
        candidates, sizes = np.unique(
            codes[fold][np.isin(codes[fold], codes[fold][targets[fold] == lost[0]])], return_counts=True
        )
        fold = fold[codes[fold] != candidates[sizes.argmin()]]
    return fold
