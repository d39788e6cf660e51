"""So2Sat LCZ42: Sentinel-2 beside Sentinel-1 patches of cities, with local climate zones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Source
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

    ``sentinel2`` is an image ``(10, 32, 32)`` of reflectance; ``sentinel1`` an image ``(5, 32, 32)`` in dB: VH and VV
    from the unfiltered complex signal, VH and VV after the publishers' refined Lee filter, and the magnitude of their
    covariance. The split is the publishers' second version: 42 cities train, the western halves of ten others validate,
    the eastern halves of those ten test.

    Layout unverified against the real files: three HDF5 files with ``sen1`` ``(n, 32, 32, 8)`` (real and imaginary VH,
    real and imaginary VV, filtered VH and VV, real and imaginary covariance), ``sen2`` ``(n, 32, 32, 10)`` and
    ``label`` ``(n, 17)``, one-hot. The whole set has 400,673 patches, some 20 GB as a pack.

    Raises:
        CmkdError: a file is missing or damaged.
    """

    name = "so2sat"
    title = "So2Sat LCZ42: Sentinel-2 reflectance beside Sentinel-1 backscatter of cities, local climate zones"
    rich = "sentinel2"
    poor = "sentinel1"
    license = "CC BY 4.0"
    citation = """@article{zhu2020so2sat, title={So2Sat LCZ42: A Benchmark Data Set for the Classification of Global
  Local Climate Zones}, author={Zhu, Xiao Xiang and others}, journal={IEEE Geoscience and Remote Sensing Magazine},
  volume={8}, number={3}, pages={76--89}, year={2020}, doi={10.1109/MGRS.2020.2964708}}"""
    sources = tuple(Source(name, ADDRESS) for name in FILES.values())
    mirror = True
    unsound = (
        "Validation and test are halves of the same ten cities, so what is chosen on validation fits test better than "
        "it would another city; which city a patch is from is not in the files, so groups cannot be checked."
    )

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack, in chunks.

        Args:
            source: the folder with the three files.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged.
        """
        folder = self.source_folder(source)
        modalities = [
            Modality(self.rich, "image", (OPTICAL, SIDE, SIDE), "float32"),
            Modality(self.poor, "image", (5, SIDE, SIDE), "float32"),
        ]
        counts = dict.fromkeys(FILES, 0)
        with self.writer(
            destination,
            classes=CLASSES,
            modalities=modalities,
            split={"method": "the publishers': by city, validation and test by halves of cities", "counts": counts},
            co_registered=[(self.rich, self.poor)],
        ) as writer:
            for split, name in FILES.items():
                for labels, optical, radar in _chunks(folder / name):
                    first = counts[split]
                    counts[split] += len(labels)
                    ids = [f"{split}{row:06d}" for row in range(first, counts[split])]
                    writer.add(
                        ids,
                        labels,
                        [split] * len(ids),
                        None,
                        {self.rich: np.moveaxis(optical, 3, 1).astype(np.float32), self.poor: backscatter(radar)},
                    )
        return Pack.open(destination)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 34 made-up patches for each split in the publishers' layout, and return the folder."""
        import h5py

        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        labels = np.arange(34) % 17
        for name in FILES.values():
            with h5py.File(folder / name, "w") as file:
                level = 1 + labels[:, None, None, None] / 17
                file["sen1"] = generator.normal(0, 0.1, (34, SIDE, SIDE, RADAR)) * level
                file["sen2"] = generator.uniform(0, 0.1, (34, SIDE, SIDE, OPTICAL)) * level
                file["label"] = np.eye(17)[labels]
        return folder


def backscatter(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Bring the eight published channels ``(n, height, width, 8)`` to five in dB, ``(n, 5, height, width)``.

    Example:
        >>> backscatter(np.full((1, 1, 1, 8), 0.1)).ravel().round(1).tolist()
        [-17.0, -17.0, -10.0, -10.0, -8.5]
    """
    v = np.moveaxis(np.asarray(values, dtype=np.float64), 3, 1)
    covariance = np.hypot(v[:, 6], v[:, 7])
    power = [v[:, 0] ** 2 + v[:, 1] ** 2, v[:, 2] ** 2 + v[:, 3] ** 2, v[:, 4], v[:, 5], covariance]
    return decibels(np.stack(power, 1))


def _chunks(path: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
    """Yield labels, ``sen2`` and ``sen1`` of a file."""
    import h5py

    if not path.is_file():
        raise CmkdError(f"{path} does not exist: get it from {ADDRESS}")
    try:
        with h5py.File(path, "r") as file:
            count = len(file["label"])
            shapes = {"label": (count, len(CLASSES)), "sen1": (count, SIDE, SIDE, RADAR)}
            shapes["sen2"] = (count, SIDE, SIDE, OPTICAL)
            for key, shape in shapes.items():
                if file[key].shape != shape:
                    raise CmkdError(
                        f"{key} in {path} has shape {file[key].shape}, expected {shape}: get it from {ADDRESS}"
                    )
            for start in range(0, count, CHUNK):
                part = slice(start, start + CHUNK)
                yield np.argmax(file["label"][part], axis=1).astype(np.int64), file["sen2"][part], file["sen1"][part]
    except CmkdError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise CmkdError(f"{path} is truncated or damaged: get it again from {ADDRESS}") from error
