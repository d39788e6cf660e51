"""Radar chips of ships with optical chips of the same class: which are paired, left out, or refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cmkd.data import Pack
from cmkd.datasets import DATASETS
from cmkd.datasets.ship_pairs import NAMES, SHIP_CLASSES
from cmkd.errors import CmkdError, CmkdWarning
from data.tiny import TINY, tiny_source
from data.tiny.ships import TYPES, VESSELS

Made = Callable[[str], tuple[Path, Pack]]
BOTH = pytest.mark.parametrize("name", ["opensarship", "fusar_ship"])


@BOTH
def test_pairs_are_of_one_class_and_no_chip_is_in_two_splits(name: str, made: Made) -> None:
    _, pack = made(name)
    folders = {str(kind.folder): kind.name for kind in SHIP_CLASSES}
    index = pack.index
    assert len(index) == 2 * VESSELS * len(NAMES)  # two chips per vessel; the eighth type is in no shared class
    for label, split, chip in zip(index["label"], index["split"], index["optical_chip"], strict=True):
        part, folder, _ = chip.split("/")
        assert folders[folder] == pack.classes[label]
        assert (part == "test") == (split == "test")
    assert index.groupby("optical_chip")["split"].nunique().max() == 1
    assert index.groupby("group")["split"].nunique().max() == 1
    assert (index.groupby("group").size() == 2).all()
    assert "not one ship" in pack.card.unsound


@BOTH
def test_a_seed_gives_other_pairs_and_the_same_seed_the_same(name: str, made: Made, tmp_path: Path) -> None:
    source, pack = made(name)
    kind, options = DATASETS.find(name), TINY[name].options
    other = kind(**options, seed=1).prepare(source, tmp_path / "other")
    assert other.index["optical_chip"].tolist() != pack.index["optical_chip"].tolist()
    assert kind(**options).prepare(source, tmp_path / "again").card.sha256 == pack.card.sha256


def test_opensarship_is_calibrated_and_keeps_the_spacing(made: Made) -> None:
    source, pack = made("opensarship")
    row = pack.index.index[pack.index["id"] == "S1A_IW_GRDH_1SDV_20160101_0001/Cargo_x100_y900"][0]
    published = tifffile.imread(next(source.rglob("S1A_IW_GRDH_1SDV_20160101_0001/Patch_Cal/Cargo_x100_y900.tif")))
    radar, edge = pack.array("radar")[row], (24 - 17) // 2
    inside = radar[:, edge : edge + 17, edge : edge + 17]
    np.testing.assert_allclose(10 ** (inside / 10), np.moveaxis(published, 2, 0)[::-1], rtol=1e-4)  # VV first
    assert np.isnan(radar[:, 0]).all()
    assert np.isnan(radar).sum() == 2 * (24**2 - 17**2)
    assert pack.modality("radar").unit == "dB"
    about = pack.index.loc[row, ["spacing_y", "spacing_x", "looks", "length", "incidence", "group"]]
    assert about.tolist() == ["10.02", "10.0", "4.4", "90", "30", "2000"]
    assert pack.index["id"].str.startswith("S1A_IW_GRDH_1SDV_20160202_0002/").any()  # from the zip file


def test_fusar_ship_keeps_the_middle_and_the_spacing(made: Made) -> None:
    source, pack = made("fusar_ship")
    name = "Ship_C02S01N0001"
    row = pack.index.index[pack.index["id"] == name][0]
    published = tifffile.imread(source / f"FUSAR-Ship1.0/Cargo/BulkCarrier/{name}.tiff")
    np.testing.assert_array_equal(pack.array("radar")[row, 0], published[4:28, 4:28])
    about = pack.index.loc[row, ["spacing_y", "spacing_x", "length", "incidence", "group"]]
    assert about.tolist() == ["1.70", "1.12", "81", "42.51", "100"]


def test_a_class_without_optical_chips_is_left_out_with_a_warning(tmp_path: Path) -> None:
    source = tiny_source("fusar_ship", tmp_path / "source")
    for path in source.glob("FGSC-23/*/15/*"):
        path.unlink()
    with pytest.warns(CmkdWarning, match=f"{2 * VESSELS} of {2 * VESSELS * len(NAMES)} radar chips are left out"):
        pack = DATASETS.find("fusar_ship")(**TINY["fusar_ship"].options).prepare(source, tmp_path / "pack")
    assert NAMES.index("car carrier") not in set(pack.index["label"])


@pytest.mark.parametrize(
    ("name", "remove", "says"),
    [
        ("opensarship", "OpenSARShip2/**/*.*", "Ship.xml beside Patch_Cal/TYPE_xNNN_yNNN.tif"),
        ("opensarship", "OpenSARShip2/*/S1A*.xml", "0 metadata files beside .*Ship.xml"),
        ("opensarship", "FGSC-23/**/*.jpg", "train/14, test/14"),
        ("fusar_ship", "**/*.tiff", "CATEGORY/SUBCATEGORY/Ship_CxxSyyNzzzz.tiff"),
        ("fusar_ship", "**/meta.csv", "lacks meta.csv .*save it as CSV"),
        ("fusar_ship", "FGSC-23/**/*.jpg", "train/14, test/14"),
    ],
)
def test_a_wrong_layout_says_what_was_looked_for(name: str, remove: str, says: str, tmp_path: Path) -> None:
    source = tiny_source(name, tmp_path / "source")
    for path in list(source.glob(remove)):
        path.unlink()
    with pytest.raises(CmkdError, match=says) as caught:
        DATASETS.find(name)().prepare(source, tmp_path / "pack")
    assert "\n" not in str(caught.value)
    assert "https://" in str(caught.value)


def test_tables_and_lists_that_do_not_fit_their_chips_are_refused(tmp_path: Path) -> None:
    source = tiny_source("fusar_ship", tmp_path / "fusar")
    meta = source / "FUSAR-Ship1.0" / "meta.csv"
    rows = list(csv.reader(meta.read_text().splitlines(), delimiter="\t"))
    meta.write_text("\n".join(",".join(row) for row in rows[:-20]))  # commas are read as well
    with pytest.raises(CmkdError, match=r"Ship_C.*tiff .*has no row in meta.csv"):
        DATASETS.find("fusar_ship")().prepare(source, tmp_path / "pack")
    meta.write_text("id,length\nShip_C01S01N0001,3\n")
    with pytest.raises(CmkdError, match="lacks the columns mmsi, heightspace"):
        DATASETS.find("fusar_ship")().prepare(source, tmp_path / "pack")
    source = tiny_source("opensarship", tmp_path / "open")
    listed = source / "OpenSARShip2" / "S1A_IW_GRDH_1SDV_20160101_0001" / "Ship.xml"
    content = listed.read_text()
    for damaged, says in (
        (content.replace("<Center_x>101<", "<Center_x>7<"), "no ship with its center at x101, y901"),
        ('<!DOCTYPE a [<!ENTITY b "b">]>' + content, "has XML declarations"),
        (content[:200], "Ship.xml in .* truncated or damaged"),
    ):
        listed.write_text(damaged)
        with pytest.raises(CmkdError, match=says):
            DATASETS.find("opensarship")().prepare(source, tmp_path / "pack")
    assert len(TYPES) == len(NAMES) + 1
