"""Handwritten digits beside a degraded view of each: small, real, and shipped with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.degradations import check_severity, speckle
from cmkd.errors import CmkdError
from cmkd.options import Seed
from cmkd.types import Modality

LEVELS = 16.0
"""Highest gray level of the digits."""
SPLIT_SEED = 0


class Digits(DataSet):
    """1,797 scans of handwritten digits, 8 x 8 pixels, and a degraded view of each.

    The split is fixed: stratified 60/20/20, the same for every severity and seed, so results are comparable. The
    degraded view is blurred, then multiplied by speckle, and then noise is added
    (`cmkd.datasets.degradations.speckle`).

    Args:
        severity: severity of the degradation, 0 to 1. A severity of 0.5 lowers a random forest's validation accuracy
            from 0.98 to 0.79 (``benchmarks/simple_baselines.py``).
        seed: random seed of the speckle and noise.

    Raises:
        CmkdError: the severity is outside 0 to 1.
    """

    name = "digits"
    title = "Handwritten digits, 8 x 8, beside a blurred, speckled and noisy view (scikit-learn, offline)"
    rich = "optical"
    poor = "degraded"
    license = "CC BY 4.0 (UCI Machine Learning Repository)"
    citation = """@misc{alpaydin1998optical, author={Alpaydin, E. and Kaynak, C.},
  title={Optical Recognition of Handwritten Digits}, year={1998}, howpublished={UCI Machine Learning Repository},
  doi={10.24432/C50P49}}"""
    cropped = True
    revision = 3
    unsound = "scikit-learn's files do not say who wrote a digit, so a writer may be in two splits."

    def __init__(self, *, severity: float = 0.5, seed: Seed = 0) -> None:
        self.severity, self.seed = check_severity(severity), int(seed)

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack; `source` must be None."""
        from sklearn.datasets import load_digits

        if source is not None:
            raise CmkdError("digits ships with scikit-learn: leave the source out")
        images, labels = load_digits(return_X_y=True)
        images = images.reshape(-1, 8, 8)
        generator = np.random.default_rng(self.seed)
        poor = speckle(images, severity=self.severity, generator=generator, full_scale=LEVELS, outside="constant")
        splits = _fixed_split(labels)
        return self.write(
            destination,
            Listing(
                [f"digit{number:04d}" for number in range(len(labels))],
                labels,
                splits.tolist(),
                {"method": "stratified 60/20/20, fixed", "seed": SPLIT_SEED},
                [{"optical": images[:, None].astype(np.uint8), "degraded": poor[:, None]}],
            ),
            [Modality("optical", "image", (1, 8, 8), "uint8"), Modality("degraded", "image", (1, 8, 8), "float32")],
            classes=[str(digit) for digit in range(10)],
            co_registered=True,
            notes=f"degraded view: blur, speckle and noise of severity {self.severity}, seed {self.seed}.",
            sources=["https://archive.ics.uci.edu/dataset/80"],
        )


def _fixed_split(labels: NDArray[np.integer[Any]]) -> NDArray[np.str_]:
    from sklearn.model_selection import train_test_split

    everything = np.arange(len(labels))
    rest, test = train_test_split(everything, test_size=0.2, stratify=labels, random_state=SPLIT_SEED)
    _, validation = train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=SPLIT_SEED)
    splits = np.full(len(labels), "train", dtype="<U10")
    splits[validation], splits[test] = "validation", "test"
    return splits
