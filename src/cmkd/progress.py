"""Progress of long work on stderr: a bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Called with the number of units that are done and the number of all units; 0 for all means that it is unknown."""


_left_to_parent = False


def leave_to_parent() -> None:
    """Show nothing from now on: this process works for another one, which has the one display."""
    global _left_to_parent
    _left_to_parent = True


@contextmanager
def shown(what: str, unit: str = "pairs") -> Iterator[Progress]:
    """Yield a callback that shows progress.

    Args:
        what: what is done, such as ``"reading"``.
        unit: what is counted; ``bytes`` are shown as kB and MB.
    """
    if _left_to_parent:
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        tenths: set[int] = set()

        def line(done: int, total: int) -> None:
            if total and (tenth := 10 * done // total) not in tenths:
                tenths.add(tenth)
                print(f"{what}: {done} of {total} {unit}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
