"""Measure the marine simulator: pairs/s, memory, and that its bytes do not depend on the number of workers.

    python benchmarks/speed/marine_speed.py --pairs 2000 --workers 1 2

Writes ``benchmarks/results/marine_speed.md``. Wall time is valid only on an otherwise idle machine. CPU time per pair
(parent and workers, including the start of the workers) hardly depends on other load.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

from cmkd.datasets.marine import Marine
from cmkd.io import write_text
from cmkd.processes import usable_cores
from cmkd.simulators.marine.packing import write_pack
from cmkd.simulators.marine.recipe import Recipe

RESULT = Path(__file__).parents[1] / "results" / "marine_speed.md"


def cpu_seconds() -> float:
    """Return the CPU time of this process and its finished children in seconds."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(s.ru_utime + s.ru_stime for s in spent)


def main() -> None:
    """Run the measurements and write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=2000)
    options.add_argument("--seed", type=int, default=10)
    options.add_argument("--mode", default="iw")
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options.add_argument("--out", type=Path, default=RESULT)
    given = options.parse_args()
    rows, digests = [], set[str]()
    for workers in given.workers:
        with tempfile.TemporaryDirectory() as folder:
            start, spent, load = time.perf_counter(), cpu_seconds(), os.getloadavg()[0]
            recipe = Recipe(given.pairs, given.seed, given.mode)
            pack = write_pack(recipe, Path(folder) / "pack", Marine.info(), workers=workers)
            wall, cpu = time.perf_counter() - start, cpu_seconds() - spent
            digest = f"optical.bin {pack.card.sha256['optical.bin']}, radar.bin {pack.card.sha256['radar.bin']}"
        digests.add(digest)
        # ru_maxrss is in KiB on Linux: the peak of the largest finished worker so far, and of this process
        memory = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        rows.append(
            f"| {workers} | {wall:.0f} | {given.pairs / wall:.1f} | {1000 * cpu / given.pairs:.1f} | "
            f"{memory[0]:.0f} | {memory[1]:.0f} | {load:.1f} |"
        )
        print(rows[-1], flush=True)
    same = "the same with every number of workers" if len(digests) == 1 else "DIFFERENT"
    lines = [
        "# Speed of the marine simulator", "",
        f"`python benchmarks/speed/marine_speed.py --pairs {given.pairs} --seed {given.seed} --mode {given.mode}`: "
        f"simulator version {recipe.version}; {usable_cores()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, n = 1 each. Load is the machine's average over the minute before: a load above "
        "0 means that other work shared the cores.", "",
        "| workers | wall s | pairs/s | CPU ms a pair | peak MiB, parent | peak MiB, a worker | load |",
        "|---|---|---|---|---|---|---|", *rows, "",
        *([f"Bytes: {same}.", ""] if len(rows) > 1 else []),
        *[f"- sha256 {d}" for d in sorted(digests)], "",
    ]  # fmt: skip
    write_text(given.out, "\n".join(lines))


if __name__ == "__main__":
    main()
