"""A table of the cost of a step and the gain with few labels, by method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from claims import against, by_set, over_sets

from cmkd.documents import read_json
from cmkd.markdown import code, table

NOTE = (
    "*Gain* is the mean gain over `none` over data sets, with a tenth of the labels for teacher and student. Rows are "
    "ordered by the difference to `kd` on the same data sets. The time of a step and the memory for gradients are "
    "multiples of those of the student alone. *Cached* is the default: the teacher's outputs are computed once. In the "
    "next column, the teacher runs in each step (64 x 64 pixels, batches of 64, a ResNet-18 as teacher; "
    "[all methods](../benchmarks/results/step.md))."
)


def costs(rows: pd.DataFrame, path: Path) -> str:
    """Return the table of cost and gain; empty without either.

    Args:
        rows: students from `cmkd.bench.rows.collect`, with the label fraction as the setting.
        path: JSON file that ``benchmarks/speed/step.py`` wrote.
    """
    if not path.exists():
        return ""
    measured = {row["method"]: row for row in read_json(path)["sections"][0]["rows"]}
    found = against(rows[rows["setting"] == "10 %"], "none", "kd")
    lines = []
    for method in dict.fromkeys(row["method"] for row in found if row["rival"] == "none"):
        own, beside = ([r for r in found if (r["method"], r["rival"]) == (method, rival)] for rival in ("none", "kd"))
        row, less = measured.get(method, {}), by_set(beside)
        cells = [_times(row, name) for name in ("time / none, cached", "time / none", "memory / none")]
        sets = str(len(by_set(own)))
        difference = over_sets(less) if beside else ""
        place = float(np.mean(less)) if beside else 0.0
        lines.append((place, [code(method), sets, over_sets(by_set(own)), difference, *cells]))
    lines.sort(key=lambda line: -line[0])
    header = ["method", "data sets", "gain (95 % CI)", "to `kd` (95 % CI)", "step, cached", "step", "memory"]
    if not lines:
        return ""
    return f"## Cost against accuracy\n\n{NOTE}\n\n{table(header, [cells for _, cells in lines], left=1)}"


def _times(row: Mapping[str, Any], name: str) -> str:
    return f"{np.median(row[name]):.2f}" if name in row else ""
