"""MNIST (LeCun, Bottou, Bengio and Haffner 1998): handwritten digits beside a degraded view of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.idx import Idx, read_idx
from cmkd.datasets.formats.images import BLOCK, Images, blocks
from cmkd.datasets.transformed import TransformedImages
from cmkd.errors import CmkdError

PARTS = {"train": "train", "test": "t10k"}
"""Split -> its name in file names."""


def idx_files(address: str, *checksums: str) -> tuple[PublishedFile, ...]:
    """Describe the four files of MNIST's layout below `address`, given the sha256 of each file packed and unpacked."""
    names = [f"{part}-{kind}-ubyte.gz" for part in PARTS.values() for kind in ("images-idx3", "labels-idx1")]
    pairs = zip(names, checksums[::2], checksums[1::2], strict=True)
    return tuple(PublishedFile(name, f"{address}/{name}", packed, unpacked=plain) for name, packed, plain in pairs)


def idx_part(folder: Path, part: str, *, address: str, classes: int = 10) -> tuple[Idx, NDArray[np.int64]]:
    """Open the images and read the labels of one part, ``train`` or ``t10k``, in MNIST's layout, packed or unpacked.

    Returns:
        Images ``(n, height, width)``, which are read in blocks, and labels ``(n,)``.

    Raises:
        CmkdError: a file is missing, damaged or swapped with another.
    """
    if not folder.is_dir():
        raise CmkdError(f"{folder} is not a folder with {part}-images-idx3-ubyte.gz: get the four files from {address}")
    packed = [folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    plain = [path.with_suffix("") for path in packed]
    image_file, label_file = (a if a.is_file() or not b.is_file() else b for a, b in zip(packed, plain, strict=True))
    images = Idx(image_file, axes=3, address=address)
    labels = read_idx(label_file, axes=1, address=address).astype(np.int64)
    if len(labels) != len(images):
        raise CmkdError(
            f"{label_file} holds {len(labels)} labels for the {len(images)} images of {image_file.name}: they are of "
            f"different parts; get them again from {address}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise CmkdError(
            f"{label_file} holds labels up to {labels.max()}, expected 0 to {classes - 1}: get it from {address}"
        )
    return images, labels


class IdxImages(TransformedImages):
    """A transformed data set in the layout of MNIST."""

    shape = (1, 28, 28)
    cropped = True
    revision = 2

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Open the four files."""
        parts = []
        for split, part in PARTS.items():
            images, labels = idx_part(source, part, address=self.sources[0].url.rpartition("/")[0])

            def read(rows: NDArray[np.int64], images: Idx = images) -> Iterator[NDArray[np.uint8]]:
                yield from (block[:, None] for block in blocks(images.blocks(BLOCK), rows))

            parts.append(Images(split, [f"{split}{number:05d}" for number in range(len(labels))], labels, read))
        yield parts


class Mnist(IdxImages):
    """70,000 handwritten digits, 28 x 28 pixels, and a degraded view of each.

    Splits: test is the published one; validation is a tenth of the published train images by a hash of their number.
    Writers of the published train and test images differ; validation shares writers with train.

    The default degradation, speckle of severity 0.5, lowers a random forest's validation accuracy from 0.92 to
    0.68 (``benchmarks/degradation_gap.py``).
    """

    name = "mnist"
    title = "Handwritten digits, 28 x 28, beside a degraded view"
    license = "CC BY-SA 3.0"
    citation = """@article{lecun1998gradient, title={Gradient-Based Learning Applied to Document Recognition},
  author={LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE}, volume={86}, number={11}, pages={2278--2324}, year={1998}}"""
    unsound = "Validation shares writers with train: the files do not name the writers."
    default = ("speckle", 0.5)
    classes = tuple(str(digit) for digit in range(10))
    sources = idx_files(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )
