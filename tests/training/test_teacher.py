"""Students share a teacher, but none of them changes it or depends on another student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.models import Model
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.objective import Objective

SETTINGS = TrainerConfig(batch_size=256, accelerator="cpu", logger="none", progress="none")
ORDERS = (("c2kd", "kd"), ("kd", "c2kd"))


@pytest.fixture
def teacher(digits: Pack) -> Model:
    torch.manual_seed(0)
    return models.build("thin_resnet(width=8)", digits.modalities["optical"], classes=10).eval()


def train(folder: Path, pack: Pack, teacher: Model, name: str) -> bytes:
    torch.manual_seed(1)
    student = models.build("thin_resnet(width=4)", pack.modalities["degraded"], classes=10)
    method = methods.create(name, student.spec, teacher.spec)
    method.setup(student, teacher)
    job = TrainingJob(folder / name, pack, student, "thin_resnet(width=4)", 2, 0, teacher=teacher, method=method)
    return fit(job, OptimizerConfig(), AugmentationConfig(), SETTINGS).read_bytes()


def state(model: Model) -> list[object]:
    """Return everything about a model that training could change."""
    tensors = [(name, value.tolist(), str(value.device)) for name, value in model.state_dict().items()]
    return [
        tensors,
        [p.requires_grad for p in model.parameters()],
        [p.grad for p in model.parameters()],
        [module.training for module in model.modules()],
    ]


def test_students_do_not_depend_on_their_order_nor_on_global_random_numbers(
    tmp_path: Path, digits: Pack, teacher: Model
) -> None:
    before, found = state(teacher), []
    for order in ORDERS:
        torch.rand(7), np.random.rand(7)  # another process has another random state
        found.append({name: train(tmp_path / order[0], digits, teacher, name) for name in order})
        assert state(teacher) == before
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["kd", "c2kd"])
def test_the_teacher_given_may_be_in_any_state(tmp_path: Path, digits: Pack, teacher: Model, name: str) -> None:
    expected = train(tmp_path / "eval", digits, teacher, name)
    assert train(tmp_path / "train", digits, teacher.train(), name) == expected
    if name == "kd":  # a method that trains its teacher respects what is frozen
        assert train(tmp_path / "frozen", digits, teacher.requires_grad_(False), name) == expected


def test_a_teacher_that_trains_along_trains_as_a_copy_in_train_mode(teacher: Model) -> None:
    student = models.build("thin_resnet(width=4)", teacher.modality, classes=10).eval()
    made = Objective(student, teacher=teacher, method=methods.create("c2kd", student.spec, teacher.spec))
    assert made.teacher is not teacher and made.teacher is made.trained_teacher
    assert all(module.training for module in made.modules())
    assert all(p.requires_grad for p in made.trained_teacher.parameters())


def test_what_is_frozen_stays_frozen_in_the_copy_and_keeps_its_statistics(teacher: Model) -> None:
    teacher.encoder.requires_grad_(False)
    student = models.build("thin_resnet(width=4)", teacher.modality, classes=10)
    student.encoder.requires_grad_(False)
    made = Objective(student, teacher=teacher, method=methods.create("c2kd", student.spec, teacher.spec))
    for model in (made.model, made.trained_teacher):
        assert not any(p.requires_grad for p in model.encoder.parameters())
        assert not any(module.training for module in model.encoder.modules())
        assert model.classifier.weight.requires_grad and model.classifier.training


def test_layers_without_parameters_are_frozen_with_an_own_module(digits: Pack) -> None:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout()]
    network = nn.Sequential(*layers, nn.Linear(4, 10))
    student = models.build(network, digits.modality("degraded"), classes=10)
    student.freeze()
    made = Objective(student).model
    before = {name: value.clone() for name, value in made.state_dict().items()}
    embedding = made(torch.full((2, *student.modality.shape), 9.0)).embedding
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert made.classifier.training and embedding.all()  # nothing is dropped
