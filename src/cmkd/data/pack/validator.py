"""Checks of class names and of chunks of pairs before they are written to a pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
from cmkd.errors import CmkdError
from cmkd.types import UNLABELED, Modality

if TYPE_CHECKING:
    from cmkd.data.pack.pack import Pack


class ChunkValidator:
    """Checks chunks against the declared classes and modalities, earlier chunks, and the index `before` of the pack.

    Raises:
        CmkdError: a group of `before` is in two splits.
    """

    def __init__(
        self, classes: Sequence[str], modalities: Mapping[str, Modality], before: pd.DataFrame | None = None
    ) -> None:
        self._classes, self._modalities = classes, modalities
        self._ids: set[str] = set()
        self._group_split: dict[str, str] = {}
        if before is not None:
            self._ids.update(before["id"])
            self._check_groups(before)

    def validate(
        self,
        ids: Sequence[str],
        labels: Sequence[int] | NDArray[np.integer[Any]],
        splits: Sequence[str],
        groups: Sequence[str] | None,
        arrays: Mapping[str, NDArray[Any]],
        present: Mapping[str, NDArray[np.bool_]],
        metadata: Mapping[str, Sequence[str]],
    ) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
        """Return the chunk's index rows and its arrays, with absent rows zero; for the arguments see `PackWriter.add`.

        Raises:
            CmkdError: the chunk is invalid; the message names its first error, and the chunk is ignored.
        """
        masks = self._masks(len(ids), arrays, present)
        columns = {**metadata, "labels": labels, "splits": splits, "groups": ids if groups is None else groups}
        for what, values in columns.items():
            if len(values) != len(ids):
                raise CmkdError(f"expected one value of {what} per id, got {len(values)} for {len(ids)} ids")
        names, targets = [str(i) for i in ids], np.asarray(labels, dtype=np.int64)
        repeated = next((name for name in names if name in self._ids), None) or _first_repeat(names)
        if repeated is not None:
            raise CmkdError(f"id '{repeated}' occurs twice: ids must be unique in a pack")
        wrong = np.flatnonzero((targets < UNLABELED) | (targets >= len(self._classes)))
        if len(wrong):
            raise CmkdError(
                f"label {targets[wrong[0]]} of pair '{names[wrong[0]]}' is outside the {len(self._classes)} classes"
            )
        unknown = next((s for s in splits if s not in SPLITS), None)
        if unknown is not None:
            raise CmkdError(f"unknown split '{unknown}': use {', '.join(SPLITS)}")
        content: dict[str, Any] = {"id": names, "label": targets, "split": [str(s) for s in splits]}
        content["group"] = [""] * len(names) if groups is None else [str(g) for g in groups]
        content |= {f"has_{name}": mask for name, mask in masks.items()}
        taken = next((name for name in metadata if name in content or name in arrays), None)
        if taken is not None:
            raise CmkdError(f"'{taken}' is a reserved name for a metadata column: rename it")
        table = pd.DataFrame(content | {name: [str(cell) for cell in cells] for name, cells in metadata.items()})
        checked = {
            name: self._values(name, np.asarray(array), masks[name], table["id"]) for name, array in arrays.items()
        }
        self._check_groups(table)
        self._ids.update(names)
        return table, checked

    def _masks(
        self, count: int, arrays: Mapping[str, NDArray[Any]], present: Mapping[str, NDArray[np.bool_]]
    ) -> dict[str, NDArray[np.bool_]]:
        for name in (*arrays, *present):
            if name not in self._modalities:
                raise CmkdError(f"modality '{name}' was not declared: {', '.join(self._modalities)}")
        masks = {}
        for name in self._modalities:
            mask = np.asarray(present.get(name, np.ones(count, dtype=bool)), dtype=bool) & (name in arrays)
            if mask.shape != (count,):
                raise CmkdError(f"the presence mask of '{name}' has shape {mask.shape}, expected {(count,)}")
            masks[name] = mask
        return masks

    def _values(self, name: str, array: NDArray[Any], mask: NDArray[np.bool_], ids: pd.Series[str]) -> NDArray[Any]:
        modality = self._modalities[name]
        if array.shape != (len(mask), *modality.shape) or array.dtype != np.dtype(modality.dtype):
            raise CmkdError(
                f"modality '{name}' expects {(len(mask), *modality.shape)} {modality.dtype}, "
                f"got {array.shape} {array.dtype}"
            )
        if not mask.all():
            array = np.where(mask.reshape(-1, *[1] * len(modality.shape)), array, np.zeros((), array.dtype))
        found = modality.masked(array) if modality.nodata is not None else array
        if np.ma.isMaskedArray(found):
            empty = np.ma.getmaskarray(found).reshape(len(array), -1).all(axis=1) & mask
            if empty.any():
                pair = ids.iloc[int(empty.argmax())]
                raise CmkdError(f"modality '{name}' of pair '{pair}' has no valid value: leave it out of the pair")
            if modality.nodata == "nan":  # one bit pattern for NaN, so that equal samples have equal bytes
                array = np.ma.filled(found, np.nan)
        if array.dtype.kind == "f" and (np.isinf(array).any() or (modality.nodata is None and np.isnan(array).any())):
            wrong = np.isinf(array) if modality.nodata == "nan" else ~np.isfinite(array)
            pair = ids.iloc[int(wrong.reshape(len(array), -1).any(axis=1).argmax())]
            kinds = "infinite" if modality.nodata == "nan" else "NaN or infinite"
            raise CmkdError(f"modality '{name}' of pair '{pair}' holds {kinds} values: fill or drop them")
        return np.ascontiguousarray(array, dtype=np.dtype(modality.dtype))

    def _check_groups(self, table: pd.DataFrame) -> None:
        pending: dict[str, str] = {}
        for group, split in zip(table["group"], table["split"], strict=True):
            known = self._group_split.get(group) or pending.setdefault(group, split)
            if group and known != split:
                raise CmkdError(f"group '{group}' is in both {known} and {split}: a group must stay in one split")
        self._group_split |= pending


def check_classes(pack: Pack, classes: Sequence[str], new: Literal["refuse", "allow"], source: object) -> list[str]:
    """Return the classes of a pack after a delivery with `classes`: the old ones, then the new.

    Raises:
        CmkdError: a class is new and `new` refuses it; the message names the `source` of the delivery.
    """
    added = [name for name in classes if name not in pack.classes]
    if added and new == "refuse":
        names = ", ".join(added[:5]) + (f" and {len(added) - 5} more" if len(added) > 5 else "")
        raise CmkdError(
            f"{source} has labels that are not classes of {pack.path}: {names}; correct them, or append with "
            "--new_classes allow"
        )
    return [*pack.classes, *added]


def complete_index(
    before: pd.DataFrame | None, parts: Sequence[pd.DataFrame], modalities: Sequence[str]
) -> pd.DataFrame:
    """Return the index of the version to commit.

    Raises:
        CmkdError: nothing was added, or a modality (or the whole split) has no train pair.
    """
    if not sum(map(len, parts)):
        raise CmkdError("nothing was added: a pack needs at least one pair")
    index = pd.concat([*([] if before is None else [before]), *parts], ignore_index=True)
    extra = metadata_columns(index, modalities)
    index[extra] = index[extra].fillna("")  # a delivery may have other columns than the pack
    train = index[index["split"] == "train"]
    if train.empty:
        raise CmkdError("no pair is in the train split: there is nothing to learn from")
    for name in modalities:
        if not train[f"has_{name}"].any():
            raise CmkdError(f"modality '{name}' is missing from every train pair: leave it out or add it to some")
    return index


def metadata_columns(index: pd.DataFrame, modalities: Iterable[str]) -> list[str]:
    """Return the metadata columns of an index, which come from further columns of a manifest."""
    own = {"id", "label", "split", "group", *(f"has_{name}" for name in modalities)}
    return [name for name in index.columns if name not in own]


def _first_repeat(names: Sequence[str]) -> str | None:
    again = pd.Series(names, dtype=object).duplicated()
    return names[int(again.argmax())] if again.any() else None
