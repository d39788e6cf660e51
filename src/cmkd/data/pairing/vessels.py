"""Identification of captures with vessels of AIS tracks, which gives them a position, a group and a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pairing.assignment import ambiguous, assign
from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.places import ground_distance
from cmkd.data.pairing.tracks import REACH, Tracks
from cmkd.documents import read_yaml
from cmkd.errors import CmkdError

AIS_CLASSES: Mapping[str, tuple[str, ...]] = {
    "fishing": ("30", "fishing"),
    "tug": ("31", "32", "52", "towing", "towing long/wide", "tug"),
    "dredger": ("33", "dredging"),
    "diving": ("34", "diving"),
    "military": ("35", "military"),
    "sailing": ("36", "sailing"),
    "pleasure": ("37", "pleasure"),
    "high_speed": ("40-49", "hsc"),
    "pilot": ("50", "pilot"),
    "search_and_rescue": ("51", "sar"),
    "port_tender": ("53", "port tender"),
    "anti_pollution": ("54", "anti-pollution"),
    "law_enforcement": ("55", "law enforcement"),
    "passenger": ("60-69", "passenger"),
    "cargo": ("70-79", "cargo"),
    "tanker": ("80-89", "tanker"),
}
"""Class -> AIS ship types: the numbers by which ships report their type
(imorules.com/GUID-4AF512F5-1714-491A-858D-456C752CC12E.html, as in ITU-R M.1371), and the words of the Danish archive.
Joining towing and tugs is our choice; spare and reserved numbers and other types (90 to 99) have no class."""

MOST_TYPE = 99
"""Largest number of a ship type in AIS."""


@dataclass(frozen=True)
class Identified:
    """Captures of a list after identification."""

    captures: Captures
    found: int  # captures with a vessel
    missed: int  # captures near no track at their time, or whose vessel was given to another capture
    unsure: int  # captures near several vessels, left without a vessel
    unlabeled: int  # captures whose vessel has a type without a class


def read_ship_classes(path: Path) -> dict[str, str]:
    """Read a YAML file with a list of types per class, and return the class of every type.

    Types are numbers (70), ranges of them (70-79), or words as in the file of reports (Cargo).

    Raises:
        CmkdError: the file cannot be read, an entry is not a type, or a type has two classes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "classes.yaml"
        >>> _ = path.write_text("merchant: [70-71, Tanker]")
        >>> read_ship_classes(path)
        {'70': 'merchant', '71': 'merchant', 'tanker': 'merchant'}
    """
    content = read_yaml(path, example="cargo: [70-79]")
    listed = {str(name): types if isinstance(types, list) else [types] for name, types in content.items()}
    for name, types in listed.items():
        for entry in types:
            if isinstance(entry, bool) or not isinstance(entry, int | str):
                raise CmkdError(
                    f"{path}: class {name} lists {entry}: give numbers (70), ranges (70-79) or words (Cargo)"
                )
    return classes_by_type({name: tuple(map(str, types)) for name, types in listed.items()}, str(path))


def classes_by_type(classes: Mapping[str, tuple[str, ...]] = AIS_CLASSES, where: str = "AIS_CLASSES") -> dict[str, str]:
    """Return the class of every type, with ranges written out; `where` names the source of `classes` in messages."""
    found: dict[str, str] = {}
    for name, types in classes.items():
        for entry in types:
            low, dash, high = entry.strip().lower().partition("-")
            ranged = dash and low.strip().isdecimal() and high.strip().isdecimal()
            if ranged and not int(low) <= int(high) <= MOST_TYPE:
                raise CmkdError(
                    f"{where}: class {name} lists the range {entry}: give the smaller number first, up to {MOST_TYPE}"
                )
            for kind in map(str, range(int(low), int(high) + 1)) if ranged else [entry.strip().lower()]:
                if found.setdefault(kind, name) != name:
                    raise CmkdError(f"{where}: type '{kind}' is in both classes {found[kind]} and {name}: keep one")
    return found


def identify(captures: Captures, tracks: Tracks, meters: float, classes: Mapping[str, str]) -> Identified:
    """Give captures the position, motion, MMSI and class of the vessel they show.

    A capture with an ``mmsi`` gets the position of that vessel at its time, or none if there is no report of the
    vessel. Any other capture is assigned to a vessel within the distance, one to one among the captures of an instant,
    with the least sum of squared distances, but never to a vessel whose ``mmsi`` another capture of the instant has.
    Ambiguous assignments are dropped, since a wrong identity is worse than none. Groups and labels given in the list
    are kept.

    Args:
        captures: captures with times in UTC, and with places in degrees or a column ``mmsi`` or both.
        tracks: tracks of all vessels in the area.
        meters: largest distance between a capture's place and its vessel.
        classes: class of every type of ship, as `classes_by_type` returns it.

    Raises:
        CmkdError: times have no zone, or places are missing or in meters.
    """
    check_identifiable(captures, tracks.path)
    stated = np.array(captures.vessels or [""] * len(captures), dtype=str)
    number = {name: k for k, name in enumerate(tracks.vessels)}
    vessel = np.array([number.get(name, -1) for name in stated], np.int64)
    rows, far = _near(captures, tracks, meters, stated == "")
    held = set(zip(captures.seconds[vessel >= 0].tolist(), vessel[vessel >= 0].tolist(), strict=True))
    free = np.array([(captures.seconds[row], k) not in held for row, k in rows.tolist()], bool)
    rows, far = rows[free], far[free]
    # a vessel is seen once at an instant, but many times in a list
    instants, seen = np.unique(np.column_stack([captures.seconds[rows[:, 0]], rows[:, 1]]), axis=0, return_inverse=True)
    pairs, cost = np.column_stack([rows[:, 0], seen.reshape(-1)]), (far / meters) ** 2
    sizes = (len(captures), len(instants))
    chosen = assign(pairs, cost, sizes, 1.0)
    sure = ~ambiguous(pairs, cost, sizes, 1.0, chosen)
    vessel[rows[chosen[sure], 0]] = rows[chosen[sure], 1]
    changed, known = _with_vessels(captures, tracks, vessel, classes)
    unlabeled = sum(1 for label, one in zip(changed.labels, known, strict=True) if one and not label)
    unsure = int((~sure).sum())
    return Identified(changed, int(known.sum()), int((~known).sum()) - unsure, unsure, unlabeled)


def check_identifiable(captures: Captures, ais: Path) -> None:
    """Raise `CmkdError` unless captures can be compared with the file of reports."""
    source = captures.source
    if captures.times.clock != "UTC":
        raise CmkdError(f"{ais} has times in UTC, but those of {source} have no time zone: add one, such as Z for UTC")
    if captures.place is None and captures.vessels is None:
        raise CmkdError(f"{source} has neither latitude and longitude nor mmsi, to find vessels in {ais}: add them")
    if captures.place is not None and not captures.geographic:
        raise CmkdError(f"{source} gives x and y, but {ais} degrees: use latitude and longitude")


def _near(
    captures: Captures, tracks: Tracks, meters: float, asked: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return ``(candidates, 2)`` captures of `asked` and vessels within the distance, and the distances, m."""
    free = np.flatnonzero(asked) if captures.place is not None else np.zeros(0, np.int64)
    free = free[np.argsort(captures.seconds[free], kind="stable")]
    times, rows, distances = captures.seconds[free], [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for k in range(len(tracks.vessels)) if len(free) else ():
        report = tracks.seconds[tracks.start[k] : tracks.start[k + 1]]
        part = free[slice(*np.searchsorted(times, (report[0] - REACH, report[-1] + REACH)))]
        assert captures.place is not None
        far = ground_distance(tracks.at(k, captures.seconds[part])[0], captures.place[part], geographic=True)
        near = far <= meters  # the distance is NaN where the place is unknown
        rows.append(np.column_stack([part[near], np.full(int(near.sum()), k)]))
        distances.append(far[near])
    return np.concatenate(rows), np.concatenate(distances)


def _with_vessels(
    captures: Captures, tracks: Tracks, vessel: NDArray[np.int64], classes: Mapping[str, str]
) -> tuple[Captures, NDArray[np.bool_]]:
    """Return captures with the data of their vessels from the tracks, and which captures got a position."""
    count = len(captures)
    place = np.full((count, 2), np.nan) if captures.place is None else captures.place.copy()
    motion, known = captures.motion_of(np.arange(count)).copy(), np.zeros(count, np.bool_)
    vessels, groups, labels = list(captures.vessels or [""] * count), list(captures.groups), list(captures.labels)
    for k in np.unique(vessel[vessel >= 0]):
        rows = np.flatnonzero(vessel == k)
        at, course = tracks.at(int(k), captures.seconds[rows])
        seen, moving = np.isfinite(at).all(axis=1), np.isfinite(course).all(axis=1)
        place[rows[seen]], known[rows[seen]] = at[seen], True
        motion[rows[seen & moving]] = course[seen & moving]  # where a report has no motion, the list's own is kept
        for row in rows:
            vessels[row] = tracks.vessels[k]
            groups[row] = groups[row] or tracks.vessels[k]
            labels[row] = labels[row] or classes.get(tracks.types[k], "")
    changed = replace(captures, place=place, geographic=True, motion=motion)
    return replace(changed, vessels=vessels, groups=groups, labels=labels), known
