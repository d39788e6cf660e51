"""Train the missing runs of a suite in parallel processes, on this machine or on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from cmkd.bench.suite import PlannedRun
from cmkd.documents import RESULT
from cmkd.errors import CmkdError, DiedError, needs_extra
from cmkd.experiment import Experiment
from cmkd.experiment.folder import RunFolder
from cmkd.processes import end, end_with_parent, ignore_interrupts, leave_tasks, starting, usable_cores
from cmkd.progress import Screen
from cmkd.training.display import TrainingDisplay
from cmkd.training.reporting import Report

TRIES = 2
"""Attempts at a run that dies or crashes; a run that fails with a `CmkdError` (except `DiedError`) is not repeated."""
POLL_SECONDS = 2.0
REFUSED = 2
"""Exit code of a run that fails with a `CmkdError` and would fail again."""
Submit = Callable[[PlannedRun], "Future[Ended]"]


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        reason: reason of the failure; empty for a success.
        refused: whether the run would fail again.
    """

    reason: str = ""
    refused: bool = False


def train(
    runs: Sequence[PlannedRun],
    left: Callable[[PlannedRun], PlannedRun | None],
    *,
    workers: int | None,
    ray: str | None,
    on: Screen,
    ended: Callable[[dict[str, str]], None],
) -> None:
    """Train the missing students of runs.

    Args:
        runs: the runs.
        left: function that returns the part of a run that is left to train, or None.
        workers: number of runs at the same time; by default one per core, or one on a GPU. A cluster runs as many as
            its resources allow.
        ray: address of a Ray cluster whose machines share the folder of the runs, or ``local``; None for no cluster.
        on: screen that shows the progress of the runs.
        ended: function called at the start and after each run, with title -> reason of the failed runs.

    Raises:
        CmkdError: Ray is not installed, or there is no cluster at the address.
    """
    missing, failures = [part for planned in runs if (part := left(planned))], dict[str, str]()
    ended(failures)
    if not missing:
        return
    with (
        _cluster(ray) if ray else _here(len(missing), workers) as (submit, side_by_side),
        _display(on, runs, missing, side_by_side) as display,
    ):
        whole = {planned.place: planned for planned in runs}
        counts = {planned.title: trained(planned) for planned in missing}
        running, tries = {submit(planned): planned for planned in missing}, dict.fromkeys(counts, 1)
        while running:
            done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                planned = running.pop(future)
                again = left(whole[planned.place])
                reason, refused = _how(future) if again else ("", False)
                if again and not refused and tries[planned.title] < TRIES:
                    tries[planned.title] += 1
                    running[submit(again)] = again
                    continue
                if reason:
                    failures[planned.title] = reason
                count = trained(planned)
                display(_report(planned, count, count))
                display.end(planned.title, f"failed: {reason}" if reason else "trained")
                ended(failures)
            for future, planned in running.items():
                before, counts[planned.title] = counts[planned.title], trained(planned)
                if future.running() or counts[planned.title] > before:  # a cluster does not say which runs are active
                    display(_report(planned, counts[planned.title], before))


def _display(on: Screen, runs: Sequence[PlannedRun], missing: Sequence[PlannedRun], jobs: int) -> TrainingDisplay:
    left = {planned.title for planned in missing}
    display = TrainingDisplay(
        on,
        {planned.title: planned.title for planned in runs},
        ended={planned.title: "trained (found)" for planned in runs if planned.title not in left},
        jobs=jobs,
        students={planned.title: len(planned.students) for planned in [*runs, *missing]},
    )
    for planned in missing:
        if count := trained(planned):
            display(_report(planned, count))
    return display


def _report(planned: PlannedRun, count: int, before: int = 0) -> Report:
    total = len(planned.students)
    state = f"{count} of {total} students"
    return Report(planned.title, count / total, state, milestone=10 * count // total > 10 * before // total)


def trained(planned: PlannedRun) -> int:
    """Return the number of students of a run that are trained in its folder."""
    folder = RunFolder(planned.config.out)
    return sum((folder.student(*student) / RESULT).exists() for student in planned.students)


def log_file(planned: PlannedRun) -> Path:
    """Return the log file of a run, with all of its output."""
    return planned.config.out / "run.log"


def _how(future: Future[Ended]) -> Ended:
    error = future.exception()
    found = Ended(str(error)) if error else future.result()
    return found._replace(reason=found.reason or "it ended without all of its students")


@contextlib.contextmanager
def _here(missing: int, workers: int | None) -> Iterator[tuple[Submit, int]]:
    """Yield a function that starts a run in a local process, and the number of parallel runs; stop all at the end."""
    import torch

    cores = usable_cores()
    count = min(missing, workers or (1 if torch.cuda.is_available() else cores))
    jobs = None if torch.cuda.is_available() else max(1, cores // count)
    running = Running()
    pool = ThreadPoolExecutor(count)
    try:
        yield lambda planned: pool.submit(run, planned, jobs, running), count
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        running.stop()


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[tuple[Submit, int]]:
    """Yield a function that starts a run on a Ray cluster, on its own core or GPU, and the number of parallel runs."""
    with needs_extra("ray", "--ray"):
        import ray as engine
    try:
        engine.init("local" if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        hint = "a cluster that asks for a token also needs RAY_AUTH_MODE=token"
        said = " ".join(str(error).split())[:100]
        raise CmkdError(f"no Ray cluster found at '{address}' ({said}); {hint}") from error
    resources = engine.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    # if a machine dies, another one continues its run from the shared folder
    remote = engine.remote(max_retries=2)(run_in).options(num_cpus=1, num_gpus=1 if gpus else 0)
    try:
        yield lambda planned: remote.remote(Path.cwd(), planned).future(), gpus or max(1, int(resources.get("CPU", 1)))
    finally:
        engine.shutdown()


class Running:
    """Processes that are stopped together; after that, no new one starts."""

    def __init__(self) -> None:
        self._lock, self._alive, self._over = threading.Lock(), set[BaseProcess](), False

    def join(self, process: BaseProcess) -> None:
        """Start a process and wait for its end; do nothing after `stop`."""
        with self._lock:
            if self._over:
                return
            with starting():
                process.start()
            self._alive.add(process)
        process.join()
        self._alive.discard(process)

    def stop(self) -> None:
        """Stop all processes."""
        with self._lock:
            self._over = True
        end(list(self._alive))


def run(planned: PlannedRun, jobs: int | None, running: Running | None = None) -> Ended:
    """Train one run in its own process, and return how it ended.

    Args:
        planned: the run.
        jobs: number of students at the same time; None for the run's default.
        running: group of processes that are stopped together.
    """
    context = multiprocessing.get_context("spawn")
    leave_tasks()
    log = log_file(planned)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    before, process = log.stat().st_size, context.Process(target=_run, args=(planned, jobs))
    (running or Running()).join(process)
    if process.exitcode == 0:
        return Ended()
    if (process.exitcode or 0) < 0:
        return Ended(f"its process was killed by signal {-(process.exitcode or 0)}")
    lines = log.read_bytes()[before:].decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"its process ended with exit code {process.exitcode}"
    return Ended(reason, refused=process.exitcode == REFUSED)


def run_in(folder: Path, planned: PlannedRun) -> Ended:
    """Train one run on a machine of a cluster; relative paths start at `folder`, where the suite was started."""
    try:
        os.chdir(folder)
    except OSError as error:
        return Ended(f"{platform.node()} lacks {folder} ({error.strerror}): share the folder among the machines")
    return run(planned, 1)


def _run(planned: PlannedRun, jobs: int | None) -> None:
    """Train one run, with all of its output redirected to its log file."""
    end_with_parent()
    ignore_interrupts()
    with log_file(planned).open("a", encoding="utf-8") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        Experiment(replace(planned.config, jobs=jobs), others=planned.config.out.parent).run()
    except CmkdError as error:
        print(error, flush=True)
        sys.exit(1 if isinstance(error, DiedError) else REFUSED)
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"{said} (see {log_file(planned)})", flush=True)
        sys.exit(1)
