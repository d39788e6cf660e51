"""Measure time and memory of each method's training step relative to the student alone, with and without the cache.

    python benchmarks/speed/step.py

All methods take turns in one process, with the same student, teacher and batch. A step is the objective's forward pass
and the backward pass. Without the cache, the teacher (ResNet-18) runs in every step; with it, the batch contains the
teacher's output. Memory is measured over one step. On a CPU, it is what autograd keeps for the backward pass (the bytes
of saved tensors, each storage once, without parameters), which does not depend on the allocator. On a GPU, it is the
peak above what was allocated before. ``gpu.py`` measures the same on a GPU.
"""

from __future__ import annotations

from timing import CLASSES, RESULTS, Section, in_turns, pair_of_models, ratios, seconds, sensors, write

# isort: split
import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmkd.methods import METHODS, create
from cmkd.training.objective import Objective
from cmkd.types import Batch

PAIRS = 10_000


def random_batch(size: int, side: int, device: str) -> Batch:
    """Return a batch of random pairs with a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    inputs = {m.name: torch.randint(256, (size, *m.shape), dtype=torch.uint8, generator=draw) for m in sensors(side)}
    target, index = torch.randint(CLASSES, (size,), generator=draw), torch.randperm(PAIRS, generator=draw)[:size]
    return Batch(inputs, target, index).to(device)


def make_step(
    name: str, batch: Batch, side: int, *, precision: torch.dtype, cached: bool, compiled: bool = False
) -> Callable[[], None] | None:
    """Return a function that takes one step of a method, or None if the method cannot use the cache."""
    device = batch.target.device
    teacher, student = pair_of_models(side)
    method = create(name, student.spec, teacher.spec)
    method.setup(student, teacher)
    if cached and method.trains_teacher:
        return None
    autocast = partial(torch.autocast, device.type, precision, enabled=precision != torch.float32)
    if cached:
        with torch.no_grad(), autocast():
            known = teacher.to(device).eval()(batch.inputs["optical"])
        batch = replace(batch, teacher=known)
        objective = Objective(student, teacher_modality="optical", method=method).to(device)
    else:
        objective = Objective(student, teacher=teacher, method=method).to(device)
        objective.move(device)
    method.on_train_start(PAIRS)
    method.on_train_epoch_start(0)
    if compiled:
        objective.compile_models()

    def step() -> None:
        objective.zero_grad()
        with autocast():
            _, terms = objective(batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()

    return step


def memory(step: Callable[[], None], device: str) -> float:
    """Return the MiB that a step needs beyond parameters, batch and cached teacher outputs."""
    if device != "cpu":
        step()  # allocates the gradients
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 2**20


def measure(
    names: Sequence[str], *, rounds: int, size: int, side: int, device: str = "cpu", precision: torch.dtype
) -> list[dict[str, Any]]:
    """Return a row for each method; ``none`` must be the first."""
    batch = random_batch(size, side, device)
    steps = {
        (name, cached): step
        for name in names
        for cached in ((False,) if name == "none" else (False, True))
        if (step := make_step(name, batch, side, precision=precision, cached=cached)) is not None
    }
    kept = {key: memory(step, device) for key, step in steps.items() if device != "cpu" or not key[1]}
    took = in_turns({key: partial(seconds, step, device) for key, step in steps.items()}, rounds)
    base = ("none", False)
    rows = []
    for name in names:
        row: dict[str, Any] = {"method": name}
        for cached, words in ((False, ""), (True, ", cached")):
            if (key := (name, cached)) in steps:
                row[f"ms{words}"] = 1e3 * float(torch.tensor(took[key]).median())
                row[f"time / none{words}"] = ratios(took[key], took[base])
                if key in kept:  # on a CPU, autograd keeps the same tensors with and without the cache
                    row[f"MiB{words}"] = kept[key]
                    row[f"memory / none{words}"] = kept[key] / kept[base]
        rows.append(row)
    return rows


def every_method() -> list[str]:
    """Return all methods, ``none`` first, without ``teacher_init``, whose student has the teacher's layers."""
    return ["none", *sorted(set(METHODS) - {"none", "teacher_init"})]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", nargs="+", help="beside none; by default all")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS / "step.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = every_method() if given.methods is None else ["none", *given.methods]
    rows = measure(names, rounds=given.rounds, size=given.batch, side=given.side, precision=torch.float32)
    text = (
        f"Forward and backward pass of a batch of {given.batch} pairs of {given.side} x {given.side}: student thin "
        "ResNet on radar, teacher ResNet-18 on optical images; CPU time of one thread, float32. Time is the median of "
        f"{given.rounds} rounds in which all take turns, with quartiles of the ratio; memory is what autograd keeps."
    )
    print(write(given.out, "Cost of a step by method", [Section(text, rows)]))


if __name__ == "__main__":
    main()
