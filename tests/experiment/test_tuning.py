"""Options are chosen only on validation pairs, and a stopped tuning ends like an uninterrupted one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cmkd import Experiment, RunConfig
from cmkd.cli import main
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError, DivergedError
from cmkd.experiment.plan import PlannedStudent, ready, students
from cmkd.experiment.tuning import Options, Trials, ranges, summary, with_options
from cmkd.methods.combine import from_expression
from cmkd.types import Spec

SPEC = Spec(classes=10, dim=8)


def test_what_is_written_stays_and_only_weights_and_temperatures_above_zero_are_tuned() -> None:
    assert list(ranges("kd(temperature=2)", {})) == ["kd.weight"]
    assert ranges("none", {}) == ranges("kd(temperature=2,weight=4)", {}) == {}
    found = ranges("ds", {"ds": {"uniformity_weight": 0, "kd_weight": 2}})
    assert list(found) == ["ds.kd_weight", "ds.temperature", "ds.independence_weight", "ds.off_diagonal_weight"]
    assert (found["ds.kd_weight"].low, found["ds.kd_weight"].high) == (0.25, 16.0)
    temperature = ranges("kd", {"kd": {"temperature": 1.0}})["kd.temperature"]
    assert (temperature.low, temperature.high) == (0.5, 4.0)
    assert ranges("crd", {})["crd.temperature"].low < ranges("crd", {})["crd.temperature"].value < 0.5
    assert "dist.beta" in ranges("dist", {}) and "nkd.gamma" in ranges("nkd", {})


@pytest.mark.parametrize("value", [0.2347, 0.5, 3.14159, 1.0049])
def test_a_range_holds_the_value_given(value: float) -> None:
    for known in ranges("kd", {"kd": {"temperature": value, "weight": value}}).values():
        assert known.low <= known.value == value < known.high


def test_each_part_of_a_sum_has_options_of_its_own() -> None:
    text = "kd(temperature=1)+0.5*kd(temperature=4)"
    assert list(ranges(text, {})) == ["kd.weight", "kd_2.weight"]
    first, second = from_expression(with_options(text, {"kd.weight": 3.0, "kd_2.weight": 5.0}), SPEC, SPEC).parts()  # type: ignore[attr-defined]
    assert (first.temperature, first.weight, second.temperature, second.weight) == (1, 3.0, 4, 5.0)


def student(options: Options) -> Mapping[str, Any]:
    """Replacement of a training, with the best result at a temperature of 4 and a weight of 1."""
    far = np.abs(np.log([options["kd.temperature"] / 4, options["kd.weight"]]))
    return {"validation_accuracy": 1.0 - float(far.sum()) / 10, "validation_log_loss": 1.0, "test_accuracy": 0.0}


def stopped(options: Options) -> Mapping[str, Any]:
    raise KeyboardInterrupt


def diverged(options: Options) -> Mapping[str, Any]:
    raise DivergedError("training diverged")


def full(options: Options) -> Mapping[str, Any]:
    raise CmkdError("no space left on device")


def trials(folder: Path, count: int, seed: int = 0) -> Trials:
    return Trials(folder, "kd", ranges("kd", {"kd": {"weight": 4.0}}), count, seed)


def test_trials_begin_with_the_options_given_get_better_and_end_alike_when_stopped(tmp_path: Path) -> None:
    whole, other = trials(tmp_path / "whole", 25), trials(tmp_path / "other", 25)
    for number in range(25):
        whole.run(number, student)
        if number == 12:
            with pytest.raises(KeyboardInterrupt):
                other.run(number, stopped)
            assert other.ended(11) and not other.ended(12)
        other.run(number, student)
    assert (other.folder / "trials.json").read_bytes() == (whole.folder / "trials.json").read_bytes()
    row = summary(whole.folder, 25)
    assert row is not None and row["options"] == whole.chosen() and row["trials"] == 25
    accuracies = row["validation_accuracies"]
    assert accuracies[0] == student({"kd.temperature": 2.0, "kd.weight": 4.0})["validation_accuracy"]
    # the first ten trials are drawn at random; the sampler learns from them and comes close to the optimum
    assert max(accuracies[10:]) > max(accuracies[:10]) > accuracies[0] and max(accuracies) > 0.97


def test_a_stopped_trial_keeps_the_options_that_it_began_with(tmp_path: Path) -> None:
    trials(tmp_path, 2).run(0, student)
    with pytest.raises(KeyboardInterrupt):
        trials(tmp_path, 2).run(1, stopped)
    begun = json.loads((tmp_path / "trials.json").read_text())["trials"][1]["options"]
    trials(tmp_path, 2, seed=1).run(1, student)  # another seed, like another Optuna, would draw others
    assert json.loads((tmp_path / "trials.json").read_text())["trials"][1]["options"] == begun


def test_a_trial_that_diverges_is_passed_over_unless_it_is_the_first(tmp_path: Path) -> None:
    made = trials(tmp_path, 3)
    with pytest.raises(CmkdError, match="training diverged"):
        made.run(0, diverged)
    with pytest.raises(CmkdError, match="an earlier trial has not ended"):
        made.run(1, student)
    with pytest.raises(CmkdError, match="0 of the 3 trials"):
        made.chosen()
    for number, train in enumerate((student, diverged, student)):
        assert summary(tmp_path, 3) is None
        made.run(number, train)
        if number == 0:  # a trial that fails for reasons other than its options is repeated
            with pytest.raises(CmkdError, match="no space left"):
                made.run(1, full)
    row = summary(tmp_path, 3)
    assert row is not None and row["validation_accuracies"][1] is None and None not in row["validation_accuracies"][::2]


def test_of_equal_accuracies_the_lower_loss_counts_and_then_the_earlier_trial(tmp_path: Path) -> None:
    measured = [(0.5, 2.0), (0.7, 1.0), (0.7, 0.9), (0.7, 0.9)]
    known = [
        {"options": {"kd.weight": k}, "validation_accuracy": a, "validation_log_loss": b}
        for k, (a, b) in enumerate(measured)
    ]
    (tmp_path / "trials.json").write_text(json.dumps({"method": "kd", "trials": known}))
    assert trials(tmp_path, 4).chosen() == {"kd.weight": 2}


def test_a_file_whose_first_trial_has_failed_is_damaged(tmp_path: Path) -> None:
    failed = {"options": {"kd.weight": 1.0}, "failed": "training diverged"}
    (tmp_path / "trials.json").write_text(json.dumps({"method": "kd", "trials": [failed]}))
    for read in (trials(tmp_path, 1).chosen, lambda: summary(tmp_path, 1)):
        with pytest.raises(CmkdError, match=r"trials.json' is damaged \(the first trial has failed\)"):
            read()


def test_trials_come_first_and_those_of_a_method_one_after_another(tmp_path: Path) -> None:
    chain = students(
        RunConfig("digits", tmp_path, methods="self_training,kd,kd(temperature=2,weight=1)", seeds=1, tune=2)
    )
    assert [student.title for student in chain] == [
        *("none, seed 1000000", "self_training, trial 1", "self_training, trial 2", "kd, trial 1", "kd, trial 2"),
        *("none, seed 0", "self_training, seed 0", "kd, seed 0", "kd(temperature=2,weight=1), seed 0"),
    ]
    begun: list[str] = []
    while chain:  # begin as many at a time as possible
        side_by_side: list[PlannedStudent] = []
        while student := ready(chain, side_by_side):
            side_by_side.append(student)
            chain.remove(student)
        begun.append(" | ".join(student.title for student in side_by_side))
    assert begun == [
        "none, seed 1000000 | kd, trial 1 | none, seed 0 | kd(temperature=2,weight=1), seed 0",
        "self_training, trial 1 | kd, trial 2",
        "self_training, trial 2 | kd, seed 0",
        "self_training, seed 0",
    ]


SMALL = "thin_resnet(width=4,stages=2)"
QUIET = {"progress": "none"}
SETTINGS = {"seeds": 1, "epochs": 1, "tune": 2, "teacher": SMALL, "student": SMALL, "trainer": QUIET}


def experiment(out: Path, methods: str, data: Pack | str = "digits", **changes: object) -> Experiment:
    return Experiment(RunConfig(data=data, out=out, methods=methods, **SETTINGS | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, str]:
    """Tune `kd` and `self_training`, whose teacher is a student; return the folder and the printed text."""
    out, printed = tmp_path_factory.mktemp("runs") / "tuned", StringIO()
    words = [f"--{role}.model={SMALL}" for role in ("teacher", "student")]
    words += ["--seeds=1", "--epochs=1", "--tune=2", "--trainer.progress=none"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr("cmkd.experiment.runner.write_report", lambda folder: None)
        assert main(["run", "--data", "digits", "--methods", "kd,self_training", "--out", str(out), *words]) == 0
    return out, printed.getvalue()


def files(out: Path, *names: str) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for name in names for path in out.rglob(name)}


def test_the_best_options_are_those_of_all_students_and_are_told(finished: tuple[Path, str]) -> None:
    out, printed = finished
    results = json.loads((out / "results.json").read_text())
    assert [row["method"] for row in results["tuned"]] == ["kd", "self_training"]
    for row in results["tuned"]:
        known = json.loads((out / "tuning" / row["method"] / "trials.json").read_text())["trials"]
        assert row["validation_accuracies"] == [trial["validation_accuracy"] for trial in known]
        best = max(known, key=lambda trial: (trial["validation_accuracy"], -trial["validation_log_loss"]))
        assert row["options"] == best["options"] and row["trials"] == 2
        assert [s["options"] for s in results["students"] if s["method"] == row["method"]] == [row["options"]]
        assert f"{row['method']}: {row['expression']} was the best of 2 trials" in printed
    assert all("options" not in student for student in results["students"] if student["method"] == "none")
    assert {student["seed"] for student in results["students"]} == {0}


def test_trials_leave_no_models_and_nothing_of_the_test_pairs(finished: tuple[Path, str]) -> None:
    out, _ = finished
    results = files(out / "tuning", "result.json")
    assert len(results) == 5  # two trials per method, and the student that teaches in self_training
    assert not any(b'"test_' in text for text in results.values()) and not files(out / "tuning", "test.parquet")
    assert set(files(out / "tuning", "best.safetensors")) == {"none/teacher/best.safetensors"}


@pytest.mark.usefixtures("without_page")
def test_the_chosen_expression_repeats_the_student(finished: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = finished
    results = json.loads((out / "results.json").read_text())
    teacher = {"model": SMALL, "checkpoint": out / "teacher" / "best.safetensors"}
    (again,) = experiment(tmp_path, results["tuned"][0]["expression"], tune=0, teacher=teacher).run()["students"]
    (before,) = (student for student in results["students"] if student["method"] == "kd")
    assert again["validation_log_loss"] == before["validation_log_loss"]
    plain = json.loads((out / "tuning" / "kd" / "trial-0" / "result.json").read_text())
    assert plain["validation_log_loss"] != before["validation_log_loss"]


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_order_of_trainings_changes_nothing(finished: tuple[Path, str], tmp_path: Path, jobs: int) -> None:
    out, _ = finished
    experiment(tmp_path, "self_training,kd", jobs=jobs).run()
    names = ("trials.json", "best.safetensors")
    assert len(files(out, *names)) == 7 and files(tmp_path, *names) == files(out, *names)


class StopInside(Callback):
    """Callback that stops in the middle of a training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if pl_module.job.folder == self.folder and batch_idx == 20:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("without_page")
def test_a_run_stopped_in_a_trial_resumes_it_and_test_labels_change_no_choice(
    finished: tuple[Path, str], tmp_path: Path, digits: Pack
) -> None:
    out, _ = finished
    labels = digits.index["label"].to_numpy().copy()
    test = digits.rows("test")
    labels[test] = (labels[test] + 1) % 10
    other = Pack(digits.path, digits.card, digits.index.assign(label=labels))
    trial = tmp_path / "tuning" / "kd" / "trial-1"
    saving = experiment(tmp_path, "kd", other, trainer=QUIET | {"checkpoint_seconds": 0.0})
    with pytest.raises(SystemExit):  # Lightning exits like this after Ctrl-C
        replace(saving, callbacks=[StopInside(trial)]).run()
    assert (trial / "last.safetensors").exists() and not (tmp_path / "students").exists()
    results = experiment(tmp_path, "kd", other).run()
    expected = json.loads((out / "results.json").read_text())
    name = Path("tuning") / "kd" / "trials.json"
    assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert results["tuned"] == expected["tuned"][:1]
    assert results["teacher"]["test_accuracy"] != expected["teacher"]["test_accuracy"]


def test_the_number_of_trials_belongs_to_the_folder(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = finished
    assert main(["run", "--config", str(out / "config.yaml"), "--tune", "3"]) == 2
    assert "was started with tune=2, now 3; choose another --out" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["run", "--data", "nowhere", "--tune", "2", "--out", str(tmp_path / "out")]) == 2
    assert "--tune needs optuna" in (error := capsys.readouterr().err) and "pip install 'cmkd[tune]'" in error
    assert error.count("\n") == 1
