"""Read and check the result files of a run's models, since users may have edited them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.documents import TEST, read_json, record
from cmkd.errors import CmkdError, not_let
from cmkd.evaluation.scores import group_numbers
from cmkd.io import parquet_file

AGAIN = "restore the file, or remove the folder of its run and repeat the command"
"""Advice in messages about a damaged file of a run."""


@dataclass(frozen=True, kw_only=True)
class _SubsetScore:
    """Schema of the scores with one subset of modalities."""

    test_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class _ModelScore:
    """Schema of the ``result.json`` of a teacher, or of a student in a tuning trial, which is not tested."""

    modality: str = ""
    seed: int | None = None
    method: str | None = None
    checkpoint: str | None = None
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    validation_log_loss: float | None = None
    sees_all_labels: bool = False
    commit: str | None = None
    converged: bool | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    subsets: Mapping[str, _SubsetScore] = field(default_factory=dict)
    structure: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _StudentScore(_ModelScore):
    """Schema of a student in ``results.json``; `field()` removes the defaults of the base class."""

    seed: int = field()
    method: str = field()
    checkpoint: str = field()
    test_accuracy: float = field()

    def __post_init__(self) -> None:
        place = PurePosixPath(self.checkpoint.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise CmkdError(f"checkpoint '{self.checkpoint}' is outside the folder")
        if any(score.test_accuracy is None for score in self.subsets.values()):
            raise CmkdError("a subset lacks test_accuracy")


@dataclass(frozen=True, kw_only=True)
class _TeacherScore(_ModelScore):
    """Schema of the teacher in ``results.json``; the accuracy of a teacher from an outputs file may be unknown."""

    test_accuracy: float | None = field()


@dataclass(frozen=True, kw_only=True)
class _RecommendedScore(_StudentScore):
    """Schema of the student that a run recommends."""

    validation_accuracy: float = field()


@dataclass(frozen=True, kw_only=True)
class _RankedScore(_RecommendedScore):
    """Schema of a student's ``result.json``, with the scores that decide the recommendation."""

    validation_log_loss: float = field()


@dataclass(frozen=True)
class _Labels:
    """Schema of the numbers of labels visible to teacher or student."""

    visible: int | None
    all: int | None
    unlabeled: int = 0
    wrong: int | None = 0


@dataclass(frozen=True)
class _Pairs:
    """Schema of the numbers of pairs by split; for validation and test, the pairs used to evaluate students."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Schema of the data in ``results.json``."""

    name: str
    classes: tuple[str, ...]
    rich: str
    poor: str
    pairs: _Pairs
    version: int = 1
    same_test_pairs: bool = True
    labels: Mapping[str, _Labels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels and not {"teacher", "student"} <= self.labels.keys():
            raise CmkdError("labels needs teacher and student")


@dataclass(frozen=True)
class _Tuned:
    """Schema of the options chosen for a method."""

    method: str
    expression: str
    trials: int
    validation_accuracies: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not self.validation_accuracies or self.validation_accuracies[0] is None:
            raise CmkdError("validation_accuracies lacks the first trial")


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Schema of ``results.json``."""

    data: _Data
    teacher: _TeacherScore
    students: tuple[_StudentScore, ...]
    tuned: tuple[_Tuned, ...] = ()
    recommended: _RecommendedScore | None = None
    complete: bool = True
    epochs: int | None = None

    def __post_init__(self) -> None:
        subsets: dict[str, set[str]] = {}
        for student in self.students:
            if student.subsets and subsets.setdefault(student.method, set(student.subsets)) != set(student.subsets):
                raise CmkdError(f"the students of {student.method} have different subsets")


def read_results(path: Path) -> dict[str, Any]:
    """Read the ``results.json`` of a run.

    Raises:
        CmkdError: the file is missing or damaged; the message names the file and the key.
    """
    return _checked(_Results, path)


def superseded(student: Mapping[str, Any], results: Mapping[str, Any]) -> bool:
    """Return whether a run now recommends another student: it was continued and has not finished yet.

    Args:
        student: content of the run's ``student.json``.
        results: content of the run's ``results.json``.

    Example:
        >>> superseded({"method": "kd", "seed": 0}, {"recommended": {"method": "kd", "seed": 3}})
        True
    """
    chosen = results.get("recommended")
    if not isinstance(chosen, Mapping) or student.get("method") is None:  # from an older version
        return False
    return any(student.get(key) != chosen.get(key) for key in ("method", "seed"))


def read_result(path: Path, *, student: bool = False) -> dict[str, Any]:
    """Read the ``result.json`` of a model; with `student`, require the fields that a tested student has.

    Raises:
        CmkdError: the file is missing or damaged; the message names the file and the key.
    """
    return _checked(_RankedScore if student else _ModelScore, path)


def _checked(schema: type[object], path: Path) -> dict[str, Any]:
    content = read_json(path, fix=AGAIN)
    record(schema, content, f"'{path}'", fix=AGAIN)
    return content


def read_history(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read the ``history.csv`` of a training, which must have these numeric columns.

    Raises:
        CmkdError: the file is missing or damaged.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parsing errors are ValueErrors
        raise _unreadable(path, error) from error
    _check_numbers(table, ("epoch", *columns), path)
    if table["epoch"].duplicated().any():
        raise CmkdError(f"'{path}' is damaged (an epoch occurs twice): {AGAIN}")
    return table


def read_predictions(path: Path, classes: int, *, logits: bool = False) -> pd.DataFrame:
    """Read the predictions of a model on a split, in the form of `cmkd.evaluation.prediction_table`.

    Args:
        path: the Parquet file.
        classes: number of classes.
        logits: whether the logits must be in the file.

    Raises:
        CmkdError: the file is missing or damaged.
    """
    import pyarrow as pa

    try:
        with parquet_file(path) as file:
            table: pd.DataFrame = file.read().to_pandas()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    wanted = [f"logit_{k}" for k in range(classes)] if logits else []
    _check_numbers(table, ("target", "predicted", *wanted), path)
    if "id" not in table:
        raise CmkdError(f"'{path}' is damaged (it has no column 'id'): {AGAIN}")
    for name in ("target", "predicted"):
        if not table[name].isin(range(classes)).all():
            raise CmkdError(f"'{path}' is damaged ({name} is not an index of the {classes} classes): {AGAIN}")
    return table if "group" in table else table.assign(group="")  # a run of an older version has none


Answers = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Numbers of correct answers and of pairs in each test group."""


def right_answers(path: Path, classes: int, *, split_one: bool = True) -> Answers:
    """Count the correct answers of a model in each test group, in the order of the groups' names.

    Args:
        path: file of the model's predictions.
        classes: number of classes.
        split_one: if there is a single group, treat each pair as a group, as `cmkd.evaluation.bootstrap` does.

    Raises:
        CmkdError: the file is missing or damaged (see `read_predictions`).
    """
    return _right_answers(path, path.stat().st_mtime_ns if path.exists() else 0, classes, split_one)


@cache
def _right_answers(path: Path, changed: int, classes: int, split_one: bool) -> Answers:
    """Count once per file, since a run or suite is summarized again after each training."""
    table = read_predictions(path, classes)
    groups = group_numbers(table)
    if split_one and not groups.any():
        groups = group_numbers(table.assign(group=""))
    hits = (table["target"] == table["predicted"]).to_numpy()
    return np.bincount(groups, weights=hits).astype(np.int64), np.bincount(groups)


def students_answers(
    folder: Path, students: Sequence[Mapping[str, Any]], classes: int
) -> dict[tuple[str, int], Answers]:
    """Return the correct answers of a run's students by method and seed, for students with a file of predictions.

    A single test group is not split into pairs, since its pairs give no information about other groups.
    """
    places = {(one["method"], one["seed"]): (folder / one["checkpoint"]).with_name(TEST) for one in students}
    return {
        student: right_answers(path, classes, split_one=False) for student, path in places.items() if path.is_file()
    }


def _unreadable(path: Path, error: Exception) -> CmkdError:
    if isinstance(error, FileNotFoundError):
        return CmkdError(f"'{path}' does not exist: {AGAIN}")
    said = str(error).splitlines()[0][:100]
    return not_let(f"'{path}'", error) or CmkdError(f"'{path}' is damaged ({said}): {AGAIN}")


def _check_numbers(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    for name in names:
        if name not in table or table[name].dtype.kind not in "ifb" or table.empty:
            raise CmkdError(f"'{path}' is damaged (it has no column of numbers '{name}'): {AGAIN}")
