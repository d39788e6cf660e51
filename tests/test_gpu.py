"""Tests on a CUDA device: every method gives the same results as on a CPU, and a run trains, caches and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig, RunConfig, TeacherConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.experiment.runner import Experiment
from cmkd.inference import predict
from cmkd.models.checkpoint import load_model
from cmkd.pairwise import log_mean_gaussian
from cmkd.training.augment import augment
from cmkd.training.fit import TrainingJob, fit
from cmkd.types import Output
from methods.rows import NARROW, WIDE, Row, a_batch, built, leaves, output, total
from methods.table import ROWS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = "cuda"


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off TF32 convolutions, so that results can be compared with those of a CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def terms_and_gradients(row: Row, device: str, *, seed: int) -> list[Tensor]:
    """Compute a method's terms on a device; return them and the gradients of the student's output on the CPU."""
    student_spec = WIDE if row.same_width else NARROW
    method = built(row, student_spec, WIDE).to(device)
    student, teacher = (output(spec, 6, number) for spec, number in ((student_spec, 1), (WIDE, 2)))
    there = [Output(o.logits.to(device), o.embedding.to(device), tuple(m.to(device) for m in o.feature_maps))
             for o in (student, teacher if method.trains_teacher else teacher.detach())]  # fmt: skip
    torch.manual_seed(seed)
    terms = method(*there, a_batch(6, WIDE.classes).to(device))
    if terms:
        total({name: term.cpu() for name, term in terms.items()}).backward()
    gradients = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves(student)]
    return [*(term.detach().cpu() for term in terms.values()), *gradients]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_method_gives_what_it_gives_on_a_cpu(row: Row) -> None:
    expected = terms_and_gradients(row, "cpu", seed=0)
    again = terms_and_gradients(row, "cpu", seed=1)
    found = terms_and_gradients(row, DEVICE, seed=0)
    if all(torch.equal(a, b) for a, b in zip(expected, again, strict=True)):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    else:  # it draws random numbers, and devices draw different ones
        assert all(bool(value.isfinite().all()) for value in found)
        assert any(bool(value.any()) for value in found)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_step_does_not_wait_for_the_device(row: Row) -> None:
    spec = WIDE if row.same_width else NARROW
    method = built(row, spec, WIDE).to(DEVICE)
    batch = replace(a_batch(6, WIDE.classes), labeled_rows=torch.arange(6)).to(DEVICE)
    ours, theirs = (
        output(each, 6, number).map(lambda tensor: tensor.detach().to(DEVICE).requires_grad_())
        for number, each in enumerate((spec, WIDE))
    )
    theirs = theirs if method.trains_teacher else theirs.detach()
    for mode in ("default", "error"):  # in the first step, libraries may wait for the device
        torch.cuda.set_sync_debug_mode(mode)
        try:
            if terms := method(ours, theirs, batch):
                torch.stack(list(terms.values())).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("n", [300, 5000])  # one block, and several
def test_blockwise_uniformity_equals_the_matrix_of_distances(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.nn.functional.normalize(torch.randn(n, 16, generator=generator, dtype=torch.float64))
    slow, fast = (drawn.clone().to(DEVICE).requires_grad_() for _ in range(2))
    squares = slow.square().sum(1)
    pairs = (squares[:, None] + squares - 2.0 * slow @ slow.T).mul(-2.0).exp()
    ((pairs.sum() - pairs.diagonal().sum()) / (n * (n - 1))).log().backward()
    log_mean_gaussian(fast).backward()
    torch.testing.assert_close(fast.grad, slow.grad)


def test_augmentation_is_that_of_a_cpu(digits: Pack) -> None:
    batch, strengths = digits.batch(np.arange(64)), AugmentationConfig(flip=True, shift=0.2, rotate=20.0)
    here = augment(batch, digits.modalities, strengths, seed=3)
    there = augment(batch.to(DEVICE), digits.modalities, strengths, seed=3)
    for name, value in here.inputs.items():  # a position halfway between two pixels may be rounded to either
        assert float((value != there.inputs[name].cpu()).float().mean()) < 0.01


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_training_learns(digits: Pack, tmp_path: Path, precision: str) -> None:
    torch.manual_seed(0)
    teacher = models.build("thin_resnet(width=4)", digits.modality("optical"), classes=10).eval()
    student = models.build("thin_resnet(width=4)", digits.modality("degraded"), classes=10)
    method = methods.create("ds", student.spec, teacher.spec)
    method.setup(student, teacher)
    job = TrainingJob(
        tmp_path, digits, student, "thin_resnet(width=4)", epochs=3, seed=0, teacher=teacher, method=method
    )
    settings = TrainerConfig(128, precision=precision, accelerator="gpu", progress="none")  # type: ignore[arg-type]
    path = fit(job, OptimizerConfig(), AugmentationConfig(), settings)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["train_cross_entropy"].iloc[-1] < history["train_cross_entropy"].iloc[0]
    model, _ = load_model(path)
    rows = digits.rows("test")[:100]
    np.testing.assert_allclose(predict(model, digits, rows, device=DEVICE), predict(model, digits, rows), atol=1e-3)


@pytest.mark.parametrize("views", [0, 2])
def test_a_run_trains_with_and_without_cached_outputs(tmp_path: Path, views: int) -> None:
    config = RunConfig(
        "digits",
        tmp_path / "run",
        methods="none,kd,at",
        seeds=1,
        epochs=2,
        teacher=TeacherConfig(model="thin_resnet(width=4)", views=views),
        student="thin_resnet(width=4)",
        trainer=TrainerConfig(accelerator="gpu", progress="none"),
    )
    results = Experiment(config).run()
    assert [row["method"] for row in results["students"]] == ["none", "kd", "at"]
    assert min(row["test_accuracy"] for row in results["students"]) > 0.15
