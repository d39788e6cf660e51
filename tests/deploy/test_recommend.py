"""The recommended student is chosen only on validation, written with its card, and updated when a run continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cmkd import CmkdError, Experiment, ModelConfig, RunConfig, TeacherConfig, TrainerConfig, load_model, load_student
from cmkd.data import Pack
from cmkd.deploy.calibration import Calibration, calibration_error, fit, reliability
from cmkd.deploy.model_card import model_card
from cmkd.deploy.recommend import recommended
from cmkd.documents import read_json

SMALL = "thin_resnet(width=4,stages=2)"


def row(method: str, seed: int, accuracy: float, loss: float = 1.0, **more: object) -> dict[str, Any]:
    return {"method": method, "seed": seed, "validation_accuracy": accuracy, "validation_log_loss": loss} | more


def test_the_test_pairs_have_no_part_in_the_choice() -> None:
    rows = [row("a", 0, 0.8), row("a", 1, 0.9), row("b", 0, 0.7)]
    for scores in ((0.1, 0.2, 0.9), (0.9, 0.2, 0.1)):
        measured = [r | {"test_accuracy": s, "test_log_loss": -s} for r, s in zip(rows, scores, strict=True)]
        found = recommended(measured)
        assert found is not None and (found["method"], found["seed"]) == ("a", 1)
    assert recommended(rows) == rows[1]  # test scores are not required


def test_one_lucky_student_does_not_choose_the_method() -> None:
    assert recommended([row("a", 0, 0.99), row("a", 1, 0.5), row("b", 0, 0.8), row("b", 1, 0.81)]) == row("b", 1, 0.81)


def test_ties_go_to_the_lower_log_loss() -> None:
    assert recommended([row("a", 0, 0.8, 0.5), row("b", 0, 0.8, 0.4)]) == row("b", 0, 0.8, 0.4)
    assert recommended([row("a", 0, 0.8, 0.5), row("a", 1, 0.8, 0.4)]) == row("a", 1, 0.8, 0.4)
    assert recommended([row("a", 0, 0.8), row("b", 0, 0.8)]) == row("a", 0, 0.8)  # the same each time


def test_controls_are_left_out() -> None:
    control = row("all_labels", 0, 1.0, sees_all_labels=True)
    assert recommended([control, row("kd", 0, 0.5)]) == row("kd", 0, 0.5)
    assert recommended([control]) is None and recommended([]) is None


def config(squares: Pack, out: Path, **changes: object) -> RunConfig:
    given: dict[str, Any] = {
        "data": squares, "out": out, "methods": "none", "seeds": 1, "epochs": 2, "min_precision": 0.7, "jobs": 1,
        "teacher": TeacherConfig(model=SMALL), "student": ModelConfig(model=SMALL),
        "trainer": TrainerConfig(progress="none", batch_size=32),
    }  # fmt: skip
    return RunConfig(**given | changes)


def test_a_run_publishes_its_student_and_a_longer_run_another(squares: Pack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = Experiment(config(squares, out), page=False).run()
    assert read_json(out / "results.json") == first and not (out / "report.html").exists()
    assert first["recommended"]["method"] == "none" and "by `none` (seed 0)" in (out / "student.md").read_text()

    results = Experiment(config(squares, out, methods="none,kd", seeds=2), page=False).run()
    chosen = recommended(results["students"])
    assert chosen is not None and read_json(out / "results.json")["recommended"] == chosen
    model, about = load_model(out / "student.safetensors")
    assert (about["method"], about["seed"]) == (chosen["method"], chosen["seed"])
    assert about == read_json(out / "student.json")
    original, _ = load_model(out / chosen["checkpoint"])
    assert all((a == b).all() for a, b in zip(model.state_dict().values(), original.state_dict().values(), strict=True))

    card = (out / "student.md").read_text()
    assert f"| this student | {100 * chosen['test_accuracy']:.1f} |" in card
    assert f"by `{chosen['method']}` (seed {chosen['seed']})" in card and "it needs only poor" in card
    teacher = results["teacher"]  # some pairs lack the rich modality
    row = f"the teacher, which needs rich, on its {teacher['test_pairs']} test pairs | "
    assert f"{row}{100 * teacher['test_accuracy']:.1f} |" in card

    student = load_student(out)
    hostile = {**results["data"], "classes": ["a|b", "<img src=x>", "[c](http://d)"]}
    card = model_card(results | {"data": hostile}, chosen, squares.card, student.calibration, about["test"])
    assert card.count(r"a\|b") == card.count(r"\<img src=x\>") == card.count(r"\[c\](http://d)") == 2
    trained = next(one for one in results["students"] if one["method"] == "kd")
    one_group = [row | {"one_group": True, "gain_interval": None} for row in results["summary"]]
    card = model_card(results | {"summary": one_group}, trained, squares.card, student.calibration, about["test"])
    assert "points, on test pairs of one group: too few to say which is better." in card
    tables = {s: pd.read_parquet((out / chosen["checkpoint"]).parent / f"{s}.parquet") for s in ("validation", "test")}
    logits = {s: table.filter(regex=r"^logit_\d+$").to_numpy() for s, table in tables.items()}
    assert student.calibration == fit(logits["validation"], tables["validation"]["target"].to_numpy(), precision=0.7)
    rows = squares.rows("test", modalities=("poor",), labeled=True)
    found = student.predict(squares.batch(rows, ("poor",)).inputs["poor"].numpy())
    right = found["class"].to_numpy() == [squares.classes[k] for k in tables["test"]["target"]]
    assert right.mean() == pytest.approx(chosen["test_accuracy"])
    assert about["test"]["accepted"] == pytest.approx(1 - found["rejected"].mean(), abs=0.02)

    Experiment(config(squares, out, methods="none,kd", seeds=2, min_precision=1.0), page=False).run()
    assert load_student(out).calibration.precision == 1.0  # another precision only repeats the calibration


def test_what_the_card_says_of_the_test_pairs_is_measured_on_them(squares: Pack, tmp_path: Path) -> None:
    results = Experiment(config(squares, tmp_path / "out"), page=False).run()
    about, student = load_model(tmp_path / "out" / "student.safetensors")[1], load_student(tmp_path / "out")
    table = pd.read_parquet((tmp_path / "out" / results["recommended"]["checkpoint"]).with_name("test.parquet"))
    logits, target = table.filter(regex=r"^logit_\d+$").to_numpy(), table["target"].to_numpy()
    before, after = Calibration().probabilities(logits), student.calibration.probabilities(logits)
    accepted, right = ~student.calibration.rejected(after), after.argmax(1) == target
    assert about["test"] == pytest.approx(
        {
            "pairs": len(target),
            "calibration_error_before": calibration_error(before, target),
            "calibration_error": calibration_error(after, target),
            "accepted": accepted.mean(),
            "accuracy_of_accepted": right[accepted].mean(),
        }
    )
    assert about["reliability"]["uncalibrated"] == reliability(before, target)
    assert about["reliability"]["calibrated"] == reliability(after, target)


@pytest.mark.parametrize("value", [0.0, -1.0, 1.01])
def test_a_precision_out_of_range_is_refused(value: float, squares: Pack, tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match=r"min_precision is .* it must be above 0 and at most 1"):
        config(squares, tmp_path, min_precision=value)
