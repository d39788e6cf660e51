"""Size and CPU latency of an exported student beside PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd.deploy.export import Exported
from cmkd.deploy.onnx_model import load_onnx

BATCHES = (1, 64)
RUNS = 50
"""Runs of each at each batch size, after one that warms up."""
SECONDS = 10.0
"""After which no more runs begin at a batch size."""
Logits = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Timing:
    """What one way to run a student needs.

    Args:
        name: of what runs it.
        size: of its file, in bytes.
        milliseconds: batch size -> median time of a batch.
        processor_milliseconds: batch size -> median processor time of a batch, of all threads together; with one thread
            it is the time on a core that nothing else uses.
        runs: batch size -> number of runs.
        threads: of each run.
    """

    name: str
    size: int
    milliseconds: Mapping[int, float]
    processor_milliseconds: Mapping[int, float]
    runs: Mapping[int, int]
    threads: int


def timings(found: Exported) -> list[Timing]:
    """Time an exported student on a CPU, all with the number of threads that torch has.

    They take turns, so that what else runs on the machine slows all of them alike.
    """
    threads = torch.get_num_threads()
    ways: dict[str, tuple[Path, Logits]] = {"PyTorch": (found.source, found.reference.logits)}
    if found.path.suffix == ".onnx":
        ways["ONNX Runtime"] = found.path, load_onnx(found.path, device="cpu", threads=threads)[1]
    else:
        ways["pt2"] = found.path, found.student.logits
    if found.int8 is not None:
        ways["int8"] = found.int8.path, load_onnx(found.int8.path, device="cpu", threads=threads)[1]
    values = found.samples.values
    taken = {
        batch: _turns([run for _, run in ways.values()], np.resize(values, (batch, *values.shape[1:])))
        for batch in BATCHES
    }
    return [
        Timing(
            name,
            path.stat().st_size,
            {batch: 1e3 * median(wall for wall, _ in times[place]) for batch, times in taken.items()},
            {batch: 1e3 * median(processor for _, processor in times[place]) for batch, times in taken.items()},
            {batch: len(times[place]) for batch, times in taken.items()},
            threads,
        )
        for place, (name, (path, _)) in enumerate(ways.items())
    ]


def _turns(ways: list[Logits], samples: NDArray[Any]) -> list[list[tuple[float, float]]]:
    """Return the seconds of each run of each way, and those of the processor."""
    for run in ways:
        run(samples)
    taken: list[list[tuple[float, float]]] = [[] for _ in ways]
    end = time.perf_counter() + SECONDS
    while len(taken[0]) < RUNS and (time.perf_counter() < end or not taken[0]):
        for run, times in zip(ways, taken, strict=True):
            start, busy = time.perf_counter(), time.process_time()
            run(samples)
            times.append((time.perf_counter() - start, time.process_time() - busy))
    return taken
