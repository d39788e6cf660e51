"""BigEarthNet: Sentinel-2 and Sentinel-1 patches over Europe with CORINE land cover."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
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
"""Class of CORINE's first level -> pattern of the names of its classes on the third level."""
MARGIN = 1.75
"""Minimum distance between centers of patches of two splits, km: patches of 1.2 km within 1.7 km may overlap."""
EARTH = 6371.0
"""Mean radius of the Earth, km."""
_RADAR_NAME = re.compile(r"(?:^|/)((S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6})_(\d\d[A-Z]{3})_\d+_\d+)_labels_metadata\.json$")


class BigEarthNet(DataSet):
    """Patches of 1.2 km over ten European countries: Sentinel-2 (rich) and Sentinel-1 (poor), BigEarthNet-MM v1.0.

    ``sentinel2`` is an image of 12 bands (B01 to B12 without B10), reflectance times 10,000; ``sentinel1`` is an image
    of VV and VH in dB. All bands are resized from 120, 60 or 20 pixels to one grid of `size` pixels. The published
    labels are sets of classes of CORINE's third level; a patch is kept if all its labels belong to one class of the
    first level, which becomes its class. Splits are drawn by Sentinel-2 tile; the publishers' test split, by patch, is
    not used. Tiles overlap by 10 km. If the centers of two patches of different splits lie within 1.75 km of each
    other, the patch of the earlier split is left out (train before validation before test), so no ground is in two
    splits.

    Layout (tested on six published pairs): a folder for each patch, ``BigEarthNet-S1-v1.0/S1A_.../``, with
    ``S1A_..._VV.tif`` and ``S1A_..._labels_metadata.json``, which names the Sentinel-2 patch.

    Args:
        size: height and width of a patch, pixels.
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
    revision = 2
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
            drawn, record = assign_splits([patch.label for patch in patches], [patch.tile for patch in patches])
            kept = apart(np.array([patch.place for patch in patches]), drawn)
            patches, splits = [patches[row] for row in kept], [drawn[row] for row in kept]
            gone = len(drawn) - len(kept)
            record["method"] += f", by Sentinel-2 tile; left out within {MARGIN} km of a patch of a later split: {gone}"

            def image(patch: str, bands: tuple[str, ...]) -> NDArray[np.float32]:
                home = homes.get(patch, patch)
                return stacked([raster(archive, f"{home}/{patch}_{band}.tif", 1) for band in bands], self.size)

            readers = {
                self.rich: lambda patch: image(patch.optical, OPTICAL),
                self.poor: lambda patch: image(patch.radar, RADAR),
            }
            values, tiles = read_pairs(patches, readers), [patch.tile for patch in patches]
            ids, labels = [patch.radar for patch in patches], [patch.label for patch in patches]
            return self.write(
                destination,
                Listing(ids, labels, splits, record, values, tiles),
                [
                    Modality(self.rich, "image", (len(OPTICAL), self.size, self.size), "float32", nodata="nan"),
                    Modality(
                        self.poor, "image", (len(RADAR), self.size, self.size), "float32", nodata="nan", unit="dB"
                    ),
                ],
                classes=list(CLASSES),
                co_registered=True,
            )


class _LabeledPatch(NamedTuple):
    radar: str  # name of the Sentinel-1 patch
    optical: str  # name of the Sentinel-2 patch
    tile: str  # name of the Sentinel-2 tile
    label: int
    place: tuple[float, float, float]  # center of the patch, from `ground`


def _patches(archive: Archive) -> list[_LabeledPatch]:
    """Return the pairs whose labels belong to a single class."""
    found = []
    for name in archive.sizes:
        match = _RADAR_NAME.search(name)
        if match is None:
            continue
        with archive.decoding(name) as file:
            about = json.load(file)
            label, optical = first_level(about["labels"]), str(about["corresponding_s2_patch"])
            zone = int(re.search(r"UTM zone (\d+)N", about["projection"])[1])  # type: ignore[index]  # damage if None
            east, north = float(about["coordinates"]["ulx"]), float(about["coordinates"]["uly"])
        if label is not None:
            place = ground(zone, east + 600, north - 600)
            found.append(_LabeledPatch(match[1], optical, match[3], label, place))
    return found


def ground(zone: int, east: float, north: float) -> tuple[float, float, float]:
    """Convert UTM coordinates to a point on a sphere of the Earth's size, km, which is the same from any zone.

    The latitude on the sphere is the conformal latitude, so short distances are correct within 0.5 %.

    Args:
        zone: UTM zone, north of the equator.
        east: easting, m.
        north: northing, m.

    Source:
        Karney 2011, Transverse Mercator with an accuracy of a few nanometers (J. Geodesy 85), up to the second order.

    Example:
        >>> math.dist(ground(34, 705_771.2, 6_210_994.5), ground(35, 331_630.2, 6_209_369.5)) < 1e-4
        True
    """
    n = 0.0016792203863837  # third flattening of WGS 84
    scale = 0.9996 * 6_378_137.0 / (1 + n) * (1 + n**2 / 4)
    xi, eta = north / scale, (east - 500_000.0) / scale
    for order, weight in enumerate((n / 2 - 2 * n**2 / 3, n**2 / 48), 1):
        angle, height = 2 * order * north / scale, 2 * order * (east - 500_000.0) / scale
        xi -= weight * math.sin(angle) * math.cosh(height)
        eta -= weight * math.cos(angle) * math.sinh(height)
    longitude = math.radians(6 * zone - 183) + math.atan2(math.sinh(eta), math.cos(xi))
    up = math.sin(xi) / math.cosh(eta)
    level = EARTH * math.sqrt(1 - up**2)
    return level * math.cos(longitude), level * math.sin(longitude), EARTH * up


def apart(places: NDArray[np.float64], splits: list[str]) -> list[int]:
    """Return the rows of `places` ``(patches, 3)``, km, that have no patch of a later split within `MARGIN`.

    Example:
        >>> apart(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), ["train", "test", "test"])
        [1, 2]
    """
    from scipy.spatial import KDTree

    rank = np.array([SPLITS.index(split) for split in splits])
    kept = np.ones(len(rank), dtype=bool)
    for earlier in range(len(SPLITS) - 1):
        later, rows = places[rank > earlier], np.flatnonzero(rank == earlier)
        if len(later):
            kept[rows] = np.isinf(KDTree(later).query(places[rows], distance_upper_bound=MARGIN)[0])
    return np.flatnonzero(kept).tolist()


def first_level(names: list[str]) -> int | None:
    """Return the position in `CLASSES` that all of the land covers share, or None if they differ.

    Raises:
        KeyError: a name does not match exactly one class.

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
