"""Seconds and memory of a first preparation: each data set in a process of its own, into a cache that is thrown away.

    python benchmarks/preparation.py digits mnist:DATA/mnist presto:DATA/presto

Memory is the peak of the process above that of one which imports the same and prepares nothing, as Linux tells it
(``VmHWM``: what ``getrusage`` tells of a new process begins at the size of the one that started it). Writes
``results/preparation.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from simple_baselines import placeless

from cmkd.experiment.runner import commit
from cmkd.io import write_bytes

RESULTS = Path(__file__).parent / "results"
CHILD = """
import json, pathlib, re, sys, time
from cmkd.datasets import open_data, DATASETS
import pandas, pyarrow, sklearn.model_selection, torch

DATASETS
start, pairs = time.perf_counter(), 0
if sys.argv[1]:
    pairs = len(open_data(sys.argv[1]))
seconds = time.perf_counter() - start
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
print(json.dumps([pairs, seconds, peak]))
"""


def measure(reference: str) -> tuple[int, float, int]:
    """Return pairs, seconds and peak bytes of a process that prepares `reference`, or nothing where it is empty."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, reference],
            env=os.environ | {"CMKD_CACHE": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    pairs, seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return pairs, seconds, peak


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="data sets, as in cmkd run --data")
    given = parser.parse_args()
    _, _, idle = measure("")
    references = [placeless(reference) for reference in given.data]
    rows = []
    for reference, shown in zip(given.data, references, strict=True):
        pairs, seconds, peak = measure(reference)
        speed, memory = f"{pairs / seconds:,.0f}", (peak - idle) / 2**20
        rows.append(f"| {shown.partition(':')[0]} | {pairs:,} | {seconds:.1f} | {speed} | {memory:.0f} |")
        print(rows[-1], flush=True)
    lines = [
        "# First preparation", "",
        f"`python benchmarks/preparation.py {' '.join(references)}`, where DATA is the folder of that set's files; "
        f"commit {commit()}, {os.cpu_count()} CPU cores ({platform.machine()}), n = 1. Peak memory is that of the "
        f"process above one which imports the same and prepares nothing ({idle / 2**20:.0f} MiB). Load average at the "
        f"end: {os.getloadavg()[0]:.1f}.", "",
        "| data set | pairs | seconds | pairs/s | peak memory, MiB above |", "|---|---:|---:|---:|---:|", *rows,
    ]  # fmt: skip
    write_bytes(RESULTS / "preparation.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
