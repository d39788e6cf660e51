"""Does the recipe train to convergence? Teacher and student alone, with the recipe and with four times its steps.

    python benchmarks/convergence.py digits 'marine(gap=0.75)' mars:DATA/mars

Each training is repeated without early stopping, with at least four times its steps; the weights are chosen by the same
rule, the best epoch on validation. The recipe passes where its validation accuracy is within 1 point of the longer
training. An interrupted run resumes, and data sets that were measured before stay in the table. Writes
``convergence.json`` and ``convergence.md`` after each data set.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cmkd.config import OptimizerConfig, RunConfig, TeacherConfig
from cmkd.documents import read_json
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from records import RESULTS, Records, command, percent, table, with_placeholder

HEADER = [
    "data set", "model", "train pairs", "steps", "leveled off", "validation", "at 4 x", "difference", "test", "at 4 x",
]  # fmt: skip
SCORES = ("validation_accuracy", "test_accuracy")


def train(reference: str, place: Path, teacher: Path | None) -> None:
    """Train teacher and student alone with the recipe, then each with four times its own steps."""
    trained = TeacherConfig(checkpoint=teacher)
    config = RunConfig(reference, place / "recipe", "none", seeds=1, preset="full", teacher=trained)
    results = Experiment(config).run()
    longer = replace(config, optimizer=OptimizerConfig(early_stop=False))

    def four_times(row: dict[str, Any]) -> int:
        epoch = pd.read_csv((place / "recipe" / row["checkpoint"]).with_name("history.csv"))["step"].iloc[0]
        return math.ceil(4 * int(row["steps"]) / float(epoch))

    if not _complete(place / "longer"):  # a complete one also has a student with at least four times its steps
        given = replace(
            longer, teacher=TeacherConfig(checkpoint=teacher or place / "recipe" / "teacher/best.safetensors")
        )
        Experiment(replace(given, out=place / "longer-student", epochs=four_times(results["students"][0]))).run()
    if teacher is None:
        Experiment(replace(longer, out=place / "longer", epochs=four_times(results["teacher"]))).run()


def measured(reference: str, place: Path) -> list[dict[str, Any]]:
    """Return a row for the teacher, unless it was given, and one for the student."""
    short = read_json(place / "recipe" / "results.json")
    runs = [read_json(path) for path in sorted(place.glob("longer*/results.json"))]
    fours = {"teacher": [run["teacher"] for run in runs], "none": [run["students"][0] for run in runs]}
    rows = []
    for model, one in (("teacher", short["teacher"]), ("none", short["students"][0])):
        if "steps" not in one:
            continue
        four = next(row for row in fours[model] if row.get("steps", 0) >= 4 * one["steps"])
        rows.append(
            {
                **{"data": with_placeholder(reference), "model": model, "pairs": short["data"]["pairs"]["train"]},
                **{name: one[name] for name in ("steps", "converged", "commit", *SCORES)},
                **{f"{name}_longer": four[name] for name in SCORES},
            }
        )
    return rows


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the table."""
    gained = 100 * (row["validation_accuracy_longer"] - row["validation_accuracy"])
    validation, longer, test, test_longer = (percent(row[f"{name}{end}"]) for name in SCORES for end in ("", "_longer"))
    start = [row["data"], row["model"], str(row["pairs"]), str(row["steps"]), "yes" if row["converged"] else "no"]
    return [*start, validation, longer, f"{gained:+z.1f}" if gained <= 1 else f"**{gained:+z.1f}**", test, test_longer]


def _complete(run: Path) -> bool:
    path = run / "results.json"
    return path.exists() and bool(read_json(path)["complete"])


def write(records: Records, out: Path) -> None:
    """Write the table of all measured data sets."""
    rows = records.rows.values()
    data, commits = (dict.fromkeys(row[name] for row in rows) for name in ("data", "commit"))
    text = (
        "# Convergence\n\n"
        f"`{command('convergence.py', data)}`, commit {', '.join(commits)}.\n\n"
        "Accuracy in %, one seed. `none` is the student alone. *Leveled off*: whether validation stopped rising before "
        "the largest number of steps (`cmkd.training.schedule`). Bold: more than 1 point below four times the steps. "
        "Both columns of validation are the best epoch's, and the longer training has more epochs to choose from.\n\n"
    )
    write_text(out, f"{text}{table(HEADER, [cells(row) for row in rows], left=2)}\n")


def folder(runs: Path, reference: str) -> Path:
    """Return the folder of a data set's runs."""
    return runs / "".join(c if c.isalnum() else "-" for c in with_placeholder(reference).removesuffix(":DATA"))


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="as after --data of `cmkd run`")
    parser.add_argument("--teacher", type=Path, help="checkpoint of a trained one; only students are trained")
    parser.add_argument("--runs", type=Path, default=Path("runs/convergence"))
    parser.add_argument("--records", type=Path, default=RESULTS / "convergence.json")
    given = parser.parse_args()
    records = Records(given.records, identity=("data", "model"))
    for reference in given.data:
        place = folder(given.runs, reference)
        train(reference, place, given.teacher)
        for row in measured(reference, place):
            records.add(f"{row['data']}, {row['model']}", row)
        write(records, given.records.with_suffix(".md"))


if __name__ == "__main__":
    main()
