"""Measure time and memory of the first preparation of data sets, each in its own process with an empty cache.

    python benchmarks/speed/preparation.py digits mnist:DATA/mnist presto:DATA/presto

Memory is the peak of the process minus the peak of a process that imports the same modules and prepares nothing. It is
read from Linux's ``VmHWM``, because ``getrusage`` of a new process starts at the size of its parent. Writes
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

from cmkd.io import write_text
from cmkd.provenance import commit

RESULTS = Path(__file__).parents[1] / "results"
CHILD = """
import json, pathlib, re, sys, time
from cmkd.datasets import open_data
import pandas, pyarrow, sklearn.model_selection, torch

start, pairs = time.perf_counter(), 0
if sys.argv[1]:
    pairs = len(open_data(sys.argv[1]))
seconds = time.perf_counter() - start
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
print(json.dumps([pairs, seconds, peak]))
"""


def measure(reference: str) -> tuple[int, float, int]:
    """Return pairs, seconds and peak bytes of a process that prepares `reference`; an empty text prepares nothing."""
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
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="data sets, as in cmkd run --data")
    parser.add_argument("--out", type=Path, default=RESULTS / "preparation.md")
    given = parser.parse_args()
    _, _, idle = measure("")
    calls = [reference.partition(":")[0] for reference in given.data]
    rows = []
    for reference, call in zip(given.data, calls, strict=True):
        pairs, seconds, peak = measure(reference)
        speed, memory = f"{pairs / seconds:,.0f}", (peak - idle) / 2**20
        rows.append(f"| {call} | {pairs:,} | {seconds:.1f} | {speed} | {memory:.0f} |")
        print(rows[-1], flush=True)
    lines = [
        "# First preparation", "",
        f"`python benchmarks/speed/preparation.py {' '.join(calls)}`, each with the folder of its files "
        f"(`NAME:FOLDER`); commit {commit()}, {os.cpu_count()} CPU cores ({platform.machine()}), n = 1. Peak memory is "
        "that of the process minus that of one that imports the same modules and prepares nothing "
        f"({idle / 2**20:.0f} MiB). Load average at the end: {os.getloadavg()[0]:.1f}.", "",
        "| data set | pairs | seconds | pairs/s | additional peak memory, MiB |", "|---|---:|---:|---:|---:|", *rows,
    ]  # fmt: skip
    write_text(given.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
