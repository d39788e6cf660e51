"""The progress of the trainings of a run, as lines and as bars."""

from __future__ import annotations

import io
import sys
from itertools import count

import pytest

from cmkd.config import TrainerConfig
from cmkd.progress import REFRESHES, Row, Screen, screen, shown
from cmkd.training.display import TrainingDisplay, style
from cmkd.training.reporting import SECONDS, Report

TITLES = ["teacher", "none, seed 0", "kd(temperature=[2]), seed 0", "none, seed 1"]
ROWS = {title: title.rpartition(", ")[0] or title for title in TITLES}


def report(title: str, fraction: float, *, epochs: int = 40, ended: bool = True) -> Report:
    epoch, accuracy = round(fraction * epochs), fraction / 2 if ended else None
    tenth = ended and epoch % max(1, epochs // 10) == 0
    return Report(title, fraction, f"epoch {epoch} of at most {epochs}", accuracy, tenth)


@pytest.fixture
def _ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten seconds pass between two readings of the clock."""
    clock = count(step=10.0)
    monkeypatch.setattr("cmkd.training.display.time.monotonic", lambda: next(clock))


@pytest.mark.usefixtures("_ticking")
def test_a_line_says_which_of_how_many_what_accuracy_and_how_long_still(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay(Screen("lines"), ROWS, ended={TITLES[0]: "90.0 %"}, jobs=2)
    display(report(TITLES[1], 0.0, ended=False))
    display(report(TITLES[1], 0.5))
    display(report(TITLES[1], 0.55, ended=False))  # no line within an epoch
    display.end(TITLES[1], "25.0 %")
    display(report(TITLES[2], 0.25, ended=False))  # resumed, so only later progress counts for the pace
    display(report(TITLES[2], 1.0))
    assert capsys.readouterr().err.splitlines() == [
        # ten seconds for half a training; 2.5 trainings are left for two processes
        "[2/4] none, seed 0: epoch 20 of at most 40, validation 25.0 %, about 20 s left in all",
        # thirty seconds for 1 + 0.75 trainings
        "[3/4] kd(temperature=[2]), seed 0: epoch 40 of at most 40, validation 50.0 %, about 20 s left in all",
    ]
    display.end(TITLES[2], "50.0 %")
    display.end(TITLES[3], "50.0 %")
    assert display.remaining() == 0.0


@pytest.mark.usefixtures("_ticking")
def test_the_others_wait_for_the_teacher() -> None:
    display = TrainingDisplay(Screen("none"), ROWS, alone=["teacher"], jobs=3)
    display(report("teacher", 0.0))
    assert display.remaining() is None
    display(report("teacher", 0.5))
    assert display.remaining() == 20.0 * (0.5 + 1.0)


@pytest.mark.usefixtures("_ticking")
def test_about_ten_lines_a_training_and_one_in_long_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay(Screen("lines"), ROWS)
    for epoch in range(101):
        display(report("teacher", epoch / 100, epochs=100))
    assert len(capsys.readouterr().err.splitlines()) == 11
    for step in range(60):
        display(report("none, seed 1", step / 1000, epochs=1, ended=False))
    assert len(capsys.readouterr().err.splitlines()) == 1  # in 590 seconds


@pytest.mark.usefixtures("_ticking")
def test_a_suite_counts_its_students(capsys: pytest.CaptureFixture[str]) -> None:
    students = {"digits, few": 10, "digits, all": 30}
    display = TrainingDisplay(Screen("lines"), {title: title for title in students}, jobs=2, students=students)
    display(Report("digits, few", 0.5, "5 of 10 students"))  # trained by an earlier call
    display(Report("digits, all", 0.0, "0 of 30 students"))
    display(Report("digits, all", 0.2, "6 of 30 students", milestone=True))
    # six students in ten seconds; the larger run has 24 left and ends last
    assert capsys.readouterr().err.splitlines() == [
        "[2/2] digits, all: 6 of 30 students; 11 of 40 students in all, 0 of 2 runs, about 40 s left in all"
    ]
    display(Report("digits, few", 1.0, "10 of 10 students"))
    display.end("digits, few", "trained")
    display.end("digits, all", "failed: out of memory")
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] digits, few: trained; 16 of 40 students in all, 1 of 2 runs, about 90 s left in all",
        "[2/2] digits, all: failed: out of memory; 16 of 40 students in all, 2 of 2 runs",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Terminal:
    """Replace stderr by a terminal until the end of the test, and return it."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    for name, value in ({"TERM": "xterm", "COLUMNS": "120", "LINES": "20"} | settings).items():
        monkeypatch.setenv(name, value)
    return made


def test_a_row_a_method_tells_of_its_seeds_and_the_rows_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    made = terminal(monkeypatch)
    assert style(TrainerConfig()) is None and style(TrainerConfig(devices=2)) == "lines"
    assert REFRESHES * SECONDS == 1.0  # drawn once per report
    with screen() as on, TrainingDisplay(on, ROWS, ended={"teacher": "90.0 % (found)"}) as display:
        display(report(TITLES[1], 0.5))
        display.end(TITLES[1], "61.2 %")
        display(report(TITLES[3], 0.25))
        with shown("reading", "samples") as progress, screen() as same:
            progress(30, 60)
            assert same is on
            assert on._live is not None
            on._live.refresh()
        drawn = made.getvalue()
    for words in ("2 of 4 trained", "90.0 % (found)", "30 of 60 samples", "kd(temperature=[2])", "waiting"):
        assert words in drawn
    assert "seed 0 61.2 % · seed 1: epoch 10 of at most 40, validation 12.5 %" in drawn
    assert made.getvalue().endswith("\x1b[1A\x1b[2K")  # at the end, a row is erased


def test_rows_of_what_was_stopped_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    made = terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), screen() as on, TrainingDisplay(on, ROWS):
        raise KeyboardInterrupt
    last = made.getvalue().splitlines()
    assert "waiting" in last[-2] and last[-1] == "\x1b[?25h"  # nothing is erased, and the cursor is back


def test_a_low_terminal_shows_what_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made = terminal(monkeypatch)
    with screen() as on:
        on.show("many", [Row(f"run {k}", 0.5, at_work=k == 33) for k in range(50)])
    assert "run 33" in made.getvalue() and "and 49 more" in made.getvalue()
    assert "run 7 " not in made.getvalue()


def test_a_narrow_terminal_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    made = terminal(monkeypatch, COLUMNS="24")
    with screen() as on:
        on.show("a", [Row("a-method-with-a-very-long-name", 0.5, "seed 0 61.2 % · seed 1 60.0 %")])
    words = "".join(made.getvalue().split())
    assert "a-method-with-a-very-long-name:seed061.2%·seed160.0%" in words


def test_a_terminal_that_draws_nothing_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    made = terminal(monkeypatch, TERM="dumb")
    with shown("reading", idle="nothing to do"):
        pass
    with shown("reading", "bytes") as progress:
        progress(500, 1000)
    assert made.getvalue() == "reading: nothing to do\nreading: 500 of 1000 bytes\n"


def test_nothing_is_shown_where_nothing_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert style(TrainerConfig(progress="none")) == "none"
    with screen("none") as on, TrainingDisplay(on, ROWS) as display, shown("reading", idle="nothing to do"):
        display(report("teacher", 1.0))
        on.say("a line")
    assert capsys.readouterr() == ("", "")
