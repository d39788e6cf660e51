"""The one display of a run's trainings on stderr: bars on a terminal, about ten lines a training elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from cmkd.config import TrainerConfig

if TYPE_CHECKING:
    from rich.progress import Progress

    from cmkd.training.reporting import Report

Style = Literal["none", "lines", "bars"]
LINE_SECONDS = 300.0
"""Longest time without a line about a training, however long its epochs are."""
REFRESHES = 2
"""Times a second that the bars are drawn, as often as there is a report (`cmkd.training.reporting`)."""


def style(trainer: TrainerConfig) -> Style:
    """Return how progress is shown: several devices report from processes of their own, where bars cannot be closed."""
    if trainer.progress == "none":
        return "none"
    return "bars" if sys.stderr.isatty() and trainer.devices * trainer.num_nodes == 1 else "lines"


def duration(seconds: float) -> str:
    """Return a rough time in words.

    Example:
        >>> duration(12), duration(200), duration(9000)
        ('10 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass
class _Clock:
    """The time that one training took in this call, and how far it came."""

    started: float
    first: float
    latest: float
    fraction: float


class TrainingDisplay:
    """Show where the trainings of a run are: which of how many, what accuracy, how long still.

    It is called with each `Report`. A context manager, whose end removes the bars.

    Args:
        titles: all trainings, in order.
        ended: titles of those that ended before.
        alone: titles of trainings that run one after another before the others.
        jobs: number of the others that run at the same time.
        style: how to show it.

    Example:
        >>> from cmkd.training.reporting import Report
        >>> display = TrainingDisplay(["teacher", "kd, seed 0"], ended=["teacher"])
        >>> display.line(Report("kd, seed 0", 0.5, 20, 40, 0.612))
        '[2/2] kd, seed 0: epoch 20 of at most 40, validation 61.2 %'
    """

    def __init__(
        self,
        titles: Sequence[str],
        *,
        ended: Collection[str] = (),
        alone: Collection[str] = (),
        jobs: int = 1,
        style: Style = "lines",
    ) -> None:
        self.titles, self.ended, self.alone, self.jobs, self.style = list(titles), set(ended), set(alone), jobs, style
        self._clocks: dict[str, _Clock] = {}
        self._printed: dict[str, float] = {}
        self._bars: _Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bars; the next report brings them back."""
        if self._bars is not None:
            self._bars.progress.stop()
            self._bars = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bars": None}  # a terminal belongs to one process

    def __call__(self, report: Report) -> None:
        """Take in where a training is, and show it."""
        now = time.monotonic()
        clock = self._clocks.setdefault(report.title, _Clock(now, report.fraction, now, report.fraction))
        clock.latest, clock.fraction = now, report.fraction
        if self.style == "bars":
            self._bars = self._bars or _Bars(len(self.titles))
            self._bars.show(report, self._done(), self._left())
        elif self.style == "lines":
            printed = self._printed.setdefault(report.title, now)
            tenth = report.epoch_ended and (report.last or report.epoch % max(1, report.epochs // 10) == 0)
            if tenth or now - printed >= LINE_SECONDS:
                self._printed[report.title] = now
                print(self.line(report), file=sys.stderr, flush=True)

    def end(self, title: str) -> None:
        """Note that a training is over, trained or not; the bars vanish where no other is at work."""
        self.ended.add(title)
        if self._bars is not None:
            self._bars.remove(title)
            if not self._bars.rows:
                self.close()

    def line(self, report: Report) -> str:
        """Return where a training is, in a line."""
        number = f"[{self.titles.index(report.title) + 1}/{len(self.titles)}]"
        return f"{number} {report.title}: {_state(report)}{self._left()}"

    def _fraction(self, title: str) -> float:
        clock = self._clocks.get(title)
        return 1.0 if title in self.ended else clock.fraction if clock else 0.0

    def _done(self) -> float:
        return sum(map(self._fraction, self.titles))

    def _left(self) -> str:
        seconds = self.remaining()
        return "" if not seconds else f", about {duration(seconds)} left in all"

    def remaining(self) -> float | None:
        """Estimate the seconds until all trainings are over, from the pace so far; None before there is one."""
        spent = sum(clock.latest - clock.started for clock in self._clocks.values())
        gained = sum(self._fraction(title) - clock.first for title, clock in self._clocks.items())
        if gained <= 0 or spent <= 0:
            return None
        left = {title: 1.0 - self._fraction(title) for title in self.titles}
        first = sum(left.pop(title) for title in self.alone)
        return spent / gained * (first + max(max(left.values(), default=0.0), sum(left.values()) / self.jobs))


def _state(report: Report) -> str:
    accuracy = "" if report.accuracy is None else f", validation {100 * report.accuracy:.1f} %"
    return f"epoch {report.epoch} of at most {report.epochs}{accuracy}"


class _Bars:
    """A bar for the run and one for each training at work.

    Args:
        trainings: their number.
    """

    def __init__(self, trainings: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        words = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
        columns = (next(words), BarColumn(), next(words))
        self.progress: Progress = Progress(
            *columns, console=Console(stderr=True), transient=True, refresh_per_second=REFRESHES
        )
        self.trainings = trainings
        self.whole = self.progress.add_task("run", total=trainings, state="")
        self.rows: dict[str, Any] = {}
        self.progress.start()

    def show(self, report: Report, done: float, left: str) -> None:
        """Move the bars of the run and of one training."""
        if report.title not in self.rows:
            self.rows[report.title] = self.progress.add_task(report.title, total=1.0, state="")
        self.progress.update(self.rows[report.title], completed=report.fraction, state=_state(report))
        self.progress.update(self.whole, completed=done, state=f"{int(done)} of {self.trainings} trained{left}")

    def remove(self, title: str) -> None:
        """Replace the bar of a training that is over by a line above the bars."""
        if title in self.rows:
            task = self.rows.pop(title)
            state = next(t.fields["state"] for t in self.progress.tasks if t.id == task)
            self.progress.remove_task(task)
            self.progress.console.print(f"{title}: {state}", markup=False, highlight=False)
