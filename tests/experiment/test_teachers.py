"""The teacher of another run is copied if everything that its training depends on is equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmkd import Experiment, RunConfig
from cmkd.analysis import measure
from cmkd.config import ModelConfig, TeacherConfig
from cmkd.data import Pack
from cmkd.experiment import fitting, scoring, teachers
from cmkd.io import checksum, locked
from cmkd.training.job import TrainingJob


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the titles of trainings are added; the code counts as committed."""
    titles, fit = list[str](), fitting.fit

    def counted(job: TrainingJob, *settings: Any, **options: Any) -> Path:  # noqa: ANN401
        titles.append(job.title)
        return fit(job, *settings, **options)

    monkeypatch.setattr(fitting, "fit", counted)
    monkeypatch.setattr(teachers, "commit", lambda: "abc")
    return titles


def run(out: Path, *, severity: float = 0.2, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    small = ModelConfig(model="thin_resnet(width=4, stages=2)")
    given = {"methods": "none", "seeds": 1, "epochs": 1, "labels": 40, "jobs": 1, "student": small} | options
    config = RunConfig(**{"data": f"digits(severity={severity})", "out": out} | given)  # type: ignore[arg-type]
    return Experiment(config, page=False, others=out.parent).run()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.int64]]:
    """Return a list to which the rows are added on which the structure of each model is measured."""
    found, features = list[NDArray[np.int64]](), measure.stage_features

    def spy(model: Any, pack: Any, rows: Any, **options: Any) -> Any:  # noqa: ANN401
        found.append(rows)
        return features(model, pack, rows, **options)

    monkeypatch.setattr(scoring, "stage_features", spy)
    return found


def test_structure_is_measured_on_validation_alone(
    digits: Pack, tmp_path: Path, measured: list[NDArray[np.int64]]
) -> None:
    run(tmp_path)
    teacher, student = measured
    assert np.isin([*teacher, *student], digits.rows("validation")).all()


def test_structure_is_measured_on_pairs_from_all_of_a_long_validation_split(
    squares: Pack, tmp_path: Path, measured: list[NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "MEASURED_PAIRS", 20)
    run(tmp_path, data=squares, labels=None)
    every, (_, student) = squares.rows("validation", modalities=("poor",), labeled=True), measured
    assert len(student) == 20 and np.isin(student, every).all() and student.max() > every[len(every) // 2]


def test_a_frozen_teacher_is_not_that_of_another_run_which_was_not(tmp_path: Path, trained: list[str]) -> None:
    for frozen in (False, True):
        run(tmp_path / str(frozen), teacher=TeacherConfig(model="thin_resnet(width=4, stages=2)", frozen=frozen))
    assert trained.count("teacher") == 2


def test_a_run_waits_for_one_that_trains_its_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, fit = list[tuple[str, bool]](), fitting.fit

    def watched(job: TrainingJob, *settings: Any, **options: Any) -> Path:  # noqa: ANN401
        for path in tmp_path.glob(".teacher-*.lock"):
            with locked(path) as found:
                free.append((job.title, found))
        return fit(job, *settings, **options)

    monkeypatch.setattr(fitting, "fit", watched)
    monkeypatch.setattr(teachers, "commit", lambda: "abc")
    run(tmp_path / "a")
    assert [found for title, found in free if title == "teacher"] == [False]
    assert {found for title, found in free if title != "teacher"} == {True}


def test_a_teacher_of_equal_inputs_is_copied(tmp_path: Path, trained: list[str]) -> None:
    first = run(tmp_path / "a" / "slight")
    alone = run(tmp_path / "b" / "severe", severity=0.8)  # no other run beside it
    assert trained.count("teacher") == 2
    copied = run(tmp_path / "a" / "severe", severity=0.8)
    assert trained.count("teacher") == 2 and len(trained) == 5
    assert copied["teacher"] == alone["teacher"] == first["teacher"]
    assert copied["students"] == alone["students"] != first["students"]
    for name in ("best.safetensors", "history.csv", "test.parquet"):
        assert checksum(tmp_path / "a" / "severe" / "teacher" / name) == checksum(tmp_path / "b/severe/teacher" / name)


def test_pairs_without_a_label_that_are_left_out_change_the_students_alone(tmp_path: Path, trained: list[str]) -> None:
    every, two, zero = (
        run(tmp_path / f"{unlabeled}", methods="kd", unlabeled=unlabeled) for unlabeled in (None, 2.5, 0)
    )
    assert trained.count("teacher") == 1 and every["teacher"] == two["teacher"] == zero["teacher"]
    assert len({one["students"][0]["validation_log_loss"] for one in (every, two, zero)}) == 3
    assert [one["data"]["labels"]["student"]["unlabeled"] for one in (every, two, zero)] == [1037, 100, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"labels": 30},
        {"epochs": 2},
        {"optimizer": {"learning_rate": 0.01}},
        {"label_noise": 0.5},
        {"augmentation": {"rotate": 5.0}},
        {"trainer": {"batch_size": 64}},
    ],
)
def test_a_teacher_of_other_training_is_trained(tmp_path: Path, trained: list[str], options: dict[str, Any]) -> None:
    run(tmp_path / "first")
    run(tmp_path / "other", **options)
    assert trained.count("teacher") == 2


def test_code_that_no_commit_has_trains_every_teacher(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "commit", lambda: "abc-dirty")
    run(tmp_path / "first")
    run(tmp_path / "second")
    assert trained.count("teacher") == 2


def test_a_damaged_file_of_another_run_is_passed_over(tmp_path: Path, trained: list[str]) -> None:
    run(tmp_path / "first")
    (tmp_path / "first" / "teacher" / teachers.MADE_FROM).write_text("{")
    run(tmp_path / "second")
    assert trained.count("teacher") == 2
