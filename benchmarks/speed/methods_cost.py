"""Measure time and memory of each method's step, forward and backward, relative to the student alone.

    python benchmarks/speed/methods_cost.py

All methods take turns in one process, on the same student, batch and teacher output. A step is the student's forward
pass, cross-entropy, the method's terms and the backward pass; the teacher's pass is left out, because its outputs may
be cached. Memory is what autograd keeps for the backward pass (the bytes of saved tensors, each storage once, without
parameters), which does not depend on the allocator. Times are medians over rounds in which every method runs once, so a
slow moment of the machine affects all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.io import write_text
from cmkd.methods import METHODS, Method, create
from cmkd.provenance import commit
from cmkd.types import Batch, Output, Spec

CLASSES, PAIRS = 10, 10_000
RESULTS = Path(__file__).parents[1] / "results"


class ConvNet(nn.Module):
    """Three strided convolutions and a linear classifier."""

    def __init__(self, channels: int, widths: tuple[int, int, int], side: int) -> None:
        super().__init__()
        sizes = zip((channels, *widths), widths, strict=False)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in sizes)
        self.classifier = nn.Linear(widths[-1], CLASSES)
        shapes = tuple((width, side // 2 ** (i + 1), side // 2 ** (i + 1)) for i, width in enumerate(widths))
        self.spec = Spec(CLASSES, widths[-1], shapes)

    def forward(self, x: Tensor) -> Output:
        """Map images ``(batch, channels, side, side)`` to an output."""
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        embedding = x.mean((2, 3))
        return Output(self.classifier(embedding), embedding, tuple(maps))


def saved_bytes(step: Callable[[], Tensor], parameters: list[Tensor]) -> int:
    """Return how many bytes autograd keeps for the backward pass of a step."""
    kept: dict[int, int] = {}
    owned = {p.untyped_storage().data_ptr() for p in parameters}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step()
    loss.backward()
    return sum(kept.values())


def make_step(method: Method, student: ConvNet, teacher: Output, images: Tensor, batch: Batch) -> Callable[[], Tensor]:
    """Return a function that runs the forward passes and returns the loss."""

    def step() -> Tensor:
        student.zero_grad()
        method.zero_grad()
        output = student(images)
        loss = F.cross_entropy(output.logits, batch.target)
        return sum(method(output, teacher, batch).values(), loss)

    return step


def measure(names: list[str], rounds: int, size: int, side: int) -> list[dict[str, float | str]]:
    """Measure the methods in turn; ``none`` must be among them."""
    torch.manual_seed(0)
    teacher_model = ConvNet(3, (64, 128, 256), side)
    steps: dict[str, Callable[[], Tensor]] = {}
    memory: dict[str, int] = {}
    target, index = torch.randint(CLASSES, (size,)), torch.randint(PAIRS, (size,))
    images, rich = torch.randn(size, 1, side, side), torch.randn(size, 3, side, side)
    with torch.no_grad():
        teacher = teacher_model(rich)
    batch = Batch({"poor": images, "rich": rich}, target, index)
    for name in names:
        # simkd changes its student, so each method has its own
        torch.manual_seed(1)
        student = ConvNet(1, (16, 32, 64), side)
        method = create(name, student.spec, teacher_model.spec)
        method.setup(student, teacher_model)
        method.on_train_start(PAIRS)
        method.on_train_epoch_start(0)
        steps[name] = make_step(method, student, teacher, images, batch)
        steps[name]().backward()  # warm-up
        memory[name] = saved_bytes(steps[name], [*student.parameters(), *method.parameters()])
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step().backward()
            times[name].append(time.perf_counter() - start)
    base_time, base_memory = statistics.median(times["none"]), memory["none"]
    return [
        {
            "method": name,
            "milliseconds": round(1e3 * statistics.median(times[name]), 2),
            "time_over_none": round(statistics.median(times[name]) / base_time, 2),
            "saved_mib": round(memory[name] / 2**20, 2),
            "memory_over_none": round(memory[name] / base_memory, 2),
        }
        for name in names
    ]


def write(rows: list[dict[str, float | str]], about: str, out: Path) -> None:
    """Write the table."""
    columns = list(rows[0])
    lines = ["# Cost of a step by method", "", about, "", f"| {' | '.join(columns)} |", "|---|" + "---:|" * 4]
    lines += [f"| {' | '.join(str(row[c]) for c in columns)} |" for row in rows]
    write_text(out, "\n".join(lines) + "\n")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "methods_cost.md")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    # teacher_init needs a student of the teacher's widths, and its step is that of none
    names = ["none", *sorted(set(METHODS) - {"none", "teacher_init"})]
    rows = measure(names, chosen.rounds, chosen.batch, chosen.side)
    command = f"python benchmarks/speed/methods_cost.py {' '.join(sys.argv[1:])}".strip()
    about = (
        f"`{command}`, commit {commit()}, torch {torch.__version__}, {chosen.threads} of {os.cpu_count()} CPU cores "
        f"({platform.machine()}), batch {chosen.batch} of {chosen.side} x {chosen.side}, student 16-32-64 channels, "
        f"teacher 64-128-256, median of {chosen.rounds} rounds."
    )
    write(rows, about, chosen.out)
    print(about)
    for row in rows:
        print("  ".join(f"{value!s:>14}" for value in row.values()))


if __name__ == "__main__":
    main()
