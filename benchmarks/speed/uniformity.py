"""Measure time and memory of the blockwise uniformity loss and of two forms that hold every pair of points.

python benchmarks/speed/uniformity.py
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.io import write_text
from cmkd.pairwise import log_mean_gaussian
from cmkd.provenance import commit

RESULT = Path(__file__).parents[1] / "results" / "uniformity.md"
DIM = 64


def pdist_form(x: Tensor) -> Tensor:
    """Compute the loss as the paper's listing does, from all pairwise distances."""
    return F.pdist(x).square().mul(-2.0).exp().mean().log()


def matrix_form(x: Tensor) -> Tensor:
    """Compute the loss from the full matrix of squared distances, by one matrix product."""
    squares = x.square().sum(1)
    exponent = (squares[:, None] + squares[None] - 2.0 * x @ x.T).mul(-2.0)
    n = x.shape[0]
    return ((exponent.exp().sum() - n) / (n * (n - 1))).log()


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "blockwise": log_mean_gaussian,
    "pdist": pdist_form,
    "matrix": matrix_form,
}


def points(n: int) -> Tensor:
    """Draw unit vectors."""
    drawn = torch.randn(n, DIM, generator=torch.Generator().manual_seed(0))
    return F.normalize(drawn).requires_grad_()


def seconds(n: int, repeats: int) -> dict[str, list[float]]:
    """Time forward and backward of each form; the forms take turns, so that a disturbance affects all of them."""
    x = points(n)
    times: dict[str, list[float]] = {name: [] for name in FORMS}
    for repeat in range(repeats + 1):
        for name, form in FORMS.items():
            x.grad = None
            start = time.perf_counter()
            form(x).backward()
            if repeat:  # the first is the warm-up
                times[name].append(time.perf_counter() - start)
    return times


def extra_memory(name: str, n: int) -> float:
    """Measure a form's extra peak resident memory in MiB, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory", name, "--points", str(n)], capture_output=True, text=True, check=True
    )
    return float(done.stdout) / 1024


def peak() -> int:
    """Read the peak resident memory of this process in KiB; getrusage would count its parent's before the fork too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def report_memory(name: str, n: int) -> None:
    """Print the growth of the peak in KiB over a small warm-up."""
    FORMS[name](points(64)).backward()
    x = points(n)
    before = peak()
    FORMS[name](x).backward()
    print(peak() - before)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[512, 2048, 4096], help="for all three forms")
    parser.add_argument("--many", type=int, nargs="*", default=[16384, 65536], help="for the blockwise form alone")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        report_memory(given.memory, given.points[0])
        return
    lines = [
        "# Blockwise uniformity",
        "",
        f"`python benchmarks/speed/uniformity.py`, commit {commit()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s), {platform.machine()}, {os.cpu_count()} logical cores, CPU only: "
        "the CUDA path was not measured.",
        "",
        f"Forward and backward, {DIM} dimensions, float32; median of {given.repeats} runs in turn after a warm-up, "
        "with quartiles; additional peak resident memory, each in its own process.",
        "",
        "| points | form | ms (quartiles) | time / blockwise | additional MiB |",
        "|---|---|---|---|---|",
    ]
    for n in given.points:
        times = seconds(n, given.repeats)
        for name, values in times.items():
            low, middle, high = (1e3 * q for q in statistics.quantiles(values, n=4))
            ratio = middle / (1e3 * statistics.median(times["blockwise"]))
            memory = extra_memory(name, n)
            lines.append(f"| {n} | {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {ratio:.2f} | {memory:.0f} |")
    for n in given.many:
        x = points(n)
        start = time.perf_counter()
        log_mean_gaussian(x).backward()
        took = 1e3 * (time.perf_counter() - start)
        lines.append(f"| {n} | blockwise | {took:.0f} (one run) | 1 | {extra_memory('blockwise', n):.0f} |")
    write_text(given.out, "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
