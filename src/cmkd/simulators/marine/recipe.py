"""The recipe of a simulated data set: the parameters that determine its bytes, and the order of its pairs."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import count, islice, product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cmkd.errors import CmkdError, unknown_name
from cmkd.options import plain
from cmkd.simulators.marine.clutter import reflectivity
from cmkd.simulators.marine.fleet import BuiltIn, Fleet, FolderFleet
from cmkd.simulators.marine.modes import Mode, mode
from cmkd.simulators.marine.scene import VESSELS_PER_CLASS, WIND, Gap, version, vessel_name


class Slot(NamedTuple):
    """A place in the sequence of pairs: the number of the pair, and the vessel that it shows."""

    pair: int
    vessel: int


def pair_id(seed: int, pair: int) -> str:
    """Return the id of a pair in the index of its pack."""
    return f"marine-{seed}-{pair:06d}"


MOST = 10**9
"""Largest number of pairs, of vessels per class, and of pairs per chunk."""
_OF_A_DELIVERY = ("pairs", "classes", "vessels", "chunk")
"""Parameters that may differ between two versions of a pack; the others determine the bytes of a pair."""


@dataclass(frozen=True)
class Recipe:
    """The parameters that determine the bytes of a simulated data set.

    Args:
        pairs: number of pairs.
        seed: random seed of the data set, not negative.
        mode: one of `cmkd.simulators.marine.modes.modes`, or the path of your own file.
        size: pixels along a side of the radar chip, 16 to 512, at the mode's spacing; by default the mode's size.
        gap: degradation of the radar relative to its mode, 0 to 1.
        slc: also keep the complex first look.
        classes: classes of the pairs; by default all of the fleet.
        vessels: individual vessels per class; a class of `fleet` with fewer meshes uses all of them.
        fleet: folder of meshes (`cmkd.simulators.marine.fleet.FolderFleet`); by default the built-in families.
        chunk: pairs per file on disk and per job of a worker; the content of the pairs does not depend on it.

    Raises:
        CmkdError: a value is out of range, or a class is unknown.
    """

    pairs: int
    seed: int = 0
    mode: str = "iw"
    size: int | None = None
    gap: float = 0.0
    slc: bool = False
    classes: tuple[str, ...] = ()
    vessels: int = VESSELS_PER_CLASS
    fleet: str | None = None
    chunk: int = 64

    def __post_init__(self) -> None:
        counts = (self.pairs, self.vessels, self.chunk)
        for what, given in zip(("pair", "vessel a class", "pair a chunk"), counts, strict=True):
            if not 1 <= given <= MOST:
                raise CmkdError(f"expected at least 1 {what} and at most {MOST:,}, got {given}")
        if self.seed < 0:
            raise CmkdError(f"expected a seed of 0 or more, got {self.seed}")
        if self.size is not None and not 16 <= self.size <= 512:
            raise CmkdError(f"expected a size of 16 to 512 pixels, got {self.size}")
        known = self.ships.classes
        for name in self.classes:
            if name not in known:
                raise unknown_name("marine class", name, known)
        object.__setattr__(self, "classes", tuple(name for name in known if name in self.classes or not self.classes))
        Gap.dial(self.gap)
        self._check_clutter()

    @cached_property
    def sensors(self) -> Mode:
        """Sensor mode of radar and camera, at the requested size."""
        found = mode(self.mode)
        return found if self.size is None else found.sized(self.size)

    @property
    def version(self) -> int:
        """Version of the simulator's output in this mode."""
        return version(self.sensors)

    def _check_clutter(self) -> None:
        """Raise `CmkdError` if no model of sea clutter covers a scene that may be drawn."""
        radar = self.sensors.radar
        for polarization, angle, wind in product(radar.polarizations, radar.incidence, WIND):
            try:
                reflectivity(wind, angle, radar.frequency, polarization)
            except CmkdError as error:
                raise CmkdError(f"{self.mode}: {error}; change the mode's incidence or polarizations") from error

    @cached_property
    def ships(self) -> Fleet:
        """Source of the vessels."""
        return BuiltIn(self.vessels) if self.fleet is None else FolderFleet(Path(self.fleet))

    def origin(self) -> dict[str, Any]:
        """Return the record on a pack's card with which a later delivery continues the pack."""
        kept = {name: value for name, value in asdict(self).items() if name not in _OF_A_DELIVERY}
        given = {"sensors": plain(self.sensors), "meshes": self.ships.verify()}
        return {"simulator": "marine", "version": self.version, **kept, **given}

    def slots(self, index: pd.DataFrame | None = None) -> list[Slot]:
        """Return the next pairs to make.

        The class of pair k is k modulo the number of classes of the fleet. The pairs get the lowest numbers that belong
        to the recipe's classes and are not in `index`. Each pair shows the vessel of its class that was shown least
        often, the lowest number first, so vessels that a later delivery adds come first.

        Args:
            index: index of the pack that grows; None for a new pack.

        Example:
            >>> Recipe(3, classes=("tanker", "ferry"), vessels=1).slots()
            [Slot(pair=1, vessel=0), Slot(pair=4, vessel=0), Slot(pair=9, vessel=0)]
        """
        held, shown = (set[str](), Counter[str]()) if index is None else (set(index["id"]), Counter(index["group"]))
        # a heap for each class: how often a vessel was shown, and its number
        known = self.ships.classes
        turns = {
            known.index(name): [(shown[vessel_name(name, number)], number) for number in range(self._count(name))]
            for name in self.classes
        }
        for turn in turns.values():
            heapq.heapify(turn)
        numbers = (n for n in count() if n % len(known) in turns and pair_id(self.seed, n) not in held)
        slots = []
        for pair in islice(numbers, self.pairs):
            times, vessel = turns[pair % len(known)][0]
            heapq.heapreplace(turns[pair % len(known)], (times + 1, vessel))
            slots.append(Slot(pair, vessel))
        return slots

    def _count(self, name: str) -> int:
        return min(self.vessels, self.ships.count(name))
