"""OpenSARShip 2.0 (Sentinel-1) beside optical chips of FGSC-23 of the same classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.rasters import decibels, floats, raster
from cmkd.datasets.ship_pairs import FGSC23, FGSC23_CITATION, Chip, ShipPairs, ship_class
from cmkd.errors import CmkdError
from cmkd.options import Seed

ADDRESS = "https://opensar.sjtu.edu.cn/"
LOOKS = {"GRD": "4.4", "SLC": "1"}
"""Equivalent number of looks of the two products (Sentinel-1 Product Definition, S1-RS-MDA-52-7440)."""
_CHIP = re.compile(r"(.+)_x(\d+)_y(\d+)\.tif$")
_PRODUCT = re.compile(r"S1[AB]_IW_(GRD|SLC)._1S(..)_")
_ZIPPED = re.compile(r"(?:^|/)S1[^/]*\.zip$")


class OpenSarShip(ShipPairs):
    """Sentinel-1 chips of ships (poor) beside optical chips of other ships of the same class (rich), seven classes.

    ``radar`` is an image ``(2, size, size)`` of VV and VH, sigma nought in dB from the folders ``Patch_Cal`` (which
    hold it linear, VH first); ``optical`` is an image ``(3, optical_size, optical_size)`` of FGSC-23. Chips have many
    sizes: their middle is cut out, or they are padded (radar: invalid, optical: black), so that pixels keep their
    spacing and ships their size; this is our choice. Only scenes in VV and VH of one product are read: ``GRD`` has
    pixels of 10 m, ``SLC`` of about 14 m in azimuth by 2.3 m in slant range. Ship types that match no class of FGSC-23
    are left out. The index has ``spacing_y`` and ``spacing_x`` (m), ``length`` (m, by AIS), ``incidence`` (degrees),
    ``looks`` and the names of both chips. Radar and optical chips are split separately, radar chips by vessel (MMSI).

    Layout: one folder that holds the unpacked scenes or their zip files at any depth, each with ``Ship.xml``, the
    scene's metadata (``Metedata.xml`` or the scene's name) and ``Patch_Cal/TYPE_xNNN_yNNN.tif`` (read from the
    publishers' instruction and tested on eight published scenes), and FGSC-23 unpacked as ``train/NUMBER/*.jpg`` and
    ``test/NUMBER/*.jpg`` (read from published descriptions, tested on synthetic files only).

    Args:
        size: height and width of a radar chip, pixels.
        optical_size: height and width of an optical chip, pixels.
        product: Sentinel-1 product, ``GRD`` or ``SLC``.
        seed: random seed of splits and pairs.
    """

    name = "opensarship"
    title = "OpenSARShip 2.0: Sentinel-1 VV and VH of ships beside optical ships of the same class (FGSC-23)"
    license = "none stated (research data of Shanghai Jiao Tong University; FGSC-23: research purposes only)"
    citation = f"""@inproceedings{{li2017opensarship, title={{OpenSARShip 2.0: A Large-Volume Dataset for Deeper
  Interpretation of Ship Targets in Sentinel-1 Imagery}}, author={{Li, Boying and others}}, booktitle={{SAR in Big Data
  Era: Models, Methods and Applications}}, year={{2017}}, doi={{10.1109/BIGSARDATA.2017.8124929}}}}
{FGSC23_CITATION}"""
    sources = (PublishedFile("OpenSARShip2", ADDRESS), FGSC23)
    channels = 2
    unit = "dB"

    def __init__(
        self, *, size: int = 96, optical_size: int = 224, product: Literal["GRD", "SLC"] = "GRD", seed: Seed = 0
    ) -> None:
        super().__init__(size=size, optical_size=optical_size, seed=seed)
        self.product = product

    def radar_chips(self, archive: Archive, stack: ExitStack) -> list[Chip]:
        """Return the radar chips of the classes that both collections have, from all scenes, unpacked or zipped."""
        packed = [archive.place / name for name in archive.sizes if _ZIPPED.search(name)]
        scenes = [archive, *(stack.enter_context(Archive(place, address=ADDRESS)) for place in packed)]
        found = [chip for scene in scenes for chip in self._chips(scene)]
        if not found:
            raise CmkdError(
                f"{archive.place} holds no {self.product} chips of OpenSARShip in VV and VH of a shared class: "
                f"expected Ship.xml beside Patch_Cal/TYPE_xNNN_yNNN.tif, get them from {ADDRESS}"
            )
        return found

    def radar(self, chip: Chip) -> NDArray[np.float32]:
        """Return VV and VH of a radar chip in dB, ``(2, height, width)``."""
        return decibels(floats(raster(chip.archive, chip.file, 2))[::-1])

    def _chips(self, scene: Archive) -> Iterator[Chip]:
        """Yield the chips of the shared classes of all scenes in an archive."""
        for listed in [name for name in scene.sizes if name.rpartition("/")[2] == "Ship.xml"]:
            home = listed.removesuffix("Ship.xml")
            product, about = _metadata(scene, home)
            match = _PRODUCT.match(product)
            if match is None or match[1] != self.product or match[2] != "DV":  # DV: VV and VH
                continue
            ships = {f"{_text(ship, 'Center_x')},{_text(ship, 'Center_y')}": ship for ship in _root(scene, listed)}
            for name in scene.sizes:
                match = _CHIP.match(name.removeprefix(f"{home}Patch_Cal/"))
                if match is None or not name.startswith(f"{home}Patch_Cal/"):
                    continue
                ship = ships.get(f"{match[2]},{match[3]}")
                if ship is None:
                    raise scene.error(listed, f"has no ship with its center at x{match[2]}, y{match[3]}")
                label = ship_class(match[1], _text(ship, "Elaborated_type"))
                if label is not None:
                    more = {"length": _text(ship, "Length"), "incidence": _text(ship, "Incidence")}
                    group = _text(ship, "MMSI")
                    yield Chip(f"{product}/{Path(name).stem}", scene, name, label, group, about=about | more)


def _root(archive: Archive, name: str) -> ElementTree.Element:
    """Parse an XML file; refuse declarations, whose entities could expand without limit (the publisher writes none)."""
    with archive.decoding(name) as file:
        content = file.read()
        if b"<!" in content:
            raise archive.error(name, "has XML declarations, which the published files lack")
        # the publishers' files of version 2.0 end with this wrong tag
        return ElementTree.fromstring(content.replace(rb"<\ShipList>", b"</ShipList>"))


def _text(ship: ElementTree.Element, tag: str) -> str:
    return (ship.findtext(f".//{tag}") or "").strip()


def _metadata(archive: Archive, home: str) -> tuple[str, dict[str, str]]:
    """Return the name of a scene's product, and its pixel spacing (m) and number of looks as columns of the index."""
    inside = [name for name in archive.sizes if name.startswith(home) and "/" not in name.removeprefix(home)]
    names = [name for name in inside if name.endswith(".xml") and not name.endswith("Ship.xml")]
    if len(names) != 1:
        raise CmkdError(
            f"{archive.place} holds {len(names)} metadata files beside {home}Ship.xml, expected one, Metedata.xml or "
            f"the scene's name: get it from {archive.address}"
        )
    found = {item.get("name"): item.get("value", "") for item in _root(archive, names[0]).iter("attrib")}
    lacking = [key for key in ("PRODUCT", "PRODUCT_TYPE", "azimuth_spacing", "range_spacing") if not found.get(key)]
    if lacking:
        raise archive.error(names[0], f"lacks {', '.join(lacking)}")
    return found["PRODUCT"], {
        "spacing_y": found["azimuth_spacing"],
        "spacing_x": found["range_spacing"],
        "looks": LOOKS.get(found["PRODUCT_TYPE"], ""),
    }
