"""The changelog of a pack: what each version added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack


class VersionEntry(NamedTuple):
    """What one version added to a pack.

    Args:
        version: number of the version, from 1.
        date: date of the commit, ISO 8601 in UTC.
        pairs: number of pairs up to and including this version.
        added: split -> number of new pairs.
        classes: class -> number of new pairs, only for classes with new pairs; '' for unlabeled pairs.
        new_classes: classes that the previous version does not have; empty for the first version.
        groups: number of new groups.
        notes: notes of the version, without those repeated from the previous version.
    """

    version: int
    date: str
    pairs: int
    added: dict[str, int]
    classes: dict[str, int]
    new_classes: Sequence[str]
    groups: int
    notes: str


def history(pack: Pack) -> list[VersionEntry]:
    """Return what each version, up to the one opened as `pack`, added; only the index is read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.datasets.digits import Digits
        >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits")
        >>> [(entry.version, entry.pairs, entry.added["test"], entry.groups) for entry in history(pack)]
        [(1, 1797, 360, 0)]
    """
    entries, start, seen = list[VersionEntry](), 0, set[str]()
    classes, notes = pack.card.history[0].classes, ""
    labels = pack.index["label"].map(dict(enumerate(pack.classes))).fillna("")
    for version in pack.card.history:
        rows = slice(start, version.rows)
        groups = set(pack.index["group"].iloc[rows]) - seen - {""}
        counts, splits = labels.iloc[rows].value_counts(), pack.index["split"].iloc[rows].value_counts()
        entries.append(
            VersionEntry(
                version=version.version,
                date=version.date,
                pairs=version.rows,
                added={split: int(splits.get(split, 0)) for split in SPLITS},
                classes={name: int(counts[name]) for name in (*pack.classes, "") if name in counts},
                new_classes=[name for name in version.classes if name not in classes],
                groups=len(groups),
                notes=version.notes.removeprefix(notes.rstrip(".")).lstrip("; "),
            )
        )
        seen |= groups
        start, classes, notes = version.rows, version.classes, version.notes
    return entries
