"""The commands of ``cmkd data`` for one's own data: pair, check, diff, export and import."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from cmkd.cli.readings import read_pairs, read_readings
from cmkd.cli.tables import show, table
from cmkd.data.pack.pack import Pack
from cmkd.data.pairing.assemble import Assembly, assemble, spread
from cmkd.data.pairing.captures import Captures, read_captures
from cmkd.data.pairing.clocks import Clock, estimate_clock
from cmkd.data.pairing.matching import Gate
from cmkd.data.pairing.times import TimeUnit, when
from cmkd.data.quality.faults import HEADER, Shortcuts
from cmkd.errors import CmkdError, CmkdWarning, IncompleteError, unknown_name
from cmkd.expression import split_list
from cmkd.progress import shown

MANY_AGREE = 0.8
"""Share of the captures that agree with an estimated clock, below which pairs are worth a look."""
FEW_PAIRED = 0.05
"""Share of the captures with a partner, below which units or clocks are suspected."""


def check(
    place: Path,
    *,
    out: Path,
    co_registered: str = "",
    kind: str = "",
    channels: str = "",
    nodata: str = "",
    strict: bool = False,
) -> None:
    """Find faults and shortcuts in a folder of pairs or a pack; nothing is dropped.

    Writes faults.json and faults.html, a page with thumbnails. cmkd data build --exclude faults.json leaves the flagged
    pairs out. A shortcut flags no pair: a random forest tells the class from trivial features of one modality (mean,
    bright area ...), as large targets allow, or from metadata alone, which is a warning.

    Args:
        place: a pack, or a folder with a manifest or folders by class.
        out: folder to write to.
        co_registered: image modalities that share a pixel grid, as in optical+radar; by default those on a pack's card.
        kind: kind of a modality, as in radar=points.
        channels: axis of the channels of a modality's arrays, as in radar=last: first or last.
        nodata: value of invalid samples, as in radar=-9999, in place of the files' tags; none ignores the tags.
        strict: end with exit code 3 if a pair is flagged.
    """
    from dataclasses import replace

    from cmkd.data.quality import check as look
    from cmkd.data.quality import find_shortcuts, open_source
    from cmkd.report.faults import write_faults_page

    readings = read_readings(kind=kind, channels=channels, nodata=nodata)
    source = open_source(place, readings=readings, co_registered=read_groups(co_registered))
    with shown("reading") as report:
        found = look(source, progress=report)
    found = replace(found, shortcuts=find_shortcuts(source))
    try:
        out.mkdir(parents=True, exist_ok=True)
        found.write(out / "faults.json")
        write_faults_page(found, source, out / "faults.html")
    except OSError as error:
        raise CmkdError(f"cannot write to {out}: {error.strerror or error}") from error
    counts = table("fault", "pairs", "such as")
    for name, count in found.counts.items():
        if count:
            first = next(fault for fault in found.faults if fault.kind == name)
            counts.add_row(name, str(count), f"{first.id}, {first.modality}: {first.message}")
    if found.faults:
        show(counts)
    _tell_shortcuts(found.shortcuts)
    for note in (*found.notes, *found.shortcuts.notes):
        print(f"note: {note}")
    summary = f"{found.summary()}; page: {out / 'faults.html'}"
    if strict and found.faults:
        raise IncompleteError(summary)
    print(summary)


def _tell_shortcuts(shortcuts: Shortcuts) -> None:
    """Print what was found, and warn of metadata."""
    if shortcuts.found:
        rows = table(*HEADER)
        for shortcut in shortcuts.found:
            rows.add_row(*shortcut.cells())
        show(rows)
    if warning := shortcuts.warning:
        warnings.warn(warning, CmkdWarning, stacklevel=2)


def diff(before: str, after: str, *, json: bool = False) -> None:
    """Show the differences between two packs or versions: PACK is the latest version, PACK@1 the first.

    Args:
        before: the first pack.
        after: the second.
        json: print everything as JSON instead of a table.
    """
    from json import dumps

    from cmkd.data.pack.diff import diff as compare

    found = compare(open_version(before), open_version(after))
    if json:
        print(dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    rows = table("difference", "number", "which")
    rows.add_row("pairs", f"{found.pairs[0]} -> {found.pairs[1]}", "")
    for name in ("added", "removed"):
        rows.add_row(name, str(len(getattr(found, name))), joined(getattr(found, name)))
    for name in ("relabeled", "moved", "regrouped"):
        changes = [f"{c.id} {c.before or 'none'} -> {c.after or 'none'}" for c in getattr(found, name)]
        rows.add_row("moved split" if name == "moved" else name, str(len(changes)), joined(changes))
    rows.add_row("groups", str(len(found.groups)), joined(found.groups))
    for name in ("class_counts", "split_counts"):
        counts = getattr(found, name)
        changes = [f"{key or 'no label'} {old} -> {new}" for key, (old, new) in counts.items()]
        rows.add_row(f"pairs by {name.split('_')[0]}", str(len(changes)), joined(changes, 12))
    for name, ids in found.changed.items():
        rows.add_row(f"changed {name}", str(len(ids)), joined(ids))
    for name in ("classes", "modalities"):
        rows.add_row(name, str(len(getattr(found, name))), joined(getattr(found, name)))
    shifts = [
        f"{c.modality}[{c.channel}] mean {c.mean[0]:.4g} -> {c.mean[1]:.4g}, std {c.std[0]:.4g} -> {c.std[1]:.4g}"
        for c in found.statistics
    ]
    rows.add_row("statistics", str(len(shifts)), joined(shifts, 3))
    show(rows)
    print(f"\n{found.before} and {found.after} " + ("are equal" if found.same else "differ"))


def pair(
    first: Path,
    second: Path,
    *,
    seconds: float,
    out: Path,
    meters: float | None = None,
    more: str = "",
    names: str = "",
    offset: float | Literal["auto"] = 0.0,
    time_unit: str = "",
    keep_unmatched: bool = False,
) -> None:
    """Pair lists of captures by time and place, one to one, and write a manifest.

    A list is a CSV or Parquet file with the columns path, time (ISO 8601, 20230131120000, a count since 1970, or
    seconds of its own clock), latitude and longitude (lat, lon) or x and y in meters, and optional id, label and group.

    Args:
        first: list of the sensor that the others are paired with.
        second: list of another sensor.
        seconds: largest difference in time.
        out: manifest to write, in a folder that holds all files; a record of every capture is written beside it.
        meters: largest distance over ground; by default pairs by time alone.
        more: further lists, separated by commas.
        names: names of the modalities in the order of the lists, separated by commas; by default those of the files.
        offset: seconds by which the clocks of the other lists are ahead of the first, or auto to estimate it with its
            drift.
        time_unit: unit of times that are numbers: s, ms, us, ns, or date for digits such as 202301311200; of single
            lists as in radar=ms. By default told by their magnitude.
        keep_unmatched: also write captures without a partner, with empty cells for missing modalities.
    """
    files, given = [first, second, *map(Path, split_list(more))], split_list(names)
    if given and len(given) != len(files):
        raise CmkdError(f"--names gives {len(given)} names for {len(files)} lists")
    names_of = given or [file.stem.lower() for file in files]
    units = _units(time_unit, names_of)
    lists = [read_captures(file, name, unit=units.get(name)) for file, name in zip(files, names_of, strict=True)]
    gate = Gate(seconds, meters)
    placed = [captures.name for captures in lists if captures.place is not None]
    if meters is None and placed:
        print(f"note: {joined(placed)} give places, which are used with --meters only", file=sys.stderr)
    clocks = [estimate_clock(lists[0], o, gate) if offset == "auto" else Clock(offset) for o in lists[1:]]
    if offset == "auto":
        _tell_clocks(clocks, lists)
    corrected = [clock.corrected(captures) for clock, captures in zip(clocks, lists[1:], strict=True)]
    _tell(assemble([lists[0], *corrected], out, gate, keep_unmatched=keep_unmatched), lists, gate)


def _units(text: str, names: Sequence[str]) -> dict[str, TimeUnit]:
    """Read ``ms`` or ``radar=ms,...``."""
    pairs = read_pairs("time_unit", text, "radar=ms") if "=" in text else dict.fromkeys(names if text else (), text)
    units: dict[str, TimeUnit] = {}
    for name, value in pairs.items():
        unit = next((known for known in get_args(TimeUnit) if known == value), None)
        if unit is None:
            raise unknown_name("time unit", value, get_args(TimeUnit))
        if name not in names:
            raise unknown_name("list", name, names)
        units[name] = unit
    return units


def _tell_clocks(clocks: Sequence[Clock], lists: Sequence[Captures]) -> None:
    """Print the offset, the drift and the share of captures that agree, for every further list."""
    first, *others = lists
    for clock, other in zip(clocks, others, strict=True):
        drift = f", drifting by {clock.drift * 1e6:+.1f} ppm from {when(clock.origin, first.times.clock)}"
        print(
            f"{other.name}: clock {clock.ahead:+.3f} s to {first.name}'s{drift if clock.drift else ''}; "
            f"{clock.agreeing} of {len(first)} captures agree"
        )
        if clock.share < MANY_AGREE:
            note = f"only {clock.share:.0%} of the shorter list agree with the clock of {other.name}"
            print(f"note: {note}: look at some pairs before you use them", file=sys.stderr)


def _tell(made: Assembly, lists: Sequence[Captures], gate: Gate) -> None:
    """Print the result for every list."""
    first, *others = lists
    rows = table("modality", "captures", "paired", "alone", "contested", "late, median s", "95 % within s", "meters")
    rows.add_row(first.name, str(len(first)), str(made.pairs), str(len(made.unmatched[first.name])), *[""] * 4)
    for other in others:
        matching = made.matchings[other.name]
        numbers = (len(other), len(matching.rows), len(made.unmatched[other.name]), matching.contested)
        late, within = spread(matching.late) if len(matching.late) else (0.0, 0.0)
        far = f"{spread(matching.meters)[0]:.1f}" if gate.meters is not None and len(matching.late) else ""
        rows.add_row(other.name, *map(str, numbers), f"{late:+.3f}", f"{within:.3f}", far)
        if abs(late) > 0.25 * gate.seconds:
            print(f"note: {other.name} is late by {late:+.3g} s in the median; if its clock is off, try --offset auto")
        if matching.contested > 0.1 * len(first):
            print(f"note: {matching.contested} captures had several candidates: smaller tolerances are safer")
        if len(matching.rows) < FEW_PAIRED * min(len(first), len(other)):
            spans = f"{first.span}; {other.span}"
            print(f"note: {len(matching.rows)} pairs are few ({spans}): check --time_unit and the offset of the clocks")
    show(rows)
    if made.disagreeing:
        print(f"note: the lists give different labels, left empty: {joined(made.disagreeing)}")
    print(f"{made.pairs} pairs in {made.manifest}; a record of every capture in {made.record}")


def export(pack: str, *, out: Path, format: Literal["huggingface"] = "huggingface") -> None:
    """Export a pack for the Hugging Face hub: Parquet files and a data card.

    Args:
        pack: folder of the pack; @N after it selects a version.
        out: folder to make; must not exist.
        format: only huggingface.
    """
    from cmkd.data.huggingface import export_pack

    opened = open_version(pack)
    export_pack(opened, out)
    print(
        f"{len(opened)} pairs of version {opened.card.version} in {out}; read {out / 'README.md'} before you share it"
    )


def import_data(folder: Path, *, out: Path) -> None:
    """Make a pack from a data set in the layout of the Hugging Face hub.

    Args:
        folder: with Parquet files, exported or downloaded.
        out: folder of the pack to make; must not exist.
    """
    from cmkd.data.huggingface import import_folder

    made = import_folder(folder, out)
    print(f"{len(made)} pairs in {out}; `cmkd data info {out}` shows them")


def open_version(text: str) -> Pack:
    """Open ``PACK`` or ``PACK@N``."""
    place, mark, number = text.rpartition("@")
    if mark and number.isdigit() and not Path(text).exists():
        return Pack.open(place, int(number))
    return Pack.open(text)


def read_groups(text: str) -> list[list[str]]:
    """Read ``optical+radar,...``."""
    groups = [[name.strip() for name in group.split("+")] for group in split_list(text)]
    for group in groups:
        if len(set(group)) < max(2, len(group)):
            raise CmkdError(f"--co_registered '{'+'.join(group)}' must join different modalities, as in optical+radar")
    return groups


def joined(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names in a line."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
