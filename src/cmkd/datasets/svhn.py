"""SVHN, cropped (Netzer et al. 2011): digits of house numbers beside a degraded view of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.base import Source
from cmkd.datasets.degradations import Name
from cmkd.datasets.formats.fetch import find
from cmkd.datasets.transformed import BLOCK, Images, TransformedImages, tiny_images
from cmkd.errors import CmkdError

ADDRESS = "http://ufldl.stanford.edu/housenumbers"


class Svhn(TransformedImages):
    """99,289 digits cropped from photographs of house numbers, 32 x 32 pixels, and a degraded view of each.

    Unverified: the files ``train_32x32.mat`` and ``test_32x32.mat`` were met as made-up ones alone. They are MATLAB
    files of ``X (32, 32, 3, n)`` and ``y (n, 1)``, where 10 stands for the digit 0; a file is held in memory whole (184
    MB), as its format asks for. ``extra_32x32.mat`` is not read.

    Splits: the published test; validation is a tenth of the published train images by a hash of their number. Digits of
    one house number may be in train and in validation: the cropped files do not say which belong together.

    Args:
        degradation: see `cmkd.datasets.degradations`.
        severity: of the degradation, 0 to 1. How much the default costs was not measured.
        seed: of its random numbers.
        train_pairs: keep so many train pairs, as many of each class; all unless given.
        check: whether files must have the published checksums.
    """

    name = "svhn"
    title = "Digits of house numbers, 32 x 32, beside a degraded view"
    license = "for non-commercial use only, as its publisher states"
    citation = """@inproceedings{netzer2011reading, title={Reading Digits in Natural Images with Unsupervised Feature
  Learning}, author={Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, Andrew
  Y.}, booktitle={NIPS Workshop on Deep Learning and Unsupervised Feature Learning}, year={2011}}"""
    classes = tuple(str(digit) for digit in range(10))
    shape = (3, 32, 32)
    unsound = "Digits of one house number may be in train and in validation; the crops show parts of their neighbors."
    sources = (
        Source(
            "train_32x32.mat",
            f"{ADDRESS}/train_32x32.mat",
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        Source(
            "test_32x32.mat",
            f"{ADDRESS}/test_32x32.mat",
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
    )
    tiny: ClassVar[Mapping[str, object]] = {"check": False}

    def __init__(
        self,
        *,
        degradation: Name = "blur",
        severity: float = 0.6,
        seed: int = 0,
        train_pairs: int | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(degradation=degradation, severity=severity, seed=seed, train_pairs=train_pairs, check=check)

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

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 200 train and 50 test images of made-up bars in the publisher's layout, and return the folder."""
        from scipy.io import savemat

        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        for file, count in zip(Svhn.sources, (200, 50), strict=True):
            labels = (np.arange(count) % 10).astype(np.uint8)
            images = tiny_images(generator, labels, Svhn.shape).transpose(2, 3, 1, 0)
            savemat(folder / file.name, {"X": images, "y": np.where(labels == 0, 10, labels)[:, None]})
        return folder


def _read(path: Path, source: Source) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return ``(32, 32, 3, n)`` and ``(n,)``."""
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"].ravel().astype(np.int64)
    except Exception as error:  # scipy raises nearly anything, its own MatReadError and zlib's among it
        raise CmkdError(f"{path} is truncated or damaged: get it again from {source.url}") from error
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
