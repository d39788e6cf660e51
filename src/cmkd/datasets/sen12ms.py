"""SEN12MS: worldwide Sentinel-2 and Sentinel-1 patches with MODIS land cover."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.rasters import raster, stacked
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://mediatum.ub.tum.de/1474000"
CLASSES = {
    "forest": (1, 2, 3, 4, 5),
    "shrubland": (6, 7),
    "savanna": (8, 9),
    "grassland": (10,),
    "wetland": (11,),
    "cropland": (12, 14),
    "urban": (13,),
    "snow and ice": (15,),
    "barren": (16,),
    "water": (17,),
}
"""Class of the simplified IGBP scheme -> the IGBP codes it merges."""
BANDS = {"s2": 13, "s1": 2, "lc": 4}
BROKEN = ("ROIs1868_summer", "146", "202")
"""A patch whose Sentinel-1 file holds NaN, according to the publishers."""
LEAST_DB = -60.0
_NAME = re.compile(r"(?:^|/)(ROIs\d+_[a-z]+)_(s1|s2|lc)_(\d+)_p(\d+)\.tif$")


@dataclass(frozen=True)
class _Patch:
    """One patch of a scene: the scene's name, the patch's number, and layer -> file."""

    scene: str
    number: str
    files: dict[str, str]


class Sen12Ms(DataSet):
    """Patches of 2.6 km from 252 scenes worldwide in four seasons: Sentinel-2 (rich), Sentinel-1 (poor).

    ``sentinel2`` is an image of 13 bands, reflectance times 10,000; ``sentinel1`` is an image of VV and VH in dB. Both
    are resized from 256 to `size` pixels. The class is the simplified IGBP class with the most pixels in the first
    layer of the land-cover file (MODIS, 500 m). If the source holds the publishers' ``test_list.txt``, its scenes are
    the test split; the other splits are drawn by scene, stratified by class.

    Layout (tested on synthetic files only): ``ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.tif`` and the same with
    ``s1`` and ``lc``; each line of the list names a Sentinel-2 file.

    Args:
        size: height and width of a patch, pixels.
    """

    name = "sen12ms"
    title = "SEN12MS: Sentinel-2 reflectance beside Sentinel-1 backscatter over the world, land cover by scene"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "CC BY 4.0"
    citation = """@inproceedings{schmitt2019sen12ms, title={SEN12MS: A Curated Dataset of Georeferenced Multi-Spectral
  Sentinel-1/2 Imagery for Deep Learning and Data Fusion}, author={Schmitt, Michael and Hughes, Lloyd Haydn and Qiu,
  Chunping and Zhu, Xiao Xiang}, booktitle={ISPRS Annals}, volume={IV-2/W7}, pages={153--160}, year={2019}}"""
    sources = (PublishedFile("ROIs1158_spring_s2.tar.gz", ADDRESS),)
    mirror = True
    group = "a scene"
    unsound = (
        "The land cover comes from MODIS at 500 m, so labels are coarse and sometimes wrong. Patches of a scene "
        "overlap by half, and scenes of different seasons may be neighbors."
    )

    def __init__(self, *, size: int = 64) -> None:
        self.at_least_one(size=size)
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with the unpacked seasons and, optionally, ``test_list.txt``."""
        with self.opened(source) as archive:
            patches = _patches(archive)
            labels = np.array([majority(raster(archive, p.files["lc"], BANDS["lc"])[0]) for p in patches])
            patches = [patch for patch, label in zip(patches, labels, strict=True) if label >= 0]
            labels = labels[labels >= 0]
            held = _held_out(archive)
            groups = [patch.scene for patch in patches]
            given = ["test" if scene in held else "" for scene in groups]
            splits, record = assign_splits(labels, groups, given if "test" in given else None)
            record["method"] += ", by scene" + ("; test: the publishers' scenes" if "test" in given else "")

            def image(patch: _Patch, layer: str) -> NDArray[np.float32]:
                return stacked([raster(archive, patch.files[layer], BANDS[layer])], self.size)

            values = read_pairs(
                patches,
                {
                    self.rich: lambda patch: image(patch, "s2"),
                    self.poor: lambda patch: image(patch, "s1").clip(LEAST_DB),
                },
            )
            ids = [f"{patch.scene}_p{patch.number}" for patch in patches]
            return self.write(
                destination,
                Listing(ids, labels, splits, record, values, groups),
                [
                    Modality(self.rich, "image", (BANDS["s2"], self.size, self.size), "float32", nodata="nan"),
                    Modality(
                        self.poor, "image", (BANDS["s1"], self.size, self.size), "float32", nodata="nan", unit="dB"
                    ),
                ],
                classes=list(CLASSES),
                co_registered=True,
            )


def majority(cover: NDArray[Any]) -> int:
    """Return the position in `CLASSES` of the class with the most pixels, or -1 if no pixel has a class.

    Example:
        >>> majority(np.array([[1, 2, 10], [5, 13, 13]])), majority(np.array([[255]]))
        (0, -1)
    """
    counts = [int(np.isin(cover, codes).sum()) for codes in CLASSES.values()]
    return int(np.argmax(counts)) if any(counts) else -1


def _patches(archive: Archive) -> list[_Patch]:
    """Return the patches that have all layers, sorted by scene and number."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in archive.sizes:
        match = _NAME.search(name)
        if match is not None:
            found.setdefault((match[1], match[3], match[4]), {})[match[2]] = name
    whole = {key: files for key, files in found.items() if files.keys() == BANDS.keys() and key != BROKEN}
    if not whole:
        raise CmkdError(f"{archive.place} holds no patches with the layers s1, s2 and lc: get {ADDRESS}")
    order = sorted(whole, key=lambda key: (key[0], int(key[1]), int(key[2])))
    return [_Patch(f"{season}_{scene}", number, whole[season, scene, number]) for season, scene, number in order]


def _held_out(archive: Archive) -> set[str]:
    """Return the scenes in the publishers' test list; empty if there is no list."""
    lists = [name for name in archive.sizes if name.rsplit("/", 1)[-1] == "test_list.txt"]
    if not lists:
        return set()
    names = archive.read(lists[0]).decode("utf-8", "replace").split()
    matches = [_NAME.search(name) for name in names]
    if not all(matches):
        raise archive.error(lists[0], "names no Sentinel-2 files")
    return {f"{match[1]}_{match[3]}" for match in matches if match is not None}
