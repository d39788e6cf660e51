"""Compare size and CPU latency of an exported student with PyTorch."""

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
"""Largest number of runs of each student at each batch size, after one warm-up run."""
SECONDS = 10.0
"""Time in seconds after which no more runs start at a batch size."""
Logits = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Timing:
    """Size and latency of a student in one runtime.

    Args:
        name: name of the runtime.
        size: size of the model's file in bytes.
        milliseconds: batch size -> median time of a batch.
        processor_milliseconds: batch size -> median processor time of a batch, summed over all threads; with one thread
            it is the time on an otherwise idle core.
        runs: batch size -> number of runs.
        threads: number of threads of each run.
    """

    name: str
    size: int
    milliseconds: Mapping[int, float]
    processor_milliseconds: Mapping[int, float]
    runs: Mapping[int, int]
    threads: int


def timings(found: Exported) -> list[Timing]:
    """Time an exported student on a CPU in each runtime, with the number of threads that torch uses.

    The runtimes take turns, so that other load on the machine slows all of them alike.
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
    """Return the elapsed seconds and the processor seconds of each run, by runtime."""
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
