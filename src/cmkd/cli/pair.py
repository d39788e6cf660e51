"""``cmkd data pair``: turn lists of captures into a manifest of pairs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Literal, get_args

from cmkd.cli.capture import joined
from cmkd.cli.readings import read_pairs
from cmkd.cli.tables import show, table
from cmkd.data.pairing.assemble import Assembly, assemble, spread
from cmkd.data.pairing.captures import Captures, read_captures
from cmkd.data.pairing.clocks import estimate_clock
from cmkd.data.pairing.known_pairs import Clock, known_clock, read_known_pairs
from cmkd.data.pairing.matching import Gate
from cmkd.data.pairing.times import TimeUnit, when
from cmkd.data.pairing.tracks import read_tracks
from cmkd.data.pairing.vessels import check_identifiable, classes_by_type, identify, read_ship_classes
from cmkd.errors import CmkdError, unknown_name
from cmkd.expression import split_list
from cmkd.io import expanded

MANY_AGREE = 0.8
"""Fraction of captures that agree with an estimated clock; below it, a note asks to check some pairs."""
FEW_PAIRED = 0.05
"""Fraction of captures with a partner; below it, a note asks to check tolerances, times, places, units and clocks."""
MOST_OFFSET = 1e12
"""Largest accepted offset of two clocks in seconds; it is more than a date can hold."""


def pair(
    first: Path,
    second: Path,
    *,
    seconds: float,
    out: Path,
    meters: float | None = None,
    more: str = "",
    names: str = "",
    offset: float | Literal["auto"] | Path = 0.0,
    time_unit: str = "",
    ais: Path | None = None,
    ship_classes: Path | None = None,
    drop_ambiguous: bool = False,
    keep_unmatched: bool = False,
) -> None:
    """Pair lists of captures by time and place, one to one, and write a manifest.

    A list is a CSV or Parquet file with the columns path, time (ISO 8601, 20230131120000, a count since 1970, or
    seconds of its own clock), latitude and longitude (lat, lon) or x and y in meters, and optional course (degrees
    clockwise from north) and speed (m/s), id, label, split, group and mmsi.

    Args:
        first: list of the sensor that the others are paired with.
        second: list of another sensor.
        seconds: largest difference in time.
        out: manifest to write, in a folder that holds all files; a record of every pair and unpaired capture is written
            beside it.
        meters: largest distance over ground, at one time where course and speed are known; by default pairs by time
            alone.
        more: further lists, separated by commas.
        names: names of the modalities in the order of the lists, separated by commas; by default the file names.
        offset: seconds by which the clocks of the other lists are ahead of the first, auto to estimate it with its
            drift, or a CSV file of known pairs with a column of ids per list.
        time_unit: unit of times that are numbers: s, ms, us, ns, or date for digits such as 202301311200; for single
            lists, as in radar=ms. By default inferred from their magnitude.
        ais: CSV file of AIS reports, as from MarineCadastre or the Danish Maritime Authority; captures within --meters
            of a vessel, or with its mmsi, get its position, group and class.
        ship_classes: YAML file with types of ships per class, as in cargo: [70-79]; by default, the number of the type
            decides the class.
        drop_ambiguous: leave out pairs that the record marks as ambiguous.
        keep_unmatched: also write captures without a partner, with empty cells for missing modalities.
    """
    files, given = [first, second, *map(expanded, split_list(more))], split_list(names)
    if given and len(given) != len(files):
        raise CmkdError(f"--names gives {len(given)} names for {len(files)} lists")
    if ship_classes is not None and ais is None:
        raise CmkdError("--ship_classes needs --ais: the classes are of the types that its reports state")
    names_of = given or [file.stem.lower() for file in files]
    units = _units(time_unit, names_of)
    lists = [read_captures(file, name, unit=units.get(name)) for file, name in zip(files, names_of, strict=True)]
    gate = Gate(seconds, meters)
    placed = [captures.name for captures in lists if captures.place is not None]
    if meters is None and placed:
        print(f"note: the places in {joined(placed)} are used only with --meters", file=sys.stderr)
    # clocks are estimated first, when lists that get their places from AIS have none yet
    limits = gate if ais is None or len(placed) == len(lists) else Gate(seconds)
    corrected = [lists[0], *_corrected(lists, limits, offset)]
    if ais is not None:
        corrected = _identified(corrected, gate, ais, ship_classes)
    made = assemble(corrected, out, gate, keep_unmatched=keep_unmatched, drop_ambiguous=drop_ambiguous)
    _tell(made, corrected, gate)


def _corrected(lists: Sequence[Captures], gate: Gate, offset: float | str | Path) -> list[Captures]:
    """Return the further lists with their times on the clock of the first list."""
    first, *others = lists
    if isinstance(offset, Path):
        clocks = [known_clock(first, other, read_known_pairs(offset, first, other), gate) for other in others]
    elif isinstance(offset, str):
        clocks = [estimate_clock(first, other, gate) for other in others]
    else:
        if not abs(offset) <= MOST_OFFSET:
            raise CmkdError(f"--offset {offset:g} is more than {MOST_OFFSET:g} seconds: give seconds, or auto")
        return [Clock(offset).corrected(other) for other in others]
    _tell_clocks(clocks, lists, "known pairs" if isinstance(offset, Path) else "captures")
    return [clock.corrected(other) for clock, other in zip(clocks, others, strict=True)]


def _identified(lists: Sequence[Captures], gate: Gate, ais: Path, classes: Path | None) -> list[Captures]:
    """Return the lists with identified vessels, and print how many captures have a vessel."""
    if gate.meters is None:
        raise CmkdError("--ais needs --meters, the largest distance between a capture and its vessel")
    for captures in lists:
        check_identifiable(captures, ais)
    ends = [(float(c.seconds.min()), float(c.seconds.max())) for c in lists]
    tracks = read_tracks(ais, (min(low for low, _ in ends), max(high for _, high in ends)))
    print(f"{ais.name}: {len(tracks.seconds)} reports of {len(tracks.vessels)} vessels near the times of the captures")
    kinds = read_ship_classes(classes) if classes is not None else classes_by_type()
    rows = table("modality", "captures", "identified", "without a vessel", "ambiguous", "without class")
    found = [identify(captures, tracks, gate.meters, kinds) for captures in lists]
    for one in found:
        counts = (len(one.captures), one.found, one.missed, one.unsure, one.unlabeled)
        rows.add_row(one.captures.name, *map(str, counts))
    show(rows)
    return [one.captures for one in found]


def _units(text: str, names: Sequence[str]) -> dict[str, TimeUnit]:
    """Read the unit of each list from text such as ``ms`` or ``radar=ms,...``."""
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


def _tell_clocks(clocks: Sequence[Clock], lists: Sequence[Captures], of: str) -> None:
    """Print offset and drift of each further list with standard errors, and how many captures or known pairs agree."""
    first, *others = lists
    for clock, other in zip(clocks, others, strict=True):
        error = f" (standard error {clock.error:.3f} s)" if isfinite(clock.error) else ""
        drift = f", drifting by {clock.drift * 1e6:+z.1f} ppm ({clock.drift_error * 1e6:.1f})"
        drift += f" from {when(clock.origin, first.times.clock)}"
        count = clock.agreeing if of == "known pairs" else f"{clock.agreeing} of {len(first)}"
        print(
            f"{other.name}: clock {clock.ahead:+z.3f} s to {first.name}'s{drift if clock.drift else ''}; "
            f"{count} {of} agree{error}"
        )
        if clock.share < MANY_AGREE:
            note = f"only {clock.share:.0%} of the shorter list agrees with the clock of {other.name}"
            print(f"note: {note}: check some pairs before you use them", file=sys.stderr)


def _tell(made: Assembly, lists: Sequence[Captures], gate: Gate) -> None:
    """Print the result for every list."""
    first, *others = lists
    rows = table("modality", "captures", "paired", "unpaired", "ambiguous", "late, median s", "95 % within s", "meters")
    rows.add_row(first.name, str(len(first)), str(made.pairs), str(len(made.unmatched[first.name])), *[""] * 4)
    for other in others:
        matching = made.matchings[other.name]
        numbers = (len(other), len(matching.rows), len(made.unmatched[other.name]), matching.ambiguous.sum())
        late, within = spread(matching.late) if len(matching.late) else (0.0, 0.0)
        far = f"{spread(matching.meters)[0]:.1f}" if gate.meters is not None and len(matching.late) else ""
        rows.add_row(other.name, *map(str, numbers), f"{late:+z.3f}", f"{within:.3f}", far)
        if abs(late) > 0.25 * gate.seconds:
            print(
                f"note: the median delay of {other.name} is {late:+z.3g} s; if its clock is off, try --offset auto",
                file=sys.stderr,
            )
        if matching.ambiguous.any():
            note = f"{matching.ambiguous.sum()} pairs of {other.name} are ambiguous, marked in the record"
            print(f"note: {note}: use smaller tolerances, or --drop_ambiguous", file=sys.stderr)
        if len(matching.rows) < FEW_PAIRED * min(len(first), len(other)):
            note = f"found only {len(matching.rows)} pairs ({first.span}; {other.span})"
            places = " and places" if gate.meters is not None else ""
            print(f"note: {note}: check the tolerances, times{places}, --time_unit and --offset", file=sys.stderr)
    show(rows)
    if made.disagreeing:
        print(
            f"note: the lists disagree on these labels, which are left empty: {joined(made.disagreeing)}",
            file=sys.stderr,
        )
    print(f"{made.pairs} pairs in {made.manifest}; a record of every capture in {made.record}")
