"""Measure how training scales: packs of 1,000 to 1,000,000 pairs, one and two processes, more data than memory.

    python benchmarks/speed/scaling.py

Every training runs in its own process (or in two, started by torchrun), and all trainings take turns. A process opens
the pack, reads all pairs once through the training loader, and trains a small network for one epoch of at most 500
steps. In the last section, the data segment of the process is limited (``RLIMIT_DATA``): beyond the imports, it may
hold less than the pack. The pack is dropped from the page cache first. As a control, the same process then tries to
copy the pack into memory, which fails.
"""

from __future__ import annotations

from timing import CLASSES, RESULTS, Section, cell, child, in_turns, random_pack, status, write

# isort: split
import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.loader import PairLoader

BATCH = 128
SMALL, USUAL = (8, "thin_resnet(width=4, stages=2)"), (32, "thin_resnet")  # pixels a side, and the student
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node")
MIB = 2**20


class Marks(Callback):
    """Record the time at which each training batch starts."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Record the current time."""
        self.times.append(time.perf_counter())

    def speed(self, pairs: int) -> float:
        """Return the pairs/s between the first batch and the last."""
        return (len(self.times) - 1) * pairs / (self.times[-1] - self.times[0])


def train(given: argparse.Namespace) -> dict[str, float] | None:
    """Train one epoch in this process; return the figures in the first process, None in others."""
    if given.limit:
        drop_from_cache(given.pack)
        used = 1024 * status("VmData")
        resource.setrlimit(resource.RLIMIT_DATA, (used + given.limit * MIB,) * 2)
    start = time.perf_counter()
    pack = Pack.open(given.pack)
    opened = time.perf_counter()
    found = {"open": opened - start}
    if given.processes == 1:
        found |= read_all(pack, opened)
    marks, begin = Marks(), time.perf_counter()
    student = models.build(given.student, pack.modality("radar"), classes=CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(Path(folder), pack, student, given.student, epochs=1, seed=0)
        settings = TrainerConfig(BATCH, accelerator="cpu", devices=given.processes, progress="none")
        fit(job, OptimizerConfig(), AugmentationConfig(), settings, callbacks=[marks])
    found |= {"start": marks.times[0] - begin, "train": marks.speed(BATCH), "steps": len(marks.times)}
    found |= {"private": status("RssAnon") / 1024, "peak": status("VmHWM") / 1024}
    if given.limit:
        found["copied"] = copies(pack)
    return found if int(os.environ.get("RANK", "0")) == 0 else None


def read_all(pack: Pack, opened: float) -> dict[str, float]:
    """Return the seconds until the first batch is read, and from then on until all pairs are read."""
    loader = PairLoader(pack, pack.rows("train"), tuple(pack.modalities), batch_size=BATCH, shuffle=True)
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    for _ in batches:
        pass
    return {"first": first - opened, "pass": time.perf_counter() - first}


def copies(pack: Pack) -> float:
    """Return 1 if the pack can be copied into memory, and 0 if not."""
    try:
        kept = [np.array(pack.array(name)) for name in pack.modalities]
    except MemoryError:
        return 0.0
    return float(len(kept) > 0)


def drop_from_cache(pack: Path) -> None:
    """Ask the system to forget the pack's pages, so that they are read from disk."""
    for path in Path(pack).glob("*.bin"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def run(pack: Path, student: str, processes: int, limit: int = 0) -> dict[str, Any]:
    """Train in a new process, or in several, and return the figures."""
    launcher = (*TORCHRUN, str(processes)) if processes > 1 else ()
    options = ("--pack", pack, "--student", student, "--processes", processes, "--limit", limit)
    return child(__file__, *options, launcher=launcher)


def grow(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each number of pairs, kind of step and number of processes."""
    packs, written = {}, {}
    cases = [(pairs, *SMALL) for pairs in given.pairs] + [(given.usual, *USUAL)]
    for case in cases:
        start = time.perf_counter()
        packs[case] = random_pack(folder / f"{case[1]}-{case[0]}", case[0], case[1], held_out=CLASSES).path
        written[case] = time.perf_counter() - start
    sides = {(case, n): partial(run, packs[case], case[2], n) for case in cases for n in (1, 2)}
    found = in_turns(sides, given.rounds, warm_up=False)
    return [
        {
            "pairs": f"{case[0]:,}",
            "side": str(case[1]),
            "student": case[2],
            "processes": str(processes),
            "write the pack, s": written[case] if processes == 1 else None,
            "open, s": each(results, "open"),
            "first batch, s": each(results, "first"),
            "read all pairs, s": each(results, "pass"),
            "first step of `fit`, s": each(results, "start"),
            "steps": f"{results[0]['steps']:.0f}",
            "pairs/s in `fit`": each(results, "train"),
            "MiB of its own": each(results, "private"),
            "peak MiB with mapped pages": each(results, "peak"),
        }
        for (case, processes), results in found.items()
    ]


def each(results: Sequence[dict[str, Any]], name: str) -> list[float] | None:
    """Return one figure for all rounds, or None if it was not measured."""
    return [result[name] for result in results] if name in results[0] else None


def exceed(folder: Path, mebibytes: int, limit: int) -> str:
    """Train on a pack that is larger than the memory limit; return a sentence with the figures."""
    side = USUAL[0]
    pack = random_pack(folder / "large", mebibytes * MIB // (4 * side**2), side, held_out=CLASSES)
    found = run(pack.path, SMALL[1], 1, limit)
    if found["copied"]:
        raise SystemExit(f"a limit of {limit} MiB does not hinder a copy of {mebibytes} MiB")
    return (
        f"A pack of {mebibytes} MiB ({len(pack):,} pairs of 3 + 1 x {side} x {side} bytes), with at most "
        f"{limit} MiB for data above the imports, read from disk: first batch after {cell(found['first'])} s, all "
        f"pairs read in {cell(found['pass'])} s, {cell(found['train'])} pairs/s in `fit`, {cell(found['private'])} MiB "
        "of its own at the end. A copy of the pack into memory fails in the same process."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--usual", type=int, default=12_800, help="pairs of the usual images and student")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=2048, help="MiB of the pack that is larger than the limit")
    parser.add_argument("--limit", type=int, default=512, help="MiB of data that a process may have above its imports")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.md")
    parser.add_argument("--pack", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--student", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.pack:
        found = train(given)
        if found is not None:
            print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = grow(Path(folder), given)
        after = exceed(Path(folder), given.large, given.limit)
    text = (
        f"Optical and radar images of random bytes, {SMALL[0]} or {USUAL[0]} pixels a side, a student without a "
        f"teacher, batch {BATCH} over all processes, one thread a process beside its reader; median of {given.rounds} "
        "trainings in turn, with quartiles. Two processes are started by torchrun and talk by gloo."
    )
    print(write(given.out, "Scaling with pairs and processes", [Section(text, rows), Section(after)]))


if __name__ == "__main__":
    main()
