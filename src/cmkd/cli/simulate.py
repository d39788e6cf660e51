"""`cmkd simulate`: simulated paired data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cmkd.cli.parsing import call
from cmkd.options import Bounds, Count, Seed, Threads
from cmkd.progress import shown


def simulate(
    name: Literal["marine"], *, pairs: Count, out: Path, mode: str = "iw", seed: Seed = 0, size: Count | None = None,
    gap: Annotated[float, Bounds(least=0, most=1)] = 0.0, slc: bool = False,
    workers: Threads | None = None,
) -> None:  # fmt: skip
    """Simulate paired optical and radar images as a pack, with a contact sheet and a card.

    An interrupted run continues; the bytes do not depend on the number of workers.

    Args:
        name: the simulator.
        pairs: number of pairs.
        out: folder of the pack; must not exist.
        mode: what the sensors are: airborne, coastal, iw, spotlight, stripmap, or the path of a YAML file like theirs.
        seed: seed of vessels, scenes and splits.
        size: pixels along a side of the radar chip, at the mode's spacing; by default the mode's.
        gap: what the radar lacks beside its mode, 0 to 1.
        slc: keep the complex first look as a third modality.
        workers: processes; by default as many as cores.

    Raises:
        CmkdError: a value is out of range, or `out` exists.
    """
    from cmkd.datasets.marine import Marine
    from cmkd.simulators.marine.packing import write_pack
    from cmkd.simulators.marine.simulate import Recipe

    recipe, start = Recipe(pairs, seed, mode, size, gap, slc), time.perf_counter()
    with shown("simulating") as progress:
        write_pack(recipe, out, Marine.info(), workers=workers, progress=progress)
    elapsed = time.perf_counter() - start
    print(f"{pairs} pairs in {elapsed:.1f} s; pack {out}, contact sheet {out / 'contact_sheet.png'}")


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(simulate, arguments, prog="cmkd simulate")
