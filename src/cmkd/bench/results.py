"""Read and check the results of a suite, our own or submitted by others."""

from __future__ import annotations

import contextlib
import glob
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from cmkd.bench.rows import STUDENT, as_rows, exact_accuracy, of_first_teacher, one_teacher, restored
from cmkd.bench.sources import changed, changed_since, depends, options, sources, with_other_options
from cmkd.bench.suite import PlannedRun, Suite
from cmkd.documents import read_json, record
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.evaluation.intervals import ROUNDED
from cmkd.expression import parse_sum
from cmkd.io import write_bytes
from cmkd.methods import METHODS
from cmkd.options import Bounds, build
from cmkd.training.schedule import EPOCH_STEPS, PRESETS

AGAIN = "restore the file, or run `cmkd bench` again without it"
ABBREVIATED = 12
"""Number of digits to which a commit may be abbreviated in stored results; a run itself stores all 40."""
SHOWN = 5
"""Largest number of students listed by name for one problem; for more, only their number is given."""
Share = Annotated[float, Bounds(least=0, most=1)]


@dataclass(frozen=True, kw_only=True)
class _WrittenRuns:
    """Schema of the numbers of runs in the JSON file of a suite."""

    complete: int
    all: int


@dataclass(frozen=True, kw_only=True)
class _WrittenSuite:
    """Schema of the JSON file of a suite."""

    suite: Mapping[str, Any]
    command: str
    commit: str | None
    runs: _WrittenRuns
    failures: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    groups: Mapping[str, str]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packs: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _WrittenStudent:
    """Schema of a student in the JSON file of a suite."""

    data: str
    setting: str
    teacher: int
    method: str
    seed: int
    validation: Share
    test: Share
    teacher_validation: Share | None = None
    teacher_test: Share | None
    steps: float | None = None
    converged: bool
    teacher_converged: bool | None = None
    sees_all_labels: bool
    commit: str | None
    right: str


def read_suite(path: Path) -> tuple[dict[str, Any], Suite, pd.DataFrame]:
    """Read a JSON file written by `cmkd.bench.bench`; the statistics in it are not read.

    Returns:
        The content of the file, the suite, and the rows in the form of `cmkd.bench.rows.collect`.

    Raises:
        CmkdError: the file is missing or damaged; the message names the file and the key.
    """
    content, what = read_json(path, fix=AGAIN), f"'{path}'"
    record(_WrittenSuite, content, what, fix=AGAIN)
    try:
        written = restored(content)
        for row in written.to_dict("records"):
            build(_WrittenStudent, {str(name): value for name, value in row.items()}, others=True)
        suite = build(Suite, content["suite"])
        rows = as_rows(written.infer_objects())
        if twice := _named("occurs twice", set(_students(rows[rows.duplicated(STUDENT)]))):
            raise CmkdError(twice[0])
        if rows["groups"].isna().any():
            raise CmkdError("groups does not list every data set")
        # stored accuracies are rounded, which would break ties between methods; the counts are exact
        rows["test"] = np.array([exact_accuracy(row) for row in rows.to_dict("records")], dtype=float)
    except (CmkdError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise CmkdError(f"{what} is damaged ({error}): {AGAIN}") from error
    return content, suite, rows


def planned_by(path: Path, suite: Suite, store: Path) -> list[PlannedRun]:
    """Return the runs of the suite in a JSON file.

    Raises:
        CmkdError: for the same reasons as `Suite.runs`; the message names the file.
    """
    try:
        return suite.runs(store)
    except CmkdError as error:
        raise CmkdError(f"the suite in '{path}' cannot be planned ({error}): {AGAIN}") from error


def earlier(path: Path, asked: Suite, packs: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the students that a suite asks for, from its JSON file and from other suites' files beside it.

    If the suite's own file has students that the suite no longer asks for, a copy of the file is kept beside the one
    that will replace it; later calls read it too. Students from another suite's file are used if their run has the same
    configuration. An unreadable file of another suite is skipped with a warning. Students of another suite whose pack
    has changed since are skipped silently. Students that depend on a changed class or file of the user's own, or on a
    changed default of a method, are left out with a warning, to be trained again.

    Args:
        path: the suite's own JSON file.
        asked: the suite.
        packs: result of `Suite.packs`, if the caller has it.

    Raises:
        CmkdError: one of the suite's own files is damaged (see `read_suite`), or a pack has changed since its students
            were trained.
    """
    now, code, defaults = asked.packs() if packs is None else packs, sources(asked), options(asked.expressions)

    def newer(content: Mapping[str, Any]) -> set[str]:
        other = with_other_options(content.get("options", {}), defaults)
        return other | changed(content.get("sources", {}), code, whole=True)

    kept = path.parent.glob(f"{glob.escape(path.stem)}.before-*.json")
    before = sorted(kept, key=lambda place: (len(place.name), place.name), reverse=True)  # the latest first
    own = [path] * path.exists() + before
    asked_for, parts = asked.runs(Path()), [as_rows([])]
    for place in own:
        content, suite, rows = read_suite(place)
        if replaced := _replaced(content, now):
            raise CmkdError(f"'{replaced[0]}' has changed since '{place}' was written: choose another --out")
        parts.append(_asked_for(asked_for, place, suite, rows, newer(content)))
        if place == path and len(parts[-1]) < len(rows) and path.read_bytes() not in (p.read_bytes() for p in before):
            free = (path.with_suffix(f".before-{number}.json") for number in count(1))
            write_bytes(next(kept for kept in free if not kept.exists()), path.read_bytes())
    for place in sorted(set(path.parent.glob("*.json")) - set(own)):
        if not place.is_file() or b'"suite"' not in place.read_bytes():
            continue
        try:
            content, suite, rows = read_suite(place)
        except CmkdError as error:
            warnings.warn(f"students of another suite do not count: {error}", CmkdWarning, stacklevel=2)
            continue
        rows = rows[~rows["data"].isin(_replaced(content, now))]
        with contextlib.suppress(CmkdError):  # its data are not available here
            parts.append(_asked_for(asked_for, place, suite, rows, newer(content)))
    found = pd.concat([part for part in parts if len(part)] or parts).drop_duplicates(STUDENT, ignore_index=True)
    return of_first_teacher(found)  # for a run that was trained twice, the later training


def _replaced(content: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Return the packs that have changed since the students in a file were trained."""
    return [data for data, pack in content.get("packs", {}).items() if now.get(data, pack) != pack]


def _asked_for(
    asked: Sequence[PlannedRun], path: Path, suite: Suite, rows: pd.DataFrame, newer: set[str]
) -> pd.DataFrame:
    """Return the students of a file that are asked for, with the names of `asked`; settings may differ in name there.

    Students that depend on the names in `newer` are left out with a warning.
    """
    was = {planned.place: planned.key for planned in planned_by(path, suite, Path())}
    runs, found, old = {planned.key: planned for planned in asked}, list[dict[Any, Any]](), 0
    for row in rows.to_dict("records"):
        planned = runs.get(was.get((row["data"], row["setting"], row["teacher"]), ""))
        if planned and (row["method"], row["seed"]) in planned.students:
            if depends(planned, row["method"], newer):
                old += 1
            else:
                found.append(row | dict(zip(STUDENT, planned.place, strict=False)))
    if old:
        names = ", ".join(sorted(newer))
        said = f"students in '{path}' do not count ({old}): {names} has changed since, or the file does not say"
        warnings.warn(said, CmkdWarning, stacklevel=3)
    return as_rows(found)


def faults(
    asked: Suite,
    content: Mapping[str, Any],
    suite: Suite,
    rows: pd.DataFrame,
    again: pd.DataFrame,
    runs: Sequence[PlannedRun],
) -> list[str]:
    """Return the violations of the protocol in results; empty if there are none.

    Args:
        asked: the suite that should have been trained.
        content: content of the JSON file with the results.
        suite: the suite named in the results; it may have more methods.
        rows: students in the JSON file.
        again: students recomputed from the folders of the runs, if present.
        runs: the runs of `suite`.
    """
    found = [
        f"{name} is {getattr(suite, name)!r}, not {getattr(asked, name)!r}"
        for name in ("data", "settings", "teachers", "first_teacher", "seeds", "run")
        if getattr(suite, name) != getattr(asked, name)
    ]
    if lacking := [method for method in asked.expressions if method not in suite.expressions]:
        found.append(f"methods lacks {', '.join(lacking)}")
    wanted = {(*planned.place, *student) for planned in runs for student in planned.students}
    there, methods = _students(rows), dict.fromkeys(rows["method"])
    found += _named("is missing", wanted - set(there)) + _named("is not in the suite", set(there) - wanted)
    found += [f"'{data}' is not the data at hand here" for data in _replaced(content, asked.packs())]
    newer = with_other_options(content.get("options", {}), options(suite.expressions))
    newer |= changed(content.get("sources", {}), sources(suite))
    found += [f"{name} has changed since the results were written" for name in sorted(newer)]
    for planned in runs:
        since = changed_since(planned)
        if old := [method for method in planned.config.expressions if depends(planned, method, since)]:
            changes = f"{', '.join(sorted(since))} has changed since its folder was started"
            found.append(f"{', '.join(old)} on {planned.title} cannot be counted again: {changes}")
        own = rows[rows[STUDENT[:3]].eq(list(planned.place)).all(axis=1)]
        if not one_teacher(own.to_dict("records")):
            found.append(f"students on {planned.title} have several teachers")
        epochs = planned.config.epochs  # the last epoch may begin just below the limit
        most = epochs * EPOCH_STEPS if epochs else PRESETS[planned.config.preset] + EPOCH_STEPS
        found += _named(f"has more than {most} steps", set(_students(own[own["steps"].astype(float) > most])))
    sees = {method: any(METHODS.find(call.name).sees_all_labels for call in parse_sum(method)) for method in methods}
    wrong = rows[rows["sees_all_labels"].astype(bool) != rows["method"].map(sees)]
    found += _named("has a wrong sees_all_labels", set(_students(wrong)))
    found += uncommitted(rows)
    return found + _changed(rows, again)


def uncommitted(rows: pd.DataFrame) -> list[str]:
    """Return a line for each state of the source, other than a clean commit, with which students were trained."""
    commits = rows["commit"].fillna("unknown")
    unsure = ~commits.str.fullmatch(f"[0-9a-f]{{{ABBREVIATED},40}}")
    return [
        f"{len(part)} students were trained by commit {name}: commit your changes, and train them in a new folder"
        for name, part in rows[unsure].groupby(commits[unsure], sort=False)
    ]


def _changed(rows: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    """Return the differences between rows and the same students recomputed from the folders of the runs."""
    if not len(again):
        return []
    both, found = rows.merge(again, on=STUDENT, suffixes=("", "_again")), list[str]()
    for name in (name for name in again if name not in STUDENT):
        ours, theirs = both[name], both[f"{name}_again"]
        same = (ours == theirs) | (ours.isna() & theirs.isna())
        if pd.api.types.is_float_dtype(ours) and pd.api.types.is_float_dtype(theirs):
            same |= np.isclose(ours, theirs, rtol=ROUNDED, atol=ROUNDED)
        if name == "commit":
            whole = rf"^([0-9a-f]{{{ABBREVIATED}}})[0-9a-f]{{{40 - ABBREVIATED}}}$"
            same |= ours == theirs.astype(str).str.replace(whole, r"\1", regex=True)
        said = f"has another {'number of right answers' if name == 'right' else name} in its folder"
        found += _named(said, set(_students(both[~same])))
    return found


def _students(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(rows[STUDENT].itertuples(index=False, name=None))


def _named(problem: str, students: set[tuple[Any, ...]]) -> list[str]:
    ordered = sorted(students, key=str)
    if len(ordered) > SHOWN:
        return [f"{len(ordered)} students: each {problem}"]
    return [
        f"{m} on {data}, {setting}, teacher {t + 1}, seed {seed} {problem}" for data, setting, t, m, seed in ordered
    ]
