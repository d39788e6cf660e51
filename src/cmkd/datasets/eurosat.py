"""EuroSAT (Helber, Bischke, Dengel and Borth 2019): Sentinel-2 land use beside a degraded view of each image."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

from cmkd.datasets.base import Source
from cmkd.datasets.degradations import Name
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.class_folders import class_folders, tiny_jpeg
from cmkd.datasets.formats.fetch import packed_or_folder
from cmkd.datasets.transformed import Images, TransformedImages, tiny_images

ADDRESS = "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip"


class Eurosat(TransformedImages):
    """27,000 Sentinel-2 images of ten kinds of land use, 64 x 64 pixels of 10 m, and a degraded view of each.

    The publisher gives no split. This one is fixed: by a hash of the file's name 20 % are test and 10 % validation, the
    same images whatever part of the data set is there. Where an image was taken is not in the JPEG files: neighbors
    from one scene are in different splits, so scores are too high for a new region, for teacher and student alike.

    The default speckle has about six looks; the ground range products of Sentinel-1 have about four.

    Read are the published zip, a zip of some of its files, or the folder of either; any folder may lie above those of
    the classes.

    Args:
        degradation: see `cmkd.datasets.degradations`.
        severity: of the degradation, 0 to 1. At the default a random forest's validation accuracy falls from 0.61 to
            0.26 (``benchmarks/degradation_gap.py``).
        seed: of its random numbers.
        train_pairs: keep so many train pairs, as many of each class; all unless given.
        check: whether the published file must have its checksum.
    """

    name = "eurosat"
    mirror = True
    title = "Sentinel-2 land use in RGB, 64 x 64, beside a degraded view"
    license = "MIT"
    citation = """@article{helber2019eurosat, title={EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use
  and Land Cover Classification}, author={Helber, Patrick and Bischke, Benjamin and Dengel, Andreas and Borth, Damian},
  journal={IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing}, volume={12}, number={7},
  pages={2217--2226}, year={2019}}"""
    classes = (
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake",
    )  # fmt: skip
    shape = (3, 64, 64)
    unsound = (
        "Where an image was taken is not published: neighbors from one scene are in different splits, so scores are "
        "too high for a new region."
    )
    shares = (0.1, 0.2)
    sources = (Source("EuroSAT_RGB.zip", ADDRESS, md5="f46e308c4d50d4bf32fedad2d3d62f3b"),)
    tiny: ClassVar[Mapping[str, object]] = {"check": False}

    def __init__(
        self,
        *,
        degradation: Name = "speckle",
        severity: float = 0.3,
        seed: int = 0,
        train_pairs: int | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(degradation=degradation, severity=severity, seed=seed, train_pairs=train_pairs, check=check)

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Open the JPEG files by class."""
        with Archive(packed_or_folder(source, self.sources[0].name), address=ADDRESS) as archive:
            yield [class_folders(archive, self.classes, self.shape)]

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 20 made-up images a class in the publisher's layout, zipped, and return the folder."""
        folder.mkdir(parents=True)
        labels = np.repeat(np.arange(10), 20)
        images = tiny_images(np.random.default_rng(0), labels, Eurosat.shape)
        with zipfile.ZipFile(folder / Eurosat.sources[0].name, "w") as archive:
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                name = Eurosat.classes[label]
                archive.writestr(f"EuroSAT_RGB/{name}/{name}_{number % 20 + 1}.jpg", tiny_jpeg(image))
        return folder
