"""So2Sat LCZ42: Sentinel-2 and Sentinel-1 patches of cities with local climate zones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.formats.archive import damage
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.matlab import open_hdf5
from cmkd.datasets.formats.rasters import decibels
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://mediatum.ub.tum.de/1483140"
CLASSES = (
    *("compact high rise", "compact mid rise", "compact low rise", "open high rise", "open mid rise", "open low rise"),
    *("lightweight low rise", "large low rise", "sparsely built", "heavy industry", "dense trees", "scattered trees"),
    *("bush, scrub", "low plants", "bare rock or paved", "bare soil or sand", "water"),
)
SIDE, OPTICAL, RADAR = 32, 10, 8
FILES = {"train": "training.h5", "validation": "validation.h5", "test": "testing.h5"}
CHUNK = 1024


class So2Sat(DataSet):
    """Local climate zones of 52 cities: Sentinel-2 (rich) and Sentinel-1 (poor) patches of 32 x 32 pixels.

    ``sentinel2`` is an image ``(10, 32, 32)`` of reflectance; ``sentinel1`` is an image ``(5, 32, 32)`` in dB: VH and
    VV from the unfiltered complex signal, VH and VV after the publishers' refined Lee filter, and the magnitude of
    their covariance. The split is the publishers' second version: 42 cities for train, the western halves of ten others
    for validation, and the eastern halves of those ten for test.

    Layout (tested on synthetic files only): three HDF5 files with ``sen1`` ``(n, 32, 32, 8)`` (real and imaginary VH,
    real and imaginary VV, filtered VH and VV, real and imaginary covariance), ``sen2`` ``(n, 32, 32, 10)`` and
    ``label`` ``(n, 17)``, one-hot. The whole set has 400,673 patches, about 20 GB as a pack.
    """

    name = "so2sat"
    title = "So2Sat LCZ42: Sentinel-2 reflectance beside Sentinel-1 backscatter of cities, local climate zones"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "CC BY 4.0"
    citation = """@article{zhu2020so2sat, title={So2Sat LCZ42: A Benchmark Data Set for the Classification of Global
  Local Climate Zones}, author={Zhu, Xiao Xiang and others}, journal={IEEE Geoscience and Remote Sensing Magazine},
  volume={8}, number={3}, pages={76--89}, year={2020}, doi={10.1109/MGRS.2020.2964708}}"""
    sources = tuple(PublishedFile(name, ADDRESS) for name in FILES.values())
    mirror = True
    unsound = (
        "Validation and test are halves of the same ten cities, so what is chosen on validation fits test better than "
        "a new city. The files do not say which city a patch is from, so groups cannot be checked."
    )

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with the three files."""
        folder = self.source_folder(source)
        files = {split: folder / name for split, name in FILES.items()}
        labels = {split: _labels(path) for split, path in files.items()}
        values = (
            {self.rich: np.moveaxis(optical, 3, 1).astype(np.float32), self.poor: backscatter(radar)}
            for path in files.values()
            for optical, radar in _patches(path)
        )
        return self.write(
            destination,
            Listing(
                [f"{split}{row:06d}" for split in FILES for row in range(len(labels[split]))],
                np.concatenate(list(labels.values())),
                [split for split in FILES for _ in labels[split]],
                {"method": "the publishers': by city, validation and test by halves of cities"},
                values,
            ),
            [
                Modality(self.rich, "image", (OPTICAL, SIDE, SIDE), "float32"),
                Modality(self.poor, "image", (5, SIDE, SIDE), "float32", unit="dB"),
            ],
            classes=CLASSES,
            co_registered=True,
        )


def backscatter(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Convert the eight published channels ``(n, height, width, 8)`` to five channels in dB ``(n, 5, height, width)``.

    Example:
        >>> backscatter(np.full((1, 1, 1, 8), 0.1)).ravel().round(1).tolist()
        [-17.0, -17.0, -10.0, -10.0, -8.5]
    """
    v = np.moveaxis(np.asarray(values, dtype=np.float64), 3, 1)
    covariance = np.hypot(v[:, 6], v[:, 7])
    power = [v[:, 0] ** 2 + v[:, 1] ** 2, v[:, 2] ** 2 + v[:, 3] ** 2, v[:, 4], v[:, 5], covariance]
    return decibels(np.stack(power, 1))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file and check that its arrays have the expected shapes."""
    with damage(str(path), ADDRESS, (Exception,)), open_hdf5(path) as file:
        count = len(file["label"])
        shapes = {"label": (len(CLASSES),), "sen1": (SIDE, SIDE, RADAR), "sen2": (SIDE, SIDE, OPTICAL)}
        for key, shape in shapes.items():
            if file[key].shape != (count, *shape):
                raise CmkdError(
                    f"{key} in {path} has shape {file[key].shape}, expected {(count, *shape)}: get it from {ADDRESS}"
                )
        yield file


def _labels(path: Path) -> NDArray[np.int64]:
    with _opened(path) as file:
        return np.asarray(np.argmax(file["label"][:], axis=1), dtype=np.int64)


def _patches(path: Path) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield ``sen2`` and ``sen1`` in chunks."""
    with _opened(path) as file:
        for start in range(0, len(file["label"]), CHUNK):
            yield file["sen2"][start : start + CHUNK], file["sen1"][start : start + CHUNK]
