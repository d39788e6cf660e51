"""SVHN, cropped (Netzer et al. 2011): digits of house numbers beside a degraded view of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import damage
from cmkd.datasets.formats.fetch import PublishedFile, find, published_files
from cmkd.datasets.formats.images import BLOCK, Images
from cmkd.datasets.formats.matlab import read_mat
from cmkd.datasets.transformed import TransformedImages
from cmkd.errors import CmkdError


class Svhn(TransformedImages):
    """99,289 digits cropped from photographs of house numbers, 32 x 32 pixels, and a degraded view of each.

    Reads ``train_32x32.mat`` and ``test_32x32.mat`` (tested on synthetic files only): MATLAB files of
    ``X (32, 32, 3, n)`` and ``y (n, 1)``, where 10 stands for the digit 0. A whole file is held in memory (184 MB).
    ``extra_32x32.mat`` is not read.

    Splits: test is the published one; validation is a tenth of the published train images by a hash of their number.

    The default degradation is blur of severity 0.6; its effect was not measured.
    """

    name = "svhn"
    title = "Digits of house numbers, 32 x 32, beside a degraded view"
    license = "for non-commercial use only, as its publisher states"
    citation = """@inproceedings{netzer2011reading, title={Reading Digits in Natural Images with Unsupervised Feature
  Learning}, author={Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, Andrew
  Y.}, booktitle={NIPS Workshop on Deep Learning and Unsupervised Feature Learning}, year={2011}}"""
    default = ("blur", 0.6)
    classes = tuple(str(digit) for digit in range(10))
    shape = (3, 32, 32)
    unsound = "Digits of one house number may be in train and in validation. The crops show parts of other digits."
    sources = published_files(
        "http://ufldl.stanford.edu/housenumbers",
        {
            "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        },
    )

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Read the two files."""
        folder = source.parent if source.is_file() else source
        parts = []
        for split, file in zip(("train", "test"), self.sources, strict=True):
            images, labels = _read(find(folder, file), file)

            def read(rows: NDArray[np.int64], images: NDArray[np.uint8] = images) -> Iterator[NDArray[np.uint8]]:
                for start in range(0, len(rows), BLOCK):
                    picked = images[..., rows[start : start + BLOCK]]
                    yield np.ascontiguousarray(picked.transpose(3, 2, 0, 1))

            parts.append(Images(split, [f"{split}{number:05d}" for number in range(len(labels))], labels, read))
        yield parts


def _read(path: Path, source: PublishedFile) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images ``(32, 32, 3, n)`` and the labels ``(n,)``."""
    with damage(str(path), source.url, (Exception,)):
        images, labels = read_mat(path, "X", "y")
        labels = labels.ravel().astype(np.int64)
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)) or not len(labels):
        raise CmkdError(
            f"{path} holds images {images.shape} {images.dtype} and {len(labels)} labels, expected (32, 32, 3, n) "
            f"uint8 and n: get it from {source.url}"
        )
    if labels.min() < 1 or labels.max() > 10:
        raise CmkdError(
            f"{path} holds labels {labels.min()} to {labels.max()}, expected 1 to 10: get it from {source.url}"
        )
    return images, labels % 10
