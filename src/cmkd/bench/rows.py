"""The students of a suite as table rows, with their correct answers on the test pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cmkd.bench.resampling import decoded, encoded
from cmkd.bench.sources import changed_since, depends, other_settings
from cmkd.bench.suite import PlannedRun
from cmkd.documents import RESULTS, TEST, record
from cmkd.errors import CmkdError
from cmkd.evaluation.intervals import ROUNDED
from cmkd.evaluation.results import AGAIN, read_results, right_answers
from cmkd.structure import ESSENTIAL

SPLITS = ("validation", "test")
STUDENT = ["data", "setting", "teacher", "method", "seed"]
"""Columns that identify a student of a suite."""
COLUMNS = [
    *STUDENT,
    *("validation", "test", "teacher_validation", "teacher_test", "steps", "converged", "teacher_converged"),
    *("sees_all_labels", "commit", "right", "groups", *ESSENTIAL),
]
"""Columns of `collect`."""
KINDS = {"teacher_converged": object, **dict.fromkeys(ESSENTIAL, float)}
"""Types of columns that older rows lack; pandas would turn booleans beside missing values into numbers."""
NAMED = ["data", "setting", "method", "commit"]
"""Columns whose names a file stores once each."""
TEACHER = ["teacher_validation", "teacher_test"]
"""Columns that distinguish two trainings of a teacher."""
Row = dict[Any, Any]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Schema of a student's fields in ``results.json`` that a suite needs but runs of older versions may lack."""

    validation_accuracy: float
    steps: float
    converged: bool


def collect(runs: Sequence[PlannedRun], earlier: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row for each trained student, from the folder of its run, or else from `earlier` rows.

    A student in a folder does not count if the user's own code that it depends on has changed since the run was
    started. All students of a run have the same teacher: if the teacher in the folder differs from that of the
    `earlier` rows, only the students of the teacher with more students are returned.

    Columns: data, setting, teacher (its number), method, seed, validation and test (accuracies), teacher_validation,
    teacher_test, steps, converged, teacher_converged (None if the run did not train the teacher, and in rows of older
    versions), sees_all_labels (True for a control that sees the labels hidden from other students), commit (of the code
    that trained the student), right (correct answers in each test group, as `cmkd.bench.resampling.encoded` writes
    them), groups (the number of pairs in each test group, encoded likewise), and the metrics of
    `cmkd.structure.ESSENTIAL` on embeddings of validation pairs. Groups are in the order of their names; if the data
    set has at most one group, each pair is a group.
    """
    known = pd.DataFrame(columns=COLUMNS) if earlier is None else earlier
    rows = list[Row]()
    for planned in runs:
        order = {student: place for place, student in enumerate(planned.students)}
        found = _merged(list(_students(planned)), _of(planned, known))
        rows += sorted(found, key=lambda row: order[row["method"], row["seed"]])
    return as_rows(rows)


def as_rows(rows: Sequence[Row] | pd.DataFrame) -> pd.DataFrame:
    """Return a table of `COLUMNS` with their types, even if rows of an older version lack some columns."""
    return pd.DataFrame(rows, columns=COLUMNS).astype(KINDS)


def complete(runs: Sequence[PlannedRun], rows: pd.DataFrame) -> list[PlannedRun]:
    """Return the runs whose students are all among the rows."""
    there = set(rows[STUDENT].itertuples(index=False, name=None))
    return [planned for planned in runs if {(*planned.place, *student) for student in planned.students} <= there]


def left(planned: PlannedRun, earlier: pd.DataFrame) -> PlannedRun | None:
    """Return the run without the methods that `earlier` rows have; None if nothing is left to train.

    A method whose students are in the folder of the run remains in the run.
    """
    own, before, asked = list(_students(planned)), _of(planned, earlier), planned.students
    if not set(asked) - _names(_merged(own, before)):
        return None
    elsewhere = _names(before) - _names(own) if one_teacher([*own, *before]) else set()
    methods = dict.fromkeys(method for method, seed in asked if (method, seed) not in elsewhere)
    return replace(planned, config=replace(planned.config, methods=",".join(methods)))


def _of(planned: PlannedRun, rows: pd.DataFrame) -> list[Row]:
    same = rows[STUDENT[:3]].eq(list(planned.place)).all(axis=1)
    return rows[same].to_dict("records")


def _merged(own: list[Row], before: list[Row]) -> list[Row]:
    if not one_teacher([*own, *before]):
        return own if len(own) >= len(before) else before
    return own + [row for row in before if (row["method"], row["seed"]) not in _names(own)]


def one_teacher(rows: Sequence[Row]) -> bool:
    """Return whether students have the same teacher, judged by its accuracies."""
    scores = np.array([[row[name] for name in TEACHER] for row in rows], dtype=float).reshape(-1, len(TEACHER))
    return bool(np.isclose(scores, scores[:1], rtol=0.0, atol=ROUNDED, equal_nan=True).all())


def of_first_teacher(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the same teacher as the first row of their run, judged by its accuracies."""
    teacher = rows[TEACHER].astype(float).fillna(-1.0)
    first = teacher.groupby([rows[name] for name in STUDENT[:3]]).transform("first")
    return rows[((teacher - first).abs() <= ROUNDED).all(axis=1)]


def rising(rows: pd.DataFrame) -> int:
    """Return how many students, or their teachers, had not converged: validation accuracy was still rising."""
    return int((~rows["converged"].astype(bool) | rows["teacher_converged"].eq(False)).sum())


def exact_accuracy(row: Mapping[Any, Any]) -> float:
    """Return the exact test accuracy from a row's correct answers; raise `CmkdError` if the row contradicts them."""
    right, groups = decoded(row["right"]), decoded(row["groups"])
    name = f"{row['method']} on {row['data']}, {row['setting']}, teacher {row['teacher'] + 1}, seed {row['seed']}"
    if len(right) != len(groups) or not groups.sum() or (right > groups).any():
        raise CmkdError(f"the correct predictions of {name} do not match its test groups")
    accuracy = float(right.sum() / groups.sum())
    if abs(accuracy - row["test"]) > ROUNDED:
        raise CmkdError(f"the correct predictions of {name} give a different test accuracy")
    return accuracy


def check_test_pairs(rows: pd.DataFrame) -> None:
    """Check that all students of a data set and setting were tested on the same pairs.

    Raises:
        CmkdError: the test pairs differ, for example since the files of the user's own data set have changed.
    """
    first = rows.groupby(["data", "setting"])["groups"].transform("first")
    for row in rows[rows["groups"] != first].to_dict("records"):
        place = f"{row['data']}, {row['setting']}, teacher {row['teacher'] + 1}"
        said = f"the test pairs of {place} are not those of teachers before"
        raise CmkdError(f"{said}: its data have changed since; choose another --out")


def _names(rows: Sequence[Row]) -> set[tuple[str, int]]:
    return {(row["method"], row["seed"]) for row in rows}


def _students(planned: PlannedRun) -> Iterator[Row]:
    path = planned.config.out / RESULTS
    if not path.exists():
        return
    if different := other_settings(planned):
        name, values = next(iter(different.items()))
        said = f"'{planned.config.out}' was started with {name}={values}, which is not what the suite asks for"
        raise CmkdError(f"{said}: choose another --out, or remove the folder")
    found, asked, newer = read_results(path), set(planned.students), changed_since(planned)
    same = found["data"].get("same_test_pairs", True)  # else the teacher's accuracy is not comparable
    for student in found["students"]:
        if (student["method"], student["seed"]) in asked and not depends(planned, student["method"], newer):
            record(_Measured, student, f"'{path}'", fix=AGAIN)
            place = (planned.config.out / student["checkpoint"]).with_name(TEST)
            right, groups = right_answers(place, len(found["data"]["classes"]))
            if abs(student["test_accuracy"] - right.sum() / groups.sum()) > ROUNDED:
                raise CmkdError(f"'{path}' is damaged (test_accuracy does not match '{place}'): {AGAIN}")
            yield {
                **{"data": planned.data, "setting": planned.setting, "teacher": planned.teacher},
                **{"method": student["method"], "seed": student["seed"]},
                **{split: student[f"{split}_accuracy"] for split in SPLITS},
                "teacher_validation": found["teacher"].get("validation_accuracy"),
                "teacher_test": found["teacher"]["test_accuracy"] if same else None,
                **{"steps": student["steps"], "converged": student["converged"]},
                "teacher_converged": found["teacher"].get("converged"),
                **{"sees_all_labels": bool(student.get("sees_all_labels")), "commit": student.get("commit")},
                **{"right": encoded(right), "groups": encoded(groups)},
                **{name: student.get("structure", {}).get(name) for name in ESSENTIAL},
            }


def stored(rows: pd.DataFrame) -> dict[str, Any]:
    """Return rows in a form for JSON: ``columns``, ``rows``, ``names``, and ``groups``.

    In the columns `NAMED`, a row has the index of its name in the ``names`` of the column, or -1 for none. Groups are
    stored once per data set, and once more for each setting in which the data set has other test pairs.
    """
    kept, names = rows.drop(columns="groups"), dict[str, list[str]]()
    for column in NAMED:
        kept[column], known = pd.factorize(kept[column])
        names[column] = list(known)
    kept = kept.astype(object).where(kept.notna(), None)  # JSON has no NaN
    groups = dict[str, str]()
    for data, setting, own in rows[["data", "setting", "groups"]].itertuples(index=False):
        if groups.setdefault(data, own) != own:
            groups[f"{data}, {setting}"] = own
    lines = kept.to_numpy(dtype=object).tolist()
    return {"columns": list(kept.columns), "rows": lines, "names": names, "groups": groups}


def restored(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows that `stored` wrote, with unconverted values; KeyError or ValueError if the file is damaged."""
    rows = pd.DataFrame(found["rows"], columns=found["columns"] or COLUMNS, dtype=object)
    for column, known in found.get("names", {}).items():
        named = pd.Series(pd.Categorical.from_codes(rows[column].infer_objects(), known))
        rows[column] = named.astype(object).where(named.notna(), None)
    apart = (rows["data"] + ", " + rows["setting"]).map(found["groups"])
    return rows.assign(groups=apart.fillna(rows["data"].map(found["groups"])))
