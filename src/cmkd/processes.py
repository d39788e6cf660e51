"""Processes side by side: the cores they may use, who started them, and their end with the one that did."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from cmkd.errors import CmkdError

CGROUP = Path("/sys/fs/cgroup")
STOP_SECONDS = 10.0
"""How long a process that is told to stop may take before it is killed."""
_SCRIPT = threading.Lock()
"""Held while the user's script is hidden, which threads must not do at once."""


def usable_cores() -> int:
    """Return the number of cores that this process may use, within its affinity mask and a container's limits."""
    from joblib import cpu_count  # type: ignore[import-untyped]  # comes with scikit-learn

    return int(cpu_count())


def free_memory(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that new processes may use, within a container's limit; None where the system does not say so.

    Args:
        cgroup: folder of the container's limits.
        meminfo: the system's memory.
    """
    try:
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return max(0, min(free, limit - int(used["anon"])))
    except (OSError, KeyError, ValueError):  # no container, or one without a limit ("max")
        return free


def by_srun() -> bool:
    """Return whether srun started this process as one of several tasks, each of which is a process of a training.

    Only srun sets variables of a step; a batch script has most others. A single task starts its own processes.
    """
    return "TORCHELASTIC_RUN_ID" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def launched() -> tuple[int, int] | None:
    """Return the processes a node and the nodes that torchrun or srun started this process among; None without them.

    Raises:
        CmkdError: srun started more tasks on one node than on another.
    """
    if by_srun():
        local, *others = os.environ["SLURM_STEP_TASKS_PER_NODE"].split(",")  # such as 4(x2)
        if others:
            raise CmkdError("srun started more tasks on one node than on another; use --ntasks-per-node")
        return int(local.partition("(")[0]), int(os.environ["SLURM_STEP_NUM_NODES"])
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    count = int(os.environ["LOCAL_WORLD_SIZE"])
    return count, int(os.environ["WORLD_SIZE"]) // count


def launched_first() -> bool:
    """Return whether this process is the first that torchrun or srun started; true without them."""
    return int(os.environ.get("SLURM_PROCID" if by_srun() else "RANK", "0")) == 0


def leave_tasks() -> None:
    """Make this process, and those that it starts, train alone, although torchrun or srun started it among others.

    A worker of a Ray cluster is such a process, where srun started the cluster.
    """
    if by_srun() or "TORCHELASTIC_RUN_ID" in os.environ:
        for name in (
            *("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
            *("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        ):
            os.environ.pop(name, None)


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """Let processes start without the user's script, which they would run again, unguarded code included.

    Nothing that they are sent may come from there.
    """
    with _SCRIPT:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Let processes start without Ctrl-C, which the parent handles for all, and `without_script`.

    What such a process does first is `ignore_interrupts`.
    """
    resource_tracker.ensure_running()  # if it starts with the process, it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with without_script():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which started this process within `starting`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end(processes: Collection[BaseProcess]) -> None:
    """Stop processes, if need be by force: what they saved is resumed either way."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(STOP_SECONDS)
        process.kill()


def end_with_parent() -> None:
    """End this process with the one that spawned it: it would wait for work forever, or meet its own successor."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
