"""The results of a suite, read again and checked: ours, and those that others hand in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmkd.bench.resampling import decoded
from cmkd.bench.rows import COLUMNS, collect, restored
from cmkd.bench.suite import PlannedRun, Suite
from cmkd.documents import read_json, record
from cmkd.errors import CmkdError
from cmkd.options import build

AGAIN = "restore the file, or delete it and run `cmkd bench` again"
STUDENT = ["data", "setting", "teacher", "method", "seed"]
"""Columns that name a student of a suite."""
SHOWN = 5
"""Faults of one kind that are named; of more, the number is given."""


@dataclass(frozen=True, kw_only=True)
class _WrittenSuite:
    """Schema of the JSON file of a suite."""

    suite: Mapping[str, Any]
    command: str
    commit: str | None
    runs: Mapping[str, int]
    failures: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    groups: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _WrittenStudent:
    """Schema of a student in it."""

    data: str
    setting: str
    teacher: int
    method: str
    seed: int
    validation: float | None
    test: float
    teacher_test: float | None
    converged: bool
    sees_all_labels: bool
    commit: str | None
    right: str


def read_suite(path: Path) -> tuple[dict[str, Any], Suite, pd.DataFrame]:
    """Read the JSON file that `cmkd.bench.bench` wrote; the statistics in it are not needed.

    Returns:
        What it holds, the suite, and the rows as `cmkd.bench.rows.collect` makes them.

    Raises:
        CmkdError: it is missing or damaged; the line names the file and the key.
    """
    content, what = read_json(path, fix=AGAIN), f"'{path}'"
    record(_WrittenSuite, content, what, fix=AGAIN)
    for row in content["rows"]:
        record(_WrittenStudent, dict(zip(content["columns"], row, strict=False)), what, fix=AGAIN)
    try:
        suite = build(Suite, content["suite"])
        rows = restored(content)
        if rows["groups"].isna().any():
            raise CmkdError("groups does not list every data set")
        for row in rows.to_dict("records"):
            _check_answers(row)
    except (CmkdError, ValueError) as error:
        raise CmkdError(f"{what} is damaged ({error}): {AGAIN}") from error
    return content, suite, rows


def earlier(path: Path, asked: Suite) -> pd.DataFrame:
    """Return the students in the JSON file of a suite that it still asks for; none where there is no file.

    Raises:
        CmkdError: as `read_suite`.
    """
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    _, suite, rows = read_suite(path)
    # the name of a folder tells configurations apart
    before = {planned.place: planned.config.out.name for planned in suite.runs(Path())}
    same = {
        planned.place: range(planned.config.seed, planned.config.seed + asked.seeds)
        for planned in asked.runs(Path())
        if before.get(planned.place) == planned.config.out.name
    }
    kept = [
        method in asked.expressions and seed in same.get((data, setting, teacher), ())
        for data, setting, teacher, method, seed in rows[STUDENT].to_numpy(dtype=object)
    ]
    return rows[np.array(kept, dtype=bool)]  # an empty list would choose no column


def _check_answers(row: Mapping[Any, Any]) -> None:
    right, groups = decoded(row["right"]), decoded(row["groups"])
    name = f"{row['method']} on {row['data']}, {row['setting']}, teacher {row['teacher'] + 1}, seed {row['seed']}"
    if len(right) != len(groups) or not groups.sum() or (right > groups).any():
        raise CmkdError(f"the correct predictions of {name} do not match its test groups")
    if abs(right.sum() / groups.sum() - row["test"]) > 1e-6:
        raise CmkdError(f"the correct predictions of {name} give a different test accuracy")


def faults(asked: Suite, suite: Suite, rows: pd.DataFrame, runs: Sequence[PlannedRun]) -> list[str]:
    """Return what keeps results from counting; empty if nothing does.

    Args:
        asked: the suite that was to be trained.
        suite: the one that the results name; it may have more methods.
        rows: its students.
        runs: the runs of `suite`; of those whose folders are there, the predictions are counted again.
    """
    found = [
        f"{name} is {getattr(suite, name)!r}, not {getattr(asked, name)!r}"
        for name in ("data", "settings", "teachers", "seeds", "run")
        if getattr(suite, name) != getattr(asked, name)
    ]
    if lacking := [method for method in asked.expressions if method not in suite.expressions]:
        found.append(f"methods lacks {', '.join(lacking)}")
    wanted = {
        (planned.data, planned.setting, planned.teacher, method, planned.config.seed + number)
        for planned in runs
        for method in suite.expressions
        for number in range(suite.seeds)
    }
    there = [tuple(row) for row in rows[STUDENT].to_numpy(dtype=object).tolist()]
    found += _named("is missing", wanted - set(there)) + _named("is not in the suite", set(there) - wanted)
    found += _named("occurs twice", {one for one, times in Counter(there).items() if times > 1})
    found += uncommitted(rows)
    return found + _changed(rows, collect([planned for planned in runs if planned.config.out.exists()]))


def uncommitted(rows: pd.DataFrame) -> list[str]:
    """Return a line for each source tree, other than a commit, that trained students."""
    commits = rows["commit"].fillna("unknown")
    unsure = commits.str.endswith("-dirty") | (commits == "unknown")
    return [
        f"{len(part)} students were trained by commit {name}: commit your changes, and train them in a new folder"
        for name, part in rows[unsure].groupby(commits[unsure], sort=False)
    ]


def _changed(rows: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    """Compare rows with those that the folders of the runs give."""
    if not len(again):
        return []
    both = rows.merge(again, on=STUDENT, suffixes=("", "_again"))
    other = both[(both["right"] != both["right_again"]) | (both["groups"] != both["groups_again"])]
    return _named("has other predictions in its folder", {tuple(row) for row in other[STUDENT].to_numpy(dtype=object)})


def _named(problem: str, students: set[tuple[Any, ...]]) -> list[str]:
    ordered = sorted(students, key=str)
    if len(ordered) > SHOWN:
        return [f"{len(ordered)} students: each {problem}"]
    return [
        f"{m} on {data}, {setting}, teacher {t + 1}, seed {seed} {problem}" for data, setting, t, m, seed in ordered
    ]
