"""What differs between two packs, or two versions of one, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.io import CHUNK_BYTES
from cmkd.types import UNLABELED


class Change(NamedTuple):
    """A pair's entry that is not what it was."""

    id: str
    before: str
    after: str


class StatisticsChange(NamedTuple):
    """A channel's mean and standard deviation over the train split, before and after."""

    modality: str
    channel: int
    mean: tuple[float, float]
    std: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """What differs between two packs; pairs are matched by id.

    Args:
        before: the first pack and version.
        after: the second.
        pairs: number of pairs in each.
        added: ids that only the second has.
        removed: ids that only the first has.
        relabeled: other class names; an unlabeled pair has none.
        moved: other splits.
        regrouped: other groups.
        changed: modality -> ids whose values differ, or that have the modality in one pack alone.
        classes: names in one pack alone, with ``-`` or ``+`` before them.
        modalities: names in one pack alone, or of another kind, shape or type there, likewise.
        statistics: channels whose statistics differ.
    """

    before: str
    after: str
    pairs: tuple[int, int]
    added: Sequence[str]
    removed: Sequence[str]
    relabeled: Sequence[Change]
    moved: Sequence[Change]
    regrouped: Sequence[Change]
    changed: Mapping[str, Sequence[str]]
    classes: Sequence[str]
    modalities: Sequence[str]
    statistics: Sequence[StatisticsChange]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        lists = (self.added, self.removed, self.relabeled, self.moved, self.regrouped, self.classes, self.modalities)
        return not (any(lists) or any(self.changed.values()) or self.statistics)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        entries = {name: [change._asdict() for change in getattr(self, name)] for name in _CHANGES}
        return {"same": self.same} | asdict(self) | entries


_CHANGES = ("relabeled", "moved", "regrouped", "statistics")


def diff(before: Pack, after: Pack) -> Difference:
    """Compare two packs, or two versions of one.

    Pixels are compared by value where kind, shape and type of a modality agree; where they do not, the modality is
    listed as removed and added, and its pairs are not. Memory is constant, the indices aside.

    Args:
        before: the first.
        after: the second.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.datasets.digits import Digits
        >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits")
        >>> diff(pack, pack).same
        True
    """
    places = {name: row for row, name in enumerate(after.index["id"])}
    known = set(before.index["id"])
    rows = [(row, places[name]) for row, name in enumerate(before.index["id"]) if name in places]
    both = np.array(rows, dtype=np.int64).reshape(-1, 2)
    ours, theirs = ([f"{name} {_form(pack, name)}" for name in pack.modalities] for pack in (before, after))
    shared = [name for name in before.modalities if f"{name} {_form(before, name)}" in theirs]
    return Difference(
        before=_name(before),
        after=_name(after),
        pairs=(len(before), len(after)),
        added=[name for name in after.index["id"] if name not in known],
        removed=[name for name in before.index["id"] if name not in places],
        relabeled=_changes(_labels(before), _labels(after), before, both),
        moved=_changes(before.index["split"].to_numpy(), after.index["split"].to_numpy(), before, both),
        regrouped=_changes(before.index["group"].to_numpy(), after.index["group"].to_numpy(), before, both),
        changed={name: _changed(before, after, name, both) for name in shared},
        classes=_signed(before.classes, after.classes),
        modalities=_signed(ours, theirs),
        statistics=[change for name in shared for change in _statistics(before, after, name)],
    )


def _name(pack: Pack) -> str:
    return f"{pack.path}, version {pack.card.version}"


def _form(pack: Pack, name: str) -> str:
    modality = pack.modalities[name]
    return f"({modality.kind} {'x'.join(map(str, modality.shape))} {modality.dtype})"


def _signed(before: Sequence[str], after: Sequence[str]) -> list[str]:
    return [f"-{name}" for name in before if name not in after] + [f"+{name}" for name in after if name not in before]


def _labels(pack: Pack) -> NDArray[np.object_]:
    names = ["" if label == UNLABELED else pack.classes[label] for label in pack.index["label"]]
    return np.array(names, dtype=object)


def _changes(before: NDArray[Any], after: NDArray[Any], pack: Pack, both: NDArray[np.int64]) -> list[Change]:
    old, new = before[both[:, 0]], after[both[:, 1]]
    ids = pack.index["id"].to_numpy()
    return [Change(str(ids[both[k, 0]]), str(old[k]), str(new[k])) for k in np.flatnonzero(old != new)]


def _changed(before: Pack, after: Pack, name: str, both: NDArray[np.int64]) -> list[str]:
    first, second = before.array(name), after.array(name)
    column = f"has_{name}"
    has = before.index[column].to_numpy(bool)[both[:, 0]], after.index[column].to_numpy(bool)[both[:, 1]]
    differs = has[0] != has[1]
    step = max(1, CHUNK_BYTES // before.modalities[name].row_bytes)
    for start in range(0, len(both), step):
        part = both[start : start + step]
        old, new = (array[rows].reshape(len(part), -1) for array, rows in ((first, part[:, 0]), (second, part[:, 1])))
        differs[start : start + step] |= (old != new).any(axis=1)
    return [str(name) for name in before.index["id"].to_numpy()[both[differs, 0]]]


def _statistics(before: Pack, after: Pack, name: str) -> list[StatisticsChange]:
    old, new = before.modalities[name], after.modalities[name]
    return [
        StatisticsChange(name, channel, (old.mean[channel], new.mean[channel]), (old.std[channel], new.std[channel]))
        for channel in range(old.channels)
        if (old.mean[channel], old.std[channel]) != (new.mean[channel], new.std[channel])
    ]
