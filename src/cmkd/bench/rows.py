"""The students of a suite as rows, with what they got right on the test pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.bench.resampling import encoded
from cmkd.bench.suite import PlannedRun
from cmkd.evaluation.results import read_predictions, read_results

SPLITS = ("validation", "test")


def collect(runs: Sequence[PlannedRun]) -> pd.DataFrame:
    """Return a row for each trained student.

    Columns: data, setting, teacher (its number), method, seed, validation and test (accuracies), teacher_validation,
    teacher_test, steps, converged, sees_all_labels (a control that sees the labels which are hidden from the others),
    commit (of the code that trained it), right (right answers in each test group, as
    `cmkd.bench.resampling.encoded` writes them) and groups (the pairs in each of them, likewise). Groups are in the
    order of their names; where the data set has none, each pair is one.
    """
    rows = []
    for planned in runs:
        path = planned.config.out / "results.json"
        if not path.exists():
            continue
        found = read_results(path)
        asked = range(planned.config.seed, planned.config.seed + planned.config.seeds)
        for student in found["students"]:
            if student["method"] in planned.config.expressions and student["seed"] in asked:
                place = (planned.config.out / student["checkpoint"]).with_name("test.parquet")
                changed = place.stat().st_mtime_ns if place.exists() else 0
                right, groups = _answers(place, changed, len(found["data"]["classes"]))
                rows.append(
                    {
                        **{"data": planned.data, "setting": planned.setting, "teacher": planned.teacher},
                        **{"method": student["method"], "seed": student["seed"]},
                        **{split: student[f"{split}_accuracy"] for split in SPLITS},
                        **{f"teacher_{split}": found["teacher"][f"{split}_accuracy"] for split in SPLITS},
                        **{"steps": student["steps"], "converged": student["converged"]},
                        **{"sees_all_labels": bool(student.get("sees_all_labels")), "commit": student.get("commit")},
                        **{"right": right, "groups": groups},
                    }
                )
    return pd.DataFrame(rows)


def stored(rows: pd.DataFrame) -> dict[str, Any]:
    """Return rows as JSON holds them: ``columns``, ``rows``, and ``groups``, once for each data set."""
    kept = rows.drop(columns="groups") if len(rows) else rows
    groups = dict(zip(rows["data"], rows["groups"], strict=True)) if len(rows) else {}
    return {"columns": list(kept.columns), "rows": kept.to_numpy(dtype=object).tolist(), "groups": groups}


def restored(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows that `stored` wrote."""
    rows = pd.DataFrame(found["rows"], columns=found["columns"])
    return rows.assign(groups=rows["data"].map(found["groups"]))


@cache
def _answers(path: Path, changed: int, classes: int) -> tuple[str, str]:
    """Count the right answers of each test group, once for each file: a suite is written anew after every run."""
    table = read_predictions(path, classes)
    # a run of an older version has no groups
    names, place = np.unique(table["group" if "group" in table else "id"].to_numpy(dtype=str), return_inverse=True)
    hits: NDArray[Any] = (table["target"] == table["predicted"]).to_numpy()
    return encoded(np.bincount(place, weights=hits, minlength=len(names)).astype(int)), encoded(np.bincount(place))
