"""Merging of packs of one kind, such as packs made on several machines or delivered from several places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.data.pack.card import AGAIN, SPLITS, CardFile, CardInfo, modality_entry
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.validator import metadata_columns
from cmkd.data.pack.writer import PackWriter, refuse_existing
from cmkd.documents import record
from cmkd.errors import CmkdError
from cmkd.progress import Progress
from cmkd.types import Modality

_JOINED = ("description", "citation", "unsound")
"""Texts of a card that are joined; each distinct text is kept once."""
_OWN = ("name", "title", "sources", *_JOINED)
"""Fields of a card that may differ between the packs; the first one's name and title are kept."""


def merge(packs: Sequence[Pack], out: Path | str, *, progress: Progress | None = None) -> Pack:
    """Copy packs of one kind into a new pack, with the same arrays, index and statistics as a pack made at once.

    The pairs follow each other in the order of the packs; packs that are numbered parts of one whole
    (``cmkd simulate --shard``) come last, in the order of their numbers. Memory is constant.

    Args:
        packs: packs with equal modalities, classes, license, roles and recipe; no id may repeat, and each group must be
            in one split.
        out: folder of the pack to make; it appears whole or not at all.
        progress: called with the number of copied pairs and the number of all pairs.

    Raises:
        CmkdError: the packs do not fit each other, a part is missing, or an id is in two packs; the message names them.

    Example:
        >>> import tempfile
        >>> home, sensor = Path(tempfile.mkdtemp()), Modality("x", "vector", (2,), "float32")
        >>> for name in ("north", "south"):
        ...     with PackWriter(home / name, CardInfo(name), classes=["a", "b"], modalities=[sensor]) as writer:
        ...         values = {"x": np.eye(2, dtype=np.float32)}
        ...         writer.add([f"{name} 1", f"{name} 2"], [0, 1], ["train", "test"], None, values)
        >>> merge([Pack.open(home / name) for name in ("north", "south")], home / "both")
        Pack(north v1: 4 pairs, 2 classes; x vector (2,) float32)
    """
    destination = Path(out)
    refuse_existing(destination)
    if len(packs) < 2:
        raise CmkdError(f"expected at least two packs to merge, got {len(packs)}")
    ordered = _ordered(packs)
    first, *others = ordered
    for other in others:
        _check_kind(first, other)
    _check_pairs(ordered)
    for pack in ordered:
        pack.verify_content()  # otherwise the new checksums would confirm damaged pairs
    cards, total = [pack.card for pack in ordered], sum(map(len, ordered))
    with PackWriter(
        destination,
        _info(ordered),
        classes=first.classes,
        modalities=list(_declared(first).values()),
        split=_split(ordered),
        notes=" ".join(dict.fromkeys(card.notes for card in cards if card.notes)),
    ) as writer:
        done = 0
        for pack in ordered:
            for start in range(0, len(pack), writer.pairs_per_chunk):
                done += _copy(writer, pack, slice(start, start + writer.pairs_per_chunk))
                if progress is not None:
                    progress(done, total)
    return Pack.open(destination)


@dataclass(frozen=True)
class _Part:
    """Schema of ``part`` in a pack's split record: part `number` of `parts`, which together have `pairs` pairs."""

    number: int
    parts: int
    pairs: int


def _ordered(packs: Sequence[Pack]) -> list[Pack]:
    """Return the packs, with the numbered parts last, in the order of their numbers.

    Raises:
        CmkdError: a part is missing or given twice, or the parts are of different runs.
    """
    numbered: dict[int, Pack] = {}
    whole = [pack for pack in packs if "part" not in pack.card.split]
    for pack in (pack for pack in packs if "part" in pack.card.split):
        part, first = _part(pack), next(iter(numbered.values()), pack)
        if _shared(pack) != _shared(first):
            apart = _apart(_shared(first), _shared(pack))
            raise CmkdError(f"{first.path} and {pack.path} are parts of different runs ({apart}): merge one at a time")
        if part.number in numbered:
            both = f"{numbered[part.number].path} and {pack.path}"
            raise CmkdError(f"{both} are both part {part.number}/{part.parts}: give one of them")
        numbered[part.number] = pack
    if numbered:
        parts = _part(next(iter(numbered.values()))).parts
        if missing := [f"{number}/{parts}" for number in range(1, parts + 1) if number not in numbered]:
            raise CmkdError(f"missing of {parts} parts: {', '.join(missing)}; make them with --shard, or add them")
    return [*whole, *(numbered[number] for number in sorted(numbered))]


def _part(pack: Pack) -> _Part:
    return record(_Part, pack.card.split["part"], f"'part' in the card of {pack.path}", fix=AGAIN)


def _shared(pack: Pack) -> dict[str, Any]:
    """Return what the records of all parts of a run have in common."""
    part = _part(pack)
    kept = {key: value for key, value in pack.card.split.items() if key not in ("part", "counts")}
    return kept | {"parts": part.parts, "pairs": part.pairs}


def _check_kind(first: Pack, other: Pack) -> None:
    """Raise `CmkdError` unless classes, modalities and card fields (except those of `_OWN`) of the packs agree."""
    entries = [{name: modality_entry(m) for name, m in _declared(pack).items()} for pack in (first, other)]
    compared: list[tuple[str, Any, Any]] = [("classes", list(first.classes), list(other.classes))]
    compared += [("modalities", list(entries[0]), list(entries[1]))]
    compared += [(f"modality {name}", entry, entries[1].get(name)) for name, entry in entries[0].items()]
    names = [field.name for field in fields(CardInfo) if field.name not in _OWN]
    compared += [(name, getattr(first.card, name), getattr(other.card, name)) for name in names]
    for what, ours, theirs in compared:
        if ours != theirs:
            raise CmkdError(f"{first.path} and {other.path} differ in {what}: {_apart(ours, theirs)}; make them alike")


def _apart(ours: object, theirs: object) -> str:
    """Return both values as text; for mappings, only the entries that differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [key for key in dict.fromkeys([*ours, *theirs]) if ours.get(key) != theirs.get(key)]
        return ", ".join(f"{key} {ours.get(key)!r} and {theirs.get(key)!r}" for key in keys)
    return f"{ours or 'none'} and {theirs or 'none'}"


def _check_pairs(packs: Sequence[Pack]) -> None:
    """Raise `CmkdError` where an id is in two packs, or a group in two splits."""
    ids: dict[str, Pack] = {}
    splits: dict[str, tuple[str, Pack]] = {}
    for pack in packs:
        both = [name for name in pack.index["id"] if name in ids]
        if both:
            raise CmkdError(
                f"{ids[both[0]].path} and {pack.path} overlap in {len(both)} pairs, such as '{both[0]}': give each "
                "pair once"
            )
        ids |= dict.fromkeys(pack.index["id"], pack)
        for group, split in dict(zip(pack.index["group"], pack.index["split"], strict=True)).items():
            known, owner = splits.setdefault(group, (split, pack))
            if group and known != split:
                raise CmkdError(
                    f"group '{group}' is in {known} of {owner.path} and in {split} of {pack.path}: a group must stay "
                    "in one split"
                )


def _declared(pack: Pack) -> dict[str, Modality]:
    return CardFile.read(pack.path).declared(pack.modalities)


def _info(packs: Sequence[Pack]) -> CardInfo:
    first = CardInfo.from_dict(packs[0].card.to_dict())
    joined: dict[str, Any] = {
        name: "\n\n".join(dict.fromkeys(text for pack in packs if (text := getattr(pack.card, name))))
        for name in _JOINED
    }
    sources = dict.fromkeys(source for pack in packs for source in pack.card.sources)
    return replace(first, sources=tuple(sources), **joined)


def _split(packs: Sequence[Pack]) -> dict[str, Any]:
    """Return the record that all packs share, otherwise all their records, with the total counts."""
    records = [{key: value for key, value in p.card.split.items() if key not in ("part", "counts")} for p in packs]
    counts = {split: sum(len(pack.rows(split)) for pack in packs) for split in SPLITS}
    shared = records[0] if all(record == records[0] for record in records) else None
    return (shared or {"method": "given by the merged packs", "before": records}) | {"counts": counts}


def _copy(writer: PackWriter, pack: Pack, rows: slice) -> int:
    """Add some pairs of a pack and return their number."""
    index = pack.index.iloc[rows]
    metadata = metadata_columns(index, pack.modalities)
    writer.add(
        index["id"].tolist(),
        index["label"].to_numpy(dtype=np.int64),
        index["split"].tolist(),
        index["group"].tolist(),
        {name: pack.array(name)[rows] for name in pack.modalities},
        {name: index[f"has_{name}"].to_numpy(dtype=bool) for name in pack.modalities},
        {name: index[name].tolist() for name in metadata},
    )
    return len(index)
