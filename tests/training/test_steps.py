"""The steps of a training: pairs, learning rate, weight decay, moving average and random numbers."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.methods.crd import CRD
from cmkd.models import Model
from cmkd.training import fit as fitting
from cmkd.training import module as training_module
from cmkd.training.ema import WARMUP
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.loader import PairLoader
from cmkd.training.module import DistillationModule
from cmkd.training.schedule import EPOCH_STEPS
from cmkd.types import Batch

STEPS = 4  # in an epoch, of 256 pairs each
NO_AUGMENTATION = AugmentationConfig(flip=False, shift=0.0, rotate=0.0, scale=0.0, noise=0.0, drop=0.0)
QUIET = TrainerConfig(batch_size=256, accelerator="cpu", logger="none", progress="none")


class Recorder(Callback):
    """Callback that records learning rates, pairs, weights and a random number of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.pairs: list[list[int]] = []
        self.views: list[list[int]] = []
        self.weights: list[Tensor] = []
        self.random: list[float] = []
        self.average: Tensor | None = None

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        if not self.weights:
            self.weights.append(weights(module.objective.model))
        (optimizer,) = trainer.optimizers
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.pairs.append(batch.index.tolist())
        self.views.append(batch.view.tolist())

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: object) -> None:  # noqa: ANN401
        self.weights.append(weights(module.objective.model))
        self.random.append(float(torch.rand(())))
        self.average = weights(module.average.model) if module.average else None


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double()


def job(folder: Path, pack: Pack, *, method: str = "kd", epochs: int = 5) -> TrainingJob:
    torch.manual_seed(0)
    teacher = models.build("thin_resnet(width=4)", pack.modalities["optical"], classes=10).eval()
    student = models.build("thin_resnet(width=4)", pack.modalities["degraded"], classes=10)
    made = methods.create(method, student.spec, teacher.spec)
    return TrainingJob(folder, pack, student, "thin_resnet(width=4)", epochs, 0, teacher=teacher, method=made)


def recorded(made: TrainingJob, optimizer: OptimizerConfig, settings: TrainerConfig = QUIET) -> Recorder:
    recorder = Recorder()
    fit(made, optimizer, NO_AUGMENTATION, settings, callbacks=[recorder])
    return recorder


def built(made: TrainingJob, **optimizer: object) -> DistillationModule:
    return DistillationModule(made, OptimizerConfig(**optimizer), NO_AUGMENTATION, batch_size=256)  # type: ignore[arg-type]


def test_rates_rise_linearly_stay_and_fall_linearly_and_the_average_follows_each_step(
    tmp_path: Path, digits: Pack
) -> None:
    steady = OptimizerConfig(learning_rate=1e-3, warmup=0.25, ema=0.9, early_stop=False)
    found = recorded(job(tmp_path, digits), steady)
    peak = 1e-3 * math.sqrt(256 / 128)
    rising = [peak * (step + 1) / 5 for step in range(5)]
    falling = [peak * (20 - step) / 4 for step in range(16, 20)]  # the last fifth
    assert found.rates == pytest.approx([*rising, *[peak] * 11, *falling])
    average = found.weights[0]
    for step, value in enumerate(found.weights[1:]):
        decay = min(0.9, (1 + step) / (WARMUP + step))
        average = decay * average + (1 - decay) * value
    assert found.average is not None
    torch.testing.assert_close(found.average, average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["kd", "c2kd", "self_training"])
def test_a_pair_weighs_the_same_in_the_cross_entropy_and_in_other_terms(
    tmp_path: Path, digits: Pack, method: str
) -> None:
    module = built(job(tmp_path, digits.withhold(0.1), method=method))
    batch = next(iter(module.train_dataloader()))
    output, terms = module.objective(batch)
    right = output.logits.log_softmax(1)[torch.arange(256), batch.target.clamp(min=0)]
    assert 0 < batch.labeled.sum() < 128
    torch.testing.assert_close(terms["cross_entropy"], -(right * batch.labeled).mean())


def test_a_method_keeps_something_of_every_training_pair_and_of_no_other(tmp_path: Path, digits: Pack) -> None:
    module = built(job(tmp_path, digits, method="crd"))
    crd = module.objective.method
    assert isinstance(crd, CRD) and len(crd.teacher_memory) == len(digits.rows("train")) < len(digits)
    before = crd.teacher_memory.clone()
    batch = next(iter(module.train_dataloader()))
    module.train().training_step(batch, 0)
    places = np.searchsorted(digits.rows("train"), batch.index.numpy())
    changed = (crd.teacher_memory != before).any(1).nonzero()[:, 0]
    assert sorted(changed.tolist()) == sorted(set(places.tolist()))


def test_epochs_are_consecutive_parts_of_passes_each_in_an_order_of_its_own(tmp_path: Path, digits: Pack) -> None:
    made = job(tmp_path, digits, epochs=3)
    made.seed = 3
    found, rows = recorded(made, OptimizerConfig()), digits.rows("train")
    order = np.concatenate(found.pairs)
    assert len(order) == 3 * STEPS * 256 > 2 * len(rows)
    first, second = order[: len(rows)], order[len(rows) : 2 * len(rows)]
    np.testing.assert_array_equal(np.sort(first), rows)
    np.testing.assert_array_equal(np.sort(second), rows)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.concatenate(found.views), np.arange(len(order)) // len(rows))  # one view per pass
    loader = PairLoader(digits, rows, made.modalities, batch_size=256, shuffle=True, seed=3)
    np.testing.assert_array_equal(
        np.concatenate([loader.order(step)[0] for step in range(STEPS)]), order[: STEPS * 256]
    )


def test_pairs_are_shuffled_within_the_window_asked_for(tmp_path: Path, digits: Pack) -> None:
    made, rows = job(tmp_path, digits, epochs=1), digits.rows("train")
    found = recorded(made, OptimizerConfig(), replace(QUIET, shuffle_window=320))
    loader = PairLoader(digits, rows, made.modalities, batch_size=256, shuffle=True, seed=0, window=320)
    assert found.pairs == [loader.order(step)[0].tolist() for step in range(STEPS)]


def test_an_epoch_has_a_limited_number_of_steps(tmp_path: Path, digits: Pack) -> None:
    made = job(tmp_path, digits)
    made.pairs = 2 * EPOCH_STEPS * 2
    assert len(made.loader("train", 2)) == EPOCH_STEPS


@pytest.mark.parametrize("deterministic", [True, False])
def test_torch_is_deterministic_where_that_is_asked_for(
    deterministic: bool, tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def trainer(**options: Any) -> Trainer:  # noqa: ANN401
        asked.append(options["deterministic"])
        return Trainer(**options)

    monkeypatch.setattr(fitting, "Trainer", trainer)
    try:
        recorded(job(tmp_path, digits, epochs=1), OptimizerConfig(), replace(QUIET, deterministic=deterministic))
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [deterministic]


def test_random_numbers_of_a_step_depend_on_seed_and_step_alone(tmp_path: Path, digits: Pack) -> None:
    found = list[list[float]]()
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        made = job(tmp_path / folder, digits, epochs=1)
        made.seed = seed
        torch.rand(len(found))  # the generator is in another state when each training starts
        found.append(recorded(made, OptimizerConfig()).random)
    assert found[0] == found[1] and len({*found[0], *found[2]}) == 2 * STEPS


@pytest.mark.parametrize(("views", "seed"), [(0, 3), (1, 7), (2, 7)])
def test_each_pass_is_a_view_of_its_own_drawn_by_the_seed_and_finite_views_by_theirs(
    views: int, seed: int, tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, list[int]]] = []

    def seen(batch: Batch, *_: object, seed: int, **__: object) -> Batch:
        found.append((seed, batch.view.tolist()))
        return batch

    monkeypatch.setattr(training_module, "augment", seen)
    made = job(tmp_path, digits, epochs=3)
    made.seed, made.views, made.view_seed = 3, views, 7
    recorded(made, OptimizerConfig())
    passes = np.arange(3 * STEPS * 256) // len(digits.rows("train"))
    assert passes.max() == 2
    assert [i for _, step in found for i in step] == (passes % views if views else passes).tolist()
    assert {used for used, _ in found} == {seed}
    assert made.method is not None and made.method.epoch == 2


def test_a_step_changes_co_registered_inputs_alike_and_in_the_units_of_both_models(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def seen(batch: Batch, **options: Any) -> Batch:  # noqa: ANN401
        given.append(options)
        return batch

    monkeypatch.setattr(training_module, "augment", seen)
    grid = [("optical", "degraded")]
    module = built(job(tmp_path, Pack(digits.path, replace(digits.card, co_registered=grid), digits.index)))
    module.training_step(next(iter(module.train_dataloader())), 0)
    (options,) = given
    assert [tuple(group) for group in options["co_registered"]] == grid
    teacher, student = module.objective.teacher, module.objective.model
    assert isinstance(teacher, Model)
    assert options["scalings"] == {"optical": teacher.preprocess, "degraded": student.preprocess}


def test_the_strong_view_differs_in_each_pass(tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[int]] = []

    def seen(batch: Batch, *_: object, **__: object) -> Batch:
        found.append(batch.view.tolist())
        return batch

    monkeypatch.setattr(training_module, "augment", seen)
    recorded(job(tmp_path, digits, method="fixmatch", epochs=2), OptimizerConfig())
    strong, weak = found[::2], found[1::2]
    assert strong == [[-1 - view for view in step] for step in weak]
    assert len({view for step in strong for view in step}) == 2


def test_a_method_is_told_that_the_training_is_over(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    made = job(tmp_path, digits, epochs=1)
    monkeypatch.setattr(made.method, "on_train_end", ended.append)
    recorded(made, OptimizerConfig())
    assert ended == [made.model]


def test_the_training_accuracy_is_that_of_labeled_pairs(tmp_path: Path, digits: Pack) -> None:
    made = job(tmp_path, digits.withhold(0.4), epochs=1)
    model, right, labels = copy.deepcopy(made.model), 0, 0
    for batch in made.loader("train", 256):
        right += int((model(batch.inputs["degraded"]).logits.argmax(1) == batch.target).sum())
        labels += int(batch.labeled.sum())
    recorded(made, OptimizerConfig(learning_rate=0.0))
    assert 0 < labels < 600
    assert pd.read_csv(tmp_path / "history.csv")["train_accuracy"].item() == pytest.approx(right / labels)


def test_gradients_are_clipped(tmp_path: Path, digits: Pack) -> None:
    plain = OptimizerConfig("sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=1e-3, ema=0.0)
    found = recorded(job(tmp_path, digits, method="none", epochs=1), plain)
    for before, after, rate in zip(found.weights[:-1], found.weights[1:], found.rates, strict=True):
        # up to float32 rounding of weights near 1
        assert float((after - before).norm()) == pytest.approx(rate * 1e-3, rel=1e-2, abs=1e-5)


def test_weights_alone_decay(tmp_path: Path, digits: Pack) -> None:
    module = built(job(tmp_path, digits), weight_decay=0.3)
    decays = {
        id(p): g["weight_decay"] for g in module.configure_optimizers()["optimizer"].param_groups for p in g["params"]
    }
    names = {name: decays[id(p)] for name, p in module.objective.named_parameters()}
    assert {decay for name, decay in names.items() if name.endswith("bias")} == {0.0}
    norms = [m for m in module.objective.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and {decays[id(norm.weight)] for norm in norms} == {0.0}
    others = {id(m.weight) for m in module.objective.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
    assert {decays[each] for each in others} == {0.3} and len(others) + 3 * len(norms) - len(norms) < len(decays)


def test_momentum_is_nesterovs(tmp_path: Path, digits: Pack) -> None:
    (group, *_) = (
        built(job(tmp_path, digits), name="sgd", momentum=0.7).configure_optimizers()["optimizer"].param_groups
    )
    assert group["momentum"] == 0.7 and group["nesterov"]
    assert group["initial_lr"] == pytest.approx(0.1 * 256 / 128)


def test_labels_are_smoothed_as_asked(tmp_path: Path, digits: Pack) -> None:
    made = job(tmp_path, digits)
    batch = digits.batch(digits.rows("train")[:32], made.modalities)
    output, terms = built(made, label_smoothing=0.3).objective(batch)
    expected = F.cross_entropy(output.logits, batch.target, label_smoothing=0.3)
    torch.testing.assert_close(terms["cross_entropy"], expected)


def test_models_are_chosen_on_validation_pairs(tmp_path: Path, digits: Pack) -> None:
    np.testing.assert_array_equal(built(job(tmp_path, digits)).val_dataloader().rows, digits.rows("validation"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_pairs_is_one_clear_line(
    split: str, tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rows = job(tmp_path, digits), digits.rows
    monkeypatch.setattr(digits, "rows", lambda name, **options: rows(name, **options)[: 0 if name == split else None])
    with pytest.raises(CmkdError, match=f"no {split} pair has the modality 'degraded'"):
        recorded(made, OptimizerConfig())


def test_callbacks_run_in_order_before_the_files_of_an_epoch_are_written(tmp_path: Path, digits: Pack) -> None:
    seen: list[tuple[str, bool]] = []

    class Notes(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:
            seen.append((self.name, (tmp_path / "best.safetensors").exists()))

    fit(
        job(tmp_path, digits, epochs=1),
        OptimizerConfig(),
        NO_AUGMENTATION,
        QUIET,
        callbacks=[Notes("a"), Notes("b")],
    )
    assert seen == [("a", False), ("b", False)]
    with pytest.raises(CmkdError, match="cannot send Notes to 2 processes"):
        two = replace(QUIET, devices=2)
        fit(job(tmp_path / "2", digits), OptimizerConfig(), NO_AUGMENTATION, two, callbacks=[Notes("a")])
