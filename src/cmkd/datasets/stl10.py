"""STL-10 (Coates, Lee and Ng 2011): photographs, some with a label, beside a degraded view of each."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.base import Source
from cmkd.datasets.cifar10 import add_member
from cmkd.datasets.degradations import Name
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import packed_or_folder
from cmkd.datasets.formats.records import Records
from cmkd.datasets.transformed import Images, TransformedImages, tiny_images
from cmkd.errors import CmkdError

ADDRESS = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"


class Stl10(TransformedImages):
    """13,000 labeled photographs of ten kinds of thing, 96 x 96 pixels, and a degraded view of each.

    Unverified: the binary version (``stl10_binary.tar.gz``, packed or not) was met in made-up files alone. Images are
    in ``train_X.bin`` and ``test_X.bin``, plane after plane and column after column; labels 1 to 10 in ``train_y.bin``
    and ``test_y.bin``. The 100,000 images without a label and the ten published folds are not read.

    Splits: the published test; validation is a tenth of the published train images by a hash of their number.

    Args:
        degradation: see `cmkd.datasets.degradations`.
        severity: of the degradation, 0 to 1. How much the default costs was not measured.
        seed: of its random numbers.
        train_pairs: keep so many train pairs, as many of each class; all unless given.
        check: whether the published file must have its checksum.
    """

    name = "stl10"
    mirror = True
    title = "Photographs of ten kinds of thing, 96 x 96, beside a degraded view"
    license = "none stated; the images come from ImageNet"
    citation = """@inproceedings{coates2011analysis, title={An Analysis of Single-Layer Networks in Unsupervised Feature
  Learning}, author={Coates, Adam and Lee, Honglak and Ng, Andrew Y.}, booktitle={AISTATS}, year={2011}}"""
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    shape = (3, 96, 96)
    unsound = "Only 5,000 images are published for training, which validation has a share of."
    sources = (Source("stl10_binary.tar.gz", ADDRESS, md5="91f7769df0f17e558f3565bffb0c7dfb"),)
    tiny: ClassVar[Mapping[str, object]] = {"check": False}

    def __init__(
        self,
        *,
        degradation: Name = "few_bits",
        severity: float = 0.8,
        seed: int = 0,
        train_pairs: int | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(degradation=degradation, severity=severity, seed=seed, train_pairs=train_pairs, check=check)

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Open the binary files."""
        with Archive(packed_or_folder(source, self.sources[0].name), address=ADDRESS) as archive:
            yield [self._part(archive, split) for split in ("train", "test")]

    def _part(self, archive: Archive, split: str) -> Images:
        channels, height, width = self.shape
        records = Records(archive, [archive.ending(f"{split}_X.bin")], 0, (channels, width, height))
        name = archive.ending(f"{split}_y.bin")
        labels = np.frombuffer(archive.read(name), np.uint8).astype(np.int64) - 1
        images = archive.sizes[records.names[0]]
        if len(labels) * records.bytes != images or not len(labels):
            raise CmkdError(
                f"{name} in {archive.place} holds {len(labels)} labels for {images / records.bytes:g} images: one is "
                f"truncated or swapped; get them again from {ADDRESS}"
            )
        if labels.min() < 0 or labels.max() > 9:
            raise CmkdError(f"{name} in {archive.place} holds labels other than 1 to 10: get it again from {ADDRESS}")

        def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
            yield from (np.ascontiguousarray(block.swapaxes(2, 3)) for block in records.read(rows))

        return Images(split, [f"{split}{number:04d}" for number in range(len(labels))], labels, read)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 60 train and 20 test images of made-up bars in the publisher's layout, and return the folder."""
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        with tarfile.open(folder / Stl10.sources[0].name, "w:gz", compresslevel=1) as archive:
            for split, count in (("train", 60), ("test", 20)):
                labels = np.arange(count, dtype=np.uint8) % 10
                images = tiny_images(generator, labels, Stl10.shape).swapaxes(2, 3)
                add_member(archive, f"stl10_binary/{split}_X.bin", images.tobytes())
                add_member(archive, f"stl10_binary/{split}_y.bin", (labels + 1).tobytes())
        return folder
