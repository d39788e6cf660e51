"""Tiny sources of the radar chips of ships, beside FGSC-23."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from cmkd.datasets.ship_pairs import SHIP_CLASSES
from data.tiny.files import jpeg_bytes, write_tiff

TYPES = (
    ("Cargo", "Container Ship"),
    ("Cargo", "Bulk Carrier"),
    ("Cargo", "Vehicles Carrier"),
    ("Tanker", "Oil Products Tanker"),
    ("Tanker", "LPG Tanker"),
    ("Fishing", "NA"),
    ("Passenger", "Passengers Ship"),
    ("Cargo", "General Cargo"),  # of no shared class
)
"""Category and detailed type of a ship of each shared class in order, and of one that is left out."""
VESSELS = 6


def fgsc23(folder: Path, generator: np.random.Generator) -> None:
    """Write six train chips and two test chips of each shared class, and of one that is left out."""
    for part, count in (("train", 6), ("test", 2)):
        for label, number in enumerate([kind.folder for kind in SHIP_CLASSES] + [0]):
            home = folder / "FGSC-23" / part / str(number)
            home.mkdir(parents=True)
            for chip in range(count):
                side = 12 + 2 * chip
                values = generator.integers(0, 90, (side, side + 3, 3)) + 20 * label
                (home / f"{number}_{chip}.jpg").write_bytes(jpeg_bytes(values.astype(np.uint8)))


def opensarship(folder: Path, generator: np.random.Generator) -> None:
    """Write two scenes in VV and VH, the second zipped, of the same vessels, and one in VV alone."""
    fgsc23(folder, generator)
    for scene, polarizations in (("20160101_0001", "DV"), ("20160202_0002", "DV"), ("20160303_0003", "SV")):
        product = f"S1A_IW_GRDH_1S{polarizations}_{scene}"
        home = folder / "OpenSARShip2" / product
        ships = []
        for number in range(len(TYPES) * VESSELS):
            (category, detail), x, y = TYPES[number % len(TYPES)], 100 + number, 900 + number
            side, level = 17 + 4 * (number % 4), 0.01 * (1 + number % len(TYPES))
            values = level * generator.exponential(1, (side, side, 2)) * np.array([1, 5])  # VH, VV
            values = values[..., 1] if polarizations == "SV" else values
            write_tiff(home / "Patch_Cal" / f"{category}_x{x}_y{y}.tif", values.astype(np.float32))
            ships.append(
                f"<ship><SARShipInformation><Center_x>{x}</Center_x><Center_y>{y}</Center_y>"
                f"<Incidence>{30 + number}</Incidence></SARShipInformation><AISShipInformation>"
                f"<MMSI>{2000 + number}</MMSI><Length>{90 + number}</Length></AISShipInformation>"
                f"<MarineTrafficInformation><Elaborated_type>{detail}</Elaborated_type></MarineTrafficInformation></ship>"
            )
        closing = "</ShipList>" if scene.endswith("1") else "<\\ShipList>"  # both are published
        (home / "Ship.xml").write_text(f"<ShipList>{''.join(ships)}{closing}")
        about = {"PRODUCT": product, "PRODUCT_TYPE": "GRD", "range_spacing": "10.0", "azimuth_spacing": "10.02"}
        items = "".join(f'<attrib name="{name}" value="{value}" />' for name, value in about.items())
        (home / f"{product}.xml").write_text(f"<Metadata>{items}</Metadata>")
        if scene.endswith("2"):
            pack_scene(home)


def pack_scene(home: Path) -> None:
    """Replace the folder of a scene by a zip file of its content, as published."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    with zipfile.ZipFile(home.with_suffix(".zip"), "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(home).as_posix())
            path.unlink()
    (home / "Patch_Cal").rmdir()
    home.rmdir()


def fusar_ship(folder: Path, generator: np.random.Generator) -> None:
    """Write six chips of each type, two of each vessel."""
    fgsc23(folder, generator)
    header = ["id", "mmsi", "length", "width", "polarMode", "centerLookAngle", "heightspace", "widthspace", "path"]
    rows = ["\t".join(header)]
    for kind, (category, detail) in enumerate(TYPES):
        for number in range(2 * VESSELS):
            name = f"Ship_C{kind + 1:02d}S01N{number + 1:04d}"
            place = folder / "FUSAR-Ship1.0" / category / detail.replace(" ", "") / f"{name}.tiff"
            write_tiff(place, generator.integers(0, 40 + 20 * kind, (32, 32)).astype(np.uint8))
            rows.append(f"{name}\t{kind * 100 + number // 2}\t{80 + kind}\t20\tDH\t42.51\t1.70\t1.12\t{category}")
    (folder / "FUSAR-Ship1.0" / "meta.csv").write_text("\n".join(rows) + "\n")
