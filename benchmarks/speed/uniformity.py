"""Measure time and memory of the blockwise uniformity loss and of two forms that hold every pair of points.

python benchmarks/speed/uniformity.py
"""

from __future__ import annotations

from timing import RESULTS, Section, child, in_turns, peak_memory, ratios, seconds, write

# isort: split
import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.pairwise import log_mean_gaussian

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


def points(n: int, device: str = "cpu") -> Tensor:
    """Draw `n` random unit vectors."""
    drawn = torch.randn(n, DIM, generator=torch.Generator().manual_seed(0))
    return F.normalize(drawn).to(device).requires_grad_()


def forward_and_backward(form: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Compute a loss and its gradient."""
    x.grad = None
    form(x).backward()


def compare(n: int, repeats: int, device: str = "cpu") -> list[dict[str, Any]]:
    """Measure time and memory of each form, in turn."""
    work = {name: partial(forward_and_backward, form, points(n, device)) for name, form in FORMS.items()}
    times = in_turns({name: partial(seconds, run, device) for name, run in work.items()}, repeats)
    return [
        {
            "points": n,
            "form": name,
            "ms": [1e3 * value for value in values],
            "time / blockwise": ratios(values, times["blockwise"]),
            "MiB": extra_memory(name, n) if device == "cpu" else peak_on_gpu(work[name]),
        }
        for name, values in times.items()
    ]


def peak_on_gpu(work: Callable[[], object]) -> float:
    """Return the MiB that a function needs beyond what was allocated before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    return float(torch.cuda.max_memory_allocated() - before) / 2**20


def extra_memory(name: str, n: int) -> float:
    """Measure the additional peak resident memory of a form in MiB, in a separate process."""
    return float(child(__file__, "--memory", name, "--points", n)["MiB"])


def report_memory(name: str, n: int) -> None:
    """Print by how much the peak memory grows after a small warm-up."""
    forward_and_backward(FORMS[name], points(64))
    x = points(n)
    before = peak_memory()
    forward_and_backward(FORMS[name], x)
    print(json.dumps({"MiB": peak_memory() - before}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[512, 2048, 4096], help="for all three forms")
    parser.add_argument("--many", type=int, nargs="*", default=[16384, 65536], help="for the blockwise form alone")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS / "uniformity.md")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.memory:
        report_memory(given.memory, given.points[0])
        return
    rows = [row for n in given.points for row in compare(n, given.repeats)]
    for n in given.many:
        loss = partial(forward_and_backward, log_mean_gaussian, points(n))
        took = 1e3 * seconds(loss)
        rows.append({"points": n, "form": "blockwise (one run)", "ms": took, "MiB": extra_memory("blockwise", n)})
    text = (
        f"Forward and backward, {DIM} dimensions, float32; CPU time, median of {given.repeats} runs in turn after a "
        "warm-up, with quartiles; additional peak resident memory, each in its own process."
    )
    print(write(given.out, "Blockwise uniformity", [Section(text, rows)]))


if __name__ == "__main__":
    main()
