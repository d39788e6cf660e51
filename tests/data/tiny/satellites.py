"""Tiny sources of the pairs of Sentinel-2 and Sentinel-1."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from cmkd.datasets import bigearthnet as ben
from cmkd.datasets import eurosat_sar as euro
from cmkd.datasets import presto as pre
from cmkd.datasets import sen12ms as sen
from cmkd.datasets import so2sat as so2
from cmkd.datasets import terramind as terra
from data.tiny.files import write_tiff


def bigearthnet(folder: Path, generator: np.random.Generator) -> None:
    """Write 24 pairs of six tiles."""
    names = ("Discontinuous urban fabric", "Pastures", "Mixed forest", "Peatbogs")
    sides = dict.fromkeys(ben.OPTICAL, 12) | {"B01": 4, "B09": 4} | dict.fromkeys(("B02", "B03", "B04", "B08"), 24)
    for number in range(24):
        tile, place = f"3{number % 6}UUP", f"{number}_{number + 40}"
        radar = f"S1A_IW_GRDH_1SDV_20170613T165043_{tile}_{place}"
        optical = f"S2A_MSIL2A_20170613T101031_{place}"
        label = number // 6
        for patch, bands, home in (
            (radar, ben.RADAR, "BigEarthNet-S1-v1.0"),
            (optical, ben.OPTICAL, "BigEarthNet-v1.0"),
        ):
            for band in bands:
                side = sides.get(band, 24)
                reflectance = generator.normal(300 + 300 * label, 50, (side, side)).astype(np.uint16)
                backscatter = generator.normal(-8 - 3 * label, 2, (side, side)).astype(np.float32)
                path = folder / home / patch / f"{patch}_{band}.tif"
                write_tiff(path, backscatter if band in ben.RADAR else reflectance)
            about = {
                "labels": [names[label]],
                "coordinates": {"ulx": 399960 + 1200 * number, "uly": 5400000, "lrx": 401160 + 1200 * number},
                "projection": f'PROJCS["WGS 84 / UTM zone {tile[:2]}N",GEOGCS["WGS 84"]]',
            } | ({"corresponding_s2_patch": optical} if patch == radar else {})
            (folder / home / patch / f"{patch}_labels_metadata.json").write_text(json.dumps(about))


def eurosat_sar(folder: Path, generator: np.random.Generator) -> None:
    """Write five patches of each class."""
    for label, name in enumerate(euro.CLASSES):
        for home, bands in (("EuroSAT_MS", euro.OPTICAL), ("EuroSAT-SAR", euro.RADAR)):
            for number in range(1, 6):
                shape = (euro.SIDE, euro.SIDE, bands)
                reflectance = generator.normal(1000 + 100 * label, 50, shape).astype(np.uint16)
                backscatter = generator.normal(-10 - label, 2, shape).astype(np.float32)
                values = reflectance if bands == euro.OPTICAL else backscatter
                write_tiff(folder / home / name / f"{name}_{number}.tif", values)


def presto(folder: Path, generator: np.random.Generator) -> None:
    """Write 24 sites of 10 series, one month missing."""
    sites = np.repeat([f"Site {site}, CA" for site in range(24)], 10)
    cover = generator.choice(list(pre.CLASSES), len(sites))
    series = generator.normal(1000, 200, (len(sites), pre.MONTHS, pre.BANDS)) + 300 * cover[:, None, None]
    series[:, :, pre.RADAR] = generator.normal(-12, 2, (len(sites), pre.MONTHS, 2)) - 0.5 * cover[:, None, None]
    series[3, 1, 1] = -49.945
    months = np.repeat(cover[:, None], pre.MONTHS, 1).astype(np.uint8)
    months[::7, 0] = 3
    np.save(folder / "s1_s2_era5_srtm.npy", series)
    np.save(folder / "dynamic_world.npy", months)
    np.save(folder / "is_test.npy", (np.arange(len(sites)) % 240 >= 160).astype(np.int64))
    np.save(folder / "site.npy", sites)


def sen12ms(folder: Path, generator: np.random.Generator) -> None:
    """Write 40 patches of eight scenes."""
    codes = [codes[0] for codes in sen.CLASSES.values()]
    held = []
    for scene in range(1, 9):
        for number in range(5):
            code = codes[(scene % 2 + 2 * number) % 10]
            layers = {
                "s2": generator.normal(1000 + 50 * code, 50, (16, 16, 13)).astype(np.uint16),
                "s1": generator.normal(-10 - code / 4, 2, (16, 16, 2)).astype(np.float32),
                "lc": np.full((16, 16, 4), code, dtype=np.uint16),
            }
            for layer, values in layers.items():
                name = f"ROIs1158_spring_{layer}_{scene}_p{number}.tif"
                write_tiff(folder / "ROIs1158_spring" / f"{layer}_{scene}" / name, values)
            held += [f"ROIs1158_spring_s2_{scene}_p{number}.tif"] if scene > 6 else []
    (folder / "test_list.txt").write_text("\n".join(held) + "\n")


def so2sat(folder: Path, generator: np.random.Generator) -> None:
    """Write 34 patches for each split."""
    labels = np.arange(34) % 17
    level = 1 + labels[:, None, None, None] / 17
    for name in so2.FILES.values():
        with h5py.File(folder / name, "w") as file:
            file["sen1"] = generator.normal(0, 0.1, (34, so2.SIDE, so2.SIDE, so2.RADAR)) * level
            file["sen2"] = generator.uniform(0, 0.1, (34, so2.SIDE, so2.SIDE, so2.OPTICAL)) * level
            file["label"] = np.eye(17)[labels]


def terramind(folder: Path, generator: np.random.Generator) -> None:
    """Write two tiles of full size."""
    codes, side = np.array([*terra.CLASSES, 3]), terra.SIDE
    for tile in ("1U_2R_0_0", "3D_4L_1_1"):
        cover = np.kron(generator.choice(codes, (side // 16, side // 16)), np.ones((16, 16), np.uint8))
        cover[generator.random((side, side)) < 0.05] = 6
        layers = {
            "S2L2A": (1000 + 200 * cover[..., None] + generator.normal(0, 100, (side, side, 12))).astype(np.int16),
            "S1RTC": generator.normal(-12, 3, (side, side, 2)) - cover[..., None],
            "LULC": cover.astype(np.uint8),
        }
        for layer, values in layers.items():
            write_tiff(folder / "examples" / layer / f"{tile}.tif", values, compression="zlib")
