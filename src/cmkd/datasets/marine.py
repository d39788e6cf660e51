"""Simulated optical and radar chips of 8 kinds of marine target (`cmkd.simulators.marine`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmkd.data import Pack
from cmkd.datasets.base import DataSet
from cmkd.errors import CmkdError
from cmkd.options import plain
from cmkd.simulators.marine.describe import UNREAL
from cmkd.simulators.marine.packing import write_pack
from cmkd.simulators.marine.recipe import Recipe


class Marine(DataSet):
    """Simulated optical and radar chips of marine targets, ships and platforms.

    A mode defines the sensors: ``iw``, ``stripmap`` and ``spotlight`` from satellites, ``airborne``, ``coastal``, or
    your own YAML file. Both sensors see the same instant; their images are not co-registered pixel by pixel. The radar
    is calibrated sigma nought in dB. Splits are by vessel.

    Args:
        pairs: number of pairs; with the same seed, fewer pairs are the first of more pairs.
        size: height and width of the radar chip in pixels of the mode's spacing; by default the mode's size.
        seed: random seed of vessels, scenes and splits.
        gap: additional degradation of the radar, beyond its mode: 0 is none; 1 is three times as coarse, noisy,
            single-look, cluttered and defocused.
        mode: name of the sensors' mode, or path of a YAML file that describes the sensors.
        slc: keep the complex first look as a third modality.

    Raises:
        CmkdError: a value is out of range.
    """

    name = "marine"
    title = "Simulated optical and radar chips of 8 kinds of marine target, both from one 3-D scene"
    rich = "optical"
    poor = "radar"
    group = "a vessel"
    license = "Apache-2.0"
    citation = (
        "@misc{cmkd_marine, title={cmkd marine: simulated optical and radar pairs of marine targets}, "
        "note={Simulated by cmkd.simulators.marine; no measured data}}"
    )
    unsound = " ".join(UNREAL)
    mirror = True

    def __init__(
        self, *, pairs: int = 2000, size: int | None = None, seed: int = 0, gap: float = 0.0, mode: str = "iw",
        slc: bool = False,
    ) -> None:  # fmt: skip
        self.recipe = Recipe(pairs, seed, mode, size, gap, slc)
        self.revision = self.recipe.version

    def identity(self) -> dict[str, Any]:
        """Return the sensors, because a user's own file may describe them."""
        return {"sensors": plain(self.recipe.sensors)}

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Simulate the pack; `source` must be None."""
        if source is not None:
            raise CmkdError(f"{self.name} is simulated: leave the source out")
        return write_pack(self.recipe, Path(destination), self.info(), progress=self.progress)
