"""Base of data sets that pair radar chips of ships with optical chips of other ships of the same class."""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.pictures import SUFFIXES, rgb
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.types import Modality

FGSC23 = PublishedFile("FGSC-23.zip", "https://github.com/xiong577/ship-datasets")
FGSC23_CITATION = """@article{zhang2020fgsc23, title={A New Benchmark and an Attribute-Guided Multilevel Feature
  Representation Network for Fine-Grained Ship Classification in Optical Remote Sensing Images}, author={Zhang, Xiaohan
  and others}, journal={IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing}, volume={13},
  year={2020}, doi={10.1109/JSTARS.2020.2981686}}"""
UNSOUND = (
    "A pair shows two ships of one class, not one ship: the optical chips are other vessels in other places at other "
    "times (FGSC-23), paired at random within class and split. So a teacher can pass on what the class looks like, and "
    "nothing of the ship in the radar chip. FGSC-23 does not say which ship a chip shows: one may be in its train and "
    "its test part."
)
"""Known weakness of all pairs of this kind, for the card."""


@dataclass(frozen=True)
class ShipClass:
    """Names of one class in the collections; the mapping is our choice, and ambiguous ship types are left out."""

    name: str
    folder: int  # number of the folder in FGSC-23
    details: tuple[str, ...]  # detailed types of the radar collections, in lower case without spaces and punctuation
    category: str = ""  # general type that is always this class, whatever the detailed type


SHIP_CLASSES = (
    ShipClass("container ship", 14, ("containership",)),
    ShipClass("bulk carrier", 17, ("bulkcarrier",)),
    ShipClass("car carrier", 15, ("vehiclescarrier",)),
    ShipClass("oil tanker", 18, ("crudeoiltanker", "oilproductstanker", "oilchemicaltanker")),
    ShipClass("liquefied gas ship", 21, ("lngtanker", "lpgtanker")),
    ShipClass("fishing boat", 19, ("fishing", "fishingvessel", "trawler"), "fishing"),
    ShipClass("passenger ship", 20, ("passengersship", "passengership", "ropaxship", "roropassengership"), "passenger"),
)
NAMES = tuple(kind.name for kind in SHIP_CLASSES)


def ship_class(category: str, detail: str) -> int | None:
    """Return the position in `SHIP_CLASSES` of a radar collection's ship; None if it belongs to no shared class.

    Example:
        >>> ship_class("Cargo", "Bulk Carrier"), ship_class("Tanker", "LPG_Tanker"), ship_class("Fishing", "NA")
        (1, 4, 5)
        >>> print(ship_class("Cargo", "General Cargo"))
        None
    """
    general, detailed = (re.sub(r"[^a-z]", "", text.lower()) for text in (category, detail))
    for position, kind in enumerate(SHIP_CLASSES):
        if detailed in kind.details or (kind.category and general == kind.category):
            return position
    return None


@dataclass(frozen=True)
class Chip:
    """One chip of a radar or optical collection."""

    name: str  # unique name in the collection
    archive: Archive
    file: str  # name of the file in the archive
    label: int
    group: str = ""  # group that must not cross splits
    given: str = ""  # published part, ``train`` or ``test``
    about: Mapping[str, str] = field(default_factory=dict)  # column of the index -> its value


def fgsc23_chips(archive: Archive) -> list[Chip]:
    """Return the chips of FGSC-23 of the shared classes, from ``train/NUMBER/*.jpg`` and ``test/NUMBER/*.jpg``.

    The folder's number is the class, 0 to 22. The aspect ratio and direction in the file's name are not read.

    Raises:
        CmkdError: there are no chips of a shared class in such folders.
    """
    labels = {str(kind.folder): label for label, kind in enumerate(SHIP_CLASSES)}
    pattern = re.compile(r"(?:^|/)(train|test)/(\d{1,2})/([^/]+)$")
    found = [
        Chip(f"{match[1]}/{match[2]}/{match[3]}", archive, name, labels[match[2]], given=match[1])
        for name in archive.sizes
        if name.lower().endswith(SUFFIXES) and (match := pattern.search(name)) and match[2] in labels
    ]
    if not found:
        raise CmkdError(
            f"{archive.place} holds no optical chips of FGSC-23 in folders train/14, test/14 ...: unpack them there, "
            f"from {FGSC23.url}"
        )
    return found


def pair_by_class(
    radar: Sequence[Chip], optical: Sequence[Chip], seed: int
) -> tuple[list[tuple[Chip, Chip, str]], dict[str, Any]]:
    """Split each collection separately, and pair chips within split and class, in an order drawn by `seed`.

    Every radar chip is in one pair, or left out if its split has no optical chip of its class; an optical chip is in
    several pairs if its class has fewer optical than radar chips. No chip is in two splits: groups of radar chips
    (vessels) stay whole, and the test part of the optical collection is its publishers'.

    Returns:
        Radar chip, optical chip and split of each pair, and the record of how the splits were made.

    Raises:
        CmkdError: there are too few chips to split, or no radar chip has an optical chip of its class.
    """
    sides = []
    for chips in (radar, optical):
        groups = [chip.group for chip in chips] if any(chip.group for chip in chips) else None
        # a chip of a published train part may become validation; `assign_splits` keeps a published test part whole
        given = ["test" if chip.given == "test" else "" for chip in chips]
        sides.append(assign_splits([chip.label for chip in chips], groups, given, seed=seed))
    (radar_splits, record), (optical_splits, _) = sides
    pools: dict[tuple[str, int], list[Chip]] = {}
    for chip, split in zip(optical, optical_splits, strict=True):
        pools.setdefault((split, chip.label), []).append(chip)
    rng = np.random.default_rng(seed)
    kept: list[tuple[Chip, Chip, str]] = []
    for split in SPLITS:
        for label in range(len(SHIP_CLASSES)):
            chips = [c for c, s in zip(radar, radar_splits, strict=True) if (s, c.label) == (split, label)]
            pool = pools.get((split, label), [])
            order = rng.permutation(len(pool))
            if pool:
                kept += [(chip, pool[order[row % len(pool)]], split) for row, chip in enumerate(chips)]
    if len(kept) < len(radar):
        warnings.warn(
            f"{len(radar) - len(kept)} of {len(radar)} radar chips are left out: no optical chip of their split is of "
            "their class",
            CmkdWarning,
            stacklevel=4,
        )
    if not kept:
        raise CmkdError("no radar chip has an optical chip of its class: add chips of more classes")
    method = f"each side on its own; radar {record['method']}; optical test: the publishers' of FGSC-23"
    return kept, {"method": method, "seed": seed, "fractions": record["fractions"]}


def centered(values: NDArray[Any], size: int, blank: float) -> NDArray[Any]:
    """Center-crop ``(channels, height, width)``, or pad it with `blank`, to ``(channels, size, size)``.

    Pixels keep their spacing, so that a ship's size in meters stays visible.

    Example:
        >>> centered(np.arange(6).reshape(1, 2, 3), 4, 9).tolist()
        [[[9, 9, 9, 9], [0, 1, 2, 9], [3, 4, 5, 9], [9, 9, 9, 9]]]
    """
    found = np.full((len(values), size, size), blank, values.dtype)
    there, here = zip(*(_overlap(length, size) for length in values.shape[1:]), strict=True)
    found[:, here[0], here[1]] = values[:, there[0], there[1]]
    return found


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """Return the slice of an axis of `length` pixels that is kept, and the slice that it fills in an axis of `size`."""
    kept = min(length, size)
    start, place = (length - kept) // 2, (size - kept) // 2
    return slice(start, start + kept), slice(place, place + kept)


class ShipPairs(DataSet):
    """A collection of radar chips of ships, paired with optical chips of FGSC-23.

    Args:
        size: height and width of a radar chip, pixels.
        optical_size: height and width of an optical chip, pixels.
        seed: random seed of splits and pairs.
    """

    rich = "optical"
    poor = "radar"
    mirror = True
    group = "a vessel (MMSI)"
    unsound = UNSOUND
    channels: ClassVar[int]
    """Number of channels of the radar chips."""
    unit: ClassVar[str]
    """Unit of the values of the radar chips."""

    def __init__(self, *, size: int, optical_size: int, seed: int) -> None:
        self.at_least_one(size=size, optical_size=optical_size)
        self.size, self.optical_size, self.seed = size, optical_size, seed

    @abstractmethod
    def radar_chips(self, archive: Archive, stack: ExitStack) -> list[Chip]:
        """Return the radar chips of the shared classes; archives that the method opens are closed by `stack`."""

    @abstractmethod
    def radar(self, chip: Chip) -> NDArray[np.float32]:
        """Return the values of a radar chip, ``(channels, height, width)``."""

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from a folder with both collections."""
        with ExitStack() as stack:
            archive = stack.enter_context(self.opened(source))
            pairs, record = pair_by_class(self.radar_chips(archive, stack), fgsc23_chips(archive), self.seed)
            values = read_pairs(
                pairs,
                {
                    self.rich: lambda pair: centered(rgb(pair[1].archive, pair[1].file), self.optical_size, 0),
                    self.poor: lambda pair: centered(self.radar(pair[0]), self.size, np.nan),
                },
            )
            about = {column: [radar.about[column] for radar, _, _ in pairs] for column in pairs[0][0].about}
            return self.write(
                destination,
                Listing(
                    [radar.name for radar, _, _ in pairs],
                    [radar.label for radar, _, _ in pairs],
                    [split for _, _, split in pairs],
                    record,
                    values,
                    [radar.group for radar, _, _ in pairs],
                    metadata=about | {"optical_chip": [optical.name for _, optical, _ in pairs]},
                ),
                [
                    Modality(self.rich, "image", (3, self.optical_size, self.optical_size), "uint8"),
                    Modality(
                        self.poor, "image", (self.channels, self.size, self.size), "float32", nodata="nan",
                        unit=self.unit,
                    ),
                ],
                classes=NAMES,
            )  # fmt: skip
