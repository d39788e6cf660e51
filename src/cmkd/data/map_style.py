"""Packs from your own map-style data set, such as a `torch.utils.data.Dataset` whose items are dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.build import warn_of_empty_classes
from cmkd.data.manifest.column import may_lack, warn_of_undeclared
from cmkd.data.manifest.header import FileHeader, as_kind, channel_signs
from cmkd.data.manifest.pictures import picture_array
from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter, refuse_existing
from cmkd.data.split import assign_splits
from cmkd.data.text_table import plain_text
from cmkd.errors import CmkdError, in_one_line, unknown_name
from cmkd.progress import Progress
from cmkd.types import UNLABELED, Kind, Modality


class MapStyle(Protocol):
    """Protocol of a data set that `from_dataset` reads: it has a length, and each item, read by position, is a dict."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...  # noqa: ANN401  # checked item by item


def from_dataset(
    dataset: MapStyle,
    out: Path | str,
    *,
    label: str = "label",
    modalities: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    id: str = "id",
    split: str = "split",
    group: str = "group",
    kinds: Mapping[str, Kind] | None = None,
    info: CardInfo | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pack:
    """Make a pack from a map-style data set whose items are dicts.

    An item holds one array, tensor or PIL image per modality (None or no entry where the pair lacks it), a label, and
    optionally ``id``, ``split`` and ``group``. Images are ``(channels, height, width)``. NaN, and masked values of
    floats, are invalid samples. Every item is read twice, for labels and shapes first and then for values, in constant
    memory; label, id, split and group must be the same both times.

    Args:
        dataset: data set that supports ``len(dataset)`` and ``dataset[index]``.
        out: folder of the pack to make; it appears whole or not at all.
        label: key of the label, which is a string, a whole number, or None (also -1 or no entry) for an unlabeled pair.
        modalities: keys of the modalities; by default all keys that hold an array, tensor or image in some item.
        classes: class names; a numeric label is a position in them. By default ``dataset.classes`` if it exists and the
            labels are numbers, otherwise the labels that occur.
        id: key of the id; an item without an id gets its position in the data set.
        split: key of the split (train, validation or val, test); items without one are assigned by class and group.
        group: key of the group; pairs of one group stay in one split.
        kinds: modality -> kind. By default an array with one axis is a vector, an array with two or three an image.
        info: content of the card; by default only the name of the Python class of `dataset`.
        seed: random seed for the splits that are not given.
        progress: called as pairs are written.

    Raises:
        CmkdError: an argument or an item is invalid; the one-line message names it. No partial pack remains.

    Example:
        >>> import tempfile
        >>> import torch
        >>> class Mine:
        ...     def __len__(self):
        ...         return 40
        ...     def __getitem__(self, index):
        ...         image = torch.full((3, 8, 8), index, dtype=torch.uint8)
        ...         return {"optical": image, "radar": image[:1] / 2, "label": "tug" if index % 2 else "ferry"}
        >>> from_dataset(Mine(), Path(tempfile.mkdtemp()) / "pack")
        Pack(Mine v1: 40 pairs, 2 classes; optical image (3, 8, 8) uint8, radar image (1, 8, 8) float32)
    """
    destination = Path(out)
    refuse_existing(destination)
    for kind in (kinds or {}).values():
        if kind not in get_args(Kind):
            raise unknown_name("kind", str(kind), get_args(Kind))
    keys = {"label": label, "id": id, "split": split, "group": group}
    survey = _Survey(keys, modalities, kinds or {})
    for index, item in _items(dataset):
        survey.look(index, item)
    seen = f"its keys are {', '.join(survey.keys_seen)}"
    for name in (*(modalities or ()), *(kinds or {})):
        if name not in survey.found:
            raise CmkdError(f"no item has the modality '{name}': {seen}")
    if not survey.found:
        raise CmkdError(f"no item holds an array, tensor or image: {seen}")
    if all(value is None for value in survey.labels):
        raise CmkdError(f"no item has a label under '{label}': {seen}")
    known = classes if classes is not None else getattr(dataset, "classes", None)
    names, labels = _classes(survey.labels, known, given=classes is not None)
    splits, record = assign_splits(labels, survey.groups if any(survey.groups) else None, survey.splits, seed=seed)
    warn_of_empty_classes(labels, names, splits)
    forms = {name: survey.found[name][1] for name in modalities or survey.found}
    sensors = [Modality(name, form.kind, form.shape, form.dtype) for name, form in forms.items()]
    declared = [may_lack(sensor) for sensor in sensors]
    items, about = _items(dataset), info or CardInfo(type(dataset).__name__)
    with PackWriter(destination, about, classes=names, modalities=declared, split=record) as writer:
        for start in range(0, len(labels), writer.pairs_per_chunk):
            chunk = list(islice(items, writer.pairs_per_chunk))
            for index, item in chunk:
                survey.check_same(index, item)
            rows = slice(start, start + len(chunk))
            samples = {name: [survey.value(index, item, name) for index, item in chunk] for name in forms}
            writer.add_samples(survey.ids[rows], labels[rows], splits[rows], survey.groups[rows], samples)
            if progress is not None:
                progress(rows.stop, len(labels))
    pack = Pack.open(destination)
    warn_of_undeclared(pack, sensors)
    return pack


CHECKED = 16
"""Number of items that `check_made_from` compares."""


def check_made_from(pack: Pack, dataset: MapStyle) -> None:
    """Raise `CmkdError` unless a pack was made from this data set, whose items have the default keys of `from_dataset`.

    Compares the number of items, and the label and all values of `CHECKED` items spread evenly over the data set.
    Values that differ between two reads of an item, as with random augmentation, are skipped.

    Raises:
        CmkdError: the pack and the data set differ, or an item cannot be read.
    """
    if len(pack) != len(dataset):
        raise CmkdError(f"'{pack.path}' was made from {len(pack)} pairs, now there are {len(dataset)}")
    kinds = {name: modality.kind for name, modality in pack.modalities.items()}
    survey = _Survey({"label": "label", "id": "id", "split": "split", "group": "group"}, list(kinds), kinds)
    for index in np.unique(np.linspace(0, len(pack) - 1, CHECKED).astype(int)).tolist():
        item, row = _item(dataset, index), pack.index.iloc[index]
        label, known = _label(index, item.get("label")), int(row["label"])
        name = None if known == UNLABELED else pack.classes[known]
        position = isinstance(label, int) and getattr(dataset, "classes", None) is not None  # as in `_classes`
        same = label == known if position else (None if label is None else str(label)) == name
        for one in kinds:
            stored = pack.array(one)[index] if row[f"has_{one}"] else None
            read = survey.value(index, item, one)
            same &= _equal(read, stored) or not _equal(read, survey.value(index, _item(dataset, index), one))
        if not same:
            raise CmkdError(f"'{pack.path}' was made from another data set: item {index} has changed")


@dataclass
class _Survey:
    """First pass over all items: keeps everything except the values, which may not fit into memory."""

    keys: Mapping[str, str]
    modalities: Sequence[str] | None
    kinds: Mapping[str, Kind]
    found: dict[str, tuple[int, FileHeader]] = field(default_factory=dict)  # modality -> first item with it, its form
    keys_seen: dict[str, None] = field(default_factory=dict)
    labels: list[int | str | None] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def look(self, index: int, item: Mapping[str, Any]) -> None:
        self.keys_seen |= dict.fromkeys(map(str, item))
        for values, value in zip(self._about(), self._read(index, item), strict=True):
            values.append(value)
        reserved = self.keys.values()
        for name in self.modalities or (key for key in item if isinstance(key, str) and key not in reserved):
            self.value(index, item, name)

    def check_same(self, index: int, item: Mapping[str, Any]) -> None:
        """Raise `CmkdError` unless label, id, split and group of an item are the same as in the first pass."""
        for what, values, now in zip(self.keys, self._about(), self._read(index, item), strict=True):
            if now != values[index]:
                raise CmkdError(
                    f"item {index} changed between two reads: its {what} was {values[index]!r}, now {now!r}; return "
                    "the same item each time, such as by drawing from a generator that is seeded with the index"
                )

    def _about(self) -> tuple[list[Any], ...]:
        return self.labels, self.ids, self.splits, self.groups

    def _read(self, index: int, item: Mapping[str, Any]) -> tuple[int | str | None, str, str, str]:
        """Return label, id, split and group of an item."""
        label, name, split, group = (item.get(key) for key in self.keys.values())
        return _label(index, label), f"{index:06d}" if name is None else str(name), plain_text(split), plain_text(group)

    def value(self, index: int, item: Mapping[str, Any], name: str) -> NDArray[Any] | None:
        """Return a modality's array, checked against the form in the first item that has it; None if it is missing."""
        array = _array(item.get(name))
        if array is None:
            if item.get(name) is not None and (self.modalities is not None or name in self.found):
                raise CmkdError(f"item {index}: '{name}' is a {type(item[name]).__name__}, not an array or image")
            return None
        where, kind = f"item {index}: '{name}'", self.kinds.get(name)
        shape = array.shape
        if kind is None and len(shape) == 3 and channel_signs(shape) == {"last"}:
            raise CmkdError(
                f"{where} has shape {shape}, which looks like channels last: return (channels, height, width), or "
                f'state kinds={{"{name}": "image"}} if channels do come first'
            )
        natural: Kind = "vector" if len(shape) == 1 else "image"
        header = as_kind(where, FileHeader(natural, shape, array.dtype.name), kind)
        first, expected = self.found.setdefault(name, (index, header))
        if header != expected:
            forms = (f"{h.kind} {h.shape} {h.dtype}" for h in (header, expected))
            raise CmkdError(f"{where} is {next(forms)}, but of item {first} it is {next(forms)}: make them alike")
        array = array.reshape(header.shape).astype(header.dtype, copy=False)
        if not np.ma.is_masked(array):
            return np.ma.getdata(array)
        if array.dtype.kind != "f":
            raise CmkdError(f"{where} is a masked array of {array.dtype}: return floats with NaN for invalid values")
        return np.ma.filled(array, np.nan)


def _items(dataset: MapStyle) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        count = len(dataset)
    except TypeError:
        raise CmkdError(f"{type(dataset).__name__} has no length: give a map-style data set") from None
    for index in range(count):
        yield index, _item(dataset, index)
    if not count:
        raise CmkdError(f"{type(dataset).__name__} is empty: a pack needs at least one pair")


def _equal(first: NDArray[Any] | None, second: NDArray[Any] | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second, equal_nan=True)


def _item(dataset: MapStyle, index: int) -> Mapping[str, Any]:
    with in_one_line(f"item {index} cannot be read"):
        item = dataset[index]
    if not isinstance(item, Mapping):
        kind = type(item).__name__
        raise CmkdError(f"item {index} is a {kind}: return a dict of modality name -> array, with 'label'")
    return item


def _array(value: object) -> NDArray[Any] | None:
    """Return an array, tensor or PIL image as an array; None for anything else and for scalars."""
    found: Any = value  # the type is recognized by its methods, since importing torch and PIL takes time
    if hasattr(found, "detach"):
        plain = found.detach().cpu()
        found = (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()
    elif hasattr(found, "convert") and hasattr(found, "mode"):
        found = picture_array(found)
    elif hasattr(found, "__array__"):
        found = np.asanyarray(found)  # masks are kept
    return found if isinstance(found, np.ndarray) and found.ndim else None


def _label(index: int, value: object) -> int | str | None:
    plain: Any = value
    if hasattr(plain, "item") and np.ndim(plain) == 0:
        plain = plain.item()
    if plain is None or isinstance(plain, str):
        return plain or None
    if isinstance(plain, int) and plain >= UNLABELED:
        return int(plain) if plain != UNLABELED else None
    raise CmkdError(f"item {index}: the label {plain!r} is neither a string nor a whole number from 0")


def _classes(
    labels: Sequence[int | str | None], known: Sequence[str] | None, *, given: bool
) -> tuple[list[str], list[int]]:
    """Return the names of the classes, and each label as a position in them."""
    numbers = [label for label in labels if isinstance(label, int)]
    texts = [label for label in labels if isinstance(label, str)]
    if numbers and texts:
        raise CmkdError(f"labels mix strings and numbers, such as '{texts[0]}' and {numbers[0]}: use one type")
    if known is None or (texts and not given):
        values: Sequence[int | str] = sorted(set(numbers)) or sorted(set(texts))
        names = [str(value) for value in values]
    else:
        names, values = list(known), range(len(known)) if numbers else known
    position = {value: place for place, value in enumerate(values)}
    wrong = next((index for index, label in enumerate(labels) if label is not None and label not in position), None)
    if wrong is not None:
        raise CmkdError(f"item {wrong}: the label {labels[wrong]!r} is outside the {len(names)} classes {names}")
    return names, [UNLABELED if label is None else position[label] for label in labels]
