"""Resolution of a configuration after its data are opened."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cmkd import CmkdError, ModelConfig, RunConfig, StudentConfig, TeacherConfig, TrainerConfig
from cmkd.bench.sources import APART, OPEN
from cmkd.data import Pack
from cmkd.errors import CmkdWarning
from cmkd.experiment.resolve import ResolvedRun, resolve

NAME = "thin_resnet(width=4,stages=2)"


def resolved(data: Pack, out: Path, methods: str = "none", **changes: object) -> ResolvedRun:
    given: dict[str, object] = {"seeds": 1, "epochs": 2, "trainer": TrainerConfig(accelerator="cpu"), "student": NAME}
    return resolve(RunConfig(data, out, methods, **given | {"teacher": NAME} | changes))  # type: ignore[arg-type]


def test_sizes_and_pretrained_weights_are_those_asked_for(squares: Pack, tmp_path: Path) -> None:
    teacher, student = TeacherConfig(model=NAME, size=16), ModelConfig(model=NAME, size=12)
    run = resolved(squares, tmp_path, teacher=teacher, student=student)
    assert [run.build(role).preprocess.size for role in ("teacher", "student")] == [(16, 16), (12, 12)]
    with pytest.raises(CmkdError, match="no pretrained weights"):
        resolved(squares, tmp_path, teacher=TeacherConfig(model=NAME, pretrained=True))


@pytest.mark.parametrize("mirror", [True, False])
def test_images_are_mirrored_where_the_card_says_so(mirror: bool, squares: Pack, tmp_path: Path) -> None:
    pack = Pack(squares.path, replace(squares.card, mirror=mirror), squares.index)
    assert resolved(pack, tmp_path).config.augmentation.flip is mirror


def test_the_teacher_answers_no_more_views_than_passes(squares: Pack, tmp_path: Path) -> None:
    found = [resolved(squares, tmp_path, "kd", epochs=epochs).config.teacher.views for epochs in (1, 3, 40)]
    assert found == [1, 3, 16]


def test_pairs_of_an_epoch_are_those_of_the_models_own_modality(squares: Pack, tmp_path: Path) -> None:
    run = resolved(squares, tmp_path, "kd")
    rich, poor = (len(squares.rows("train", modalities=(name,), labeled=True)) for name in ("rich", "poor"))
    assert (run.pairs("teacher"), run.pairs("student")) == (rich, poor) and rich < poor


def test_a_frozen_student_trains_its_classifier_alone(squares: Pack, tmp_path: Path) -> None:
    student = resolved(squares, tmp_path, student=StudentConfig(model=NAME, frozen=True)).build("student")
    trained = [name for name, parameter in student.named_parameters() if parameter.requires_grad]
    assert trained and all("classifier" in name for name in trained)


@pytest.mark.parametrize("methods", ["none", "none,kd(temperature=2,weight=1)"])
def test_tuning_without_an_option_to_tune_has_no_effect_and_says_so(
    methods: str, squares: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # not needed either
    with pytest.warns(CmkdWarning, match="tune=3 has no effect: no weight or temperature of none"):
        resolved(squares, tmp_path, methods, tune=3)


def test_training_on_a_pack_whose_card_was_edited_warns(squares: Pack, tmp_path: Path) -> None:
    card = shutil.copytree(squares.path, tmp_path / "pack") / "card.json"
    resolved(Pack.open(card.parent), tmp_path / "out")
    content = json.loads(card.read_text())
    content["versions"][-1]["statistics"]["poor"]["mean"] = [1e4]
    card.write_text(json.dumps(content))
    with pytest.warns(CmkdWarning, match=r"pack/card\.json was edited by hand: its statistics"):
        resolved(Pack.open(card.parent), tmp_path / "out")


def test_what_a_run_fills_in_is_open_to_a_suite(squares: Pack, tmp_path: Path) -> None:
    student = StudentConfig(model=NAME, modality="poor+rich")
    given = RunConfig(squares, tmp_path, "kd", student=student, teacher=TeacherConfig(model=NAME))
    now, filled = resolve(given).config, set()
    parts = [(getattr(given, name), getattr(now, name)) for name in ("teacher", "student", "augmentation", "trainer")]
    for before, after in [(given, now), *parts]:
        filled |= {f.name for f in fields(before) if getattr(before, f.name) is None is not getattr(after, f.name)}
    assert filled - APART == OPEN
