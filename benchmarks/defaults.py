"""Methods against `none` at several label fractions, with several teachers: how their defaults were chosen.

    python benchmarks/defaults.py digits terramind:DATA/terramind --methods 'kd,kd(weight=1),ds'

For each data set, fraction and teacher a run trains `none` and the methods with the same seeds; differences are paired
by seed. Methods are chosen on the validation columns; the test columns only report. An interrupted run resumes. Writes
``defaults.md``, also after each run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmkd.config import RunConfig
from cmkd.documents import read_json
from cmkd.experiment.runner import Experiment
from cmkd.expression import split_list
from cmkd.io import write_text
from convergence import folder
from records import RESULTS, about, difference, percent, table, without_folder

METHODS = "kd,ds,dist,fitnet,rkd,crd,sp"


def differences(runs: Sequence[dict[str, Any]], method: str, split: str) -> list[float]:
    """Return the accuracy of a method less that of `none`, for each teacher and seed."""
    found = []
    for run in runs:
        of = {(row["method"], row["seed"]): row[f"{split}_accuracy"] for row in run["students"]}
        found += [
            value - of["none", seed] for (name, seed), value in of.items() if name == method and ("none", seed) in of
        ]
    return found


def write(given: argparse.Namespace) -> None:
    """Write the table of what is trained."""
    lines = []
    for reference in given.data:
        for fraction in given.fractions:
            paths = [place(given, reference, fraction, teacher) / "results.json" for teacher in range(given.teachers)]
            runs = [read_json(path) for path in paths if path.exists()]
            for method in split_list(given.methods):
                values = {split: differences(runs, method, split) for split in ("validation", "test")}
                if not values["test"]:
                    continue
                of_none = [row["test_accuracy"] for run in runs for row in run["students"] if row["method"] == "none"]
                cells = [without_folder(reference), f"{fraction:g}", method, str(len(values["test"]))]
                cells += [difference(values["validation"]), difference(values["test"])]
                lines.append([*cells, percent(sum(of_none) / len(of_none))])
    header = ["data set", "labels", "method", "n", "validation, gain over none", "test, gain over none", "none, test %"]
    text = (
        "# Methods against none, by fraction of labels\n\n"
        f"`python benchmarks/defaults.py {' '.join(repr(without_folder(r)) for r in given.data)} --methods "
        f"'{given.methods}' --teachers {given.teachers} --seeds {given.seeds} --preset {given.preset}`, {about()}.\n\n"
        "Teacher and student see the same fraction of the labels; the other pairs have none. Points of accuracy, mean "
        "of the differences to `none` of the same seed and teacher, with Student's 95 % interval over n students; bold "
        "where it excludes 0. Methods are chosen on validation. Trainings end where validation has leveled off.\n\n"
    )
    write_text(given.out, f"{text}{table(header, lines, left=3)}\n")


def place(given: argparse.Namespace, reference: str, fraction: float, teacher: int) -> Path:
    """Return the folder of a run."""
    return Path(folder(given.runs, reference)) / f"labels-{fraction:g}" / f"teacher-{teacher}"


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="as after --data of `cmkd run`")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--fractions", type=float, nargs="+", default=[1.0, 0.3, 0.1])
    parser.add_argument("--teachers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="students of each teacher")
    parser.add_argument("--preset", default="full", choices=["quick", "full"])
    parser.add_argument("--runs", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--out", type=Path, default=RESULTS / "defaults.md")
    given = parser.parse_args()
    for teacher in range(given.teachers):
        for reference in given.data:
            for fraction in given.fractions:
                out = place(given, reference, fraction, teacher)
                Experiment(
                    RunConfig(
                        reference,
                        out,
                        f"none,{given.methods}",
                        seeds=given.seeds,
                        seed=100 * teacher,
                        preset=given.preset,
                        label_fraction=fraction,
                    )
                ).run()
                write(given)


if __name__ == "__main__":
    main()
