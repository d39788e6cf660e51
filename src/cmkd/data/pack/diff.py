"""Differences between two packs, or two versions of one, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cmkd.data.pack.pack import Pack
from cmkd.data.pack.validator import metadata_columns
from cmkd.io import CHUNK_BYTES


class Change(NamedTuple):
    """A changed entry of a pair."""

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
    """Differences between two packs; pairs are matched by id.

    Args:
        before: location and version of the first pack.
        after: location and version of the second pack.
        pairs: number of pairs in each pack.
        added: ids only in the second pack.
        removed: ids only in the first pack.
        relabeled: pairs whose class changed, with class names, empty for no label.
        moved: pairs whose split changed.
        regrouped: pairs whose group changed.
        groups: groups in one pack only, marked ``-`` (first) or ``+`` (second), each with its split.
        class_counts: class -> number of its pairs in each pack, where they differ; '' for unlabeled pairs.
        split_counts: split -> number of its pairs in each pack, where they differ.
        changed: modality -> ids whose values differ, or that have the modality in one pack only.
        metadata: metadata column -> ids whose cells differ; a column that is missing from a pack counts as empty.
        classes: class names in one pack only, marked ``-`` or ``+``.
        modalities: name, kind, shape and type of modalities that only one pack has in this form, marked ``-`` or ``+``.
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
    groups: Sequence[str]
    class_counts: Mapping[str, tuple[int, int]]
    split_counts: Mapping[str, tuple[int, int]]
    changed: Mapping[str, Sequence[str]]
    metadata: Mapping[str, Sequence[str]]
    classes: Sequence[str]
    modalities: Sequence[str]
    statistics: Sequence[StatisticsChange]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        lists = (self.added, self.removed, self.relabeled, self.moved, self.regrouped, self.classes, self.modalities)
        return not (any(lists) or any(self.changed.values()) or any(self.metadata.values()) or self.statistics)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and `same`, ready for JSON."""
        entries = {name: [change._asdict() for change in getattr(self, name)] for name in _CHANGES}
        return {"same": self.same} | asdict(self) | entries


ROW = "\0row"
"""Name of the column with a pair's row in the pack; no metadata column can have this name."""
_CHANGES = ("relabeled", "moved", "regrouped", "statistics")


def diff(before: Pack, after: Pack) -> Difference:
    """Compare two packs, or two versions of one.

    Values are compared if kind, shape and type of a modality agree; otherwise the modality is listed as removed and
    added, and its values are not compared. Only the indices are held in memory.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.datasets.digits import Digits
        >>> pack = Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits")
        >>> diff(pack, pack).same
        True
    """
    old, new = _pairs(before), _pairs(after)
    ids = old.index[old.index.isin(new.index)]
    both = old.loc[ids], new.loc[ids]
    ours, theirs = ([f"{name} {_form(pack, name)}" for name in pack.modalities] for pack in (before, after))
    shared = [name for name in before.modalities if f"{name} {_form(before, name)}" in theirs]
    return Difference(
        before=_name(before),
        after=_name(after),
        pairs=(len(before), len(after)),
        added=new.index[~new.index.isin(old.index)].tolist(),
        removed=old.index[~old.index.isin(new.index)].tolist(),
        relabeled=_changes(*both, "label"),
        moved=_changes(*both, "split"),
        regrouped=_changes(*both, "group"),
        groups=_groups(old, new),
        class_counts=_counts(old, new, "label"),
        split_counts=_counts(old, new, "split"),
        changed={name: _changed(before, after, name, *both) for name in shared},
        metadata=_metadata(before, after, *both),
        classes=_signed(before.classes, after.classes),
        modalities=_signed(ours, theirs),
        statistics=[change for name in shared for change in _statistics(before, after, name)],
    )


def _pairs(pack: Pack) -> pd.DataFrame:
    """Return the index by id, with class names as labels, and each pair's row in the pack in the column `ROW`."""
    names = np.array([*pack.classes, ""], dtype=object)  # UNLABELED is -1, the last name
    labels = names[pack.index["label"].to_numpy()]
    return pack.index.assign(label=labels, **{ROW: np.arange(len(pack))}).set_index("id")


def _name(pack: Pack) -> str:
    return f"{pack.place}, version {pack.card.version}"


def _form(pack: Pack, name: str) -> str:
    modality = pack.modalities[name]
    said = f", nodata {modality.nodata}" if isinstance(modality.nodata, int) else ""
    said += f", {modality.unit}" if modality.unit else ""
    return f"({modality.kind} {'x'.join(map(str, modality.shape))} {modality.dtype}{said})"


def _signed(before: Sequence[str], after: Sequence[str]) -> list[str]:
    return [f"-{name}" for name in before if name not in after] + [f"+{name}" for name in after if name not in before]


def _groups(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """Return the groups that are in one pack only, in the order of their first pairs."""
    before, after = (dict(zip(pairs["group"], pairs["split"], strict=True)) for pairs in (old, new))
    lost = [f"-{group} ({split})" for group, split in before.items() if group and group not in after]
    return lost + [f"+{group} ({split})" for group, split in after.items() if group and group not in before]


def _counts(old: pd.DataFrame, new: pd.DataFrame, column: str) -> dict[str, tuple[int, int]]:
    before, after = (dict(pairs[column].value_counts()) for pairs in (old, new))
    both = {name: (int(before.get(name, 0)), int(after.get(name, 0))) for name in [*before, *after]}
    return {str(name): counts for name, counts in both.items() if counts[0] != counts[1]}


def _changes(old: pd.DataFrame, new: pd.DataFrame, column: str) -> list[Change]:
    entries = pd.concat([old[column], new[column]], axis=1)[old[column] != new[column]]
    return [Change(*map(str, row)) for row in entries.itertuples()]


def _changed(before: Pack, after: Pack, name: str, old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    arrays, rows = (before.array(name), after.array(name)), (old[ROW].to_numpy(), new[ROW].to_numpy())
    differs = np.array(old[f"has_{name}"] != new[f"has_{name}"])
    step = max(1, CHUNK_BYTES // before.modalities[name].row_bytes)
    for start in range(0, len(old), step):
        part = slice(start, start + step)
        first, second = (array[chosen[part]] for array, chosen in zip(arrays, rows, strict=True))
        same = (first == second) | ((first != first) & (second != second))  # NaN, an invalid sample in both
        differs[part] |= ~same.reshape(len(first), -1).all(axis=1)
    return [str(name) for name in old.index[differs]]


def _metadata(before: Pack, after: Pack, old: pd.DataFrame, new: pd.DataFrame) -> dict[str, list[str]]:
    """Return, per column, the ids whose cells differ; a column that is missing from a pack counts as empty."""
    names = dict.fromkeys([name for pack in (before, after) for name in metadata_columns(pack.index, pack.modalities)])
    cells = {name: [pairs.get(name, pd.Series("", pairs.index)) for pairs in (old, new)] for name in names}
    return {name: old.index[ours != theirs].astype(str).tolist() for name, (ours, theirs) in cells.items()}


def _statistics(before: Pack, after: Pack, name: str) -> list[StatisticsChange]:
    old, new = before.modalities[name], after.modalities[name]
    return [
        StatisticsChange(name, channel, (old.mean[channel], new.mean[channel]), (old.std[channel], new.std[channel]))
        for channel in range(old.channels)
        if (old.mean[channel], old.std[channel]) != (new.mean[channel], new.std[channel])
    ]
