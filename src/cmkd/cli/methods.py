"""``cmkd methods``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cmkd.cli.parsing import call
from cmkd.errors import CmkdError
from cmkd.methods.pages import Page, page, pages, write_markdown

PIPED_WIDTH = 160
"""Width of the output in columns if it does not go to a terminal."""


def methods(name: str | None = None, *, markdown: Path | None = None) -> None:
    """List the distillation methods, or show one.

    Args:
        name: the method to show with its hyperparameters; all are listed without it.
        markdown: write one Markdown page per method and an index into this folder instead.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    if markdown is not None and name is not None:
        raise CmkdError(f"--markdown writes the pages of all methods; leave out '{name}'")
    if markdown is not None:
        chosen = write_markdown(markdown)
        print(f"{len(chosen) - 1} pages and {chosen[0]}")
    elif name is None:
        console.print(overview(pages()))
    else:
        show(page(name), console)


def overview(found: Sequence[Page]) -> Table:
    """Return the table of all methods."""
    table = Table(title=f"{len(found)} methods; `cmkd methods NAME` shows one", title_justify="left")
    for column in ("name", "kind", "idea", "needs", "paper"):
        table.add_column(column, no_wrap=column in ("name", "kind"), overflow="fold")
    for p in found:
        table.add_row(*(Text(cell) for cell in (p.name, p.kind, p.idea, ", ".join(p.needs), p.paper)))
    return table


def show(p: Page, console: Console) -> None:
    """Print one method's page."""
    console.print(Text(p.name, style="bold"), Text(f"({p.kind})"))
    for paragraph in (p.idea, *p.details):
        console.print(Text(f"\n{paragraph}"))
    table = Table(title="options", title_justify="left")
    for column in ("name", "type", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for h in p.hyperparameters:
        table.add_row(*(Text(cell) for cell in (h.name, h.type, h.default, h.text)))
    if p.hyperparameters:
        console.print(table)
    console.print(Text(f"needs: {', '.join(p.needs) or 'nothing'}"))
    if p.trains_teacher:
        console.print(Text("the teacher is trained together with the student"))
    if p.paper:
        console.print(Text(f"paper: {p.paper}"))
    if p.bibtex:
        console.print(Text(f"\n{p.bibtex}"))


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(methods, arguments, prog="cmkd methods")
