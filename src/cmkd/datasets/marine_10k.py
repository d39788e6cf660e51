"""The release of 10,000 simulated marine pairs."""

from __future__ import annotations

from cmkd.datasets.marine import Marine
from cmkd.simulators.marine.scene import VERSION


class MarineTenThousand(Marine):
    """The release of 10,000 pairs, 1,250 of each class: `marine` with seed 10, 64 x 64 pixels and gap 0.5.

    Args:
        pairs: number of pairs to keep, the first of the release.
    """

    name = "marine_10k"
    title = f"{Marine.title}: 10,000 pairs, simulator version {VERSION}"

    def __init__(self, *, pairs: int = 10_000) -> None:
        super().__init__(pairs=pairs, size=64, seed=10, gap=0.5)
