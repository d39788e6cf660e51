"""A training that is stopped at any saved state ends with the weights of an uninterrupted one, bit for bit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.cost import read_cost
from cmkd.data.pack.pack import Pack
from cmkd.methods.combine import from_expression
from cmkd.training import checkpointing as keep
from cmkd.training.fit import TrainingJob, fit

EPOCHS, STEPS = 3, 4  # of 256 pairs each


class Stopped(Exception):
    pass


def train(
    folder: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None, *, dropout: float = 0.0
) -> None:
    """Train with a projection, a warm-up, random directions and an average; stop after `stop_after` saved states."""
    saved, save = [0], keep.CheckpointCallback._save

    def counting(self: keep.CheckpointCallback, trainer: object) -> None:
        save(self, trainer)  # type: ignore[arg-type]
        saved[0] += 1
        if saved[0] == stop_after:
            raise Stopped

    torch.manual_seed(0)
    teacher = models.build("thin_resnet(width=8)", pack.modalities["optical"], classes=10).eval()
    student = models.build("thin_resnet(width=4)", pack.modalities["degraded"], classes=10)
    if dropout:
        others = [models.build("thin_resnet(width=4)", pack.modalities["optical"], classes=student.spec.dim)]
        student = models.FusedModel(student, others)
    method = from_expression("fitnet+dkd(warmup_epochs=3)+sliced_wasserstein", student.spec, teacher.spec)
    name, training = "thin_resnet(width=4)", {"teacher": teacher, "method": method, "modality_dropout": dropout}
    job = TrainingJob(folder, pack, student, name, EPOCHS, 0, **training)  # type: ignore[arg-type]
    settings = TrainerConfig(batch_size=256, checkpoint_seconds=0.0, accelerator="cpu", logger="none", progress="none")
    with monkeypatch.context() as patched:
        patched.setattr(keep.CheckpointCallback, "_save", counting)
        fit(job, OptimizerConfig(ema=0.9), AugmentationConfig(), settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Pack) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        train(folder, digits, patch)
    return folder


@pytest.mark.parametrize("stop_after", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS, EPOCHS * STEPS - 1])
def test_a_stopped_training_ends_the_same(
    stop_after: int, tmp_path: Path, whole: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, digits, monkeypatch, stop_after)
    assert (tmp_path / "history.csv").exists() == (stop_after >= STEPS)
    before = read_cost(tmp_path)["training_seconds"]
    train(tmp_path, digits, monkeypatch)
    assert read_cost(tmp_path)["training_seconds"] > before > 0
    for name in ("best.safetensors", "last.safetensors"):
        expected, got = load_file(whole / name), load_file(tmp_path / name)
        assert expected.keys() == got.keys()
        assert [key for key in expected if not torch.equal(expected[key], got[key])] == []
    assert (whole / "history.csv").read_text() == (tmp_path / "history.csv").read_text()


class StopAt(Callback):
    """Callback that stops all processes after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            raise Stopped


@pytest.mark.slow
def test_two_processes_resume_with_the_sums_of_both(tmp_path: Path, digits: Pack) -> None:
    settings = TrainerConfig(
        batch_size=128, checkpoint_seconds=0.0, accelerator="cpu", devices=2, logger="none", progress="none"
    )
    for name, step in (("whole", 0), ("stopped", 12), ("stopped", 0)):
        torch.manual_seed(0)
        student = models.build("thin_resnet(width=4)", digits.modalities["degraded"], classes=10)
        job = TrainingJob(tmp_path / name, digits, student, "thin_resnet(width=4)", 2, 0)
        with pytest.raises(Exception, match="Stopped") if step else nullcontext():
            fit(job, OptimizerConfig(), AugmentationConfig(), settings, callbacks=[StopAt(step)] if step else [])
    whole, resumed = ((tmp_path / name / "history.csv").read_text() for name in ("whole", "stopped"))
    assert whole == resumed


def test_a_finished_training_is_left_as_it_is(whole: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.iterdir() if p.is_file()}
    train(whole, digits, monkeypatch)
    assert before == {p: p.stat().st_mtime_ns for p in whole.iterdir() if p.is_file()}


def test_modality_dropout_resumes_with_the_same_draws(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", digits, monkeypatch, dropout=0.5)
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", digits, monkeypatch, STEPS + 1, dropout=0.5)
    train(tmp_path / "stopped", digits, monkeypatch, dropout=0.5)
    expected, got = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "stopped"))
    assert [key for key in expected if not torch.equal(expected[key], got[key])] == []
