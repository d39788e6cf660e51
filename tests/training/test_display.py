"""What is said about the trainings of a run, as lines and as bars."""

from __future__ import annotations

import io
import pickle
import sys
from itertools import count

import pytest

from cmkd.config import TrainerConfig
from cmkd.training.display import TrainingDisplay, style
from cmkd.training.reporting import SECONDS, Report

TITLES = ["teacher", "none, seed 0", "kd(temperature=[2]), seed 0", "none, seed 1"]


def report(title: str, fraction: float, *, epochs: int = 40, ended: bool = True) -> Report:
    accuracy = fraction / 2 if ended else None
    return Report(title, fraction, round(fraction * epochs), epochs, accuracy, ended, ended and fraction == 1.0)


@pytest.fixture
def _ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten seconds pass between two looks at the clock."""
    clock = count(step=10.0)
    monkeypatch.setattr("cmkd.training.display.time.monotonic", lambda: next(clock))


@pytest.mark.usefixtures("_ticking")
def test_a_line_says_which_of_how_many_what_accuracy_and_how_long_still(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay(TITLES, ended=TITLES[:1], jobs=2)
    display(report(TITLES[1], 0.0, ended=False))
    display(report(TITLES[1], 0.5))
    display(report(TITLES[1], 0.55, ended=False))  # within an epoch: no line
    display.end(TITLES[1])
    display(report(TITLES[2], 0.25, ended=False))  # resumed: only what follows counts for the pace
    display(report(TITLES[2], 1.0))
    assert capsys.readouterr().err.splitlines() == [
        # ten seconds for one half; 2.5 trainings are left, for two processes
        "[2/4] none, seed 0: epoch 20 of at most 40, validation 25.0 %, about 20 s left in all",
        # thirty seconds for 1 + 0.75 trainings
        "[3/4] kd(temperature=[2]), seed 0: epoch 40 of at most 40, validation 50.0 %, about 20 s left in all",
    ]
    display.end(TITLES[2])
    display.end(TITLES[3])
    assert display.remaining() == 0.0


@pytest.mark.usefixtures("_ticking")
def test_the_others_wait_for_the_teacher() -> None:
    display = TrainingDisplay(TITLES, alone=["teacher"], jobs=3, style="none")
    display(report("teacher", 0.0))
    assert display.remaining() is None
    display(report("teacher", 0.5))
    assert display.remaining() == 20.0 * (0.5 + 1.0)


@pytest.mark.usefixtures("_ticking")
def test_about_ten_lines_a_training_and_one_in_long_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay(TITLES)
    for epoch in range(101):
        display(report("teacher", epoch / 100, epochs=100))
    assert len(capsys.readouterr().err.splitlines()) == 11
    for step in range(60):
        display(report("none, seed 1", step / 1000, epochs=1, ended=False))
    assert len(capsys.readouterr().err.splitlines()) == 1  # of 590 seconds


def test_bars_show_the_run_and_each_training_and_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert style(TrainerConfig()) == "bars" and style(TrainerConfig(devices=2)) == "lines"
    with TrainingDisplay(TITLES, style="bars") as display:
        display(report(TITLES[1], 0.5))
        display(report(TITLES[2], 0.25))
        assert pickle.loads(pickle.dumps(display)).titles == TITLES  # as it goes to the processes of several devices
        assert display._bars is not None
        assert display._bars.progress.live.refresh_per_second * SECONDS == 1.0  # drawn once a report
        display._bars.progress.refresh()
        shown = terminal.getvalue()
        display.end(TITLES[2])
    assert all(
        words in shown for words in ("run", "0 of 4 trained", *TITLES[1:3], "epoch 20 of at most 40, validation 25.0 %")
    )
    assert f"{TITLES[2]}: epoch 10 of at most 40, validation 12.5 %" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")  # the last act erases a bar


def test_nothing_is_shown_where_nothing_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert style(TrainerConfig(progress="none")) == "none" and style(TrainerConfig()) == "lines"
    TrainingDisplay(TITLES, style="none")(report("teacher", 1.0))
    assert capsys.readouterr() == ("", "")
