"""TerraMind's example tiles: Sentinel-2 and Sentinel-1, cut into patches with land cover."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.rasters import floats, raster
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/IBM/terramind/tree/8090b5c/examples"
CLASSES = {1: "water", 2: "trees", 4: "crops", 5: "built area", 7: "snow and ice", 9: "rangeland"}
"""Codes of the land-cover maps that are kept; 3 (flooded vegetation) and 6 (bare ground) fill too few patches."""
FOLDERS = {"S2L2A": 12, "S1RTC": 2, "LULC": 1}
"""Folder of a layer -> number of its bands."""
SIDE, PATCH, BLOCK = 224, 8, 32
"""Height and width of a tile, a patch, and a block, which lies in one split, in pixels of 10 m."""
PURITY = 0.8
"""Minimum fraction of a patch's pixels that must have its class."""
FRACTIONS, SPLIT_SEED = (0.6, 0.2, 0.2), 0


class Terramind(DataSet):
    """Patches of 8 x 8 pixels (80 m) from five tiles worldwide: Sentinel-2 (rich), Sentinel-1 (poor).

    ``sentinel2`` is an image ``(12, 8, 8)``: the bands of level 2A, reflectance times 10,000. ``sentinel1`` is an image
    ``(2, 8, 8)``: VV and VH of the terrain-corrected product in dB, as published. Both lie on one grid of 10 m.

    A patch is kept if at least 80 % of its pixels have one class of the land-cover map. Splits are drawn by blocks of
    32 x 32 pixels, stratified by class. If patches of two splits touch, even at a corner, the patch of the earlier
    split is left out (train before validation before test), so that splits are at least one patch (80 m) apart.
    """

    name = "terramind"
    title = "Patches of five tiles: Sentinel-2 reflectance beside Sentinel-1 backscatter, land cover by block"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "Apache-2.0 (examples of IBM/terramind; contains modified Copernicus Sentinel data)"
    citation = """@misc{jakubik2025terramind, title={TerraMind: Large-Scale Generative Multimodality for Earth
  Observation}, author={Jakubik, Johannes and others}, year={2025}, eprint={2504.11171}, archivePrefix={arXiv}}"""
    sources = (PublishedFile("terramind-examples.zip", ADDRESS),)
    mirror = True
    group = f"a block of {BLOCK} x {BLOCK} pixels"
    unsound = (
        "Five tiles: all snow and ice lies in one, nearly all built area in another, and no class in all. So the tile "
        "tells much about the class, and accuracies say nothing about new places. The map was made from Sentinel-2, "
        "which favors the rich view. Neighboring blocks of a tile resemble each other beyond the margin of 80 m."
    )

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the publisher's folder ``examples``, or ``terramind-examples.zip`` or its folder."""
        with self.opened(source, packed=True) as archive:
            covers = {name: _majority(_layer(archive, "LULC", name)[0]) for name in _names(archive)}
            splits, record = _divide(covers)
            kept = [(name, int(y), int(x)) for name in covers for y, x in np.argwhere(splits[name] != "")]

            @lru_cache(2)  # the two layers of one tile
            def patches(layer: str, name: str) -> NDArray[np.float32]:
                return _patches(_layer(archive, layer, name))

            values = read_pairs(
                kept,
                {
                    self.rich: lambda place: patches("S2L2A", place[0])[place[1:]],
                    self.poor: lambda place: patches("S1RTC", place[0])[place[1:]],
                },
            )
            return self.write(
                destination,
                Listing(
                    [f"{name}-row{y:02d}-column{x:02d}" for name, y, x in kept],
                    np.searchsorted(list(CLASSES), [covers[name][y, x] for name, y, x in kept]),
                    [str(splits[name][y, x]) for name, y, x in kept],
                    record,
                    values,
                    [_block(*place) for place in kept],
                ),
                [
                    Modality(self.rich, "image", (FOLDERS["S2L2A"], PATCH, PATCH), "float32", nodata="nan"),
                    Modality(self.poor, "image", (FOLDERS["S1RTC"], PATCH, PATCH), "float32", nodata="nan", unit="dB"),
                ],
                classes=list(CLASSES.values()),
                co_registered=True,
            )


def _names(archive: Archive) -> list[str]:
    found = sorted(Path(name).stem for name in archive.sizes if name.endswith(".tif") and "LULC" in Path(name).parts)
    if not found:
        raise CmkdError(f"{archive.place} holds no tiles LULC/*.tif: get the files from {ADDRESS}")
    return found


def _layer(archive: Archive, layer: str, name: str) -> NDArray[Any]:
    """Return a layer of a tile, ``(bands, 224, 224)``."""
    file = archive.ending(f"{layer}/{name}.tif")
    values = raster(archive, file, FOLDERS[layer])
    if values.shape[1:] != (SIDE, SIDE):
        raise archive.error(file, f"has shape {values.shape}, expected {(FOLDERS[layer], SIDE, SIDE)}")
    return floats(values)


def _patches(layer: NDArray[Any]) -> NDArray[np.float32]:
    """Cut ``(bands, side, side)`` into ``(rows, columns, bands, 8, 8)``."""
    count = SIDE // PATCH
    cut = layer.reshape(-1, count, PATCH, count, PATCH).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(cut, dtype=np.float32)


def _majority(cover: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class code of each patch, ``(rows, columns)``, or 0 if no kept class fills enough of the patch."""
    pixels = _patches(cover[None]).reshape(SIDE // PATCH, SIDE // PATCH, -1)
    codes = np.zeros(pixels.shape[:2], dtype=np.int64)
    for code in CLASSES:
        codes[(pixels == code).mean(-1) >= PURITY] = code
    return codes


def _block(name: str, row: int, column: int) -> str:
    return f"{name}-block{row * PATCH // BLOCK}-{column * PATCH // BLOCK}"


def _divide(covers: dict[str, NDArray[np.int64]]) -> tuple[dict[str, NDArray[np.str_]], dict[str, Any]]:
    """Return tile -> split of each patch ``(rows, columns)``, empty if the patch is left out, and the record."""
    places = [(name, int(y), int(x)) for name, cover in covers.items() for y, x in np.argwhere(cover)]
    labels = [int(np.searchsorted(list(CLASSES), covers[name][y, x])) for name, y, x in places]
    drawn, record = assign_splits(labels, [_block(*place) for place in places], fractions=FRACTIONS, seed=SPLIT_SEED)
    splits = {name: np.full(cover.shape, "", dtype="<U10") for name, cover in covers.items()}
    for (name, y, x), split in zip(places, drawn, strict=True):
        splits[name][y, x] = split
    record["method"] += f": blocks of {BLOCK} x {BLOCK} pixels, {PATCH} pixels apart"
    return {name: _apart(split) for name, split in splits.items()}, record


def _apart(splits: NDArray[np.str_]) -> NDArray[np.str_]:
    """Leave out patches that touch a patch of a later split.

    Example:
        >>> _apart(np.array([["train", "train", "test"]])).tolist()
        [['train', '', 'test']]
    """
    rank = np.select([splits == name for name in SPLITS], [0, 1, 2], -1)
    padded = np.pad(rank, 1, constant_values=-1)
    height, width = rank.shape
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.where(np.max(around, axis=0) > rank, "", splits)
