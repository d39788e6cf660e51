"""Processes side by side: the cores they may use, their start, and their end with the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

CGROUP = Path("/sys/fs/cgroup")


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


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """Let processes start without the user's script, which they would run again, unguarded code included.

    Nothing that they are sent may come from there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def end_with_parent() -> None:
    """End this process with the one that spawned it: it would wait for work forever, or meet its own successor."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
