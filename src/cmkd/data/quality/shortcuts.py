"""Shortcuts: how much trivial features of each modality, and metadata alone, tell of the class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality.sources import Source
from cmkd.data.quality.trivial import metadata_ranks, trivial_features
from cmkd.types import UNLABELED

MOST_PAIRS = 2000
"""Train pairs that are looked at; of more, this many are drawn."""
FEWEST_PAIRS = 100
"""Train pairs needed: with fewer, only a gross shortcut could be told from chance."""
FOLDS = 5
TREES = 40
SMALLEST_LEAF = 3
SAMPLED = 0.5
"""Fraction of the pairs that each tree sees, for speed."""
SIGNIFICANCE = 1e-3
"""Largest probability, one-sided, of calling chance a shortcut."""
LEAST_GAIN = 0.05
"""Least share of the errors of chance that a shortcut avoids; like the other limits here, our choice."""
HEADER = ("a random forest is given", "accuracy", "chance", "finding")
RULE = (
    f"above chance: the one-sided {100 * (1 - SIGNIFICANCE):g} % confidence bound, with standard errors by group, is "
    f"above the share of the commonest class, and {100 * LEAST_GAIN:g} % of the errors of always naming it are avoided"
)


@dataclass(frozen=True)
class Shortcut:
    """Accuracy of a random forest that is given trivial features of one modality, or metadata alone.

    Args:
        modality: its name; empty for metadata.
        accuracy: on held-out folds, 0 to 1.
        error: its standard error, from the differences between groups.
        chance: share of the commonest class.
        pairs: number of train pairs.
        groups: number of groups that they form; a pair without a group is one of its own.
        columns: column of metadata -> accuracy lost on held-out folds where its cells are permuted, largest first;
            columns that say the same share what they are worth. Empty where the accuracy is not above chance.
    """

    modality: str
    accuracy: float
    error: float
    chance: float
    pairs: int
    groups: int
    columns: Mapping[str, float] = field(default_factory=dict)

    @property
    def above_chance(self) -> bool:
        """Whether the accuracy is clearly above chance, by `RULE`."""
        from scipy.stats import t

        least = self.accuracy - float(t.isf(SIGNIFICANCE, self.groups - 1)) * self.error
        return least > self.chance and self.accuracy - self.chance >= LEAST_GAIN * (1 - self.chance)

    @property
    def finding(self) -> str:
        """What it shows, in a few words."""
        if not self.above_chance:
            return "not above chance" if self.groups >= FOLDS else f"undecided: {self.groups} groups are too few"
        return "above chance" + self.named

    @property
    def named(self) -> str:
        """The few columns that matter most, with the points they are worth, after a comma; empty for none."""
        worth = [f"{name} ({100 * lost:.1f} points)" for name, lost in self.columns.items() if lost > self.error][:5]
        return f", mostly by {', '.join(worth)}" if worth else ""

    def cells(self) -> tuple[str, str, str, str]:
        """Return a row of a table under `HEADER`."""
        given = f"trivial features of {self.modality}" if self.modality else "metadata alone"
        accuracy = f"{100 * self.accuracy:.1f} % (s.e. {100 * self.error:.1f})"
        return given, accuracy, f"{100 * self.chance:.1f} %", self.finding


@dataclass(frozen=True)
class Shortcuts:
    """What was found in a data set.

    Args:
        found: one per modality, then metadata; whatever could not be judged is missing.
        notes: what was left out or could not be judged, and why.
    """

    found: Sequence[Shortcut] = ()
    notes: Sequence[str] = ()

    @property
    def warning(self) -> str:
        """What to say where metadata alone is clearly above chance; else empty."""
        for one in self.found:
            if not one.modality and one.above_chance:
                accuracy = f"{100 * one.accuracy:.1f} % against {100 * one.chance:.1f} % by chance"
                return (
                    f"metadata alone tells the class ({accuracy}{one.named}): unless that is physical, classes "
                    "were captured under different conditions, which a network may learn in their place"
                )
        return ""


@dataclass(frozen=True)
class _Pairs:
    """The pairs that are looked at."""

    rows: NDArray[np.int64]  # of the source
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]  # from 0
    folds: NDArray[np.int64]  # in which each is held out

    def at(self, places: NDArray[np.int64]) -> _Pairs:
        groups = np.unique(self.groups[places], return_inverse=True)[1]
        return _Pairs(self.rows[places], self.labels[places], groups, self.folds[places])


def find_shortcuts(source: Source) -> Shortcuts:
    """Measure how well a random forest tells the class from what should not tell it.

    It is given the features of `cmkd.data.quality.trivial.trivial_features` of one modality at a time, and then the
    columns of metadata alone, such as speed or hour, and which modalities a pair has. It is trained and tested on
    labeled pairs of the train split, or without a split, in five folds stratified by class, with every group in one
    fold. At most `MOST_PAIRS` pairs are drawn. The same pairs give the same result.

    Trivial features of images are expected to tell something: tankers are large. Metadata tells of the class by
    physics (tankers are slow) or because classes were captured at other times or places.

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
        return Shortcuts(notes=[*notes, f"shortcuts were not looked for: {reason}"])
    found = []
    for name in source.modalities:
        features, own = _trivial(source, name, pairs)
        if reason := _too_few(own):
            notes.append(f"{name}: shortcuts were not looked for: {reason}")
        else:
            found.append(_judge(name, features, own))
    columns, left_out = metadata_ranks(source, pairs.rows)
    notes += [f"metadata: shortcuts leave out '{name}': {why}" for name, why in left_out.items()]
    if columns:
        found.append(_judge("", np.stack(list(columns.values()), axis=1), pairs, list(columns)))
    else:
        notes.append("metadata: no column to look for shortcuts in")
    return Shortcuts(found, notes)


def _choose(source: Source, notes: list[str]) -> _Pairs:
    """Return labeled train pairs, without those of classes that cannot be in both parts of a fold."""
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
        notes.append(f"shortcuts leave out classes whose train pairs are of one group: {listed}")
    kept = ~np.isin(labels[rows], alone)
    rows, groups = rows[kept], np.unique(names[kept].astype(str), return_inverse=True)[1]
    pairs = _Pairs(rows, labels[rows], groups, np.zeros_like(rows))
    return pairs if _too_few(pairs) else replace(pairs, folds=_folds(pairs.labels, groups))


def _too_few(pairs: _Pairs) -> str:
    """Return why pairs cannot be judged, empty if they can."""
    if len(pairs.rows) < FEWEST_PAIRS:
        return f"{FEWEST_PAIRS} labeled train pairs are needed, there are {len(pairs.rows)}"
    if len(np.unique(pairs.labels)) < 2:
        return "all labeled train pairs are of one class"
    return "" if pairs.groups.max() else "all labeled train pairs are of one group"


def _folds(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold in which each pair is held out."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    found, count = np.zeros(len(labels), dtype=np.int64), int(groups.max()) + 1
    single = count == len(groups)  # the split by pair is much faster
    folds = min(FOLDS, count, int(np.bincount(labels).max()))
    parts = (StratifiedKFold if single else StratifiedGroupKFold)(folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fold, (_, test) in enumerate(parts.split(labels, labels, None if single else groups)):
            found[test] = fold
    return found


def _trivial(source: Source, name: str, pairs: _Pairs) -> tuple[NDArray[np.float32], _Pairs]:
    """Return the features of the pairs that have a sound sample of the usual form, and these pairs."""
    read = []
    for row in pairs.rows.tolist():
        cell = source.cell(row, name)
        read.append(None if cell is None or cell.array is None else trivial_features(cell.array, cell.kind))
    sizes = [len(numbers) for numbers in read if numbers is not None]
    usual = max(set(sizes), key=sizes.count) if sizes else 0
    kept = [place for place, numbers in enumerate(read) if numbers is not None and len(numbers) == usual]
    features = [numbers for numbers in read if numbers is not None and len(numbers) == usual]
    return np.array(features, np.float32).reshape(len(kept), usual), pairs.at(np.array(kept, dtype=np.int64))


def _judge(name: str, features: NDArray[Any], pairs: _Pairs, columns: Sequence[str] = ()) -> Shortcut:
    """Cross-validate a forest, and measure which columns matter where it is above chance."""
    from sklearn.ensemble import RandomForestClassifier

    correct = np.zeros(len(pairs.labels))
    forests = []
    for fold in np.unique(pairs.folds):
        train, test = np.flatnonzero(pairs.folds != fold), np.flatnonzero(pairs.folds == fold)
        if len(train):
            forest = RandomForestClassifier(
                TREES, min_samples_leaf=SMALLEST_LEAF, max_samples=SAMPLED, random_state=0
            ).fit(features[train], pairs.labels[train])
            correct[test] = forest.predict(features[test]) == pairs.labels[test]
            forests.append((forest, test))
    result = _shortcut(name, correct, pairs)
    if columns and result.above_chance:
        result = replace(result, columns=_importance(forests, features, pairs, columns))
    return result


def _shortcut(name: str, correct: NDArray[np.float64], pairs: _Pairs) -> Shortcut:
    accuracy, number = float(correct.mean()), len(correct)
    chance = float(np.bincount(pairs.labels).max()) / number
    differences = np.bincount(pairs.groups, correct - accuracy)
    groups = len(differences)
    by_group = math.sqrt(groups / (groups - 1) * float((differences**2).sum())) / number
    # at least what pure chance varies by, also where every group is right
    return Shortcut(name, accuracy, max(by_group, math.sqrt(chance * (1 - chance) / number)), chance, number, groups)


def _importance(
    forests: Sequence[tuple[Any, NDArray[np.int64]]], features: NDArray[Any], pairs: _Pairs, columns: Sequence[str]
) -> dict[str, float]:
    """Return the accuracy that is lost on held-out folds where one column is permuted, largest first."""
    from sklearn.inspection import permutation_importance

    lost = np.zeros(len(columns))
    for forest, test in forests:
        held = permutation_importance(forest, features[test], pairs.labels[test], n_repeats=1, random_state=0)
        lost += held.importances_mean * len(test) / len(pairs.rows)
    return {columns[place]: float(lost[place]) for place in np.argsort(-lost, kind="stable")}
