"""Records of a model on augmented views: what they depend on, and that students learn the same as from the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cmkd import models, wrap
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data import from_dataset, train_values
from cmkd.data.pack.pack import Pack
from cmkd.methods.combine import from_expression, union_of_maps
from cmkd.models import Model
from cmkd.models.checkpoint import load_model, save_model
from cmkd.training.answers import Answers
from cmkd.training.augment import augment
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.teacher_cache import TeacherCache
from cmkd.training.teacher_outputs import Views, of_model

CHANGED = AugmentationConfig(flip=True, shift=0.2, rotate=10.0, scale=0.1)
EACH, MEAN = Views(2, False, 5, CHANGED), Views(3, True, 5, CHANGED)
NAME = "thin_resnet(width=4,stages=2)"


@pytest.fixture
def teacher(squares: Pack) -> Model:
    torch.manual_seed(0)
    return models.build(NAME, squares.modality("rich"), classes=3).eval()


def records(folder: Path, teacher: Model, pack: Pack, views: Views, maps: dict[int, tuple[int, int] | None]) -> Answers:
    contents, compute = of_model(teacher, pack, views, maps)
    found = TeacherCache(folder, 10**9).answers(contents, compute)
    assert found is not None
    return found


def views_of(pack: Pack, teacher: Model, view: int) -> list[Tensor]:
    """Return logits, embedding and maps of the training pairs that have the teacher's modality, in one view."""
    batch = pack.batch(pack.rows("train", modalities=("rich",)))
    batch = replace(batch, view=torch.full((len(batch),), view))
    paired = pack.card.co_registered
    seen = augment(batch, pack.modalities, CHANGED, seed=5, co_registered=paired, scalings=teacher.scalings)
    with torch.no_grad():
        output = teacher(seen.inputs["rich"])
    return [output.logits, output.embedding, *output.feature_maps]


@pytest.mark.parametrize("co_registered", [(), [("rich", "poor")]])
def test_each_view_has_a_record_of_its_own(
    co_registered: list[tuple[str, str]], squares: Pack, teacher: Model, tmp_path: Path
) -> None:
    squares = other_card(squares, co_registered=co_registered)
    found, rows = records(tmp_path, teacher, squares, EACH, {0: None, -1: None}), squares.rows("train")
    known, _ = found.read(rows, np.zeros_like(rows))
    paired = squares.rows("train", modalities=("rich",))
    np.testing.assert_array_equal(rows[known.numpy()], paired)
    assert 0 < len(paired) < len(rows)
    for view in (0, 1):
        _, output = found.read(paired, np.full_like(paired, view))
        got = [output.logits, output.embedding, *output.feature_maps]
        assert all(torch.equal(a, b) for a, b in zip(got, views_of(squares, teacher, view), strict=True))


def test_noise_is_added_on_the_scale_that_the_teacher_sees(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).lognormal(0, 2, (36, 2, 4)).astype(np.float32)
    splits = ["train"] * 24 + ["validation", "test"] * 6
    items = [{"rich": d[0], "poor": d[1], "label": k % 3, "split": splits[k]} for k, d in enumerate(drawn)]
    pack = from_dataset(items, tmp_path / "pack")
    values = train_values(pack, "rich")
    teacher = models.build("mlp(width=8)", pack.modality("rich"), classes=3, scaling="rank", values=values).eval()
    rows = pack.rows("train")
    _, output = records(tmp_path / "cache", teacher, pack, EACH, {}).read(rows, np.zeros_like(rows))
    assert torch.equal(output.logits, views_of(pack, teacher, 0)[0])


def test_averages_are_over_the_views(squares: Pack, teacher: Model, tmp_path: Path) -> None:
    found, paired = records(tmp_path, teacher, squares, MEAN, {-1: (2, 2)}), squares.rows("train", modalities=("rich",))
    _, output = found.read(paired, np.arange(len(paired)))
    logits, embedding, shallow, deep = (
        torch.stack(each).double()
        for each in zip(*(views_of(squares, teacher, view) for view in range(3)), strict=True)
    )
    torch.testing.assert_close(output.logits.softmax(1).double(), logits.softmax(2).mean(0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(output.embedding.double(), embedding.mean(0), rtol=1e-5, atol=1e-6)
    assert deep.shape[-2:] == (4, 4) and output.feature_maps[0].numel() == 0 < shallow.numel()
    pooled = deep.mean(0).unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))
    torch.testing.assert_close(output.feature_maps[1].double(), pooled, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits[0], logits[1])  # the views differ


def shaken(teacher: Model) -> Model:
    made = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.01)
    return made


class Own(nn.Module):
    """A network whose layers give feature maps of one shape."""

    def __init__(self, activation: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.first, self.activation, self.head = nn.Conv2d(2, 4, 3, padding=1), activation, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.temperature * self.activation(self.first(x)).mean((2, 3)))


def own(pack: Pack, layer: str, activation: nn.Module, temperature: float = 1.0) -> Model:
    torch.manual_seed(0)
    return models.build(wrap(Own(activation, temperature), feature_maps=[layer]), pack.modality("rich"), classes=3)


def other_card(pack: Pack, **changes: object) -> Pack:
    return Pack(pack.path, replace(pack.card, **changes), pack.index)  # type: ignore[arg-type]


def test_equal_content_has_one_name(squares: Pack, teacher: Model, tmp_path: Path) -> None:
    name = of_model(teacher, squares, EACH, {-1: None})[0].name
    path = tmp_path / "model.safetensors"
    save_model(path, teacher, name=NAME, classes=squares.classes, extra={})
    for same in (copy.deepcopy(teacher).train(), load_model(path)[0]):
        assert of_model(same, Pack.open(squares.path), EACH, {1: None})[0].name == name


@pytest.mark.parametrize(
    "change",
    [
        lambda t, p, v: (shaken(t), p, v),
        lambda t, p, v: (models.build(NAME, p.modality("rich"), classes=3, size=16), p, v),
        lambda t, p, v: (t, other_card(p, version=2), v),
        lambda t, p, v: (t, other_card(p, sha256={**p.card.sha256, "rich.bin": "0" * 64}), v),
        lambda t, p, v: (t, other_card(p, co_registered=[("rich", "poor")]), v),
        lambda t, p, v: (t, Pack(p.path, p.card, p.index.assign(split=np.roll(p.index["split"], 3))), v),
        lambda t, p, v: (t, p, replace(v, number=3)),
        lambda t, p, v: (t, p, replace(v, averaged=True)),
        lambda t, p, v: (t, p, replace(v, seed=6)),
        lambda t, p, v: (t, p, replace(v, augmentation=replace(CHANGED, shift=0.25))),
    ],
    ids=["weights", "size", "version", "content", "grid", "split", "views", "averaged", "seed", "augmentation"],
)
def test_records_depend_on(
    change: Callable[..., tuple[Model, Pack, Views]], squares: Pack, teacher: Model, tmp_path: Path
) -> None:
    def calls(teacher: Model, pack: Pack, views: Views) -> int:
        made: list[int] = []
        contents, compute = of_model(teacher, pack, views, {-1: (2, 2)})
        found = TeacherCache(tmp_path, 10**9).answers(contents, lambda *given: made.append(1) or compute(*given))
        assert found is not None
        found.close()
        return len(made)

    torch.manual_seed(0)
    other = change(teacher, squares, EACH)
    assert calls(teacher, squares, EACH) > 0
    assert calls(*other) > 0
    assert calls(teacher, squares, EACH) == calls(*other) == 0  # both entries are kept


def test_other_layers_and_functions_with_equal_weights_are_other_teachers(squares: Pack) -> None:
    names = {
        of_model(own(squares, layer, activation, temperature), squares, EACH, {0: None})[0].name
        for layer in ("first", "activation")
        for activation in (nn.ReLU(), nn.GELU())
        for temperature in (1.0, 1.01)
    }
    assert len(names) == 8


SETTINGS = TrainerConfig(batch_size=32, checkpoint_seconds=0.0, accelerator="cpu", progress="none")


def trained(
    folder: Path, pack: Pack, teacher: Model, expression: str, *, live: bool, devices: int = 1
) -> tuple[dict[str, Tensor], str]:
    """Train a student on two views of each pair, and return its weights and history."""
    torch.manual_seed(1)
    student = models.build(NAME, pack.modality("poor"), classes=3)
    method = from_expression(expression, student.spec, teacher.spec)
    method.setup(student, teacher)
    answers = None if live else records(folder.parent / "cache", teacher, pack, EACH, union_of_maps([method]))
    job = TrainingJob(
        folder,
        pack,
        student,
        NAME,
        3,
        7,
        teacher=teacher if live else None,
        answers=answers,
        method=method,
        views=EACH.number,
        view_seed=EACH.seed,
    )
    path = fit(job, OptimizerConfig(), CHANGED, replace(SETTINGS, devices=devices))
    return load_file(path), (folder / "history.csv").read_text()


def equal(first: tuple[dict[str, Tensor], str], second: tuple[dict[str, Tensor], str]) -> bool:
    return first[1] == second[1] and all(torch.equal(value, second[0][key]) for key, value in first[0].items())


@pytest.mark.parametrize("expression", ["fitnet", "at", "at+0.5*kd", "ds(points=positions,pool=2)"])
def test_students_learn_the_same_from_records_and_from_the_teacher(
    expression: str, squares: Pack, teacher: Model, tmp_path: Path
) -> None:
    live = trained(tmp_path / "live", squares, teacher, expression, live=True)
    assert equal(live, trained(tmp_path / "cached", squares, teacher, expression, live=False))
    other = trained(tmp_path / "other", squares, shaken(teacher), expression, live=False)
    assert not equal(live, other)  # the teacher matters


@pytest.mark.parametrize("stop_after", [1, 4, 6, 11])
def test_a_student_of_records_that_is_stopped_ends_the_same(
    stop_after: int, squares: Pack, teacher: Model, tmp_path: Path, stopping: Callable[..., object]
) -> None:
    with stopping(stop_after):  # type: ignore[attr-defined]
        trained(tmp_path / "cached", squares, teacher, "fitnet", live=False)
    resumed = trained(tmp_path / "cached", squares, teacher, "fitnet", live=False)
    assert equal(resumed, trained(tmp_path / "live", squares, teacher, "fitnet", live=True))


@pytest.mark.slow
@pytest.mark.parametrize("expression", ["fitnet", "at+kd"])
def test_two_processes_learn_the_same_from_records_and_from_the_teacher(
    expression: str, squares: Pack, teacher: Model, tmp_path: Path
) -> None:
    live, cached = (
        trained(tmp_path / str(live), squares, teacher, expression, live=live, devices=2) for live in (True, False)
    )
    assert equal(live, cached)
