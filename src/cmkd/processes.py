"""Parallel processes: the cores and memory they may use, their launcher, and their end together with their parent."""

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
"""Seconds that a process may take to stop before it is killed."""
_SCRIPT = threading.Lock()
"""Lock held while the user's script is hidden, which only one thread may do at a time."""


def usable_cores() -> int:
    """Return the number of cores that this process may use, within its affinity mask and a container's limits."""
    from joblib import cpu_count  # type: ignore[import-untyped]  # comes with scikit-learn

    return int(cpu_count())


def free_memory(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the memory in bytes available to new processes, within a container's limit; None if it is unknown.

    Args:
        cgroup: folder of the container's limits.
        meminfo: file with the memory statistics of the system.
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
    """Return whether srun started this process as one of several tasks that train together.

    The check uses a variable of a Slurm step, which only srun sets; a batch script has most other Slurm variables. A
    single task starts its own processes.
    """
    return "TORCHELASTIC_RUN_ID" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def launched() -> tuple[int, int] | None:
    """Return the numbers of processes per node and of nodes that torchrun or srun started; None without a launcher.

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
    """Return whether this process is the first that torchrun or srun started; True without a launcher."""
    return int(os.environ.get("SLURM_PROCID" if by_srun() else "RANK", "0")) == 0


def leave_tasks() -> None:
    """Make this process and its children train alone, although torchrun or srun started it among others.

    An example is a worker of a Ray cluster that srun started.
    """
    if by_srun() or "TORCHELASTIC_RUN_ID" in os.environ:
        for name in (
            *("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
            *("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        ):
            os.environ.pop(name, None)


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """Start processes in this block without the user's script, which they would run again, unguarded code included.

    Objects sent to these processes must not be defined in the script.
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
    """Start processes in this block with Ctrl-C blocked, because the parent handles it for all, and `without_script`.

    Each started process must first call `ignore_interrupts`.
    """
    resource_tracker.ensure_running()  # if it started together with the process, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with without_script():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which started this process in a block of `starting`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end(processes: Collection[BaseProcess]) -> None:
    """Stop processes, by force if necessary; training can resume from their saved state either way."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(STOP_SECONDS)
        process.kill()


def end_with_parent() -> None:
    """End this process when its parent ends; else it would wait for work forever, or conflict with its successor."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
