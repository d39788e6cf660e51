"""BigEarthNet: Sentinel-2 and Sentinel-1 patches over Europe with CORINE land cover."""

from __future__ import annotations

import json
import re
from pathlib import Path

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

ADDRESS = "https://bigearth.net"
OPTICAL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
RADAR = ("VV", "VH")
CLASSES = {
    "artificial surfaces": (
        "urban fabric|industrial or commercial|road and rail|port areas|airports|mineral extraction|dump sites"
        "|construction sites|green urban|sport and leisure"
    ),
    "agricultural areas": (
        "arable land|irrigated land|rice fields|vineyards|fruit trees|olive groves|pastures|annual crops"
        "|complex cultivation|principally occupied by agriculture|agro-forestry"
    ),
    "forest and semi-natural areas": (
        "forest$|natural grassland|moors and heathland|sclerophyllous|transitional woodland|beaches|bare rock"
        "|sparsely vegetated|burnt areas"
    ),
    "wetlands": "marshes|peatbogs|salines|intertidal",
    "water bodies": "water courses|water bodies|coastal lagoons|estuaries|sea and ocean",
}
"""Class of CORINE's first level -> pattern of the names of its third level."""
_RADAR_NAME = re.compile(r"(?:^|/)((S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6})_(\d\d[A-Z]{3})_\d+_\d+)_labels_metadata\.json$")


class BigEarthNet(DataSet):
    """Patches of 1.2 km over ten European countries: Sentinel-2 (rich) and Sentinel-1 (poor), BigEarthNet-MM v1.0.

    ``sentinel2`` is an image of 12 bands (B01 to B12 without B10), reflectance times 10,000; ``sentinel1`` is an image
    of VV and VH in dB. All bands are resized to one grid of `size` pixels from 120, 60 or 20. The published labels are
    sets of CORINE's third level; a patch is kept if all its labels belong to one class of the first level, which
    becomes its class. Splits are drawn by Sentinel-2 tile (100 km); the publishers' test split, by patch, is not used.

    Layout (tested on six published pairs): a folder for each patch, ``BigEarthNet-S1-v1.0/S1A_.../``, with
    ``S1A_..._VV.tif`` and ``S1A_..._labels_metadata.json``, which names the Sentinel-2 patch.

    Args:
        size: pixels along a patch.
    """

    name = "bigearthnet"
    title = "Patches over Europe: Sentinel-2 reflectance beside Sentinel-1 backscatter, land cover by tile"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "CDLA-Permissive-1.0"
    citation = """@article{sumbul2021bigearthnetmm, title={BigEarthNet-MM: A Large-Scale, Multimodal, Multilabel
  Benchmark Archive for Remote Sensing Image Classification and Retrieval}, author={Sumbul, Gencer and de Wall, Arne and
  Kreuziger, Tristan and Marcelino, Filipe and Costa, Hugo and Benevides, Pedro and Caetano, Mario and Demir,
  Beg{\\"u}m and Markl, Volker}, journal={IEEE Geoscience and Remote Sensing Magazine}, volume={9},
  number={3}, year={2021}}"""
    sources = (
        PublishedFile("BigEarthNet-S2-v1.0.tar.gz", ADDRESS),
        PublishedFile("BigEarthNet-S1-v1.0.tar.gz", ADDRESS),
    )
    mirror = True
    group = "a tile of Sentinel-2"
    unsound = (
        "Patches of mixed land cover are left out, so the task is easier than the published one. CORINE dates from "
        "2018 and was drawn from optical images. Patches under seasonal snow, cloud and shadow are kept."
    )

    def __init__(self, *, size: int = 60) -> None:
        self.at_least_one(size=size)
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with the two unpacked folders of patches."""
        with self.opened(source) as archive:
            homes = {name.rsplit("/", 2)[-2]: name.rsplit("/", 1)[0] for name in archive.sizes if "/" in name}
            patches = _patches(archive)
            if not patches:
                raise CmkdError(f"{source} holds no Sentinel-1 patches with a single class: get {ADDRESS}")
            ids, _, groups, labels = map(list, zip(*patches, strict=True))
            splits, record = assign_splits(labels, groups)
            record["method"] += ", by Sentinel-2 tile"

            def image(patch: str, bands: tuple[str, ...]) -> NDArray[np.float32]:
                home = homes.get(patch, patch)
                return stacked([raster(archive, f"{home}/{patch}_{band}.tif", 1) for band in bands], self.size)

            readers = {self.rich: lambda pair: image(pair[1], OPTICAL), self.poor: lambda pair: image(pair[0], RADAR)}
            values = read_pairs(patches, readers)
            return self.write(
                destination,
                Listing(ids, labels, splits, record, values, groups),
                [
                    Modality(self.rich, "image", (len(OPTICAL), self.size, self.size), "float32", nodata="nan"),
                    Modality(
                        self.poor, "image", (len(RADAR), self.size, self.size), "float32", nodata="nan", unit="dB"
                    ),
                ],
                classes=list(CLASSES),
                co_registered=True,
            )


def _patches(archive: Archive) -> list[tuple[str, str, str, int]]:
    """Return the Sentinel-1 patch, the Sentinel-2 patch, the tile and the class of each pair that has one class."""
    found = []
    for name in archive.sizes:
        match = _RADAR_NAME.search(name)
        if match is None:
            continue
        with archive.decoding(name) as file:
            about = json.load(file)
            label, optical = first_level(about["labels"]), str(about["corresponding_s2_patch"])
        if label is not None:
            found.append((match[1], optical, match[3], label))
    return found


def first_level(names: list[str]) -> int | None:
    """Return the position in `CLASSES` that all of the land covers share, or None.

    Raises:
        KeyError: a name is unknown to CORINE.

    Example:
        >>> first_level(["Pastures", "Non-irrigated arable land"]), first_level(["Pastures", "Peatbogs"])
        (1, None)
    """
    found = set()
    for name in names:
        places = [k for k, part in enumerate(CLASSES.values()) if re.search(part, name.lower())]
        if len(places) != 1:
            raise KeyError(name)
        found.add(places[0])
    return found.pop() if len(found) == 1 else None
