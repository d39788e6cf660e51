"""STL-10 (Coates, Lee and Ng 2011): labeled photographs beside a degraded view of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile, packed_or_folder
from cmkd.datasets.formats.images import Images
from cmkd.datasets.formats.records import Records
from cmkd.datasets.transformed import TransformedImages

ADDRESS = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"


class Stl10(TransformedImages):
    """13,000 labeled photographs of ten kinds of thing, 96 x 96 pixels, and a degraded view of each.

    Reads the official binary archive (``stl10_binary.tar.gz``, packed or not; tested on synthetic files only). Images
    are in ``train_X.bin`` and ``test_X.bin``, plane by plane and column by column; labels 1 to 10 are in
    ``train_y.bin`` and ``test_y.bin``. The 100,000 images without a label and the ten published folds are not read.

    Splits: test is the published one; validation is a tenth of the published train images by a hash of their number.

    The default degradation is few_bits of severity 0.8; its effect was not measured.
    """

    name = "stl10"
    mirror = True
    title = "Photographs of ten kinds of thing, 96 x 96, beside a degraded view"
    license = "none stated; the images come from ImageNet"
    citation = """@inproceedings{coates2011analysis, title={An Analysis of Single-Layer Networks in Unsupervised Feature
  Learning}, author={Coates, Adam and Lee, Honglak and Ng, Andrew Y.}, booktitle={AISTATS}, year={2011}}"""
    default = ("few_bits", 0.8)
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    shape = (3, 96, 96)
    unsound = "Only 5,000 images are published for training, and validation takes a tenth of them."
    sources = (PublishedFile("stl10_binary.tar.gz", ADDRESS, md5="91f7769df0f17e558f3565bffb0c7dfb"),)

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
            counts = f"{len(labels)} labels for {images / records.bytes:g} images"
            raise archive.error(name, f"holds {counts}; one is truncated or swapped")
        if labels.min() < 0 or labels.max() > 9:
            raise archive.error(name, "holds labels other than 1 to 10")

        def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
            yield from (np.ascontiguousarray(block.swapaxes(2, 3)) for block in records.read(rows))

        return Images(split, [f"{split}{number:04d}" for number in range(len(labels))], labels, read)
