"""EuroSAT in 13 bands beside its SAR twin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Source
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.rasters import raster
from cmkd.errors import CmkdError
from cmkd.types import Modality

OPTICAL_ADDRESS = "https://zenodo.org/records/7711810"
RADAR_ADDRESS = "https://huggingface.co/datasets/wangyi111/EuroSAT-SAR"
CLASSES = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)
SIDE, OPTICAL, RADAR = 64, 13, 2
FRACTIONS, SPLIT_SEED, CHUNK = (0.6, 0.2, 0.2), 0, 512
_NAME = re.compile(rf"(?:^|/)(({'|'.join(CLASSES)})_\d+)\.tif$")


class EuroSatSar(DataSet):
    """27,000 patches of 640 m over Europe in ten classes: Sentinel-2 (rich) and Sentinel-1 (poor).

    ``sentinel2`` is an image ``(13, 64, 64)`` as reflectance times 10,000, ``sentinel1`` an image ``(2, 64, 64)`` of VV
    and VH in dB. The files of the two publications have the same names, ``AnnualCrop/AnnualCrop_1.tif``; that is how
    they pair. The split is fixed and stratified, 60/20/20; there is no official one.

    Layout unverified against the real files: one folder for each, ``EuroSAT_MS`` (or any name) and one whose name
    contains ``SAR`` behind EuroSAT, ``S1`` or ``s1``, with a folder for each class; values of SAR taken to be in dB.

    Raises:
        CmkdError: a file is missing or damaged.
    """

    name = "eurosat_sar"
    title = "EuroSAT in 13 bands beside its Sentinel-1 twin, land use"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "MIT (EuroSAT); CC BY 4.0 (EuroSAT-SAR), as its page states"
    citation = """@article{helber2019eurosat, title={EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use
  and Land Cover Classification}, author={Helber, Patrick and Bischke, Benjamin and Dengel, Andreas and Borth, Damian},
  journal={IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing}, year={2019}}
@article{wang2024feature, title={Feature Guided Masked Autoencoder for Self-Supervised Learning in Remote Sensing},
  author={Wang, Yi and others}, journal={IEEE Journal of Selected Topics in Applied Earth Observations and Remote
  Sensing}, year={2024}, doi={10.1109/JSTARS.2024.3493237}}"""
    sources = (Source("EuroSAT_MS.zip", OPTICAL_ADDRESS), Source("EuroSAT-SAR.zip", RADAR_ADDRESS))
    mirror = True
    unsound = (
        "Patches of one region are in all splits: neighbors may resemble each other, so accuracies are higher than "
        "they would be in new regions."
    )

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack, in chunks.

        Args:
            source: a folder with both publications, unpacked.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged.
        """
        with Archive(self.source_folder(source), address=OPTICAL_ADDRESS) as archive:
            optical, radar = _files(archive)
            ids = sorted(optical.keys() & radar.keys(), key=lambda name: (name.split("_")[0], int(name.split("_")[1])))
            if not ids:
                raise CmkdError(
                    f"{source} holds no patch of both: get EuroSAT from {OPTICAL_ADDRESS} and its twin from "
                    f"{RADAR_ADDRESS}"
                )
            labels = [CLASSES.index(name.split("_")[0]) for name in ids]
            splits, record = assign_splits(labels, fractions=FRACTIONS, seed=SPLIT_SEED)
            modalities = [
                Modality(self.rich, "image", (OPTICAL, SIDE, SIDE), "uint16"),
                Modality(self.poor, "image", (RADAR, SIDE, SIDE), "float32"),
            ]
            with self.writer(
                destination,
                classes=CLASSES,
                modalities=modalities,
                split=record,
                co_registered=[(self.rich, self.poor)],
            ) as writer:
                for start in range(0, len(ids), CHUNK):
                    part = slice(start, start + CHUNK)
                    rich = np.stack([raster(archive, optical[name], OPTICAL) for name in ids[part]])
                    poor = np.stack([raster(archive, radar[name], RADAR) for name in ids[part]])
                    arrays: dict[str, NDArray[Any]] = {
                        self.rich: rich.astype(np.uint16),
                        self.poor: poor.astype(np.float32),
                    }
                    writer.add(ids[part], labels[part], splits[part], None, arrays)
        return Pack.open(destination)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write five made-up patches of each class in the publishers' layout, and return the folder."""
        import tifffile

        generator = np.random.default_rng(0)
        for label, name in enumerate(CLASSES):
            for home, bands in (("EuroSAT_MS", OPTICAL), ("EuroSAT-SAR", RADAR)):
                (folder / home / name).mkdir(parents=True)
                for number in range(1, 6):
                    values: NDArray[Any] = generator.normal(1000 + 100 * label, 50, (SIDE, SIDE, bands)).astype(
                        np.uint16
                    )
                    decibels = generator.normal(-10 - label, 2, (SIDE, SIDE, bands)).astype(np.float32)
                    path = folder / home / name / f"{name}_{number}.tif"
                    content = values if bands == OPTICAL else decibels
                    tifffile.imwrite(path, content, photometric="minisblack", planarconfig="contig")
        return folder


def _files(archive: Archive) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files of the optical and of the radar patches by their names."""
    optical: dict[str, str] = {}
    radar: dict[str, str] = {}
    for name in archive.sizes:
        match = _NAME.search(name)
        if match is not None:
            (radar if re.search(r"SAR/|[sS]1/", name.replace("EuroSAT/", "")) else optical)[match[1]] = name
    return optical, radar
