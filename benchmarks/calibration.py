"""Expected calibration error of students before and after temperature scaling, on test pairs.

    python benchmarks/calibration.py digits terramind:DATA/terramind presto:DATA wikipedia:DATA mars:DATA/mars

Each data set is one ordinary run: a teacher and students of `METHOD`. The temperature of each student is fitted on the
validation pairs, as `cmkd run` does for the student that it recommends; the test pairs are only measured. The runs are
kept and resumed, so a second call repeats none of them. Writes ``calibration.json`` and ``calibration.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmkd import Experiment, RunConfig
from cmkd.deploy.calibration import BINS, Calibration, calibration_error, fit
from cmkd.io import write_text
from records import RESULTS, Records, command, difference, percent, table, with_placeholder

METHOD = "kd"


def logits(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and classes of the pairs of a split, as the run stored them for a student."""
    stored = pd.read_parquet(folder / f"{split}.parquet")
    return stored.filter(regex=r"^logit_\d+$").to_numpy(), stored["target"].to_numpy()


def measure(folder: Path) -> dict[str, Any]:
    """Calibrate one student on validation and measure it on test, before and after."""
    found = fit(*logits(folder, "validation"))
    test, target = logits(folder, "test")
    row: dict[str, Any] = {"temperature": found.temperature, "validation_pairs": found.pairs, "test_pairs": len(target)}
    row["test_accuracy"] = float((test.argmax(1) == target).mean())
    for name, calibration in (("before", Calibration()), ("after", found)):
        probabilities = calibration.probabilities(test)
        of_target = probabilities[np.arange(len(target)), target]
        row[f"calibration_error_{name}"] = calibration_error(probabilities, target)
        row[f"log_loss_{name}"] = float(-np.log(np.maximum(of_target, np.finfo(float).tiny)).mean())
    return row


def markdown(records: Records) -> str:
    """Return the table: one row per data set, with means over seeds."""
    by_data: dict[str, list[dict[str, Any]]] = {}
    for row in records.rows.values():
        by_data.setdefault(row["reference"], []).append(row)
    cells = []
    for reference, rows in by_data.items():
        before, after = ([row[f"calibration_error_{name}"] for row in rows] for name in ("before", "after"))
        losses = [np.mean([row[f"log_loss_{name}"] for row in rows]) for name in ("before", "after")]
        temperatures = sorted(row["temperature"] for row in rows)
        cells.append([
            reference.partition(":")[0], rows[0]["modality"], str(len(rows)),
            f"{rows[0]['validation_pairs']} / {rows[0]['test_pairs']}",
            percent(np.mean([row["test_accuracy"] for row in rows])), percent(np.mean(before)), percent(np.mean(after)),
            difference([b - a for a, b in zip(before, after, strict=True)]),
            f"{losses[0]:.3f} / {losses[1]:.3f}", f"{temperatures[0]:.2f} to {temperatures[-1]:.2f}",
        ])  # fmt: skip
    lower = {
        name: sum(row[f"{name}_after"] < row[f"{name}_before"] for row in records.rows.values())
        for name in ("calibration_error", "log_loss")
    }
    preset = next(iter(records.rows.values()))["preset"]
    header = [
        "data", "modality", "n", "validation / test pairs", "accuracy", "ECE before", "ECE after", "difference",
        "log loss before / after", "temperature",
    ]  # fmt: skip
    return (
        "# Calibration\n\n"
        "Expected calibration error (ECE) in %, on the test pairs: the mean distance between confidence and accuracy, "
        f"in {BINS} bins of equal width. It is biased upward where pairs are few, so a perfectly calibrated model does "
        f"not reach 0. Students of `{METHOD}` ({preset} preset), n seeds with one teacher. `difference` "
        "is after minus before in points, paired by seed, with Student's 95 % interval over seeds, bold where it "
        "excludes 0. The "
        "temperature was fitted on the validation pairs, which also chose the checkpoint. "
        f"Of {len(records.rows)} students, ECE fell for {lower['calibration_error']} and log loss for "
        f"{lower['log_loss']}.\n\n"
        f"Command: `{command('calibration.py', by_data, '--preset', preset)}`, where DATA is the folder of that set's "
        f"files; {records.about}.\n\n"
        f"{table(header, cells, left=2)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure what is missing, then write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="data sets, as in cmkd run --data")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--preset", choices=("quick", "full"), default="quick")
    options.add_argument("--jobs", type=int)
    options.add_argument("--runs", type=Path, default=Path("runs/calibration"), help="folder of the runs")
    options.add_argument("--out", type=Path, default=RESULTS / "calibration.json", help="the table lies beside it")
    given = options.parse_args(arguments)
    records = Records(given.out, identity=("reference", "seed"))
    if any(row["preset"] != given.preset for row in records.rows.values()):
        options.error(f"{given.out} has rows of another preset: give a new file by --out")
    for reference in given.data:
        name = with_placeholder(reference)
        out = given.runs / name.partition(":")[0]
        config = RunConfig(
            data=reference, out=out, methods=METHOD, seeds=given.seeds, preset=given.preset, jobs=given.jobs
        )
        for student in Experiment(config).run()["students"]:
            row = {"reference": name, "seed": student["seed"], "modality": student["modality"], "preset": given.preset}
            row |= measure((out / student["checkpoint"]).parent)
            records.add(f"{name}, {METHOD}, seed {student['seed']}, {given.preset}", row)
        write_text(given.out.with_suffix(".md"), markdown(records))


if __name__ == "__main__":
    main()
