"""The release of simulated marine pairs: 6,000 scenes, each in two modes."""

from __future__ import annotations

from typing import Annotated, Literal

from cmkd.datasets.marine import Marine
from cmkd.options import Bounds


class MarineTenThousand(Marine):
    """The release of 6,000 scenes, 750 of each class, each seen in two modes, from `marine` with seed 10.

    Pair k shows the same vessel, motion, sea and light in both modes, from the same direction. The incidence, the range
    and the noise come from the same draws, within each mode's limits. So the two modes together hold 6,000 scenes, not
    12,000.

    Args:
        mode: ``iw``, a C-band wide swath of 20 x 22 m, or ``stripmap``, an X-band stripmap of 3 m.
        pairs: number of pairs to keep, the first of the release.
    """

    name = "marine_10k"
    title = f"{Marine.title}: a release of 6,000 scenes in two modes"

    def __init__(
        self, *, mode: Literal["iw", "stripmap"] = "iw", pairs: Annotated[int, Bounds(least=1, most=6000)] = 6000
    ) -> None:
        super().__init__(pairs=pairs, seed=10, mode=mode)
