"""Students of several modalities are trained, resumed, evaluated with each subset of them, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch

from cmkd import CmkdError, Experiment, RunConfig, StudentConfig, TeacherConfig, TrainerConfig, load_model, models
from cmkd.analysis import analyze, find
from cmkd.cli.run import subset_table
from cmkd.data import CardInfo, Pack, PackWriter
from cmkd.documents import read_json
from cmkd.evaluation import scores
from cmkd.experiment.modalities import with_modalities
from cmkd.experiment.resolve import resolve
from cmkd.inference import predict
from cmkd.models import FusedModel, Model, StackedModel
from cmkd.models.checkpoint import save_model
from cmkd.report import write_report

NAME = "thin_resnet(width=4,stages=2)"
TRAINER = TrainerConfig(batch_size=32, accelerator="cpu", progress="none")
BOTH = StudentConfig("rich+poor", NAME)


def config(data: object, out: Path, methods: str = "none", **changes: object) -> RunConfig:
    given = {"data": data, "out": out, "methods": methods, "seeds": 1, "epochs": 2, "trainer": TRAINER, "jobs": 1}
    return RunConfig(**given | {"teacher": TeacherConfig(model=NAME), "student": BOTH} | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(squares: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one method of each family on data where every seventh pair lacks the rich modality; return the folder."""
    out = tmp_path_factory.mktemp("subsets") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cmkd.experiment.runner.write_report", lambda folder: None)
        Experiment(config(squares, out, "none,ds,kd+fitnet,simkd")).run()
    return out


def test_each_subset_is_evaluated_on_the_pairs_that_have_it(finished: Path, squares: Pack) -> None:
    results = read_json(finished / "results.json")
    assert results["complete"] and results["data"]["poor"] == "poor" and len(results["students"]) == 4
    for student in results["students"]:
        model, _ = load_model(finished / student["checkpoint"])
        assert isinstance(model, FusedModel)
        assert list(student["subsets"]) == ["poor", "rich", "poor+rich"]
        for subset, found in student["subsets"].items():
            names = subset.split("+")
            rows = squares.rows("test", modalities=names, labeled=True)
            logits = predict(model, squares, rows, modalities=names)
            expected = scores(logits, squares.index["label"].to_numpy()[rows])["accuracy"]
            assert found["test_accuracy"] == expected and found["test_pairs"] == len(rows)
        # in comparisons, the student counts with its scores on the poor modality alone
        assert {k: student[k] for k in student["subsets"]["poor"]} == student["subsets"]["poor"]
        table = pd.read_parquet((finished / student["checkpoint"]).parent / "test.parquet")
        assert student["test_accuracy"] == pytest.approx((table["target"] == table["predicted"]).mean())
        assert student["subsets"]["rich"]["test_pairs"] < student["test_pairs"]


def test_the_epoch_is_chosen_over_all_subsets(finished: Path) -> None:
    for student in read_json(finished / "results.json")["students"]:
        home = (finished / student["checkpoint"]).parent
        best = pd.read_csv(home / "history.csv")["validation_accuracy"].max()
        pairs = [found["validation_pairs"] for found in student["subsets"].values()]
        right = [found["validation_accuracy"] * found["validation_pairs"] for found in student["subsets"].values()]
        assert best == pytest.approx(sum(right) / sum(pairs))


def test_table_and_page_show_the_subsets(finished: Path) -> None:
    results = read_json(finished / "results.json")
    shown = subset_table(results)
    assert [str(column.header) for column in shown.columns] == ["model", "poor", "rich", "poor+rich"]
    expected = [f"{100 * student['subsets']['rich']['test_accuracy']:.1f}" for student in results["students"]]
    assert list(shown.columns[2].cells) == expected
    page = write_report(finished).read_text()
    assert "Accuracy with each subset of modalities" in page and "poor+rich (%)</th>" in page


def test_the_recommended_student_keeps_its_modalities(finished: Path) -> None:
    model, _ = load_model(finished / "student.safetensors")
    assert [modality.name for modality in model.modalities] == ["poor", "rich"]


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize(
    ("fusion", "kind", "scaling"), [("late", FusedModel, "linear"), ("early", StackedModel, "log")]
)
def test_a_teacher_that_sees_both_is_given_both(
    squares: Pack,
    tmp_path: Path,
    fusion: Literal["late", "early"],
    kind: type[Model],
    scaling: Literal["linear", "log"],
) -> None:
    teacher = TeacherConfig("poor,rich", NAME, views=2, fusion=fusion, scaling=scaling)
    Experiment(config(squares, tmp_path, "kd,fitnet,simkd", teacher=teacher, student=StudentConfig(model=NAME))).run()
    results = read_json(tmp_path / "results.json")
    assert results["complete"] and results["data"]["rich"] == results["teacher"]["modality"] == "rich+poor"
    model, _ = load_model(tmp_path / "teacher" / "best.safetensors")
    assert isinstance(model, kind) and model.subsets == (("rich", "poor"),)
    rows = squares.rows("test", modalities=("rich", "poor"), labeled=True)
    expected = scores(predict(model, squares, rows), squares.index["label"].to_numpy()[rows])["accuracy"]
    assert results["teacher"]["test_accuracy"] == expected and "subsets" not in results["teacher"]
    of_teacher = analyze(find([tmp_path]), squares).summary["models"][0]
    assert of_teacher["label"] == "teacher (rich+poor)" and of_teacher["modality"] == "rich+poor"
    if fusion == "late":
        given = TeacherConfig("poor,rich", checkpoint=tmp_path / "teacher" / "best.safetensors", fusion="early")
        with pytest.raises(CmkdError, match="fuses its modalities late; leave out"):
            Experiment(config(squares, tmp_path / "other", teacher=given)).run()


@pytest.mark.usefixtures("without_page")
def test_a_student_that_sees_more_starts_as_the_one_that_sees_the_poor_modality(squares: Pack, tmp_path: Path) -> None:
    built = []
    for student in (BOTH, StudentConfig(model=NAME)):
        run = resolve(config(squares, tmp_path, student=student))
        torch.manual_seed(0)
        built.append(run.build("student").state_dict())
    for name, value in built[1].items():
        torch.testing.assert_close(built[0][name], value, rtol=0, atol=0)


def test_a_teacher_of_values_in_another_unit_is_refused(squares: Pack, tmp_path: Path) -> None:
    sensors = [replace(squares.modality(name), unit="amplitude") for name in ("poor", "rich")]
    splits = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    with PackWriter(
        tmp_path / "pack", CardInfo("new", rich="rich"), classes=squares.classes, modalities=sensors
    ) as new:
        samples = {one.name: [np.zeros(one.shape, np.float32)] * 12 for one in sensors}
        new.add_samples([str(k) for k in range(12)], [0, 1, 2] * 4, splits, None, samples, {})
    model = models.build(NAME, replace(squares.modality("rich"), unit="dB"), classes=3)
    save_model(tmp_path / "a.safetensors", model, name=NAME, classes=squares.classes, extra={})
    teacher = TeacherConfig("rich", checkpoint=tmp_path / "a.safetensors")
    with pytest.raises(CmkdError, match=r"unit of 'rich' is stated as amplitude, but for .* it is dB"):
        resolve(config(Pack.open(tmp_path / "pack"), tmp_path / "out", teacher=teacher))


def test_the_poor_modality_comes_first_and_the_dropout_is_filled_in(squares: Pack, tmp_path: Path) -> None:
    _, student = with_modalities(config(squares, tmp_path), squares)
    assert student.modalities == ("poor", "rich") and student.modality_dropout == 0.5
    _, one = with_modalities(config(squares, tmp_path, student=StudentConfig()), squares)
    assert one.modalities == ("poor",) and one.modality_dropout is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"student": {"modality": "rich+por"}}, "did you mean 'poor'"),
        ({"student": {"modality": "rich+rich"}}, r"student.modality lists a modality twice: rich\+rich"),
        ({"teacher": {"modality": "rich+poor", "model": torch.nn.Linear(2, 3)}}, "name an encoder as teacher.model"),
        ({"teacher": {"fusion": "early"}}, "teacher.fusion early needs several modalities"),
        ({"student": {"modality_dropout": 0.5}}, "needs several modalities"),
        ({"student": {"modality": "rich+poor", "model": torch.nn.Linear(2, 3)}}, "an own module sees one modality"),
        ({"student": {"modality": "rich+poor", "modality_dropout": 1.5}}, "must be at least 0 and at most 1"),
        ({"student": {"modality": "rich+poor", "checkpoint": "CHECKPOINT"}}, r"'poor' \(1, 8, 8\), but the data"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    changes: dict[str, object], says: str, squares: Pack, tmp_path: Path
) -> None:
    from cmkd import models
    from cmkd.models.checkpoint import save_model

    path = tmp_path / "alone.safetensors"
    alone = models.build(NAME, squares.modality("poor"), classes=3)
    save_model(path, alone, name=NAME, classes=squares.classes, extra={})
    student = {k: str(path) if v == "CHECKPOINT" else v for k, v in dict(changes.get("student", {})).items()}  # type: ignore[call-overload]
    with pytest.raises(CmkdError, match=says):
        Experiment(config(squares, tmp_path / "out", **changes | ({"student": student} if student else {}))).run()
    assert not (tmp_path / "out" / "teacher").exists()
