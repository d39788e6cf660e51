"""The check of every pair: each sample is measured once, then compared with all others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.header import turned_note
from cmkd.data.quality.duplicates import Duplicate, exact_duplicates, near_duplicates
from cmkd.data.quality.faults import KINDS, Fault, FaultReport
from cmkd.data.quality.limits import FEWEST, LEAST_CLIPPED, LEAST_TAIL, least_spread, most_share
from cmkd.data.quality.measures import Measures, measure
from cmkd.data.quality.missing import missing_notes
from cmkd.data.quality.registration import Offset, offset
from cmkd.data.quality.sources import Source
from cmkd.data.quality.swapped import swapped

MOST_MISSING = 0.5
"""Fraction of invalid values above which a sample is reported."""
AGREED = 0.9
"""Fraction of a modality's samples that must agree on a size before the others are called wrong."""


@dataclass
class _Column:
    """Measures and faults of one modality, by pair."""

    measures: dict[int, Measures] = field(default_factory=dict)  # row -> measures
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)  # row -> kind, message

    def sound(self) -> list[int]:
        """Return the rows that have a sample without a fault so far."""
        return [row for row in self.measures if row not in self.faults]

    def values(self, name: str, rows: Sequence[int]) -> NDArray[np.float64]:
        return np.array([getattr(self.measures[row], name) for row in rows], dtype=np.float64)


def check(source: Source, *, progress: Callable[[int, int], None] | None = None) -> FaultReport:
    """Find faults in paired data; nothing is changed or dropped.

    Samples are read one at a time, and a few hundred numbers are kept for each. Limits come from the modality itself
    (`cmkd.data.quality.limits`). If a sample has several faults, the most serious one is reported, in the order of
    `KINDS`. Duplicates are searched among samples without a fault, and the later of two pairs gets the fault.

    Args:
        source: a folder or a pack, from `open_source`.
        progress: callback, called with the number of pairs read and the total number of pairs.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.data import CardInfo, Modality, PackWriter
        >>> from cmkd.data.quality import open_source
        >>> images = np.random.default_rng(0).integers(0, 255, (30, 1, 8, 8), dtype=np.uint8)
        >>> images[7], images[9] = 5, images[3]
        >>> folder = Path(tempfile.mkdtemp()) / "pack"
        >>> sensor = Modality("optical", "image", (1, 8, 8), "uint8")
        >>> with PackWriter(folder, CardInfo("toy"), classes=["a", "b"], modalities=[sensor]) as writer:
        ...     names = [f"p{k}" for k in range(30)]
        ...     writer.add(names, [0, 1] * 15, ["train"] * 30, None, {"optical": images})
        >>> check(open_source(folder)).summary()
        '2 of 30 pairs flagged: 1 blank, 1 exact_duplicate'
    """
    columns, offsets = _measure(source, progress)
    notes: list[str] = []
    pairwise = _swaps(source, columns, notes)
    limits = {name: _judge_values(column) for name, column in columns.items()}
    found = [
        _fault(source, row, kind, name, message)
        for name, column in columns.items()
        for row, (kind, message) in column.faults.items()
        if kind != "swapped"
    ]
    found += [_fault(source, row, "swapped", names, message) for row, names, message in pairwise]
    for name, column in columns.items():
        found += _duplicates(source, name, column, limits[name], notes)
    found += _shifts(source, columns, offsets, notes)
    notes += _turned(source)
    for name, column in columns.items():
        if absent := [row for row in range(len(source.ids)) if row not in {**column.measures, **column.faults}]:
            notes.append(f"{name}: {len(absent)} of {len(source.ids)} pairs lack it, such as '{source.ids[absent[0]]}'")
        notes += missing_notes(name, {row: found.missing for row, found in column.measures.items()}, source)
    if len(columns) > 1 and not offsets:
        notes.append("no modalities are declared co-registered, so shifts were not checked")
    place = {name: number for number, name in enumerate(source.ids)}
    order = list(KINDS)
    found.sort(key=lambda fault: (order.index(fault.kind), place[fault.id], fault.modality))
    return FaultReport(str(source.place), len(source.ids), list(source.modalities), found, limits, notes)


def _turned(source: Source) -> list[str]:
    notes = []
    for name in source.modalities:
        rows = [row for row in range(len(source.ids)) if source.orientation(row, name) != 1]
        if rows:
            notes.append(turned_note(name, len(rows), f"that of '{source.ids[rows[0]]}'"))
    return notes


def _fault(source: Source, row: int, kind: str, modality: str, message: str, other: int | None = None) -> Fault:
    duplicate = ("", "") if other is None else (source.ids[other], source.splits[other])
    return Fault(source.ids[row], kind, modality, message, source.splits[row], *duplicate)


def _measure(
    source: Source, progress: Callable[[int, int], None] | None
) -> tuple[dict[str, _Column], dict[tuple[str, str], dict[int, Offset]]]:
    total = len(source.ids)
    columns = {name: _Column() for name in source.modalities}
    bound = [(group[0], other) for group in source.co_registered for other in group[1:]]
    offsets: dict[tuple[str, str], dict[int, Offset]] = {pair: {} for pair in bound}
    for row in range(total):
        cells = {name: source.cell(row, name) for name in source.modalities}
        for name, cell in cells.items():
            if cell is None:
                continue
            if cell.array is None:
                columns[name].faults[row] = (cell.fault, cell.message)
                continue
            found = columns[name].measures[row] = measure(cell.array, cell.kind)
            if found.missing > MOST_MISSING:
                limit = f"(flagged above {100 * MOST_MISSING:g} %)"
                message = f"{100 * found.missing:.3g} % of its values are invalid {limit}"
                columns[name].faults[row] = ("missing", message)
            elif found.finite < 1:
                message = f"{100 * (1 - found.finite):.2g} % of its values are infinite"
                columns[name].faults[row] = ("not_finite", message)
        for first, second in bound:
            pictures = [c.array for c in (cells[first], cells[second]) if c is not None and c.array is not None]
            if (
                len(pictures) == 2
                and all(p.ndim == 3 for p in pictures)
                and pictures[0].shape[1:] == pictures[1].shape[1:]
            ):
                where = offset(*(_without_gaps(picture) for picture in pictures))
                if where is not None:
                    offsets[first, second][row] = where
        if progress is not None and (row % 64 == 63 or row == total - 1):
            progress(row + 1, total)
    return columns, offsets


def _without_gaps(picture: NDArray[Any]) -> NDArray[np.float64]:
    """Return a picture with its invalid values replaced by its mean, so that they make no edges."""
    values = np.ma.masked_invalid(picture.astype(np.float64))
    found: NDArray[np.float64] = np.ma.filled(values, values.mean() if values.count() else 0.0)
    return found


def _form(found: Measures) -> tuple[int, int, str]:
    """Return number of axes, number of channels and dtype, which do not depend on the size."""
    channels = found.shape[0] if len(found.shape) == 3 else found.shape[-1]
    return len(found.shape), channels, found.dtype


def _swaps(source: Source, columns: dict[str, _Column], notes: list[str]) -> list[tuple[int, str, str]]:
    """Mark samples of an unusual form, and return the pairs whose two files are swapped."""
    usual = {}
    for name, column in columns.items():
        if column.measures:
            usual[name] = Counter(map(_form, column.measures.values())).most_common(1)[0][0]
    pairs = []
    for first, second in combinations(usual, 2):
        both = sorted(set(columns[first].sound()) & set(columns[second].sound()))
        forms = {row: (_form(columns[first].measures[row]), _form(columns[second].measures[row])) for row in both}
        if usual[first] != usual[second]:
            turned = [row for row in both if forms[row] == (usual[second], usual[first])]
            message = f"{first} has the usual form of {second}, and {second} that of {first}"
        else:
            same = [row for row in both if forms[row] == (usual[first], usual[first])]
            turned = _by_content(columns, first, second, same, notes)
            message = "both images look like the other sensor's"
        for row in turned:
            pairs.append((row, f"{first}+{second}", message))
            columns[first].faults[row] = columns[second].faults[row] = ("swapped", message)
    for name, form in usual.items():
        sized = name in source.resized
        _judge_form(columns[name], form, sized=sized)
        if not sized and (note := _sizes_note(name, columns[name], form)):
            notes.append(note)
    return pairs


def _by_content(columns: dict[str, _Column], first: str, second: str, rows: list[int], notes: list[str]) -> list[int]:
    looks = [[columns[name].measures[row].character for row in rows] for name in (first, second)]
    if not rows or not looks[0][0].size or not looks[1][0].size:
        return []
    found = swapped(np.stack(looks[0]), np.stack(looks[1]))
    if found is None:
        notes.append(f"{first} and {second} are too similar, or too few, to detect swapped files")
        return []
    return [rows[position] for position in np.flatnonzero(found)]


def _judge_form(column: _Column, usual: tuple[int, int, str], *, sized: bool) -> None:
    shapes = Counter(found.shape for found in column.measures.values())
    (shape, count), total = shapes.most_common(1)[0], shapes.total()
    fixed = count >= AGREED * total and not sized
    size = "x".join(map(str, shape)) if fixed else f"{usual[1]} channels"
    for row in column.sound():
        found = column.measures[row]
        if _form(found) != usual or (fixed and found.shape != shape):
            message = f"{'x'.join(map(str, found.shape))} {found.dtype}, usual is {size} {usual[2]}"
            column.faults[row] = ("wrong_shape", message)


def _sizes_note(name: str, column: _Column, usual: tuple[int, int, str]) -> str:
    """Return a note if a modality has several sizes, none common enough to flag the others; else empty."""
    axes = slice(1, None) if usual[0] == 3 else slice(0, -1)
    measures = (column.measures[row] for row in column.sound())
    sizes = Counter(found.shape[axes] for found in measures if _form(found) == usual)
    if len(sizes) < 2:
        return ""
    text = {size: "x".join(map(str, size)) for size in sorted(sizes, key=lambda size: (math.prod(size), size))}
    (least, *_, most), common = text.values(), text[sizes.most_common(1)[0][0]]
    state = f"state one with --size {name}={common} of cmkd data build, or in manifest.yaml"
    return f"{name} has {len(sizes)} sizes, {least} to {most}: {state}"


def _judge_values(column: _Column) -> dict[str, float]:
    """Mark samples that are blank, truncated, clipped or low in contrast, and return the limits."""
    rows = column.sound()
    if not rows:
        return {}
    lowest, blank = least_spread(column.values("spread", rows))
    filled = [row for row in rows if column.values("spread", [row])[0] > blank]
    tail = most_share(column.values("tail", filled), LEAST_TAIL, times=6.0)
    high = most_share(column.values("high", filled), LEAST_CLIPPED)
    low = most_share(column.values("low", filled), LEAST_CLIPPED)
    for row in rows:
        found = column.measures[row]
        if not found.spread > blank:
            column.faults[row] = ("blank", f"its values spread by {found.spread:.3g}, blank is {blank:.3g} or less")
        elif end := _clipped_end(found, high, low):
            where, share, limit = end
            message = f"{100 * share:.0f} % of its values are at the {where}, unusual is more than {100 * limit:.0f} %"
            column.faults[row] = ("clipped", message)
        elif found.tail > tail:
            tails = f"{100 * found.tail:.0f} % of its rows are constant, unusual is more than {100 * tail:.0f} %"
            column.faults[row] = ("truncated", f"the last {tails}")
        elif found.spread < lowest:
            column.faults[row] = ("low_contrast", f"its values spread by {found.spread:.3g}, low is under {lowest:.3g}")
    return {"spread_low": lowest, "spread_blank": blank, "tail": tail, "share_highest": high, "share_lowest": low}


def _clipped_end(found: Measures, high: float, low: float) -> tuple[str, float, float] | None:
    """Return the end at which a sample is clipped, the fraction there and the limit; ignore constant last rows."""
    for end, share, limit in (("highest", found.high, high), ("lowest", found.low, low)):
        elsewhere = (share - found.tail) / max(1 - found.tail, 1e-12)
        if share > limit and (found.tail < LEAST_TAIL or elsewhere > limit):
            return end, share, limit
    return None


def _duplicates(source: Source, name: str, column: _Column, limits: dict[str, float], notes: list[str]) -> list[Fault]:
    rows = column.sound()
    exact = exact_duplicates([column.measures[row].digest for row in rows])
    again = {duplicate.later for duplicate in exact}
    looks = [column.measures[row].descriptor for row in rows]
    pictures = [place for place in range(len(rows)) if place not in again and looks[place].any()]
    near: list[Duplicate] = []
    if len(pictures) >= 3:
        groups = [source.groups[rows[place]] for place in pictures]
        alike, limits["likeness"] = near_duplicates(np.stack([looks[place] for place in pictures]), groups)
        near = [Duplicate(pictures[later], pictures[earlier], likeness) for later, earlier, likeness in alike]
        if len(pictures) < FEWEST:
            notes.append(f"{name}: {len(pictures)} images are too few to set limits; only plain faults are reported")
    apart = [again for again in exact if not source.shared(rows[again.later], rows[again.earlier], name)]
    if common := len(exact) - len(apart):
        notes.append(f"{name}: {common} pairs share a sample with another pair of their group, which is no fault")
    faults = []
    for kind, duplicates in (("exact_duplicate", apart), ("near_duplicate", near)):
        for later, earlier, likeness in duplicates:
            row, other = rows[later], rows[earlier]
            where = f"in the {source.splits[other]} split" if source.splits[other] else "in the data"
            what = "the same values as" if kind == "exact_duplicate" else f"likeness {likeness:.3f} to"
            faults.append(_fault(source, row, kind, name, f"{what} {source.ids[other]} {where}", other))
    return faults


def _shifts(
    source: Source,
    columns: dict[str, _Column],
    offsets: dict[tuple[str, str], dict[int, Offset]],
    notes: list[str],
) -> list[Fault]:
    faults = []
    for (first, second), found in offsets.items():
        sound = set(columns[first].sound()) & set(columns[second].sound())
        judged = {row: where for row, where in found.items() if row in sound}
        decided = [where for where in judged.values() if where.decided]
        notes.append(
            f"registration of {second} to {first}: {len(decided)} of {len(sound)} pairs have a clear peak of mutual "
            "information; the others are undecided"
        )
        if decided:
            down, right = (float(np.median([getattr(w, axis) for w in decided])) for axis in ("down", "right"))
            if max(abs(down), abs(right)) >= 1:
                notes.append(f"{second} is {down:+z.0f} pixels down and {right:+z.0f} right of {first} in the median")
        for row, where in judged.items():
            if where.shifted:
                message = (
                    f"{second} is {where.down:+d} pixels down and {where.right:+d} right of {first}: mutual "
                    f"information is {where.lead:.1f} deviations above that near zero"
                )
                faults.append(_fault(source, row, "misregistered", f"{first}+{second}", message))
    return faults
