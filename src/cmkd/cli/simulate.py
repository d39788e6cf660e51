"""`cmkd simulate`: simulated paired data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def simulate(
    name: Literal["marine"], *, pairs: int, out: Path, seed: int = 0, size: int = 64, gap: float = 0.5,
    workers: int | None = None,
) -> None:  # fmt: skip
    """Simulate paired optical and radar images as a pack, with a contact sheet and a card.

    An interrupted run continues; the bytes do not depend on the number of workers.

    Args:
        name: the simulator.
        pairs: number of pairs.
        out: folder of the pack; must not exist.
        seed: seed of vessels, scenes and splits.
        size: pixels along a side.
        gap: what the radar lacks, 0 to 1.
        workers: processes; by default as many as cores.

    Raises:
        CmkdError: a value is out of range, or `out` exists.
    """
    from cmkd.datasets.marine import Marine
    from cmkd.simulators.marine.packing import write_pack
    from cmkd.simulators.marine.simulate import Recipe

    recipe, info, console, start = Recipe(pairs, seed, size, gap), Marine.info(), Console(), time.perf_counter()
    if console.is_terminal:
        columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(name, total=pairs)
            write_pack(recipe, out, info, workers=workers, progress=lambda ready: bar.update(task, completed=ready))
    else:
        write_pack(
            recipe,
            out,
            Marine.info(),
            workers=workers,
            progress=lambda ready: print(f"{ready} of {pairs} pairs", flush=True),
        )
    elapsed = time.perf_counter() - start
    print(f"{pairs} pairs in {elapsed:.1f} s; pack {out}, contact sheet {out / 'contact_sheet.png'}")


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    from cmkd.cli.parsing import call

    call(simulate, arguments, prog="cmkd simulate")
