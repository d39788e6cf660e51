"""A pair of gloo processes that runs every row once, for the comparison with one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from cmkd.types import Output

from .rows import NARROW, WIDE, Row, a_batch, built, leaves, output, total
from .table import ROWS

BATCH = 8
EQUAL, UNEQUAL = [(0, 4), (4, 8)], [(0, 3), (3, 8)]
Result = dict[str, Any]


def rows_of(out: Output, start: int, stop: int) -> Output:
    """Return leaves that hold the samples from `start` to `stop`."""
    cut = out.detach()
    logits, embedding, *maps = (t[start:stop].clone().requires_grad_() for t in leaves(cut))
    return Output(logits, embedding, tuple(maps))


def two_steps(row: Row, shares: list[tuple[int, int]], rank: int) -> Result:
    """Run two steps on this process's share; return the last loss, weighed as the trainer does, and its gradients."""
    method = built(row, NARROW, WIDE).double()
    target = torch.arange(BATCH) % NARROW.classes
    target[1] = -1
    start, stop = shares[rank]
    for step in range(2):
        method.zero_grad()
        whole = a_batch(BATCH, NARROW.classes, target=target)
        ours = rows_of(output(NARROW, BATCH, 2 * step, dtype=torch.float64), start, stop)
        theirs = rows_of(output(WIDE, BATCH, 2 * step + 1, dtype=torch.float64), start, stop)
        theirs = theirs if method.trains_teacher else theirs.detach()
        loss = total(method(ours, theirs, whole.select(torch.arange(start, stop))))
        loss = loss * (stop - start) * len(shares) / BATCH
        if loss.requires_grad:
            loss.backward()
    parameters = {n: p.grad for n, p in method.named_parameters() if p.requires_grad}
    return {"loss": loss.detach(), "outputs": [t.grad for t in leaves(ours)], "parameters": parameters}


def work(rank: int, folder: str) -> None:
    """Join the pair and write this process's results."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {
        row.name: {
            "equal": two_steps(row, EQUAL, rank),
            "unequal": two_steps(row, UNEQUAL, rank),
        }
        for row in ROWS
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def run_pair(folder: Path) -> list[dict[str, dict[str, Result]]]:
    """Run both processes and return what each found, by method."""
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def mean(values: list[Tensor | None]) -> Tensor | None:
    """Average as DDP does; None where no process has a gradient."""
    present = [v for v in values if v is not None]
    return sum(present) / len(values) if present else None
