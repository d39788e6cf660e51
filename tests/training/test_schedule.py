"""The learning rate schedule, and the end of a training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.training import schedule
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.schedule import FIRST_ASKED, TOLERANCE, PlateauSchedule, still_rising

LEVEL, RISING = [0.1, 0.5, 0.7, 0.7, 0.7, 0.7], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    ("accuracies", "rising"),
    [
        ([], True),
        ([0.9, 0.1], True),  # too few to say
        ([0.1, 0.5, 0.5], False),
        ([0.1, 0.5, 0.6], True),
        ([0.9, 0.6, 0.5], False),
        (RISING, True),
        (LEVEL, False),
        ([0.0, 0.0, 0.5, 0.5, 0.5 + 4 * TOLERANCE, 0.5 - 1.5 * TOLERANCE], True),  # means are compared
        ([0.5] * 6 + [0.5, 0.5, 0.5 + 2 * TOLERANCE], False),  # one epoch decides nothing
        ([0.0, 0.2, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], False),  # thirds of two: the first two do not count
    ],
)
def test_validation_rises_if_its_last_third_exceeds_the_one_before(accuracies: list[float], rising: bool) -> None:
    assert still_rising(accuracies) == rising


def test_the_rise_must_exceed_the_tolerance() -> None:
    assert not still_rising([0.0, 0.5, 0.5 + 0.99 * TOLERANCE])
    assert still_rising([0.0, 0.5, 0.5 + 1.01 * TOLERANCE])


def test_without_a_plateau_the_limit_decides() -> None:
    made = PlateauSchedule(1000, warmup=10)
    for step in range(50, 1000, 50):
        made.observe(step, RISING)
    assert (made.cooldown_start, made.leveled, made.stop, made.latest) == (None, False, 1000, 800)
    assert [made.factor(step) for step in (0, 4, 9, 10, 799, 800)] == [0.1, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert [made.factor(step) for step in (850, 900, 999, 1000)] == pytest.approx([0.75, 0.5, 0.005, 0.0])


def test_a_plateau_starts_the_cooldown_and_stays_decided() -> None:
    made = PlateauSchedule(1600, warmup=10)
    made.observe(400, LEVEL)
    made.observe(450, RISING)
    made.observe(800, LEVEL)
    assert (made.cooldown_start, made.leveled, made.stop) == (400, True, 500)
    assert [made.factor(step) for step in (399, 400, 425, 450, 499)] == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.01])


@pytest.mark.parametrize(
    ("limit", "warmup", "first"), [(1000, 10, 250), (100_000, 10, FIRST_ASKED), (1000, 400, 400), (1000, 225, 250)]
)
def test_validation_is_not_asked_too_early_nor_before_the_warm_up_is_over(limit: int, warmup: int, first: int) -> None:
    made = PlateauSchedule(limit, warmup=warmup)
    made.observe(first - 1, LEVEL)
    assert not made.leveled and made.cooldown_start is None
    made.observe(first, LEVEL)
    assert made.leveled and made.cooldown_start == first


@pytest.mark.parametrize(
    ("epoch", "asked"),
    [(1, [4000, 8000, 16000, 32000]), (64, [4032, 8000, 16000, 32000]), (333, [4329, 8325, 16317, 32301])],
)
def test_a_training_may_end_at_each_doubling_alone(epoch: int, asked: list[int]) -> None:
    ends = []
    for step in range(epoch, 40_001, epoch):
        made = PlateauSchedule(50_000, epoch=epoch)
        made.observe(step, LEVEL)
        assert made.leveled == (step >= FIRST_ASKED)  # which history.csv notes after each epoch
        ends += [step] * (made.cooldown_start is not None)
    assert ends == asked


def test_an_epoch_longer_than_the_first_steps_is_asked_at_its_end() -> None:
    made = PlateauSchedule(12_000, epoch=6000)
    made.observe(6000, LEVEL)
    assert (made.cooldown_start, made.stop) == (6000, 12_000)


def test_validation_is_asked_up_to_the_latest_step_for_a_cooldown() -> None:
    late, last = PlateauSchedule(1000), PlateauSchedule(1000, warmup=400)
    late.observe(801, LEVEL)
    last.observe(800, LEVEL)
    assert (late.leveled, late.cooldown_start, last.leveled, last.cooldown_start) == (False, None, True, 800)
    assert [late.factor(step) for step in range(400, 1000)] == [last.factor(step) for step in range(400, 1000)]


def test_a_training_may_be_told_not_to_end_early() -> None:
    made, plain = PlateauSchedule(1000, warmup=10), PlateauSchedule(1000, warmup=10)
    made.observe(250, LEVEL, early_stop=False)
    assert (made.leveled, made.cooldown_start, made.stop) == (True, None, 1000)
    for step, accuracies, leveled in ((450, RISING, False), (800, LEVEL, True), (850, RISING, True)):
        made.observe(step, accuracies, early_stop=False)
        assert made.leveled == leveled  # the state of the last epoch before the cooldown
    assert [made.factor(step) for step in range(1000)] == [plain.factor(step) for step in range(1000)]


@pytest.mark.parametrize("epoch", [1, 7, 64, 333])
def test_a_training_ends_with_an_epoch_within_the_limit_and_the_rate_never_jumps(epoch: int) -> None:
    limit = 12 * epoch
    for plateau in range(epoch, limit, epoch):
        made = PlateauSchedule(limit, epoch=epoch)
        before = made.factor(plateau)
        made.observe(plateau, LEVEL)
        assert made.stop % epoch == 0 and made.stop <= limit
        if made.cooldown_start is not None:
            assert made.factor(plateau) == before  # the optimizer already holds the rate of this step
            assert made.stop >= min(limit, 1.25 * plateau) > made.stop - epoch
        rates = [made.factor(step) for step in range(made.stop + 1)]
        assert all(a >= b for a, b in pairwise(rates)) and rates[0] == 1.0 and rates[-1] == 0.0 < rates[-2]


class Rates(Callback):
    """Callback that records the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


STEPS, EPOCHS, PLATEAU = 4, 10, 5  # steps in an epoch; the epoch after which validation has leveled off


def train(folder: Path, pack: Pack) -> list[float]:
    torch.manual_seed(0)
    student = models.build("thin_resnet(width=4,stages=2)", pack.modality("poor"), classes=3)
    job, rates = TrainingJob(folder, pack, student, "thin_resnet(width=4,stages=2)", EPOCHS, 0), Rates()
    settings = TrainerConfig(batch_size=32, checkpoint_seconds=0.0, accelerator="cpu", progress="none")
    fit(job, OptimizerConfig(learning_rate=0.01), AugmentationConfig(flip=False), settings, callbacks=[rates])
    return rates.rates


@pytest.fixture(scope="module")
def whole(squares: Pack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Run a training whose validation levels off; return its folder and its learning rates."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schedule, "still_rising", leveled)
        return folder, train(folder, squares)


def leveled(accuracies: list[float]) -> bool:
    return len(accuracies) < PLATEAU


def test_a_training_cools_down_after_a_plateau_and_stops(whole: tuple[Path, list[float]]) -> None:
    folder, rates = whole
    peak = 0.01 / 2  # a batch of 32
    start, stop = PLATEAU * STEPS, 28  # a quarter of 20 more, up to the end of an epoch
    assert len(rates) == stop
    assert rates[:start] == pytest.approx([peak * min(1.0, (step + 1) / 4) for step in range(start)])
    assert rates[start:] == pytest.approx([peak * (stop - step) / 8 for step in range(start, stop)])
    history = pd.read_csv(folder / "history.csv")
    assert history["step"].tolist() == list(range(STEPS, stop + 1, STEPS))
    assert history["leveled"].tolist() == [0.0] * (PLATEAU - 1) + [1.0] * 3


@pytest.mark.parametrize("stop_after", [PLATEAU * STEPS, PLATEAU * STEPS + 2, 28])
def test_a_training_that_is_stopped_in_its_cooldown_ends_the_same(
    stop_after: int,
    whole: tuple[Path, list[float]],
    squares: Pack,
    tmp_path: Path,
    stopping: Callable[[int], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "still_rising", leveled)
    with stopping(stop_after):
        train(tmp_path, squares)
    monkeypatch.setattr(schedule, "still_rising", lambda accuracies: True)  # the earlier decision remains
    folder, rates = whole
    assert train(tmp_path, squares) == rates[stop_after:]
    expected, found = (load_file(path / "best.safetensors") for path in (folder, tmp_path))
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert (folder / "history.csv").read_text() == (tmp_path / "history.csv").read_text()
