"""What the gap dial of the marine simulator does: test accuracy of teacher and plain student along it.

    python benchmarks/marine_gap.py

The optical images do not depend on the gap, so one teacher serves all; for each gap students are trained on radar
alone, as the demo trains them. The pairs are of another seed than those the dial was set on. Resumable.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from cmkd.config import ModelConfig, OptimizerConfig, RunConfig, TrainerConfig
from cmkd.experiment.runner import Experiment
from cmkd.provenance import commit
from cmkd.simulators.marine.scene import VERSION

RESULT = Path(__file__).parent / "results" / "marine_gap.md"


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--data_seed", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--gaps", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--runs", type=Path, default=Path("runs/marine_gap"))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    start, rows, teacher = time.time(), [], None
    for gap in given.gaps:
        results = Experiment(
            RunConfig(
                f"marine(pairs={given.pairs}, seed={given.data_seed}, gap={gap})",
                given.runs / f"gap-{gap:g}",
                methods="none",
                seeds=given.seeds,
                epochs=given.epochs,
                teacher=ModelConfig(checkpoint=teacher),
                optimizer=OptimizerConfig(learning_rate=1.2e-2),
                trainer=TrainerConfig(batch_size=32, logger="none"),
            )
        ).run()
        teacher = teacher or given.runs / f"gap-{gap:g}" / results["teacher"]["checkpoint"]
        rows.append((gap, results["teacher"], [student["test_accuracy"] for student in results["students"]]))
    optical, test = rows[0][1]["test_accuracy"], rows[0][1]["test_pairs"]
    lines = [
        "# The marine gap dial", "",
        f"Test accuracy in %, {given.pairs} pairs of simulator version {VERSION}, seed {given.data_seed}, {test} "
        f"of them test, split by vessel; eight classes, so chance is 12.5. Students: mean and standard deviation "
        f"of {given.seeds} seeds of the training. The binomial standard error of one accuracy on these pairs is "
        f"{100 * np.sqrt(0.25 / test):.1f} points at most.", "",
        f"`python benchmarks/marine_gap.py {' '.join(sys.argv[1:])}`, commit {commit()}, torch {torch.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} thread(s), {time.time() - start:.0f} s.", "",
        "| gap | teacher, optical | student without a teacher, radar | sd | difference |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for gap, _, students in sorted(rows, key=lambda row: row[0]):
        mean, spread = np.mean(students), np.std(students, ddof=1) if len(students) > 1 else np.nan
        lines.append(
            f"| {gap:g} | {100 * optical:.1f} | {100 * mean:.1f} | {100 * spread:.1f} | {100 * (optical - mean):.1f} |"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
