"""How many steps does the stopping rule choose, and what accuracy is lost? Replayed on trainings without the rule.

    python benchmarks/stopping_rule.py runs/longer runs/eurosat_longer

Reads the ``history.csv`` of each training to the largest number of steps (``--optimizer.early_stop false``) under the
folders, and computes where the rule would have started the cooldown. Until then the learning rate is constant, so the
training is the same. The previous rule is shown beside it: it checked after every epoch from 2,000 steps on, with a
tolerance of 0.5 points. Writes ``stopping_rule.md``, and trains nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cmkd.documents import read_json
from cmkd.io import write_text
from cmkd.training.schedule import PlateauSchedule, still_rising
from records import RESULTS, table

WINDOW = 500
HEADER = ["data set", "model", "val. pairs", "accuracy", "steps, every epoch", "missed", "steps, doublings", "missed"]


def every_epoch(steps: list[int], accuracies: list[float]) -> int:
    """Return the step at which the cooldown starts if validation is checked after every epoch."""
    latest = PlateauSchedule(steps[-1]).latest
    asked = (done for done, step in enumerate(steps, 1) if 2000 <= step <= latest)
    return next((steps[done - 1] for done in asked if not still_rising(accuracies[:done], 0.005)), latest)


def by_rule(steps: list[int], accuracies: list[float]) -> int:
    """Return the step at which the rule starts the cooldown."""
    schedule = PlateauSchedule(steps[-1], epoch=steps[0])
    for done, step in enumerate(steps, 1):
        schedule.observe(step, accuracies[:done])
    return schedule.cooldown_start or schedule.latest


RULES: tuple[Callable[[list[int], list[float]], int], ...] = (every_epoch, by_rule)


def trainings(folder: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield the labels and the numbers of each training.

    The numbers are the accuracy at the latest cooldown, then the steps and the points missed by each rule.
    """
    for settings in sorted(folder.rglob("settings.json")):
        if read_json(settings)["optimizer"]["early_stop"]:
            continue
        data, epochs = read_json(settings.with_name("results.json"))["data"], read_json(settings)["epochs"]
        for path in sorted(settings.parent.rglob("history.csv")):
            history = pd.read_csv(path)
            if len(history) < epochs:
                continue
            steps, window = history["step"].astype(int), max(1, round(WINDOW / history["step"].iloc[0]))
            accuracy = 100 * history["validation_accuracy"].rolling(window).mean()
            latest, *chosen = (
                np.array([start, accuracy[steps <= start].max()])
                for start in (
                    PlateauSchedule(int(steps.iloc[-1])).latest,
                    *(rule(steps.tolist(), history["validation_accuracy"].tolist()) for rule in RULES),
                )
            )
            model = "teacher" if path.parent.name == "teacher" else path.parents[1].name
            missed = [(start, latest[1] - mean) for start, mean in chosen]
            yield [data["name"], model, str(data["pairs"]["validation"])], np.array([latest[1], *sum(missed, ())])


def write(folders: list[Path], out: Path) -> None:
    """Write the table."""
    words, numbers = zip(*(training for folder in folders for training in trainings(folder)), strict=True)
    means = np.mean(numbers, axis=0)
    cells = [
        [*start, f"{end:.1f}", f"{first:.0f}", f"{lost:+z.1f}", f"{second:.0f}", f"{less:+z.1f}"]
        for start, (end, first, lost, second, less) in zip([*words, ["mean", "", ""]], [*numbers, means], strict=True)
    ]
    write_text(
        out,
        "# The rule that ends a training\n\n"
        f"`python benchmarks/stopping_rule.py {' '.join(f'runs/{folder.name}' for folder in folders)}`, "
        f"{len(numbers)} trainings to the largest number of steps.\n\n"
        f"Accuracy: on validation in %, the highest mean over {WINDOW} steps at the constant learning rate. Steps: "
        "where the cooldown would have started, had validation been asked after every epoch from 2,000 steps on "
        "(tolerance 0.5 points), or as the rule does (`cmkd.training.schedule`). Missed: how much lower the highest "
        "mean was until then, in points.\n\n"
        f"{table(HEADER, cells, left=2)}\n",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    write(parser.parse_args().runs, RESULTS / "stopping_rule.md")
