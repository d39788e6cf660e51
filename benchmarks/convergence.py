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

import pandas as pd

from cmkd.config import OptimizerConfig, RunConfig, StudentConfig, TeacherConfig
from cmkd.documents import read_json
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from records import RESULTS, about, percent, table, without_folder

HEADER = [
    "data set", "model", "train pairs", "steps", "leveled off", "validation", "at 4 x", "difference", "test", "at 4 x",
]  # fmt: skip


def train(reference: str, place: Path, size: int | None) -> None:
    """Train teacher and student alone with the recipe, then with four times the steps."""
    config = RunConfig(
        reference,
        place / "recipe",
        "none",
        seeds=1,
        preset="full",
        teacher=TeacherConfig(size=size),
        student=StudentConfig(size=size),
    )
    results = Experiment(config).run()
    teacher, student = results["teacher"]["steps"], results["students"][0]["steps"]
    epoch = pd.read_csv(place / "recipe" / "teacher" / "history.csv")["step"].iloc[0]
    longer = replace(config, optimizer=OptimizerConfig(early_stop=False))
    Experiment(replace(longer, out=place / "longer", epochs=math.ceil(4 * teacher / epoch))).run()
    if student > teacher:
        trained = replace(config.teacher, checkpoint=place / "recipe" / "teacher" / "best.safetensors")
        epochs = math.ceil(4 * student / epoch)
        Experiment(replace(longer, out=place / "longer-student", epochs=epochs, teacher=trained)).run()


def lines(reference: str, place: Path) -> list[list[str]]:
    """Return the rows of one data set, as far as they are trained."""
    name, found = without_folder(reference), [place / kind / "results.json" for kind in ("recipe", "longer")]
    if not all(path.exists() and read_json(path)["complete"] for path in found):
        return [[name, "not run yet", *[""] * (len(HEADER) - 2)]]
    short, long = (read_json(path) for path in found)
    other = place / "longer-student" / "results.json"
    students = read_json(other) if other.exists() and read_json(other)["complete"] else long
    pairs = {"teacher": (short["teacher"], long["teacher"]), "none": (short["students"][0], students["students"][0])}
    rows = []
    for role, (one, four) in pairs.items():
        gained = 100 * (four["validation_accuracy"] - one["validation_accuracy"])
        cells = [name, role, str(short["data"]["pairs"]["train"]), str(one["steps"])]
        cells += ["yes" if one["converged"] else "no", percent(one["validation_accuracy"])]
        cells += [percent(four["validation_accuracy"]), f"{gained:+.1f}" if gained <= 1 else f"**{gained:+.1f}**"]
        rows.append([*cells, percent(one["test_accuracy"]), percent(four["test_accuracy"])])
    return rows


def write(references: Sequence[str], runs: Path, out: Path, size: int | None) -> None:
    """Write the table of what is trained."""
    found = [line for reference in references for line in lines(reference, folder(runs, reference))]
    text = (
        "# Convergence\n\n"
        f"`python benchmarks/convergence.py {' '.join(repr(without_folder(r)) for r in references)}"
        f"{'' if size is None else f' --size {size}'}`, {about()}.\n\n"
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
    parser.add_argument("--size", type=int, help="resize images")
    parser.add_argument("--runs", type=Path, default=Path("runs/convergence"))
    parser.add_argument("--out", type=Path, default=RESULTS / "convergence.md")
    given = parser.parse_args()
    for reference in given.data:
        train(reference, folder(given.runs, reference), given.size)
        write(given.data, given.runs, given.out, given.size)


if __name__ == "__main__":
    main()
