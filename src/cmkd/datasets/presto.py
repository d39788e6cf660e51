"""Presto's pixel series: three months of Sentinel-2 and Sentinel-1 with land cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import published_files, verify_present
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/nasaharvest/presto/tree/13173d0/data/fuel_moisture"
CLASSES = {0: "water", 1: "trees", 2: "grass", 4: "crops", 5: "shrub and scrub", 6: "built", 7: "bare"}
"""Dynamic World code -> class; 3 (flooded vegetation) and 8 (snow and ice) are too rare."""
MONTHS, BANDS = 3, 18
RADAR, OPTICAL = [0, 1], [*range(2, 12), 17]
"""Columns of the array: VV, VH in dB; B2 to B8, B8A, B11, B12 as reflectance times 10,000, and NDVI."""
FLOOR_DB = -40.0
"""Backscatter that land and water exceed; the other values, down to -49.94, are fill values or swath borders."""
_FILES = {
    "s1_s2_era5_srtm.npy": "588e25049e68cb9c64572649518badab49ae418e130144c3b47a67797507da3e",
    "dynamic_world.npy": "c00df7de035980c570b3f3af30f98025c2c7349e37abe54864148d5819b8d677",
    "is_test.npy": "e6b98035b21df025b38ebe80c315592f4484250c2f044e8e782682dbba23182b",
    "site.npy": "7f7e8f73f2b2ccd4a84a5d5cd7213d6b63807616ca9750038125d94b62f25494",
}
"""File -> sha256."""


def filled(radar: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Fill missing months from the same series.

    Args:
        radar: backscatter ``(n, months, 2)`` in dB.

    Returns:
        ``(n, months, 3)``: the two values, which in a missing month are the mean of the measured months of its series,
        and 1 for a measured month or 0 for a filled one; and ``(n,)`` bool, whether any month was measured.

    Example:
        >>> values, measured = filled(np.array([[[-10.0, -16.0], [-49.9, -16.0], [-12.0, -18.0]]]))
        >>> values[0].tolist(), measured.tolist()
        ([[-10.0, -16.0, 1.0], [-11.0, -17.0, 0.0], [-12.0, -18.0, 1.0]], [True])
    """
    seen = np.all(radar > FLOOR_DB, axis=-1, keepdims=True)
    mean = (radar * seen).sum(1, keepdims=True) / seen.sum(1, keepdims=True).clip(1)
    values = np.concatenate([np.where(seen, radar, mean), seen], -1)
    return values.astype(np.float32), np.any(seen, axis=(1, 2))


class Presto(DataSet):
    """Pixel series of three months over 150 sites in the western United States, published with the Presto encoder.

    ``sentinel2`` is a series ``(3, 11)``: ten bands, reflectance times 10,000, and NDVI. ``sentinel1`` is a series
    ``(3, 3)``: VV and VH in dB, and 1 for a measured month. A month with a value of -40 dB or less counts as missing
    and is filled with the mean of the series' other months (`filled`). Climate, elevation and slope, which are also in
    the file, are left out: no sensor measured them, and they identify the site.

    The label is the Dynamic World class of at least two of the three months; series with three different classes and
    series of the rare classes (flooded vegetation, snow) are left out. Test is the publisher's split by site; no test
    series lies within 3 km of a series of another split. Validation is drawn from the other sites, whole sites at a
    time and stratified by class. The fuel moisture in ``target.npy`` is not used.

    Args:
        check: whether the files must have the published checksums.
    """

    name = "presto"
    title = "Pixel series of three months: Sentinel-2 reflectance beside Sentinel-1 backscatter, land cover by site"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "MIT, (c) 2024 Presto authors"
    citation = """@misc{tseng2023lightweight, title={Lightweight, Pre-trained Transformers for Remote Sensing
  Timeseries}, author={Tseng, Gabriel and Cartuyvels, Ruben and Zvonkov, Ivan and Purohit, Mirali and Rolnick, David
  and Kerner, Hannah}, year={2023}, eprint={2304.14065}, archivePrefix={arXiv}}"""
    sources = published_files("https://raw.githubusercontent.com/nasaharvest/presto/13173d0/data/fuel_moisture", _FILES)
    group = "a site"
    unsound = (
        "The labels come from a model that reads Sentinel-2, so they favor the rich view and are no ground truth. The "
        "pixels of a site resemble each other, so there are hardly more independent samples than sites."
    )

    def __init__(self, *, check: bool = True) -> None:
        self.check = check

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder ``fuel_moisture`` of the publisher's repository, or a zip of it."""
        place = self.source_folder(source)
        if self.check:
            verify_present(place, self.sources)
        series, months, test, sites = _read(place)
        counts = np.stack([(months == code).sum(1) for code in range(256)], 1)
        majority, agreed = counts.argmax(1), counts.max(1) >= 2
        radar, measured = filled(series[:, :, RADAR])
        codes = list(CLASSES)
        kept = np.flatnonzero(agreed & np.isin(majority, codes))
        labels = np.searchsorted(codes, majority[kept])
        groups = [str(site) for site in sites[kept]]
        given = ["test" if held else "" for held in test[kept]]
        splits, record = assign_splits(labels, groups, given, fractions=(0.75, 0.25, 0.25))
        record["method"] = f"test: the publisher's sites; {record['method']}"
        return self.write(
            destination,
            Listing(
                [f"series{row:04d}" for row in kept],
                labels,
                splits,
                record,
                [{self.rich: series[:, :, OPTICAL][kept].astype(np.float32), self.poor: radar[kept]}],
                groups,
                {self.poor: measured[kept]},
            ),
            [
                Modality(self.rich, "series", (MONTHS, len(OPTICAL)), "float32"),
                Modality(self.poor, "series", (MONTHS, len(RADAR) + 1), "float32"),
            ],
            classes=list(CLASSES.values()),
        )


def _read(source: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.str_]]:
    found = []
    with Archive(source, address=ADDRESS) as archive:
        for name in _FILES:
            with archive.decoding(archive.ending(name)) as content:
                found.append(np.load(content, allow_pickle=False))
    rows = len(found[0]) if found[0].ndim else 0
    shapes = [(rows, MONTHS, BANDS), (rows, MONTHS), (rows,), (rows,)]
    for name, array, shape in zip(_FILES, found, shapes, strict=True):
        if array.shape != shape:
            raise CmkdError(
                f"{name} in {source} has shape {array.shape}, expected {shape}: files of two releases? "
                f"Get all from {ADDRESS}"
            )
    series, months, test, sites = found
    if not np.isfinite(series).all():
        raise CmkdError(f"{next(iter(_FILES))} in {source} holds NaN or infinite values: get it again from {ADDRESS}")
    crossing = np.intersect1d(sites[test.astype(bool)], sites[~test.astype(bool)])
    if len(crossing):
        raise CmkdError(f"site '{crossing[0]}' in {source} is in train and in test: get the files from {ADDRESS}")
    return series, months, test.astype(bool), sites
