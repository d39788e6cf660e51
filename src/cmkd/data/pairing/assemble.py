"""Manifests of paired capture lists, with a record of every capture, paired or not."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.joined import first_joined
from cmkd.data.pack.writer import refuse_existing
from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.matching import Gate, Matching, apart_in_place, different_vessels, match, nearest
from cmkd.data.text_table import PrintedCells
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.io import write_bytes

_RECORD = ("list", "id", "state", "partner", "seconds", "meters", "cost", "ambiguous", "note")


@dataclass(frozen=True)
class Assembly:
    """Result of pairing all lists."""

    manifest: Path  # file that was written
    record: Path  # ``<manifest>.pairing.csv`` beside it, with a row per capture
    pairs: int  # rows of the manifest with at least two modalities
    matchings: dict[str, Matching]  # name of each further list -> its pairing with the first
    unmatched: dict[str, list[str]]  # name of each list -> ids without a partner
    disagreeing: list[str]  # ids of pairs whose lists give different labels; their label is empty


def assemble(
    lists: Sequence[Captures],
    manifest: Path,
    gate: Gate,
    *,
    keep_unmatched: bool = False,
    drop_ambiguous: bool = False,
) -> Assembly:
    """Pair all lists with the first one, and write a manifest with one column of files per list.

    Args:
        lists: two or more, with different names.
        manifest: CSV file to write; must not exist. Its folder must hold all files.
        gate: tolerances in time and place.
        keep_unmatched: also write captures without a partner, with empty cells for missing modalities.
        drop_ambiguous: treat the captures of ambiguous pairs as unmatched.

    Raises:
        CmkdError: the manifest exists or does not end in .csv, files are outside its folder, no pair was found, no file
            of a list exists, the lists give a pair two splits, or the lists cannot be compared.
    """
    first, *others = lists
    names = [captures.name for captures in lists]
    if len(set(names)) < len(names) or len(names) < 2:
        raise CmkdError(f"pairing needs at least two lists with different names, got {', '.join(names)}: give --names")
    if manifest.is_dir():
        raise CmkdError(f"{manifest} is a folder: give a file, such as {manifest / 'manifest.csv'}")
    if manifest.suffix.lower() != ".csv":
        raise CmkdError(f"{manifest}: the manifest is written as CSV: give {manifest.with_suffix('.csv')}")
    record = manifest.with_name(f"{manifest.stem}.pairing.csv")
    refuse_existing(manifest)
    refuse_existing(record)
    cells = {captures.name: _relative(captures, manifest) for captures in lists}
    matchings, known, seen = dict[str, Matching](), first, dict[str, Captures]()
    for other in others:
        seen[other.name] = known
        found = match(known, other, gate)
        matchings[other.name] = found = found.sure() if drop_ambiguous else found
        known = _with_vessels_of(known, other, found)
    partners = {name: dict(found.rows.tolist()) for name, found in matchings.items()}
    paired = [row for row in range(len(first)) if any(row in found for found in partners.values())]
    if not paired:
        raise CmkdError(_no_pair(lists, gate))
    for captures in lists:
        _check_files(captures)
    groups = [
        [(first, row), *((o, partners[o.name][row]) for o in others if row in partners[o.name])] for row in paired
    ]
    alone = {first.name: sorted(set(range(len(first))) - set(paired))}
    alone |= {o.name: sorted(set(range(len(o))) - set(partners[o.name].values())) for o in others}
    left = [(captures, row) for captures in lists for row in alone[captures.name]]
    pairs = groups + ([[one] for one in left] if keep_unmatched else [])
    rows, disagreeing = _rows(pairs, cells)
    _warn_of_divided_vessels(pairs, [row["group"] for row in rows])
    printed = PrintedCells()  # people read the record; `cmkd data build` reads the manifest
    try:
        lines = [[printed.safe(cell) for cell in line] for line in _record(seen, others, matchings, alone, gate)]
        write_bytes(record, _csv(_RECORD, lines))
        write_bytes(manifest, _csv(tuple(rows[0]), [list(row.values()) for row in rows]))
    except OSError as error:
        raise CmkdError(f"cannot write {manifest}: {error.strerror or error}") from error
    printed.warn(record, f"{manifest.name} has them")
    unmatched = {captures.name: [captures.ids[row] for row in alone[captures.name]] for captures in lists}
    return Assembly(manifest, record, len(groups), matchings, unmatched, disagreeing)


def _no_pair(lists: Sequence[Captures], gate: Gate) -> str:
    """Return why no pair was found: the places if the times match, otherwise the clocks or the tolerances."""
    first, *others = lists
    within = f"{gate.seconds:g} s" + (f" and {gate.meters:g} m" if gate.meters else "")
    said = f"no capture of {first.name} has a partner within {within}"
    for other in others:
        if apart := apart_in_place(first, other, gate):
            return f"{said}, but {apart}"
    spans = "; ".join(captures.span for captures in lists)
    return (
        f"{said} ({spans}): use larger tolerances, --time_unit if a list counts in another unit, or --offset auto if a "
        "clock is off"
    )


def _check_files(captures: Captures) -> None:
    """Raise `CmkdError` if all files of a list are missing, and warn if some are."""
    home = captures.source.parent
    missing = [file for file in captures.files if not os.path.isfile(home / file)]  # False for a name that is too long
    if not missing:
        return
    first = f"such as {missing[0]}: its paths are relative to {home}"
    if len(missing) == len(captures):
        raise CmkdError(f"no file of {captures.source} exists, {first}")
    warnings.warn(
        f"{len(missing)} of {len(captures)} files of {captures.source} are missing, {first}", CmkdWarning, stacklevel=3
    )


def _warn_of_divided_vessels(pairs: Sequence[Sequence[tuple[Captures, int]]], groups: Sequence[str]) -> None:
    """Warn about vessels in pairs of several groups: a split by group can then show a vessel of the test pairs."""
    found = dict[str, dict[str, None]]()
    for members, group in zip(pairs, groups, strict=True):
        for vessel in {_names(*one)[1] for one in members} - {""}:
            found.setdefault(vessel, {})[group] = None
    if divided := {vessel: list(own) for vessel, own in found.items() if len(own) > 1}:
        vessel, own = next(iter(divided.items()))
        warnings.warn(
            f"vessels in pairs of several groups: {len(divided)}, such as {vessel} in {own[0]} and {own[1]}; training "
            "and test may then show the same vessel: leave `group` empty to group by vessel",
            CmkdWarning,
            stacklevel=3,
        )


def _with_vessels_of(first: Captures, other: Captures, found: Matching) -> Captures:
    """Return the first list with the vessels of its partners, so that no further list adds another vessel to a pair."""
    if other.vessels is None:
        return first
    vessels = list(first.vessels or [""] * len(first))
    for row, partner in found.rows.tolist():
        vessels[row] = vessels[row] or other.vessels[partner]
    return replace(first, vessels=vessels)


def _relative(captures: Captures, manifest: Path) -> list[str]:
    """Return the paths of the files relative to the manifest's folder."""
    home, start = captures.source.parent.resolve(), manifest.parent.resolve()
    files = [os.path.normpath(home / file) for file in captures.files]
    cells = [os.path.relpath(file, start) for file in files]
    outside = next((cell for cell in cells if cell.split(os.sep)[0] == ".."), None)
    if outside is not None:
        common = os.path.commonpath([*files, start])
        raise CmkdError(f"'{outside}' leaves the folder of {manifest}: write to {Path(common) / manifest.name} instead")
    return [Path(cell).as_posix() for cell in cells]


def _rows(
    groups: Sequence[Sequence[tuple[Captures, int]]], cells: dict[str, list[str]]
) -> tuple[list[dict[str, str]], list[str]]:
    """Return the manifest's rows, and the ids of pairs with disagreeing labels."""
    rows, disagreeing = [], []
    seen: set[str] = set()
    united, marked = _united(groups), any(c.splits is not None for members in groups for c, _ in members)
    for members in groups:
        captures, row = members[0]
        name = captures.ids[row] if captures.ids[row] not in seen else f"{captures.name}:{captures.ids[row]}"
        seen.add(name)
        labels = {c.labels[r] for c, r in members} - {""}
        if len(labels) > 1:
            disagreeing.append(name)
        group = next((united[c.groups[r]] for c, r in members if c.groups[r]), "")
        entry = {"id": name, "label": labels.pop() if len(labels) == 1 else "", "group": group}
        if marked:
            entry["split"] = _split(members)
        rows.append(entry | dict.fromkeys(cells, "") | {c.name: cells[c.name][r] for c, r in members})
    return rows, disagreeing


def _split(members: Sequence[tuple[Captures, int]]) -> str:
    """Return the split that the lists give a pair, empty for none."""
    given = {c.splits[row]: c for c, row in members if c.splits is not None and c.splits[row]}
    if len(given) > 1:
        said = ", ".join(f"{split} in {captures.source.name}" for split, captures in given.items())
        captures, row = members[0]
        raise CmkdError(f"the lists disagree on the split of the pair of '{captures.ids[row]}': {said}; correct one")
    return next(iter(given), "")


def _united(groups: Sequence[Sequence[tuple[Captures, int]]]) -> dict[str, str]:
    """Return group -> the first of the groups that share pairs with it, directly or through others.

    Lists may have groups of different kinds, such as flights and passes; no group of any list may cross splits. Nor may
    a vessel that is the group of some captures while its other captures belong to a flight.
    """
    own = {captures.groups[row] for members in groups for captures, row in members}
    pairs = [[name for one in members for name in _names(*one) if name and name in own] for members in groups]
    number = {name: k for k, name in enumerate(dict.fromkeys(chain.from_iterable(pairs)))}
    joined = [(number[names[0]], number[name]) for names in pairs for name in names]
    return dict(zip(number, map(list(number).__getitem__, first_joined(joined, len(number))), strict=True))


def _names(captures: Captures, row: int) -> tuple[str, str]:
    """Return a capture's group and its vessel, empty for none."""
    return captures.groups[row], "" if captures.vessels is None else captures.vessels[row]


def _record(
    seen: dict[str, Captures],
    others: Sequence[Captures],
    matchings: dict[str, Matching],
    alone: dict[str, list[int]],
    gate: Gate,
) -> list[list[str]]:
    """Return the rows of the record.

    `seen` maps the name of each other list to the first list as it was matched with that list, with the vessels known.
    """
    lines = []
    for other in others:
        found, first = matchings[other.name], seen[other.name]
        figures = zip(found.rows, found.late, found.meters, found.cost, found.ambiguous, strict=True)
        for (row, partner), late, meters, cost, unsure in figures:
            misses = f"{late:.3f}", f"{meters:.1f}", f"{cost:.4f}", "yes" if unsure else "no"
            lines.append([other.name, other.ids[partner], "paired", first.ids[row], *misses, ""])
        lines += _alone(other, first, alone[other.name], gate)
    first = seen[others[0].name]
    return lines + _alone(first, others[0], alone[first.name], gate)


def _alone(one: Captures, other: Captures, rows: list[int], gate: Gate) -> list[list[str]]:
    """Return a row of the record per unmatched capture, with the nearest capture of the other list."""
    lines = []
    for row, (place, late, meters) in zip(rows, nearest(one, other, rows, gate), strict=True):
        if gate.meters is not None and not np.isfinite(meters):
            note = f"its place is unknown, or no capture of {other.name} has one"
        elif abs(late) > gate.seconds or (gate.meters is not None and meters > gate.meters):
            note = f"the nearest of {other.name} is too far"
        elif different_vessels(one, other, np.array([[row, place]]))[0]:
            note = f"the nearest of {other.name} shows another vessel"
        else:
            note = f"the nearest of {other.name} was taken by another or is ambiguous"
        far = f"{meters:.1f}" if np.isfinite(meters) else ""
        lines.append([one.name, one.ids[row], "unmatched", other.ids[place], f"{late:.3f}", far, "", "", note])
    return lines


def _csv(header: Sequence[str], lines: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue().encode()


def spread(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the median and the 95th percentile of the absolute values."""
    return float(np.median(values)), float(np.quantile(np.abs(values), 0.95))
