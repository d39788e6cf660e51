"""Tables of the commands: formatted on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from cmkd.errors import one_line


class PlainTable(Table):
    """A table whose cells cannot contain line breaks or control sequences of the terminal."""

    def add_row(self, *cells: str) -> None:  # type: ignore[override]  # only text, unlike in rich
        """Add a row of text."""
        super().add_row(*map(one_line, cells))


def table(*columns: str) -> PlainTable:
    """Return an empty table."""
    made = PlainTable(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(*tables: Table) -> None:
    """Print tables."""
    # off a terminal nothing is wrapped, so that the output can be searched line by line
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for each in tables:
            console.print(each)
            console.print()
    print("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()))
