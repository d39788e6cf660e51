"""Progress on stderr, one screen per process: rows that are redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.table import Table

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished units and the total number of units, 0 if the total is unknown."""
Style = Literal["none", "lines", "live"]
REFRESHES = 2
"""Redraws of the screen per second, as often as a training reports (`cmkd.training.reporting`)."""
ECHO = 3
"""Columns left free for the ^C that a terminal writes after the last row; on its own line it would move the rows."""
WIDE, NARROW = 90, 60
"""Terminal widths in columns from which a bar is long, and below which there is no bar."""


class Row(NamedTuple):
    """Progress of one piece of work.

    Attributes:
        title: title of the work.
        fraction: fraction that is done; None if it is unknown.
        text: text after the bar.
        at_work: whether the work is running; finished rows are hidden if the terminal is too short.
    """

    title: str
    fraction: float | None = None
    text: str = ""
    at_work: bool = True


class Screen:
    """Shows rows, and lines that stay; get it from `screen`, since a process has only one.

    Args:
        style: ``live`` redraws rows and needs a terminal; ``lines`` shows only lines; ``none`` shows nothing.
    """

    def __init__(self, style: Style) -> None:
        self.style = style
        self._parts: dict[str, Sequence[Row]] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.style == "live":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=REFRESHES)
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.transient = not self._parts  # rows left by an early stop stay readable
            self._live.stop()
            self._live = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_live": None}  # a terminal belongs to one process

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if self.style != "none":
            with suppress(OSError):  # the reader of the progress is gone; the work goes on
                print(line, file=sys.stderr, flush=True)  # above the rows: rich catches what is printed

    def show(self, part: str, rows: Sequence[Row]) -> None:
        """Replace the rows of a part of the screen; a part without rows is removed."""
        new = part not in self._parts
        if rows:
            self._parts[part] = rows
        else:
            self._parts.pop(part, None)
        if self._live is not None:
            drawn = _Drawing([row for rows in list(self._parts.values()) for row in rows])
            self._live.update(drawn, refresh=new)  # the next work may block other threads, as imports do


class _Drawing(list[Row]):
    """Rows in a form that rich draws, for any size of the terminal."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        inner = options.update(width=max(1, options.max_width - ECHO))
        made = _table(self, inner.max_width)
        if len(console.render_lines(made, inner)) >= console.size.height:
            rows = [row for row in self if row.at_work]
            made = _table([*rows, Row(f"and {len(self) - len(rows)} more")], inner.max_width)
        yield from console.render(made, inner)


def _table(rows: Sequence[Row], width: int) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    made, bar = Table.grid(padding=(0, 1)), 24 if width >= WIDE else 12
    for title, fraction, text, _ in rows:
        if width < NARROW:
            made.add_row(Text(": ".join(filter(None, (title, text))), overflow="fold"))
            continue
        drawn = "" if fraction is None else ProgressBar(total=1.0, completed=fraction, width=bar)
        made.add_row(Text(title, overflow="fold"), drawn, Text(text, overflow="fold"))
    return made


@contextmanager
def busy(on: Screen, what: str) -> Iterator[None]:
    """Show a row while a block runs that takes seconds and has no countable progress."""
    on.show(what, [Row(what)])
    try:
        yield
    finally:
        on.show(what, ())


_open: Screen | None = None


@contextmanager
def screen(style: Style | None = None) -> Iterator[Screen]:
    """Yield the screen of this process, and open it if it is not open.

    Args:
        style: style of a newly opened screen; by default ``live`` if stderr is a terminal, else ``lines``.
    """
    global _open
    if _open is not None:
        yield _open
        return
    live = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    with Screen(style or ("live" if live else "lines")) as _open:
        try:
            yield _open
        finally:
            _open = None


def leave_to_parent() -> None:
    """Show nothing from now on: the parent of this process shows the progress."""
    global _open
    _open = Screen("none")


def silent(done: int, total: int) -> None:
    """Show no progress."""


def adding(progress: Progress, total: int) -> Callable[[float], None]:
    """Return a function that adds to the number of finished units.

    Example:
        >>> add = adding(lambda done, total: print(done, "of", total), 4)
        >>> add(1.5), add(2.5)
        2 of 4
        4 of 4
        (None, None)
    """
    ended = 0.0

    def add(units: float) -> None:
        nonlocal ended
        ended += units
        progress(round(ended), total)

    return add


@contextmanager
def shown(what: str, unit: str = "pairs", *, idle: str = "") -> Iterator[Progress]:
    """Yield a callback that shows progress: a row on a terminal, a line per tenth elsewhere.

    Args:
        what: name of the work, such as ``"reading"``.
        unit: name of the counted units; ``bytes`` are shown as kB and MB.
        idle: text printed if there was nothing to do.
    """
    tenths, started, begun = set[int](), time.monotonic(), False

    def tell(done: int, total: int) -> None:
        nonlocal begun
        begun = True
        if on.style == "lines" and total and (tenth := 10 * done // total) not in tenths:
            tenths.add(tenth)
            on.say(f"{what}: {done} of {total} {unit}")
        on.show(what, [Row(what, done / total if total else None, _count(done, total, unit) + left(done, total))])

    def left(done: int, total: int) -> str:
        spent = time.monotonic() - started
        return f", about {duration(spent * (total - done) / done)} left" if 0 < done < total and spent > 1 else ""

    with screen() as on, busy(on, what):
        yield tell
        if idle and not begun:
            on.say(f"{what}: {idle}")


def _count(done: int, total: int, unit: str) -> str:
    if unit != "bytes":
        return f"{done} of {total} {unit}" if total else f"{done} {unit}"
    from rich.filesize import decimal

    return f"{decimal(done)} of {decimal(total)}" if total else decimal(done)


def duration(seconds: float) -> str:
    """Return a duration as rounded text.

    Example:
        >>> duration(12), duration(200), duration(9000)
        ('10 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
