"""A table of the study's networks beside random forests and logistic regression on the same pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cmkd.datasets.open import without_folder
from cmkd.documents import read_json
from cmkd.evaluation.intervals import fraction_interval
from cmkd.markdown import code, escape, table

NOTE = (
    "Test accuracy in % with all labels. *Accuracy* is the mean over the study's teachers, or students alone. "
    "*Baseline* is a random forest or a logistic regression, whichever is better on validation, with Wilson's 95 % "
    "interval of its test accuracy. Bold: the network is below that interval, so its results do not count as evidence "
    "yet. [All baselines](../benchmarks/results/simple_baselines.md)."
)

SOLVED = 0.9995
"""Validation accuracy above which it rounds to 100.0 %."""


def best(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return data set and role -> the row of the classifier that is better on validation; empty without the file."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in read_json(path)["rows"].values() if path.exists() else ():
        key = (row["reference"].removesuffix(":DATA"), row["role"])
        if key not in found or row["validation_accuracy"] > found[key]["validation_accuracy"]:
            found[key] = row
    return found


def beside(rows: pd.DataFrame, baselines: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Return the table of networks with all labels beside the baselines of their data sets; empty without baselines.

    Args:
        rows: students from `cmkd.bench.rows.collect`, with the label fraction as the setting.
        baselines: rows of the baselines, from `best`.
    """
    lines, solved = [], []
    own = rows[(rows["setting"] == "100 %") & (rows["method"] == "none")]
    for data, part in own.groupby("data", sort=False):
        name = without_folder(str(data))
        for role, model, column, chosen_by in (
            ("rich", "teacher", "teacher_test", "teacher_validation"),
            ("poor", "none", "test", "validation"),
        ):
            known = baselines.get((name, role))
            if known is None:
                continue
            mean, other = float(part[column].mean()), float(known["test_accuracy"])
            low, high = fraction_interval(round(other * known["test_pairs"]), known["test_pairs"])
            said = f"{100 * mean:.1f}"
            if mean < low and float(part[chosen_by].mean()) > SOLVED:
                solved.append(f"{escape(name)}, {known['modality']}")
            lines.append(
                [
                    *(escape(without_folder(str(data))), known["modality"], code(model), str(len(part))),
                    f"**{said}**" if mean < low else said,
                    f"{100 * other:.1f} ({100 * low:.1f} to {100 * high:.1f})",
                    known["model"],
                ]
            )
    header = ["data", "modality", "network", "n", "accuracy", "baseline (95 % CI)", "which"]
    parts = ["## Networks beside classical classifiers", NOTE, table(header, lines, left=3)]
    if solved:
        parts.append(
            f"{'; '.join(solved)}: validation accuracy is already 100 %, so it cannot choose a better network."
        )
    return "\n\n".join(parts) if lines else ""
