"""Search for shortcuts: how well trivial features of each modality, or metadata alone, predict the class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.faults import FOLDS, Shortcut, Shortcuts
from cmkd.data.quality.sources import Source
from cmkd.data.quality.trivial import metadata_ranks, trivial_features
from cmkd.folds import stratified_folds
from cmkd.types import UNLABELED

MOST_PAIRS = 2000
"""Maximum number of train pairs in the search; if there are more, this many are drawn."""
FEWEST_PAIRS = 100
"""Minimum number of train pairs: with fewer, only a gross shortcut could be distinguished from chance."""
TREES = 40
SMALLEST_LEAF = 3
SAMPLED = 0.5
"""Fraction of the pairs that each tree is trained on, for speed."""


@dataclass(frozen=True)
class _TrainPairs:
    """The train pairs that the search uses."""

    rows: NDArray[np.int64]  # rows of the source
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]  # numbers of the groups, from 0
    folds: NDArray[np.int64]  # fold in which each pair is held out

    def at(self, places: NDArray[np.int64]) -> _TrainPairs:
        groups = np.unique(self.groups[places], return_inverse=True)[1]
        return _TrainPairs(self.rows[places], self.labels[places], groups, self.folds[places])


def find_shortcuts(source: Source) -> Shortcuts:
    """Measure how well a random forest predicts the class from information that should not reveal it.

    The forest is given the features of `cmkd.data.quality.trivial.trivial_features` of one modality at a time, and then
    only metadata: columns such as speed or hour, and which modalities a pair has. It is trained and tested on labeled
    pairs that are in the train split or in no split, in five folds stratified by class, with every group in one fold.
    At most `MOST_PAIRS` pairs are drawn. The same pairs give the same result.

    Trivial features of images are expected to reveal something: tankers are large. Metadata reveals the class either
    for physical reasons (tankers are slow) or because classes were captured at different times or places.

    Args:
        source: a folder or a pack, from `open_source`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.data.quality import open_source
        >>> from cmkd.datasets.digits import Digits
        >>> folder = Path(tempfile.mkdtemp()) / "digits"
        >>> _ = Digits().prepare(None, folder)
        >>> for shortcut in find_shortcuts(open_source(folder)).found:
        ...     print(shortcut.modality, shortcut.finding)
        optical above chance
        degraded above chance
    """
    notes: list[str] = []
    pairs = _choose(source, notes)
    if reason := _too_few(pairs):
        return Shortcuts(notes=[*notes, f"shortcuts were not searched for: {reason}"])
    found = []
    for name in source.modalities:
        features, own = _trivial(source, name, pairs)
        if reason := _too_few(own):
            notes.append(f"{name}: shortcuts were not searched for: {reason}")
        else:
            found.append(_judge(name, features, own))
    columns, left_out = metadata_ranks(source, pairs.rows)
    notes += [f"metadata: shortcuts leave out '{name}': {why}" for name, why in left_out.items()]
    if columns:
        found.append(_judge("", np.stack(list(columns.values()), axis=1), pairs, list(columns)))
    else:
        notes.append("metadata: no column to search for shortcuts")
    return Shortcuts(found, notes)


def _choose(source: Source, notes: list[str]) -> _TrainPairs:
    """Return labeled train pairs, without classes of a single group, which cannot be both trained on and held out."""
    labels = np.asarray(source.labels, dtype=np.int64)
    wanted = np.array([split in ("", "train") for split in source.splits], dtype=bool)
    rows = np.flatnonzero((labels != UNLABELED) & wanted)
    if len(rows) > MOST_PAIRS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_PAIRS, replace=False))
    names = np.array(
        [f"group {source.groups[row]}" if source.groups[row] else f"pair {row}" for row in rows.tolist()], object
    )
    of_class: dict[int, set[str]] = {}
    for label, name in zip(labels[rows].tolist(), names, strict=True):
        of_class.setdefault(label, set()).add(name)
    alone = [label for label, own in of_class.items() if len(own) < 2]
    if alone:
        listed = ", ".join(source.classes[label] for label in alone[:5]) + (", ..." if len(alone) > 5 else "")
        notes.append(f"the search for shortcuts leaves out classes whose train pairs are in one group: {listed}")
    kept = ~np.isin(labels[rows], alone)
    rows, groups = rows[kept], np.unique(names[kept].astype(str), return_inverse=True)[1]
    pairs = _TrainPairs(rows, labels[rows], groups, np.zeros_like(rows))
    if _too_few(pairs):
        return pairs
    folds = min(FOLDS, int(groups.max()) + 1, int(np.bincount(pairs.labels).max()))
    return replace(pairs, folds=stratified_folds(pairs.labels, groups, folds=folds))


def _too_few(pairs: _TrainPairs) -> str:
    """Return the reason why pairs cannot be judged, empty if they can."""
    if len(pairs.rows) < FEWEST_PAIRS:
        return f"{FEWEST_PAIRS} labeled train pairs are needed, found {len(pairs.rows)}"
    if len(np.unique(pairs.labels)) < 2:
        return "all labeled train pairs are of one class"
    return "" if pairs.groups.max() else "all labeled train pairs are of one group"


def _trivial(source: Source, name: str, pairs: _TrainPairs) -> tuple[NDArray[np.float32], _TrainPairs]:
    """Return the features of the pairs that have a readable sample of the usual form, and these pairs."""
    read = []
    for row in pairs.rows.tolist():
        cell = source.cell(row, name)
        read.append(None if cell is None or cell.array is None else trivial_features(cell.array, cell.kind))
    sizes = [len(numbers) for numbers in read if numbers is not None]
    usual = max(set(sizes), key=sizes.count) if sizes else 0
    kept = [place for place, numbers in enumerate(read) if numbers is not None and len(numbers) == usual]
    features = [numbers for numbers in read if numbers is not None and len(numbers) == usual]
    return np.array(features, np.float32).reshape(len(kept), usual), pairs.at(np.array(kept, dtype=np.int64))


def _judge(name: str, features: NDArray[Any], pairs: _TrainPairs, columns: Sequence[str] = ()) -> Shortcut:
    """Cross-validate a forest, and, if it is above chance, measure which columns matter."""
    from sklearn.ensemble import RandomForestClassifier

    correct = np.zeros(len(pairs.labels))
    forests = []
    for fold in np.unique(pairs.folds):
        train, test = np.flatnonzero(pairs.folds != fold), np.flatnonzero(pairs.folds == fold)
        if len(train):
            forest = RandomForestClassifier(TREES, min_samples_leaf=SMALLEST_LEAF, max_samples=SAMPLED, random_state=0)
            with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn sums features to check for infinities
                forest.fit(features[train], pairs.labels[train])
                correct[test] = forest.predict(features[test]) == pairs.labels[test]
            forests.append((forest, test))
    result = _shortcut(name, correct, pairs)
    if columns and result.above_chance:
        result = replace(result, columns=_importance(forests, features, pairs, columns))
    return result


def _shortcut(name: str, correct: NDArray[np.float64], pairs: _TrainPairs) -> Shortcut:
    accuracy, number = float(correct.mean()), len(correct)
    chance = float(np.bincount(pairs.labels).max()) / number
    differences = np.bincount(pairs.groups, correct - accuracy)
    groups = len(differences)
    by_group = math.sqrt(groups / (groups - 1) * float((differences**2).sum())) / number
    # at least the standard error of pure chance, even if every group is right
    return Shortcut(name, accuracy, max(by_group, math.sqrt(chance * (1 - chance) / number)), chance, number, groups)


def _importance(
    forests: Sequence[tuple[Any, NDArray[np.int64]]], features: NDArray[Any], pairs: _TrainPairs, columns: Sequence[str]
) -> dict[str, float]:
    """Return column -> accuracy lost on held-out folds when the column is permuted, largest first."""
    from sklearn.inspection import permutation_importance

    lost = np.zeros(len(columns))
    for forest, test in forests:
        held = permutation_importance(forest, features[test], pairs.labels[test], n_repeats=1, random_state=0)
        lost += held.importances_mean * len(test) / len(pairs.rows)
    return {columns[place]: float(lost[place]) for place in np.argsort(-lost, kind="stable")}
