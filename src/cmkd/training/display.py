"""Display of the progress of trainings in a run or suite: number, accuracy and remaining time."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cmkd.config import TrainerConfig
from cmkd.processes import launched, launched_first
from cmkd.progress import Row, Screen, Style, duration

if TYPE_CHECKING:
    from cmkd.training.reporting import Report

LINE_SECONDS = 300.0
"""Longest time in seconds without a line about a training, however long its epochs are."""
PART = "trainings"


def style(trainer: TrainerConfig) -> Style | None:
    """Return the display style for trainings; None for the style that stderr can show.

    With several devices, separate processes report, and only lines of several processes can share a terminal.
    """
    if trainer.progress == "none" or not launched_first():
        return "none"
    return "lines" if launched() or trainer.devices > 1 else None


@dataclass
class _Clock:
    """Time that one training took in this call, and its progress."""

    started: float
    first: float
    latest: float
    report: Report


class TrainingDisplay:
    """Show the progress of trainings on a screen.

    Call it with each `Report`. As a context manager, it removes its rows at the end, except after an error or a stop.

    Args:
        screen: screen that shows the progress.
        titles: title of each training, in order -> its row, such as its method.
        ended: title -> result of each training that ended before.
        alone: titles of trainings that run one after another before the others.
        jobs: number of the other trainings that run at the same time.
        students: title -> number of students, if each training is a whole run; by default, each is a single student.

    Example:
        >>> from cmkd.training.reporting import Report
        >>> titles = {"teacher": "teacher", "kd, seed 0": "kd"}
        >>> display = TrainingDisplay(Screen("lines"), titles, ended={"teacher": "98.2 %"})
        >>> display.line(Report("kd, seed 0", 0.5, "epoch 20 of at most 40", 0.612))
        '[2/2] kd, seed 0: epoch 20 of at most 40, validation 61.2 %'
    """

    def __init__(
        self,
        screen: Screen,
        titles: Mapping[str, str],
        *,
        ended: Mapping[str, str] | None = None,
        alone: Collection[str] = (),
        jobs: int = 1,
        students: Mapping[str, int] | None = None,
    ) -> None:
        self.screen, self.titles, self.ended = screen, dict(titles), dict(ended or {})
        self.alone, self.jobs, self.students = set(alone), jobs, students
        self._sizes = dict(students or dict.fromkeys(titles, 1))
        self._clocks: dict[str, _Clock] = {}
        self._printed: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._show()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if error is None:
            self.screen.show(PART, ())

    def __call__(self, report: Report) -> None:
        """Record the progress of a training, and show it."""
        now = time.monotonic()
        clock = self._clocks.setdefault(report.title, _Clock(now, report.fraction, now, report))
        clock.latest, clock.report = now, report
        if self.screen.style == "lines":
            printed = self._printed.setdefault(report.title, now)
            if report.milestone or now - printed >= LINE_SECONDS:
                self._printed[report.title] = now
                self.screen.say(self.line(report))
        self._show()

    def end(self, title: str, result: str) -> None:
        """Record the result of a finished training, with a line of its own if it is a whole run."""
        self.ended[title] = result
        if self.students and self.screen.style == "lines":
            self.screen.say(self._line(title, result))
        self._show()

    def line(self, report: Report) -> str:
        """Return the progress of a training as one line."""
        return self._line(report.title, _state(report))

    def _line(self, title: str, state: str) -> str:
        number = f"[{list(self.titles).index(title) + 1}/{len(self.titles)}]"
        whole = f"; {self._whole()}" if self.students else ""
        left = f"{left} in all" if (left := self._left()) else ""
        return f"{number} {title}: {state}{whole}{left}"

    def _show(self) -> None:
        if self.screen.style == "live":
            rows = [Row("all", self._done() / max(1, sum(self._sizes.values())), f"{self._whole()}{self._left()}")]
            for name in dict.fromkeys(self.titles.values()):
                rows.append(self._row(name, [title for title, row in self.titles.items() if row == name]))
            self.screen.show(PART, rows)

    def _row(self, name: str, titles: Collection[str]) -> Row:
        """Return the row of the trainings with one name: each one that began, with its progress or result."""
        said, at_work = [], False
        for title in titles:
            label = title.removeprefix(name).lstrip(", ")
            if title in self.ended:
                said.append(f"{label} {self.ended[title]}".strip())
            elif title in self._clocks:
                said.append(": ".join(filter(None, (label, _state(self._clocks[title].report)))))
                at_work = True
        fraction = sum(map(self._fraction, titles)) / len(titles)
        return Row(name, fraction, " · ".join(said) or "waiting", at_work)

    def _fraction(self, title: str) -> float:
        clock = self._clocks.get(title)
        return 1.0 if title in self.ended else clock.report.fraction if clock else 0.0

    def _done(self) -> float:
        return sum(size * self._fraction(title) for title, size in self._sizes.items())

    def _whole(self) -> str:
        ended = f"{len(self.ended)} of {len(self.titles)}"
        if not self.students:
            return f"{ended} trained"
        reports = {title: clock.report.fraction for title, clock in self._clocks.items()}
        trained = sum(size * reports.get(title, title in self.ended) for title, size in self._sizes.items())
        return f"{round(trained)} of {sum(self._sizes.values())} students in all, {ended} runs"

    def _left(self) -> str:
        seconds = self.remaining()
        return "" if not seconds else f", about {duration(seconds)} left"

    def remaining(self) -> float | None:
        """Estimate the seconds until all trainings are over from the pace so far; None if there is no pace yet."""
        spent = sum(clock.latest - clock.started for clock in self._clocks.values())
        gained = sum(self._sizes[t] * (self._fraction(t) - clock.first) for t, clock in self._clocks.items())
        if gained <= 0 or spent <= 0:
            return None
        left = {title: size * (1.0 - self._fraction(title)) for title, size in self._sizes.items()}
        first = sum(left.pop(title) for title in self.alone)
        return spent / gained * (first + max(max(left.values(), default=0.0), sum(left.values()) / self.jobs))


def _state(report: Report) -> str:
    return report.state + ("" if report.accuracy is None else f", validation {100 * report.accuracy:.1f} %")
