"""Cross-fitted teachers: which pairs each is trained on, and for which pairs it gives outputs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmkd import Experiment, ModelConfig, RunConfig, TeacherConfig, TrainerConfig, models
from cmkd.cli import main
from cmkd.config import AugmentationConfig
from cmkd.data.pack.pack import Pack
from cmkd.documents import read_json
from cmkd.errors import CmkdError
from cmkd.experiment import fitting, teaching
from cmkd.training.cross_fit import cross_fitted
from cmkd.training.teacher_outputs import Views

STILL = AugmentationConfig(flip=False, shift=0.0, rotate=0.0, scale=0.0, noise=0.0, drop=0.0)


def test_folds_cover_the_labeled_pairs_and_hide_one_at_a_time(digits: Pack) -> None:
    few = digits.withhold(0.3)
    fold, labeled = few.folds(3), few.rows("train", labeled=True)
    assert set(np.flatnonzero(fold >= 0)) == set(labeled)
    assert np.ptp(np.bincount(fold[labeled])) <= 1
    for number in range(3):
        rest = few.without_fold(number, 3)
        again = pickle.loads(pickle.dumps(rest))
        for pack in (rest, again):
            assert set(pack.rows("train", labeled=True)) == set(labeled[fold[labeled] != number])
    with pytest.raises(CmkdError, match="give 2 to"):
        few.folds(len(labeled) + 1)


def test_a_group_is_in_one_fold(digits: Pack) -> None:
    grouped = Pack(digits.path, digits.card, digits.index.assign(group=[str(i % 7) for i in range(len(digits))]))
    fold, rows = grouped.folds(3), grouped.rows("train")
    assert all(len(set(fold[rows[rows % 7 == group]])) == 1 for group in range(7))
    assert set(fold[rows]) == {0, 1, 2}


def test_each_pair_is_answered_by_the_teacher_that_left_it_out_and_others_by_all(digits: Pack) -> None:
    few = digits.withhold(0.3)
    teachers = []
    for seed in range(2):
        torch.manual_seed(seed)
        teachers.append(models.build("thin_resnet(width=4)", few.modality("optical"), classes=10).eval())
    contents, compute = cross_fitted(teachers, few, Views(1, True, 0, STILL))
    rows, fold = contents.rows[:50], few.folds(2)[contents.rows[:50]]
    assert set(fold) == {-1, 0, 1}
    with torch.no_grad():
        alone = [teacher(few.batch(rows, ["optical"]).inputs["optical"]).logits for teacher in teachers]
    found = compute(rows, 0).logits
    for number in range(2):
        torch.testing.assert_close(found[fold == number], alone[number][fold == number])
    mean = torch.stack([logits.softmax(1) for logits in alone]).mean(0)
    torch.testing.assert_close(found[fold < 0].softmax(1), mean[fold < 0])


def test_no_teacher_of_a_run_has_seen_a_label_of_the_pairs_that_it_answers(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, folds, fit, answers = dict[str, Any](), list[Any](), fitting.fit, teaching.cross_fitted

    def spy_fit(job: Any, *settings: Any, **options: Any) -> Path:  # noqa: ANN401
        seen[job.title] = job.rows("train")
        return fit(job, *settings, **options)

    def spy_answers(teachers: Any, pack: Pack, *given: Any, **options: Any) -> Any:  # noqa: ANN401
        folds.append(pack.folds(2))
        return answers(teachers, pack, *given, **options)

    monkeypatch.setattr(fitting, "fit", spy_fit)
    monkeypatch.setattr(teaching, "cross_fitted", spy_answers)
    small = ModelConfig(model="thin_resnet(width=4,stages=2)")
    given = {"methods": "kd", "seeds": 1, "epochs": 1, "labels": 200, "jobs": 1, "student": small}
    teacher = TeacherConfig(model="thin_resnet(width=4,stages=2)", folds=2)
    config = RunConfig(data="digits", out=tmp_path, teacher=teacher, trainer=TrainerConfig(progress="none"), **given)  # type: ignore[arg-type]
    Experiment(config, page=False).run()
    for number in range(2):
        answered = np.flatnonzero(folds[0] == number)
        assert len(answered) and not np.isin(seen[f"teacher without fold {number + 1} of 2"], answered).any()


def test_a_run_with_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", "--data", "digits", "--seeds", "1", "--epochs", "1", "--teacher.model", "thin_resnet(width=4)"]
    run += ["--student.model", "thin_resnet(width=4)", "--labels", "200", "--out", str(tmp_path / "run")]
    run += ["--teacher.folds", "2", "--trainer.progress", "none", "--methods"]
    assert main([*run, "kd,ds"]) == 2
    assert "ds reads feature maps, but cross-fitted teachers give only logits" in capsys.readouterr().err
    assert main([*run, "kd,ds(uniformity_weight=0)"]) == 0
    results = [read_json(tmp_path / "run" / "teacher" / f"fold-{fold}" / "result.json") for fold in range(2)]
    assert [result["labels"] for result in results] == [100, 100]
