"""The moving average of the weights: its formula, its start, and which tensors are averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.training.ema import ModelEma
from cmkd.training.fit import TrainingJob, fit


def test_it_is_the_recursion_written_out() -> None:
    source = nn.BatchNorm1d(3)
    average = ModelEma(source, 0.8)
    expected = {name: value.double() for name, value in source.state_dict().items()}
    for step in range(60):
        source(torch.randn(5, 3, generator=torch.Generator().manual_seed(step)))  # changes the running statistics
        with torch.no_grad():
            source.weight.add_(0.1)
        average.update(source, step)
        decay = min(0.8, (1 + step) / (3 + step))
        for name, value in source.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    found = average.model.state_dict()
    for name in ("weight", "bias", "running_mean", "running_var"):
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-5, atol=1e-6)
    assert int(found["num_batches_tracked"]) == 60  # counts are copied, not averaged


def test_the_weights_it_began_with_are_soon_forgotten() -> None:
    source = nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, 1000.0)
    average = ModelEma(source, 0.999)
    nn.init.constant_(source.weight, 1.0)
    for step in range(100):
        average.update(source, step)
    left = 999.0 * 2 / (101 * 102)
    assert average.model.weight.item() == pytest.approx(1.0 + left)  # a decay of 0.999 from the start would leave 905


def test_tied_weights_are_averaged_once_and_infinite_buffers_are_kept() -> None:
    body = nn.Linear(2, 2)
    source = nn.Sequential(body, nn.Sequential(body))
    source.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    average, start = ModelEma(source, 0.99), body.weight.detach().clone()
    with torch.no_grad():
        body.weight.add_(1.0)
    average.update(source, 10_000)
    torch.testing.assert_close(average.model.get_parameter("0.weight"), start + 0.01)
    assert average.model.get_buffer("mask").tolist() == [0.0, -torch.inf]


def test_buffers_that_are_not_saved_take_no_part() -> None:
    source = nn.Linear(2, 2)
    source.register_buffer("seen", torch.zeros(1), persistent=False)
    average = ModelEma(source, 0.99)
    source.seen = torch.full((3,), -torch.inf)  # like a cache that grows with the batch
    average.update(source, 0)
    assert average.model.get_buffer("seen").shape == (1,)


def test_it_never_trains_and_the_source_is_left_alone() -> None:
    source = nn.Linear(2, 2)
    average = ModelEma(source, 0.9)
    before = source.weight.detach().clone()
    average.update(source, 1)
    assert not any(p.requires_grad for p in average.parameters()) and source.weight.requires_grad
    torch.testing.assert_close(source.weight.detach(), before, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("method", ["kd", "simkd", "teacher_init", "c2kd"])
def test_methods_that_touch_the_student_leave_a_model_that_predicts_as_it_did(
    method: str, tmp_path: Path, digits: Pack
) -> None:
    """The saved file holds the average, and has the validation accuracy in the history."""
    import pandas as pd

    from cmkd.evaluation import scores
    from cmkd.inference import predict
    from cmkd.models.checkpoint import load_model

    torch.manual_seed(0)
    teacher = models.build("thin_resnet(width=4)", digits.modalities["optical"], classes=10).eval()
    student = models.build("thin_resnet(width=4)", digits.modalities["degraded"], classes=10)
    made = methods.create(method, student.spec, teacher.spec)
    made.setup(student, teacher)
    job = TrainingJob(tmp_path, digits, student, "thin_resnet(width=4)", 4, 0, teacher=teacher, method=made)
    settings = TrainerConfig(batch_size=128, accelerator="cpu", logger="none", progress="none")
    best = fit(job, OptimizerConfig(ema=0.9), AugmentationConfig(), settings)
    assert not student.classifier._forward_pre_hooks  # `on_train_end` was called
    assert student.classifier.weight.requires_grad
    if isinstance(made, methods.METHODS["simkd"]):  # uses the projector after the last step
        expected = made.teacher_classifier.weight @ made.projector.weight
        torch.testing.assert_close(student.classifier.weight, expected)
    rows = job.rows("validation")
    kept, _ = load_model(best)
    found = scores(predict(kept, digits, rows), digits.index["label"].to_numpy()[rows])
    history = pd.read_csv(tmp_path / "history.csv")
    assert found["accuracy"] == pytest.approx(history["validation_accuracy"].max())
    last = student.state_dict()
    assert any(not torch.equal(value, last[name]) for name, value in load_file(best).items())
