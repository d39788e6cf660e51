"""Measure time, memory and wrong pairs when 50,000 captures are paired with 45,000, each case in its own process.

    python benchmarks/speed/pairing.py

Instants follow each other at a fixed interval. Each sensor captures most of them, with the jitter of its clock, and
misses the others. Writes ``results/pairing.md`` and ``pairing.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.matching import Gate, match
from cmkd.data.pairing.times import Times
from timing import RESULTS, Section, child, clock, peak_memory, write

CASES = {
    "every 10 s, jitter 0.7 s, 5 s": (10.0, 0.7, (1.0, 0.9), Gate(5)),
    "the same, 10 s": (10.0, 0.7, (1.0, 0.9), Gate(10)),
    "both miss a fifth, 10 s": (10.0, 0.7, (0.8, 0.8), Gate(10)),
    "both miss a fifth, 15 s": (10.0, 0.7, (0.8, 0.8), Gate(15)),
    "jitter 2.5 s, none missed, 9 s": (10.0, 2.5, (1.0, 1.0), Gate(9)),
    "jitter 4 s, 12 s: one connected whole": (10.0, 4.0, (1.0, 0.9), Gate(12)),
    "every 0.5 s, 2,000 m, jitter 0.7 s, 5 s, 200 m": (0.5, 0.7, (1.0, 0.9), Gate(5, 200)),
    "the same, ships at 10 m/s": (0.5, 0.7, (1.0, 0.9), Gate(5, 200)),
}
"""Interval (s), jitter (s), fraction of the instants that each sensor captures, and tolerances of each case.

Positions are uniform in a square of 2,000 m.
"""


def lists(name: str, count: int) -> tuple[Captures, Captures, list[NDArray[np.int64]]]:
    """Return two lists of captures, the longer one with `count`, and the instants that they show."""
    interval, jitter, shares, gate = CASES[name]
    generator = np.random.default_rng(0)
    instants = interval * np.arange(round(count / max(shares)))
    start, course = generator.uniform(0, 2000, (len(instants), 2)), generator.uniform(0, 360, len(instants))
    moving = name.endswith("m/s")
    made, shown = [], []
    for sensor, share in zip(("optical", "radar"), shares, strict=True):
        kept = np.sort(generator.permutation(len(instants))[: round(share * len(instants))])
        late = generator.normal(0, jitter, len(kept))
        angle = np.radians(course[kept])
        step = 10 * late[:, None] * np.column_stack([np.sin(angle), np.cos(angle)]) if moving else 0.0
        ids, none = [str(k) for k in kept], [""] * len(kept)
        times = Times(instants[kept] + late, "own", False)
        motion = np.column_stack([course[kept], np.full(len(kept), 10.0)]) if moving else None
        place = start[kept] + step + generator.normal(0, 20, (len(kept), 2)) if gate.meters else None
        made.append(Captures(sensor, Path("list.csv"), ids, ids, times, place, False, none, none, motion))
        shown.append(kept)
    return made[0], made[1], shown


def measure(name: str, count: int) -> dict[str, object]:
    """Pair the captures of one case, and return its row of the table."""
    first, second, shown = lists(name, count)
    before, start = peak_memory(), clock()
    found = match(first, second, CASES[name][3])
    seconds = clock() - start
    wrong = shown[0][found.rows[:, 0]] != shown[1][found.rows[:, 1]]
    return {
        "captures": f"{len(first):,} and {len(second):,}",
        "CPU s": seconds,
        "additional peak memory, MiB": peak_memory() - before,
        "pairs": f"{len(wrong):,} of {len(np.intersect1d(shown[0], shown[1])):,}",
        "wrong, %": 100 * float(wrong.mean()),
        "ambiguous, %": 100 * float(found.ambiguous.mean()),
        "wrong of the others, %": 100 * float(wrong[~found.ambiguous].mean()),
    }


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--captures", type=int, default=50_000)
    parser.add_argument("--case", help="measure one case in this process and print it")
    parser.add_argument("--out", type=Path, default=RESULTS / "pairing.md")
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(given.case, given.captures)))
        return
    rows = []
    for name in CASES:
        rows.append({"case, tolerance": name, **child(__file__, "--case", name, "--captures", given.captures)})
        print(rows[-1], flush=True)
    text = "n = 1 per case, one thread, seed 0. Wrong pairs join captures of different instants."
    write(given.out, "Pairing", [Section(text, rows)])


if __name__ == "__main__":
    main()
