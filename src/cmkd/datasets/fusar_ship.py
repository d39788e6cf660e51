"""FUSAR-Ship (Gaofen-3) beside optical chips of FGSC-23 of the same classes."""

from __future__ import annotations

import csv
import io
import re
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.rasters import floats, raster
from cmkd.datasets.ship_pairs import FGSC23, FGSC23_CITATION, NAMES, Chip, ShipPairs, ship_class
from cmkd.errors import CmkdError
from cmkd.options import Seed

ADDRESS = "https://emwlab.fudan.edu.cn/resources/list.htm"
INDEX = {"spacing_y": "heightspace", "spacing_x": "widthspace", "length": "length", "incidence": "centerLookAngle"}
"""Column of the index -> column of the publishers' table."""
COLUMNS = ("id", "mmsi", *INDEX.values())
_CHIP = re.compile(r"(?:^|/)([^/]+)/([^/]+)/(Ship_C\d+S\d+N\d+)\.tiff?$")


class FusarShip(ShipPairs):
    """Gaofen-3 chips of ships at about 1 m (poor) beside optical ships of the same class (rich), seven classes.

    ``radar`` is an image ``(1, size, size)``, amplitude as published, without calibration; ``optical`` is an image
    ``(3, optical_size, optical_size)`` of FGSC-23. The middle of each chip is cut out, or the chip is padded (radar:
    invalid, optical: black), so that pixels keep their spacing and ships their size; this is our choice. Ship types
    that match no class of FGSC-23 are left out. The index has ``spacing_y`` and ``spacing_x`` (m), ``length`` (m, by
    AIS), ``incidence`` (degrees, at the scene's center) and the names of both chips. Radar and optical chips are split
    separately, radar chips by vessel (MMSI).

    Layout (read from the publishers' descriptions, tested on synthetic files only): one folder that holds at any depth
    ``CATEGORY/SUBCATEGORY/Ship_CxxSyyNzzzz.tiff`` of 512 x 512 pixels, ``meta.csv`` (separated by commas or tabs; a
    ``meta.xls`` must be saved as CSV), and FGSC-23 as ``train/NUMBER/*.jpg`` and ``test/NUMBER/*.jpg``.

    Args:
        size: height and width of a radar chip, pixels.
        optical_size: height and width of an optical chip, pixels.
        seed: random seed of splits and pairs.
    """

    name = "fusar_ship"
    title = "FUSAR-Ship: Gaofen-3 chips of ships at 1 m beside optical ships of the same class (FGSC-23)"
    license = "none stated (open benchmark of Fudan University; FGSC-23: research purposes only)"
    citation = f"""@article{{hou2020fusar, title={{FUSAR-Ship: Building a High-Resolution SAR-AIS Matchup Dataset of
  Gaofen-3 for Ship Detection and Recognition}}, author={{Hou, Xiyue and Ao, Wei and Song, Qian and Lai, Jian and Wang,
  Haipeng and Xu, Feng}}, journal={{Science China Information Sciences}}, year={{2020}},
  doi={{10.1007/s11432-019-2772-5}}}}
{FGSC23_CITATION}"""
    sources = (PublishedFile("FUSAR-Ship1.0", ADDRESS), FGSC23)
    channels = 1
    unit = "amplitude"

    def __init__(self, *, size: int = 256, optical_size: int = 224, seed: Seed = 0) -> None:
        super().__init__(size=size, optical_size=optical_size, seed=seed)

    def radar_chips(self, archive: Archive, stack: ExitStack) -> list[Chip]:
        """Return the radar chips of the classes that both collections have."""
        found = [(name, match) for name in archive.sizes if (match := _CHIP.search(name))]
        if not found:
            raise CmkdError(
                f"{archive.place} holds no radar chips of FUSAR-Ship: expected "
                f"CATEGORY/SUBCATEGORY/Ship_CxxSyyNzzzz.tiff, get them from {ADDRESS}"
            )
        table, chips = _table(archive), list[Chip]()
        for name, match in found:
            label = ship_class(match[1], match[2])
            if label is None:
                continue
            if match[3] not in table:
                raise archive.error(name, "has no row in meta.csv")
            row = table[match[3]]
            about = {column: row[published] for column, published in INDEX.items()}
            chips.append(Chip(match[3], archive, name, label, row["mmsi"], about=about))
        if not chips:
            raise CmkdError(f"{archive.place} holds no radar chips of a shared class: {', '.join(NAMES)}")
        return chips

    def radar(self, chip: Chip) -> NDArray[np.float32]:
        """Return the amplitude ``(1, height, width)`` of a radar chip."""
        return floats(raster(chip.archive, chip.file, 1))


def _table(archive: Archive) -> dict[str, dict[str, str]]:
    """Return id -> row of ``meta.csv``."""
    if not any(name.rpartition("/")[2] == "meta.csv" for name in archive.sizes):
        raise CmkdError(
            f"{archive.place} lacks meta.csv of FUSAR-Ship (open meta.xls and save it as CSV): get it from {ADDRESS}"
        )
    name = archive.ending("meta.csv")
    with archive.decoding(name) as file:
        text = file.read().decode("utf-8-sig")
        tabs = "\t" in text.partition("\n")[0]
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", restval=""))
    lacking = [column for column in COLUMNS if not rows or column not in rows[0]]
    if lacking:
        raise archive.error(name, f"lacks the columns {', '.join(lacking)}")
    return {row["id"].strip().removesuffix(".tiff"): {c: row[c].strip() for c in COLUMNS} for row in rows}
