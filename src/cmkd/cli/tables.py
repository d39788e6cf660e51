"""Tables and progress of the commands: formatted on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from cmkd.data.manifest.build import Progress


def table(*columns: str) -> Table:
    """Return an empty table."""
    made = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(*tables: Table) -> None:
    """Print tables."""
    # off a terminal nothing is wrapped, so that the output can be searched line by line
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    with console.capture() as captured:
        for each in tables:
            console.print(each)
            console.print()
    print("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()))


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress callback that shows a bar on a terminal and a line per tenth elsewhere, on stderr."""
    if not sys.stderr.isatty():
        tenths: set[int] = set()

        def line(done: int, total: int) -> None:
            if (tenth := 10 * done // total) not in tenths:
                tenths.add(tenth)
                print(f"reading {done} of {total} pairs", file=sys.stderr, flush=True)

        yield line
        return
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task: Any = bar.add_task("reading pairs", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
