"""Measure everything that a GPU changes, in less than eight minutes on one H100 or H200.

    make bench-gpu

It needs only the repository, because all data are random. Parts, in order: the tests marked ``gpu``; the training step
of every method relative to ``none``, in float32 and bfloat16, with and without cached teacher outputs; steps with
compiled models; images/s of cmkd, with and without the cache, and of a textbook loop; what the trainer adds to a step;
the blockwise uniformity loss and forms that hold all pairs. The result is written after each part, so an interrupted
run keeps the finished parts. Without a GPU it ends with one line; ``--device cpu --quick`` tries every part on tiny
sizes.
"""

from __future__ import annotations

from timing import RESULTS, Section, in_turns, pair_of_models, random_pack, ratios, seconds, write

# isort: split
import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch

import overhead
import peers
import step
import uniformity
from cmkd.models.checkpoint import save_model

ROOT = Path(__file__).parents[2]


def tests(quick: bool, device: str) -> list[Section]:
    """Run the tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["no output"]
    failed = [f"- {line}" for line in lines if line.startswith(("FAILED", "ERROR"))]
    return [Section("\n".join([f"## Tests\n\n`pytest -m gpu tests/test_gpu.py`: {lines[-1]}", *failed]))]


def steps(quick: bool, device: str) -> list[Section]:
    """Measure the step of every method."""
    names = ["none", "kd", "ds"] if quick else step.every_method()
    size, side, rounds = (8, 32, 1) if quick else (128, 64, 7)
    found = []
    for words, precision in (("float32", torch.float32), ("bfloat16 (autocast)", torch.bfloat16)):
        rows = step.measure(names, rounds=rounds, size=size, side=side, device=device, precision=precision)
        text = (
            f"## Cost of a step by method, {words}\n\nForward and backward pass, batch {size}, {side} x {side}, "
            f"thin ResNet taught by ResNet-18; elapsed time between waits for the GPU, median of {rounds} rounds "
            "in which all take turns, with quartiles of the ratio. Memory is the peak above what is allocated before."
        )
        found.append(Section(text, rows))
    return found


def compiled(quick: bool, device: str) -> list[Section]:
    """Measure steps with compiled models, alternating with the same steps of plain models."""
    size, side, rounds = (8, 16, 1) if quick else (128, 64, 21)
    batch, rows = step.random_batch(size, side, device), list[dict[str, Any]]()
    for name, precision in product(["none", "kd"], [torch.float32] if quick else [torch.float32, torch.bfloat16]):
        make = partial(step.make_step, name, batch, side, precision=precision, cached=False)
        sides = {flag: make(compiled=flag) for flag in (False, True)}
        works = {flag: partial(seconds, work, device) for flag, work in sides.items() if work is not None}
        first = works[True]()
        took = in_turns(works, rounds)
        rows.append(
            {"method": name, "precision": str(precision).removeprefix("torch."), "first step, s": first}
            | {"ms": 1e3 * median(took[False]), "ms, compiled": 1e3 * median(took[True])}
            | {"compiled / plain": ratios(took[True], took[False])}
        )
    text = (
        f"## Compiled models\n\n`--trainer.compile`: forward and backward pass, batch {size}, {side} x {side}, thin "
        "ResNet, with `kd` taught by ResNet-18 in each step. The first step compiles; torch keeps what it compiled on "
        "disk, so later rows and runs start faster."
    )
    return [Section(text, rows)]


def loops(quick: bool, device: str) -> list[Section]:
    """Compare whole trainings by cmkd, with and without cached teacher outputs, with a textbook loop."""
    pairs, epochs, workers = (300, 2, 1) if quick else (25_600, 3, min(8, os.cpu_count() or 1))
    given = argparse.Namespace(
        rounds=1 if quick else 2, epochs=epochs, batch=64 if quick else 128, device=device, workers=workers
    )
    with tempfile.TemporaryDirectory() as folder:
        side = 32 if quick else 64
        pack = random_pack(Path(folder) / "pack", pairs, side, held_out=64 if quick else 1024, co_registered=False)
        teacher = pair_of_models(side)[0]
        path = Path(folder) / "teacher.safetensors"
        save_model(path, teacher, name="resnet18", classes=pack.classes, extra={})
        rows = peers.compare(f"random {side} x {side}", {"pack": pack.path, "teacher": path}, given)
    text = (
        f"## Whole trainings\n\n`kd` of a thin ResNet from a ResNet-18, {pairs} random pairs, batch {given.batch}, "
        f"{epochs} epochs; {workers} worker(s) of the DataLoaders; all epochs but the first, with validation and "
        "checkpoints. Before its first epoch cmkd evaluates the teacher and computes its outputs, once for all "
        "students."
    )
    return [Section(text, rows)]


def trainer(quick: bool, device: str) -> list[Section]:
    """Measure what the trainer adds to a step."""
    settings = [replace(setting, device=device) for setting in overhead.SETTINGS]
    if quick:
        settings = [replace(settings[0], steps=overhead.SKIP + 4)]
    text = (
        "## What the trainer adds to a step\n\n`fit` and a bare loop with the same arithmetic take turns step by step; "
        "elapsed time with a wait for the GPU at each end, so that nothing of the trainer hides behind the GPU's work."
    )
    return [Section(text, list(overhead.rows(settings)))]


def blockwise(quick: bool, device: str) -> list[Section]:
    """Compare the implementations of the uniformity loss."""
    sizes = (64,) if quick else (1024, 4096, 8192)
    rows = [row for n in sizes for row in uniformity.compare(n, 3 if quick else 15, device)]
    text = f"## Blockwise uniformity\n\nForward and backward, {uniformity.DIM} dimensions, float32, in turns."
    return [Section(text, rows)]


PARTS: Sequence[Callable[[bool, str], list[Section]]] = (tests, steps, compiled, loops, trainer, blockwise)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.md")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --device cpu --quick tries the script without one")
    start, sections = time.perf_counter(), list[Section]()
    for part in PARTS:
        new = part(given.quick, given.device)
        sections += new
        passed = Section(f"Everything so far took {time.perf_counter() - start:.0f} s.")
        write(given.out, f"On a {'GPU' if given.device == 'cuda' else 'CPU'}", [*sections, passed])
        print(*(section.markdown() for section in [*new, passed]), sep="\n\n", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
