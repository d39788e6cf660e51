"""The release of simulated marine pairs: 12,000 in two modes."""

from __future__ import annotations

from typing import Annotated, Literal

from cmkd.datasets.marine import Marine
from cmkd.options import Bounds
from cmkd.simulators.marine.scene import VERSION


class MarineTenThousand(Marine):
    """The release of 12,000 pairs: 6,000 in each of two modes, 750 of each class, from `marine` with seed 10.

    The vessels of the two modes are the same ones, in other scenes.

    Args:
        mode: ``iw``, a C-band wide swath of 20 x 22 m, or ``stripmap``, an X-band stripmap of 3 m.
        pairs: number of pairs to keep, the first of the release.
    """

    name = "marine_10k"
    title = f"{Marine.title}: a release of 12,000 pairs in two modes, simulator version {VERSION}"

    def __init__(
        self, *, mode: Literal["iw", "stripmap"] = "iw", pairs: Annotated[int, Bounds(least=1, most=6000)] = 6000
    ) -> None:
        super().__init__(pairs=pairs, seed=10, mode=mode)
