"""CIFAR-10 (Krizhevsky 2009): small photographs beside a degraded view of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.class_folders import class_folders
from cmkd.datasets.formats.fetch import packed_or_folder, published_files
from cmkd.datasets.formats.images import Images
from cmkd.datasets.formats.records import Records
from cmkd.datasets.transformed import TransformedImages


class CifarImages(TransformedImages):
    """A transformed data set in the binary layout of CIFAR, packed or not, or as JPEG files in one folder per class."""

    shape = (3, 32, 32)
    mirror = True
    license = "none stated by its publisher"
    citation = """@techreport{krizhevsky2009learning, title={Learning Multiple Layers of Features from Tiny Images},
  author={Krizhevsky, Alex}, institution={University of Toronto}, year={2009}}"""
    head: ClassVar[int]
    """Number of label bytes in a record; the last one is the class."""
    files: ClassVar[Mapping[str, Sequence[str]]]
    """Split -> names of its binary files."""

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Open the binary files if there are any, otherwise the JPEG files by class."""
        file = self.sources[0]
        with Archive(packed_or_folder(source, file.name), address=file.url) as archive:
            if any(name.endswith(".bin") for name in archive.sizes):
                yield [self._binary(archive, split) for split in self.files]
            else:
                yield [class_folders(archive, self.classes, self.shape, split=split) for split in self.files]

    def _binary(self, archive: Archive, split: str) -> Images:
        names = [archive.ending(file) for file in self.files[split]]
        records = Records(archive, names, self.head, self.shape)
        labels = records.labels(self.head - 1, len(self.classes))
        return Images(split, [f"{split}{number:05d}" for number in range(len(labels))], labels, records.read)


class Cifar10(CifarImages):
    """60,000 photographs of ten kinds of thing, 32 x 32 pixels, and a degraded view of each.

    Reads the official binary archive (``cifar-10-binary.tar.gz``, packed or not; tested on synthetic files only) and
    JPEG files in folders ``train/<class>`` and ``test/<class>``, zipped or not, as others distribute it. JPEG files
    have other pixels and names, so the validation split has other images; the card says which files were read. The
    official Python version is not supported, because it is a pickle.

    Splits: test is the published one; validation is a tenth of the published train images by a hash of their name.

    The default degradation, low_light of severity 0.7, lowers a random forest's validation accuracy from 0.30 to
    0.19 (``benchmarks/degradation_gap.py``).
    """

    name = "cifar10"
    title = "Photographs of ten kinds of thing, 32 x 32, beside a degraded view"
    default = ("low_light", 0.7)
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    head = 1
    files: ClassVar[Mapping[str, Sequence[str]]] = {
        "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
        "test": ["test_batch.bin"],
    }
    unsound = (
        "About 3 % of the test images have a near-duplicate in train that was edited or taken again (Barz and Denzler "
        "2020); they are left as published."
    )
    sources = published_files(
        "https://www.cs.toronto.edu/~kriz",
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    )
