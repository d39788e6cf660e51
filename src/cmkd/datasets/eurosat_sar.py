"""EuroSAT in 13 bands beside its Sentinel-1 twin."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.eurosat import Eurosat
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.rasters import floats, raster
from cmkd.errors import CmkdError
from cmkd.types import Modality

OPTICAL_ADDRESS = "https://zenodo.org/records/7711810"
RADAR_ADDRESS = "https://huggingface.co/datasets/wangyi111/EuroSAT-SAR"
CLASSES = Eurosat.classes
SIDE, OPTICAL, RADAR = 64, 13, 2
FRACTIONS, SPLIT_SEED = (0.6, 0.2, 0.2), 0
_NAME = re.compile(rf"(?:^|/)(({'|'.join(CLASSES)})_\d+)\.tif$")


class EuroSatSar(DataSet):
    """27,000 patches of 640 m over Europe in ten classes: Sentinel-2 (rich) and Sentinel-1 (poor).

    ``sentinel2`` is an image ``(13, 64, 64)``, reflectance times 10,000; ``sentinel1`` is an image ``(2, 64, 64)`` of
    VV and VH in dB. Files of the same name in the two publications, such as ``AnnualCrop/AnnualCrop_1.tif``, are a
    pair. The split is fixed and stratified, 60/20/20; there is no official one.

    Layout (tested on synthetic files only): a folder for each publication, with a folder for each class; the radar
    folder's name ends with ``SAR``, ``S1`` or ``s1``. Radar values are assumed to be in dB.
    """

    name = "eurosat_sar"
    title = "EuroSAT in 13 bands beside its Sentinel-1 twin, land use"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "MIT (EuroSAT); CC BY 4.0 (EuroSAT-SAR), as its page states"
    citation = f"""{Eurosat.citation}
@article{{wang2024feature, title={{Feature Guided Masked Autoencoder for Self-Supervised Learning in Remote Sensing}},
  author={{Wang, Yi and others}}, journal={{IEEE Journal of Selected Topics in Applied Earth Observations and Remote
  Sensing}}, year={{2024}}, doi={{10.1109/JSTARS.2024.3493237}}}}"""
    sources = (PublishedFile("EuroSAT_MS.zip", OPTICAL_ADDRESS), PublishedFile("EuroSAT-SAR.zip", RADAR_ADDRESS))
    mirror = True
    unsound = (
        "Patches of one region are in all splits, and neighbors resemble each other, so accuracies are higher than in "
        "new regions."
    )

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from a folder with both publications, unpacked."""
        with self.opened(source) as archive:
            optical, radar = _files(archive)
            ids = sorted(optical.keys() & radar.keys(), key=lambda name: (name.split("_")[0], int(name.split("_")[1])))
            if not ids:
                raise CmkdError(
                    f"{source} holds no patch of both sensors: get EuroSAT from {OPTICAL_ADDRESS} and EuroSAT-SAR from "
                    f"{RADAR_ADDRESS}"
                )
            labels = [CLASSES.index(name.split("_")[0]) for name in ids]
            splits, record = assign_splits(labels, fractions=FRACTIONS, seed=SPLIT_SEED)
            values = read_pairs(
                ids,
                {
                    self.rich: lambda name: np.ma.filled(raster(archive, optical[name], OPTICAL).astype(np.uint16), 0),
                    self.poor: lambda name: floats(raster(archive, radar[name], RADAR)),
                },
            )
            return self.write(
                destination,
                Listing(ids, labels, splits, record, values),
                [
                    Modality(self.rich, "image", (OPTICAL, SIDE, SIDE), "uint16", nodata=0),
                    Modality(self.poor, "image", (RADAR, SIDE, SIDE), "float32", nodata="nan", unit="dB"),
                ],
                classes=CLASSES,
                co_registered=True,
            )


def _files(archive: Archive) -> tuple[dict[str, str], dict[str, str]]:
    """Return patch name -> file, for the optical and for the radar patches."""
    optical: dict[str, str] = {}
    radar: dict[str, str] = {}
    for name in archive.sizes:
        match = _NAME.search(name)
        if match is not None:
            (radar if re.search(r"SAR/|[sS]1/", name.replace("EuroSAT/", "")) else optical)[match[1]] = name
    return optical, radar
