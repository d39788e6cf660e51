"""EuroSAT (Helber, Bischke, Dengel and Borth 2019): Sentinel-2 land use beside a degraded view of each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.class_folders import class_folders
from cmkd.datasets.formats.fetch import PublishedFile, packed_or_folder
from cmkd.datasets.formats.images import Images
from cmkd.datasets.transformed import TransformedImages

ADDRESS = "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip"


class Eurosat(TransformedImages):
    """27,000 Sentinel-2 images of ten kinds of land use, 64 x 64 pixels of 10 m, and a degraded view of each.

    The publisher gives no split. By a hash of the file's name, 20 % of the images are test and 10 % validation, so an
    image has the same split in any part of the data set.

    Reads the published zip, a zip of some of its files, or the folder of either; the class folders may lie below any
    other folder.

    The default degradation, speckle of severity 0.3, lowers a random forest's validation accuracy from 0.61 to
    0.26 (``benchmarks/degradation_gap.py``). This speckle has about six looks; the ground range products of Sentinel-1
    have about four.
    """

    name = "eurosat"
    mirror = True
    title = "Sentinel-2 land use in RGB, 64 x 64, beside a degraded view"
    license = "MIT"
    citation = """@article{helber2019eurosat, title={EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use
  and Land Cover Classification}, author={Helber, Patrick and Bischke, Benjamin and Dengel, Andreas and Borth, Damian},
  journal={IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing}, volume={12}, number={7},
  pages={2217--2226}, year={2019}}"""
    default = ("speckle", 0.3)
    classes = (
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake",
    )  # fmt: skip
    shape = (3, 64, 64)
    unsound = (
        "The location of an image is not published: neighbors from one scene are in different splits, so accuracies "
        "are higher than in a new region, for teacher and student alike."
    )
    shares = (0.1, 0.2)
    sources = (PublishedFile("EuroSAT_RGB.zip", ADDRESS, md5="f46e308c4d50d4bf32fedad2d3d62f3b"),)

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Open the JPEG files by class."""
        with Archive(packed_or_folder(source, self.sources[0].name), address=ADDRESS) as archive:
            yield [class_folders(archive, self.classes, self.shape)]
