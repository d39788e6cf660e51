"""Kinds of fault, single faults, shortcuts to the class, and the report of a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cmkd.documents import read_json, record
from cmkd.io import write_json

KINDS: Mapping[str, str] = {
    "unreadable": "the file is missing, not of the type that its suffix names, or cannot be read as it is",
    "truncated": "the file ends early or is damaged after a valid start, or its last rows are constant",
    "wrong_shape": "channels, size or type differ from nearly all other samples of the modality",
    "swapped": "the files of two modalities look swapped",
    "not_finite": "the file holds infinite values",
    "missing": "most of its values are invalid (nodata or NaN)",
    "blank": "all values are equal, or nearly so",
    "clipped": "far more values than usual are at the highest or lowest one",
    "low_contrast": "the values spread far less than is usual for the modality",
    "exact_duplicate": "the values are those of another pair",
    "near_duplicate": "the content is that of another pair, apart from compression, brightness, noise or size",
    "misregistered": "modalities declared co-registered match better with one of them shifted",
}
"""Kind of fault -> its meaning. ``unreadable`` occurs only for files; the others also occur in packs."""
FOLDS = 5
"""Number of folds of the cross-validation that finds shortcuts; fewer groups are usually too few to decide."""
SIGNIFICANCE = 1e-3
"""Maximum one-sided probability of reporting chance as a shortcut."""
LEAST_GAIN = 0.05
"""Minimum fraction of the errors of chance that a shortcut avoids; like the other limits here, our choice."""
HEADER = ("a random forest is given", "accuracy", "chance", "finding")
RULE = (
    f"above chance: the one-sided {100 * (1 - SIGNIFICANCE):g} % confidence bound, with standard errors by group, is "
    f"above the share of the commonest class, and {100 * LEAST_GAIN:g} % of the errors of always naming it are avoided"
)


@dataclass(frozen=True)
class Fault:
    """One fault of one pair.

    Args:
        id: id of the pair.
        kind: a key of `KINDS`.
        modality: the modality, or two joined by ``+``.
        message: sentence with the measured value and the limit.
        split: split of the pair, empty if it is not known yet.
        other: id of the pair that this pair duplicates, else empty.
        other_split: split of the pair `other`.
    """

    id: str
    kind: str
    modality: str
    message: str
    split: str = ""
    other: str = ""
    other_split: str = ""

    @property
    def leaks(self) -> bool:
        """Whether the pair duplicates one in another split, so that a model is evaluated on training samples."""
        return bool(self.other and self.split and self.other_split and self.split != self.other_split)


@dataclass(frozen=True)
class Shortcut:
    """Accuracy of a random forest that is given only trivial features of one modality, or only metadata.

    Args:
        modality: name of the modality; empty for metadata.
        accuracy: accuracy on held-out folds, 0 to 1.
        error: standard error of the accuracy, from the differences between groups.
        chance: fraction of pairs in the most common class.
        pairs: number of train pairs.
        groups: number of groups of these pairs; a pair without a group counts as its own group.
        columns: metadata column -> accuracy lost on held-out folds when its cells are permuted, largest first;
            redundant columns divide their importance among them. Empty if the accuracy is not above chance.
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
        """Conclusion in a few words: above chance or not, or undecided."""
        if not self.above_chance:
            return "not above chance" if self.groups >= FOLDS else f"undecided: {self.groups} groups are too few"
        return "above chance" + self.named

    @property
    def named(self) -> str:
        """Text, after a comma, with the most important columns and the points of accuracy they add; empty for none."""
        worth = [f"{name} ({100 * lost:.1f} points)" for name, lost in self.columns.items() if lost > self.error][:5]
        return f", mostly by {', '.join(worth)}" if worth else ""

    def cells(self) -> tuple[str, str, str, str]:
        """Return a row of a table under `HEADER`."""
        given = f"trivial features of {self.modality}" if self.modality else "metadata alone"
        accuracy = f"{100 * self.accuracy:.1f} % (s.e. {100 * self.error:.1f})"
        return given, accuracy, f"{100 * self.chance:.1f} %", self.finding


@dataclass(frozen=True)
class Shortcuts:
    """Result of the search for shortcuts in a data set.

    Args:
        found: result for each modality, then for metadata; those that could not be judged are missing.
        notes: what was left out or could not be judged, and why.
    """

    found: Sequence[Shortcut] = ()
    notes: Sequence[str] = ()

    @property
    def warning(self) -> str:
        """Warning text if metadata alone is clearly above chance; else empty."""
        for one in self.found:
            if not one.modality and one.above_chance:
                accuracy = f"{100 * one.accuracy:.1f} % against {100 * one.chance:.1f} % by chance"
                return (
                    f"metadata alone tells the class ({accuracy}{one.named}): unless that is physical, classes "
                    "were captured under different conditions, which a network may learn in their place"
                )
        return ""


@dataclass(frozen=True)
class FaultReport:
    """Result of a check.

    Args:
        source: folder that was checked.
        pairs: number of pairs.
        modalities: names of the modalities.
        faults: faults, sorted by kind in the order of `KINDS`, then by pair.
        limits: modality -> measure -> limit taken from the data set.
        notes: what could not be checked, and why.
        shortcuts: how well trivial features and metadata predict the class in the data set as a whole.
    """

    source: str
    pairs: int
    modalities: Sequence[str]
    faults: Sequence[Fault]
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    shortcuts: Shortcuts = field(default_factory=Shortcuts)

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> number of its faults, including kinds without faults."""
        return {kind: sum(fault.kind == kind for fault in self.faults) for kind in KINDS}

    @property
    def flagged(self) -> list[str]:
        """Ids of the pairs that have a fault, each listed once."""
        return list(dict.fromkeys(fault.id for fault in self.faults))

    def summary(self) -> str:
        """Return one line with the number of faults by kind."""
        found = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        leaks = sum(fault.leaks for fault in self.faults)
        across = f"; {leaks} of the duplicates are in another split" if leaks else ""
        return f"{len(self.flagged)} of {self.pairs} pairs flagged" + (f": {found}{across}" if found else "")

    def write(self, path: Path) -> None:
        """Write the report as JSON, atomically."""
        write_json(path, {"summary": self.summary(), "counts": self.counts, "kinds": dict(KINDS), **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> FaultReport:
        """Read a report from JSON.

        Raises:
            CmkdError: the file is not a report.
        """
        fix = "make it with `cmkd data check`"
        return record(cls, read_json(path, fix=fix), f"'{path}'", fix=fix)
