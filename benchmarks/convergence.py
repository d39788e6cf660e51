"""Does the recipe train to convergence? Teacher and student alone, with the recipe and with four times its steps.

    python benchmarks/convergence.py digits 'marine(gap=0.75)' mars:DATA/mars

At least four times the steps of each training are trained without early stopping, and the weights are chosen by the
same rule, the best epoch on validation. A recipe passes where validation is within 1 point of that. An interrupted run
resumes: what is trained is kept. Writes ``convergence.md``, also after each data set.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cmkd.config import OptimizerConfig, RunConfig, TeacherConfig
from cmkd.documents import read_json
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from records import RESULTS, about, percent, table, without_folder

HEADER = [
    "data set", "model", "train pairs", "steps", "leveled off", "validation", "at 4 x", "difference", "test", "at 4 x",
]  # fmt: skip


def train(reference: str, place: Path, teacher: Path | None) -> None:
    """Train teacher and student alone with the recipe, then each with four times its own steps."""
    trained = TeacherConfig(checkpoint=teacher)
    config = RunConfig(reference, place / "recipe", "none", seeds=1, preset="full", teacher=trained)
    results = Experiment(config).run()
    epoch = float(pd.read_csv(next((place / "recipe").glob("students/none/*/history.csv")))["step"].iloc[0])
    longer = replace(config, optimizer=OptimizerConfig(early_stop=False))

    def four_times(row: dict[str, Any]) -> int:
        return math.ceil(4 * int(row["steps"]) / epoch)

    if not _complete(place / "longer"):  # which trains a student too, for at least four times its steps
        given = replace(
            longer, teacher=TeacherConfig(checkpoint=teacher or place / "recipe" / "teacher/best.safetensors")
        )
        Experiment(replace(given, out=place / "longer-student", epochs=four_times(results["students"][0]))).run()
    if teacher is None:
        Experiment(replace(longer, out=place / "longer", epochs=four_times(results["teacher"]))).run()


def lines(reference: str, place: Path) -> list[list[str]]:
    """Return the rows of one data set, as far as they are trained."""
    name, rows = without_folder(reference), []
    if not _complete(place / "recipe"):
        return [[name, "not run yet", *[""] * (len(HEADER) - 2)]]
    short = read_json(place / "recipe" / "results.json")
    for role, one in (("teacher", short["teacher"]), ("none", short["students"][0])):
        if "steps" not in one:  # a teacher that was given
            continue
        paths = [path for kind in ("longer-student", "longer") if (path := place / kind / "results.json").exists()]
        found = [read_json(path) for path in paths]
        fours = [row for run in found for row in ([run["teacher"]] if role == "teacher" else run["students"])]
        four = next((row for row in fours if row.get("steps", 0) >= 4 * one["steps"]), None)
        cells = [name, role, str(short["data"]["pairs"]["train"]), str(one["steps"])]
        cells += ["yes" if one["converged"] else "no", percent(one["validation_accuracy"])]
        if four is None:
            rows.append([*cells, "not run yet", "", percent(one["test_accuracy"]), ""])
            continue
        gained = 100 * (four["validation_accuracy"] - one["validation_accuracy"])
        cells += [percent(four["validation_accuracy"]), f"{gained:+.1f}" if gained <= 1 else f"**{gained:+.1f}**"]
        rows.append([*cells, percent(one["test_accuracy"]), percent(four["test_accuracy"])])
    return rows


def _complete(run: Path) -> bool:
    path = run / "results.json"
    return path.exists() and bool(read_json(path)["complete"])


def write(references: Sequence[str], runs: Path, out: Path) -> None:
    """Write the table of what is trained."""
    found = [line for reference in references for line in lines(reference, folder(runs, reference))]
    text = (
        "# Convergence\n\n"
        f"`python benchmarks/convergence.py {' '.join(repr(without_folder(r)) for r in references)}`, "
        f"{about()}.\n\n"
        "Accuracy in %, one seed. `none` is the student alone. *Leveled off*: whether validation stopped rising before "
        "the largest number of steps (`cmkd.training.schedule`). Bold: more than 1 point below four times the steps. "
        "Both columns of validation are the best epoch's, and the longer training has more epochs to choose from.\n\n"
    )
    write_text(out, f"{text}{table(HEADER, found, left=2)}\n")


def folder(runs: Path, reference: str) -> Path:
    """Return where the runs of a data set are."""
    return runs / "".join(c if c.isalnum() else "-" for c in without_folder(reference).removesuffix(":DATA"))


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="as after --data of `cmkd run`")
    parser.add_argument("--teacher", type=Path, help="checkpoint of a trained one; only students are trained")
    parser.add_argument("--runs", type=Path, default=Path("runs/convergence"))
    parser.add_argument("--out", type=Path, default=RESULTS / "convergence.md")
    given = parser.parse_args()
    for reference in given.data:
        train(reference, folder(given.runs, reference), given.teacher)
        write(given.data, given.runs, given.out)


if __name__ == "__main__":
    main()
