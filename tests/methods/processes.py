"""Two gloo processes that run every row once, for comparison with one process."""

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
SHARES = {
    "equal": [range(0, 4), range(4, 8)],
    "unequal": [range(0, 3), range(3, 8)],
    "dealt": [range(0, 8, 2), range(1, 8, 2)],  # as the loader distributes pairs
}
Result = dict[str, Any]


def rows_of(out: Output, rows: range) -> Output:
    """Return the samples at `rows` as leaf tensors that require gradients."""
    cut = out.detach()
    logits, embedding, *maps = (t[list(rows)].clone().requires_grad_() for t in leaves(cut))
    return Output(logits, embedding, tuple(maps))


def two_steps(row: Row, shares: list[range], rank: int) -> Result:
    """Run two steps on this process's share; return the last loss, weighted as in the trainer, and its gradients."""
    method = built(row, NARROW, WIDE).double()
    target = torch.arange(BATCH) % NARROW.classes
    target[1] = -1
    rows = shares[rank]
    for step in range(2):
        method.zero_grad()
        whole = a_batch(BATCH, NARROW.classes, target=target)
        ours = rows_of(output(NARROW, BATCH, 2 * step, dtype=torch.float64), rows)
        theirs = rows_of(output(WIDE, BATCH, 2 * step + 1, dtype=torch.float64), rows)
        theirs = theirs if method.trains_teacher else theirs.detach()
        loss = total(method(ours, theirs, whole.select(torch.tensor(rows))))
        loss = loss * len(rows) * len(shares) / BATCH
        if loss.requires_grad:
            loss.backward()
    parameters = {n: p.grad for n, p in method.named_parameters() if p.requires_grad}
    return {"loss": loss.detach(), "outputs": [t.grad for t in leaves(ours)], "parameters": parameters}


def work(rank: int, folder: str) -> None:
    """Join the process group, and write the results of this process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {row.name: {name: two_steps(row, shares, rank) for name, shares in SHARES.items()} for row in ROWS}
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def run_pair(folder: Path) -> list[dict[str, dict[str, Result]]]:
    """Run both processes, and return the results of each by method."""
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def mean(values: list[Tensor | None]) -> Tensor | None:
    """Average gradients as DDP does; return None if no process has one."""
    present = [v for v in values if v is not None]
    return sum(present) / len(values) if present else None
