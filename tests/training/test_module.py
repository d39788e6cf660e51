"""Divergence, gradients, schedule and processes of a training."""

from __future__ import annotations

import os
import signal
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.models.checkpoint import read_about
from cmkd.training import module
from cmkd.training.augment import stronger
from cmkd.training.checkpointing import CheckpointCallback
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.module import DistillationModule
from cmkd.types import Batch


def job(folder: Path, pack: Pack, method: str = "kd", epochs: int = 2, dropout: float = 0.0) -> TrainingJob:
    torch.manual_seed(0)
    teacher = models.build("thin_resnet(width=8)", pack.modalities["optical"], classes=10).eval()
    student = models.build("thin_resnet(width=4)", pack.modalities["degraded"], classes=10)
    if dropout:
        others = [models.build("thin_resnet(width=4)", pack.modalities["optical"], classes=student.spec.dim)]
        student = models.FusedModel(student, others)
    made = methods.create(method, student.spec, teacher.spec)
    made.setup(student, teacher)
    training = {"teacher": teacher, "method": made, "modality_dropout": dropout}
    return TrainingJob(folder, pack, student, "thin_resnet(width=4)", epochs, 0, **training)  # type: ignore[arg-type]


def settings(**changes: object) -> TrainerConfig:
    options = {"batch_size": 256, "accelerator": "cpu", "logger": "none", "progress": "none"} | changes
    return TrainerConfig(**options)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_with_a_clear_word(tmp_path: Path, digits: Pack) -> None:
    wild = OptimizerConfig(name="sgd", learning_rate=1e30, clip_norm=0.0, warmup=0.0)
    with pytest.raises(CmkdError, match=r"diverged near step \d+.*lower --optimizer.learning_rate"):
        fit(job(tmp_path, digits, epochs=5), wild, AugmentationConfig(), settings())


@pytest.mark.parametrize("ema", [0.0, 0.99])
def test_a_model_that_the_last_step_spoils_is_no_result(tmp_path: Path, digits: Pack, ema: float) -> None:
    """The loss of the only step is finite, since it is computed with the initial weights."""
    wild = OptimizerConfig(learning_rate=1e38, ema=ema, warmup=0.0)
    with pytest.raises(CmkdError, match=r"diverged near step 1: weights or the validation loss \(nan\) are not finite"):
        fit(job(tmp_path, digits, "none", epochs=1), wild, AugmentationConfig(), settings(batch_size=4096))
    assert not list(tmp_path.iterdir())


class SpoiledBuffer(Callback):
    """Callback that adds an infinite buffer, which the validation pairs do not use."""

    def on_train_batch_end(self, _: object, module: DistillationModule, *__: object) -> None:  # type: ignore[override]
        module.average.model.encoder.register_buffer("idle", torch.tensor(float("inf")))  # type: ignore[union-attr,operator]


def test_weights_are_checked_where_the_validation_loss_is_finite(tmp_path: Path, digits: Pack) -> None:
    with pytest.raises(CmkdError, match=r"weights or the validation loss \(\d.*\) are not finite"):
        fit(
            job(tmp_path, digits, "none", epochs=1),
            OptimizerConfig(),
            AugmentationConfig(),
            settings(batch_size=4096),
            callbacks=[SpoiledBuffer()],
        )


class Terminated(Callback):
    """Callback that sends SIGTERM to this process after the first step."""

    def on_train_batch_end(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_script_that_is_terminated_does_not_end_as_if_it_had_finished(tmp_path: Path, digits: Pack) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(job(tmp_path, digits), OptimizerConfig(), AugmentationConfig(), settings(), callbacks=[Terminated()])
    assert stopped.value.code == 143


def test_fixmatch_compares_two_views_of_which_one_is_strong(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, augment = list[tuple[torch.Tensor, AugmentationConfig, bool]](), module.augment

    def spy(batch: Batch, *given: Any, strengths: AugmentationConfig, cutout: bool = False, **options: Any) -> Batch:  # noqa: ANN401
        found.append((batch.view.clone(), strengths, cutout))
        return augment(batch, *given, strengths=strengths, cutout=cutout, **options)

    monkeypatch.setattr(module, "augment", spy)
    given = AugmentationConfig().resolved(mirror=False, cropped=False)
    fit(job(tmp_path, digits, "fixmatch"), OptimizerConfig(), given, settings())
    strong, weak = ([call for call in found if call[2] is cut] for cut in (True, False))
    assert len(strong) == len(weak) > 0 and {call[1] for call in strong} == {stronger(given)}
    assert all((a[0] < 0).all() and (b[0] >= 0).all() for a, b in zip(strong, weak, strict=True))


def test_bf16_trains(tmp_path: Path, digits: Pack) -> None:
    fit(job(tmp_path, digits), OptimizerConfig(), AugmentationConfig(), settings(precision="bf16-mixed"))
    assert pd.read_csv(tmp_path / "history.csv")["train_loss"].notna().all()


def test_the_learning_rate_is_the_encoders_unless_given(tmp_path: Path, digits: Pack) -> None:
    def peak(model: str, batch_size: int = 128, **options: object) -> float:
        student = models.build(model, digits.modalities["degraded"], classes=10)
        made = TrainingJob(tmp_path, digits, student, model, 1, 0)
        module = DistillationModule(made, OptimizerConfig(**options), AugmentationConfig(), batch_size=batch_size)  # type: ignore[arg-type]
        (rate,) = {group["initial_lr"] for group in module.configure_optimizers()["optimizer"].param_groups}
        return float(rate)

    assert peak("thin_resnet(width=4)") == 0.01 and peak("resnet10t") == 0.001
    assert peak("thin_resnet(width=4)", name="sgd") == 0.1
    assert peak("resnet10t", learning_rate=0.5) == 0.5
    every = len(digits.rows("train"))
    assert peak("resnet10t", 10 * every, name="sgd", learning_rate=0.5) == 0.5 * every / 128, "the batch that there is"


def test_a_teacher_that_trains_along_has_the_rate_that_suits_it(tmp_path: Path, digits: Pack) -> None:
    teacher = models.build("resnet10t", digits.modalities["optical"], classes=10)
    student = models.build("thin_resnet(width=4)", digits.modalities["degraded"], classes=10)
    method = methods.create("discom_kd", student.spec, teacher.spec)
    made = TrainingJob(tmp_path, digits, student, "discom_kd", 1, 0, teacher=teacher, method=method)
    for rate, (theirs, ours) in ((None, (1e-3, 1e-2)), (0.5, (0.5, 0.5))):
        config = OptimizerConfig(learning_rate=rate)
        trained = DistillationModule(made, config, AugmentationConfig(), batch_size=128)
        groups = trained.configure_optimizers()["optimizer"].param_groups
        rates = {p: group["lr"] for group in groups for p in group["params"]}
        assert len(rates) == len(list(trained.objective.parameters()))
        assert trained.objective.teacher is not None
        assert {rates.pop(p) for p in trained.objective.teacher.parameters()} == {theirs}
        assert set(rates.values()) == {ours}


def test_the_log_has_every_term(tmp_path: Path, digits: Pack) -> None:
    fit(job(tmp_path, digits, "ds"), OptimizerConfig(), AugmentationConfig(), settings())
    columns = set(pd.read_csv(tmp_path / "history.csv").columns)
    assert {"epoch", "train_cross_entropy", "train_kd", "train_independence", "validation_accuracy"} <= columns


def test_the_model_kept_is_the_best_on_validation(tmp_path: Path, digits: Pack) -> None:
    made = job(tmp_path, digits, epochs=4)
    module = DistillationModule(made, OptimizerConfig(), AugmentationConfig(), batch_size=256)
    trainer = SimpleNamespace(is_global_zero=True, should_stop=False, save_checkpoint=lambda path: None)
    keep, kept = CheckpointCallback(made, 0.0), []
    trainer.strategy = SimpleNamespace(broadcast=lambda value: value)
    for epoch, (accuracy, loss) in enumerate([(0.5, 1.0), (0.8, 2.0), (0.8, 1.5), (0.8, 1.5), (0.7, 0.1)]):
        row = {"epoch": float(epoch), "train_loss": 1.0, "validation_accuracy": accuracy, "validation_loss": loss}
        module.history.append(row)
        keep.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
        kept.append(read_about(tmp_path / "best.safetensors")["epoch"])
    assert kept == [0, 1, 2, 2, 2]  # ties go to the lower loss, then to the earlier epoch


def test_a_validation_batch_may_hold_no_pair_of_a_process(tmp_path: Path, digits: Pack) -> None:
    module = DistillationModule(job(tmp_path, digits), OptimizerConfig(), AugmentationConfig(), batch_size=256)
    module.model.forward = module.model.classify = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    module.validation_step(digits.batch([]), 0)
    with pytest.raises(ZeroDivisionError):
        module.validation_step(digits.batch([0]), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dropout"), [("kd", 0.0), ("ds", 0.0), ("simkd", 0.0), ("kd", 0.5)])
def test_two_processes_agree_with_one(tmp_path: Path, digits: Pack, method: str, dropout: float) -> None:
    for devices, epochs in product((1, 2), (1, 3)):
        made = job(tmp_path / f"{devices}" / f"{epochs}", digits, method, epochs=epochs, dropout=dropout)
        # a low rate, since rounding differences grow with it
        fit(made, OptimizerConfig(learning_rate=1e-3), AugmentationConfig(), settings(devices=devices))
    one, two = (pd.read_csv(tmp_path / n / "3" / "history.csv") for n in ("1", "2"))
    # `ds` and `simkd` have small terms, so the order of sums matters more; a real error would show in the first epoch
    of_history, of_weights = (5e-4, 5e-3) if method in ("ds", "simkd") else (1e-4, 1e-3)
    right = [name for name in one if name.endswith("accuracy")]  # one borderline pair may differ
    np.testing.assert_allclose(one[right], two[right], atol=1.5 / len(digits.rows("validation")))
    pd.testing.assert_frame_equal(one.drop(columns=right), two.drop(columns=right), rtol=of_history)
    first, second = (load_file(tmp_path / n / "1" / "best.safetensors") for n in ("1", "2"))  # after one epoch
    for key, value in first.items():  # float32 sums in another order
        torch.testing.assert_close(value, second[key], rtol=of_weights, atol=of_weights)
