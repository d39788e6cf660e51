"""Keeping two processes that write to one folder apart, and removing what a killed one left."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: no advisory locks, so two writers are not kept apart there
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 60.0


def lock(folder: Path, *, wait: bool = False) -> int | None:
    """Return a descriptor that locks `folder` while it is open, -1 where there are no locks, None if it is taken.

    Args:
        folder: to lock.
        wait: until it is free, instead of returning None.
    """
    if fcntl is None:  # pragma: no cover  # Windows
        return -1
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # pragma: no cover  # a network file system without locks
        os.close(descriptor)
        return -1
    return descriptor


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process holds `folder`, and hold it; does nothing where there are no locks."""
    descriptor = lock(folder, wait=True)
    try:
        yield
    finally:
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)


def sweep(destination: Path) -> None:
    """Remove half-built siblings whose writer was killed: they are unlocked and no longer new."""
    for folder in destination.parent.glob(f".{destination.name}.*.tmp"):
        try:
            old = time.time() - folder.stat().st_mtime > STALE_SECONDS
            descriptor = lock(folder) if old else None
        except OSError:
            continue
        if descriptor is not None and descriptor >= 0:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
