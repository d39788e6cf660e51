"""The students of a suite as rows, with what they got right on the test pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.bench.resampling import encoded
from cmkd.bench.suite import PlannedRun
from cmkd.evaluation.results import read_predictions, read_results
from cmkd.structure import ESSENTIAL

SPLITS = ("validation", "test")
COLUMNS = [
    *("data", "setting", "teacher", "method", "seed"),
    *("validation", "test", "teacher_validation", "teacher_test", "steps", "converged", "sees_all_labels", "commit"),
    *("right", "groups", *ESSENTIAL),
]
"""Columns of `collect`."""
Place = tuple[str, str, int]
"""Data set, setting and teacher of a run."""


def collect(runs: Sequence[PlannedRun], earlier: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row for each trained student, from the folder of its run.

    Of a run that has more students among `earlier` rows, those are returned: all students of a run have one teacher.

    Columns: data, setting, teacher (its number), method, seed, validation and test (accuracies), teacher_validation,
    teacher_test, steps, converged, sees_all_labels (a control that sees the labels which are hidden from the others),
    commit (of the code that trained it), right (right answers in each test group, as
    `cmkd.bench.resampling.encoded` writes them), groups (the pairs in each of them, likewise), and the measures of
    `cmkd.structure.ESSENTIAL` of its embeddings of validation pairs. Groups are in the order of their names; where the
    data set has none, each pair is one.
    """
    known: dict[Place, list[dict[Any, Any]]] = {}
    for row in [] if earlier is None else earlier.to_dict("records"):
        known.setdefault((row["data"], row["setting"], row["teacher"]), []).append(row)
    rows = list[dict[Any, Any]]()
    for planned in runs:
        own, before = list(_students(planned)), known.get(planned.place, [])
        rows += own if len(own) >= len(before) else before
    return pd.DataFrame(rows, columns=COLUMNS)


def complete(runs: Sequence[PlannedRun], rows: pd.DataFrame) -> list[PlannedRun]:
    """Return the runs of which all students are among the rows."""
    counts = Counter[Place](zip(rows["data"], rows["setting"], rows["teacher"], strict=True))
    return [planned for planned in runs if counts[planned.place] >= planned.students]


def _students(planned: PlannedRun) -> Iterator[dict[str, Any]]:
    path = planned.config.out / "results.json"
    if not path.exists():
        return
    found = read_results(path)
    asked = range(planned.config.seed, planned.config.seed + planned.config.seeds)
    for student in found["students"]:
        if student["method"] in planned.config.expressions and student["seed"] in asked:
            place = (planned.config.out / student["checkpoint"]).with_name("test.parquet")
            changed = place.stat().st_mtime_ns if place.exists() else 0
            right, groups = _answers(place, changed, len(found["data"]["classes"]))
            yield {
                **{"data": planned.data, "setting": planned.setting, "teacher": planned.teacher},
                **{"method": student["method"], "seed": student["seed"]},
                **{split: student[f"{split}_accuracy"] for split in SPLITS},
                **{f"teacher_{split}": found["teacher"][f"{split}_accuracy"] for split in SPLITS},
                **{"steps": student["steps"], "converged": student["converged"]},
                **{"sees_all_labels": bool(student.get("sees_all_labels")), "commit": student.get("commit")},
                **{"right": right, "groups": groups},
                **{name: student.get("structure", {}).get(name) for name in ESSENTIAL},
            }


def stored(rows: pd.DataFrame) -> dict[str, Any]:
    """Return rows as JSON holds them: ``columns``, ``rows``, and ``groups``, once for each data set."""
    kept = rows.drop(columns="groups")
    kept = kept.astype(object).where(kept.notna(), None)  # JSON has no NaN
    groups = dict(zip(rows["data"], rows["groups"], strict=True))
    return {"columns": list(kept.columns), "rows": kept.to_numpy(dtype=object).tolist(), "groups": groups}


def restored(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows that `stored` wrote."""
    rows = pd.DataFrame(found["rows"], columns=found["columns"] or COLUMNS)
    return rows.assign(groups=rows["data"].map(found["groups"]))


@cache
def _answers(path: Path, changed: int, classes: int) -> tuple[str, str]:
    """Count the right answers of each test group, once for each file: a suite is written anew after every run."""
    table = read_predictions(path, classes)
    # a run of an older version has no groups
    names, place = np.unique(table["group" if "group" in table else "id"].to_numpy(dtype=str), return_inverse=True)
    hits: NDArray[Any] = (table["target"] == table["predicted"]).to_numpy()
    return encoded(np.bincount(place, weights=hits, minlength=len(names)).astype(int)), encoded(np.bincount(place))
