"""The kinds of fault, one fault, and the report of a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmkd.errors import CmkdError
from cmkd.io import read_json, write_json

KINDS: Mapping[str, str] = {
    "unreadable": "the file is missing, or is not what its name ends in",
    "truncated": "the file breaks off or is damaged after a good start, or its last rows are one constant",
    "wrong_shape": "channels, size or type differ from what nearly all of the modality have",
    "swapped": "the files of two modalities look swapped",
    "not_finite": "the file holds NaN or infinite values",
    "blank": "all values are the same, or nearly so",
    "clipped": "far more values than usual are at the highest or lowest one",
    "low_contrast": "the values spread far less than is usual for the modality",
    "exact_duplicate": "the content is that of another pair, value by value",
    "near_duplicate": "the content is that of another pair, but for compression, brightness, noise or size",
    "misregistered": "modalities declared co-registered fit each other better with one of them shifted",
}
"""Kind -> what it means. ``unreadable`` is for files that are no pictures at all; the other ten are kinds of pair."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one pair.

    Args:
        id: of the pair.
        kind: a key of `KINDS`.
        modality: which one; two joined by ``+`` where it is about both.
        says: one sentence with the value and the limit.
        split: of the pair, empty where it is not known yet.
        other: id of the pair it duplicates, else empty.
        other_split: of that pair.
    """

    id: str
    kind: str
    modality: str
    says: str
    split: str = ""
    other: str = ""
    other_split: str = ""

    @property
    def leaks(self) -> bool:
        """Whether it is a duplicate in another split: what is learnt there is tested here."""
        return bool(self.other and self.split and self.other_split and self.split != self.other_split)


@dataclass(frozen=True)
class FaultReport:
    """What a check found.

    Args:
        source: folder that was checked.
        pairs: number of pairs that were looked at.
        modalities: their names.
        faults: by kind in the order of `KINDS`, then by pair.
        limits: modality -> measure -> the limit that the data set itself gave.
        notes: what could not be checked, and why.
    """

    source: str
    pairs: int
    modalities: Sequence[str]
    faults: Sequence[Fault]
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of faults of each kind, kinds without one included."""
        return {kind: sum(fault.kind == kind for fault in self.faults) for kind in KINDS}

    @property
    def flagged(self) -> list[str]:
        """Ids of the pairs with a fault, each once."""
        return list(dict.fromkeys(fault.id for fault in self.faults))

    def summary(self) -> str:
        """Return one line: what was found, or that nothing was."""
        found = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        leaks = sum(fault.leaks for fault in self.faults)
        across = f"; {leaks} of the duplicates are in another split" if leaks else ""
        return f"{len(self.flagged)} of {self.pairs} pairs flagged" + (f": {found}{across}" if found else "")

    def write(self, path: Path) -> None:
        """Write it as JSON; a reader sees the old file or the new one whole."""
        content: dict[str, Any] = {"summary": self.summary(), "counts": self.counts, "kinds": dict(KINDS)} | asdict(
            self
        )
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> FaultReport:
        """Read what `write` wrote.

        Raises:
            CmkdError: it is something else.
        """
        try:
            content = read_json(path)
            faults = [Fault(**fault) for fault in content["faults"]]
            kept = {name: content[name] for name in ("source", "pairs", "modalities", "limits", "notes")}
            return cls(faults=faults, **kept)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CmkdError(f"{path} is no faults.json of `cmkd data check` ({type(error).__name__})") from error
