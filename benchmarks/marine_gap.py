"""Effect of the marine simulator's `gap` option on the test accuracy of the teacher and of students without a teacher.

    python benchmarks/marine_gap.py

The optical images do not depend on the gap, so one teacher serves all gaps. For each gap, students are trained on radar
alone, as in the demo. The pairs have another seed than those that the option was calibrated on. An interrupted run
resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cmkd.config import OptimizerConfig, RunConfig, TeacherConfig, TrainerConfig
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from cmkd.simulators.marine.scene import VERSION
from records import RESULTS, about, percent, table


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--data_seed", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--gaps", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--runs", type=Path, default=Path("runs/marine_gap"))
    parser.add_argument("--out", type=Path, default=RESULTS / "marine_gap.md")
    given = parser.parse_args()
    rows, teacher = [], None
    for gap in given.gaps:
        results = Experiment(
            RunConfig(
                f"marine(pairs={given.pairs}, seed={given.data_seed}, gap={gap})",
                given.runs / f"gap-{gap:g}",
                methods="none",
                seeds=given.seeds,
                epochs=given.epochs,
                teacher=TeacherConfig(checkpoint=teacher),
                optimizer=OptimizerConfig(learning_rate=1.2e-2),
                trainer=TrainerConfig(batch_size=32),
            )
        ).run()
        teacher = teacher or given.runs / f"gap-{gap:g}" / results["teacher"]["checkpoint"]
        rows.append((gap, results["teacher"], [student["test_accuracy"] for student in results["students"]]))
    optical, test = rows[0][1]["test_accuracy"], rows[0][1]["test_pairs"]
    lines = []
    for gap, _, students in sorted(rows, key=lambda row: row[0]):
        mean, spread = float(np.mean(students)), np.std(students, ddof=1) if len(students) > 1 else np.nan
        lines.append([f"{gap:g}", *map(percent, (optical, mean, float(spread), optical - mean))])
    command = f"--pairs {given.pairs} --data_seed {given.data_seed} --seeds {given.seeds} --epochs {given.epochs}"
    text = (
        "# The gap option of the marine simulator\n\n"
        f"Test accuracy in %, {given.pairs} pairs of simulator version {VERSION}, seed {given.data_seed}, {test} of "
        "them test, split by vessel; eight classes, so chance is 12.5. Students: mean and standard deviation over "
        f"{given.seeds} training seeds. The binomial standard error of one accuracy on these pairs is at most "
        f"{100 * np.sqrt(0.25 / test):.1f} points.\n\n"
        f"`python benchmarks/marine_gap.py {command}`, {about()}.\n\n"
    )
    header = ["gap", "teacher, optical", "student without a teacher, radar", "sd", "difference"]
    write_text(given.out, f"{text}{table(header, lines, left=1)}\n")


if __name__ == "__main__":
    main()
