"""Kinds of fault, single faults, and the report of a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cmkd.data.quality.shortcuts import Shortcuts
from cmkd.documents import read_json, record
from cmkd.io import write_json

KINDS: Mapping[str, str] = {
    "unreadable": "the file is missing, or not of the type that its suffix names",
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
"""Kind -> its meaning. ``unreadable`` is about files alone; the others also occur in packs."""


@dataclass(frozen=True)
class Fault:
    """One fault of one pair.

    Args:
        id: the pair.
        kind: a key of `KINDS`.
        modality: the modality, or two joined by ``+``.
        message: the value and the limit in a sentence.
        split: split of the pair, empty if it is not known yet.
        other: id of the pair it duplicates, else empty.
        other_split: split of that pair.
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
        """Whether it is a duplicate across splits, so that a training sample is tested on."""
        return bool(self.other and self.split and self.other_split and self.split != self.other_split)


@dataclass(frozen=True)
class FaultReport:
    """Result of a check.

    Args:
        source: folder that was checked.
        pairs: number of pairs.
        modalities: names.
        faults: by kind in the order of `KINDS`, then by pair.
        limits: modality -> measure -> limit taken from the data set.
        notes: what could not be checked, and why.
        shortcuts: what trivial features and metadata tell of the class, a matter of the data set and of no pair.
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
        """Number of faults of each kind, kinds without one included."""
        return {kind: sum(fault.kind == kind for fault in self.faults) for kind in KINDS}

    @property
    def flagged(self) -> list[str]:
        """Ids of the pairs with a fault, each once."""
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
