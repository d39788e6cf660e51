"""Scalings of stored values agree with numpy and scipy, for every kind of modality."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cmkd import models
from cmkd.config import ModelConfig, RunConfig
from cmkd.data import CardInfo, Pack, PackWriter, train_values
from cmkd.data.pack import sample
from cmkd.errors import CmkdError
from cmkd.experiment.resolve import resolve
from cmkd.models.checkpoint import load_model, save_model
from cmkd.models.scaling import KNOTS
from cmkd.models.tensor_file import read_tensors, write_tensors
from cmkd.types import Modality

Floats = NDArray[np.floating]
SHAPES = {"image": (3, 5, 4), "vector": (3,), "series": (6, 3), "points": (7, 3), "point_series": (2, 5, 3)}
RANDOM = np.random.default_rng(0)
SPECKLE = RANDOM.exponential(10.0 ** RANDOM.uniform(-3, 1, 3000))
VALUES = np.stack([SPECKLE, RANDOM.standard_t(2, 3000), RANDOM.integers(0, 5, 3000).clip(1)], 1).astype(np.float32)
"""Training values: speckle, a signed heavy tail, and few levels that many values share."""


def modality(kind: str, mean: float = 0.0) -> Modality:
    return Modality("radar", kind, SHAPES[kind], "float32", (mean,) * 3, (2.0,) * 3)  # type: ignore[arg-type]


def by_log(x: Floats, train: Floats) -> Floats:
    center = 0.0 if train.min() >= 0 else np.median(train)
    away = np.abs(train - center)
    scale = np.percentile(away[away > 0], 10 if train.min() >= 0 else 50)
    return np.where(x < center, -1.0, 1.0) * np.log(1 + np.abs(x - center) / scale)


def by_rank(x: Floats, train: Floats) -> Floats:
    even = np.linspace(0, 1, KNOTS)
    knots = np.quantile(train, even)
    x = x.clip(knots[0], knots[-1])
    # for equal knots, the first call returns the last rank, and the second call the first rank
    return (np.interp(x, knots, even) - np.interp(-x, -knots[::-1], -even[::-1])) / 2


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("scaling", "reference"), [("log", by_log), ("rank", by_rank)])
def test_values_agree_with_numpy(kind: str, scaling: str, reference: Callable[[Floats, Floats], Floats]) -> None:
    prepare = models.Preprocess(modality(kind), scaling=scaling, values=VALUES)
    samples = np.concatenate([VALUES[:1678], [[1e6, 1e6, 9], [-1e6, -1e6, -9]]]).astype(np.float32)  # also out of range
    shape = SHAPES[kind]
    batch = samples.reshape(-1, *shape[1:], shape[0]) if kind == "image" else samples.reshape(-1, *shape)
    axis = 1 if kind == "image" else -1
    given = torch.from_numpy(batch).movedim(-1, axis)
    got = prepare(given)
    assert got.dtype == torch.float32 and got.shape == given.shape
    columns = got.movedim(axis, -1).reshape(-1, 3).numpy()
    for channel, train in enumerate(VALUES.T.astype(np.float64)):
        scaled = reference(train, train)
        wanted = (reference(samples[:, channel].astype(np.float64), train) - scaled.mean()) / scaled.std()
        np.testing.assert_allclose(columns[:, channel], wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("scaling", ["log", "rank"])
def test_training_values_get_mean_zero_and_variance_one(scaling: str) -> None:
    scaled = models.Preprocess(modality("vector"), scaling=scaling, values=VALUES)(torch.from_numpy(VALUES)).double()
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(3).double(), rtol=1e-5, atol=0)


def test_ranks_are_those_of_scipy_up_to_the_knots() -> None:
    rank = models.scaling.Rank(VALUES)(torch.from_numpy(VALUES), -1).numpy()
    exact = (scipy.stats.rankdata(VALUES, axis=0) - 0.5) / len(VALUES)
    assert np.abs(rank - exact).max() <= 1 / (KNOTS - 1)
    order = np.argsort(VALUES[:, 0])
    assert (np.diff(rank[order, 0]) >= 0).all()


def test_linear_is_what_it_was_and_the_default() -> None:
    x = torch.from_numpy(VALUES)
    for prepare in (
        models.Preprocess(modality("vector", 0.3)),
        models.Preprocess(modality("vector", 0.3), values=VALUES),
    ):
        assert list(prepare.state_dict()) == ["mean", "std"]
        assert torch.equal(prepare(x), (x - torch.tensor([0.3] * 3)) / torch.tensor([2.0] * 3))


@pytest.mark.parametrize("scaling", ["linear", "log", "rank"])
@pytest.mark.parametrize("kind", ["points", "point_series"])
def test_padding_stays_zero(kind: str, scaling: str) -> None:
    x = torch.rand(4, *SHAPES[kind]) + 1.0
    x[..., 2:, :] = 0.0
    scaled = models.Preprocess(modality(kind, 7.0), scaling=scaling, values=VALUES)(x)
    assert not scaled[..., 2:, :].any() and scaled[..., :2, :].all()


@pytest.mark.parametrize("scaling", ["log", "rank"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.0, 1e-6, 1e30])
def test_a_constant_channel_is_zero_and_finite_elsewhere(scaling: str, constant: float) -> None:
    values = np.full((50, 3), constant, np.float32)
    prepare = models.Preprocess(modality("vector"), scaling=scaling, values=values)
    torch.testing.assert_close(prepare(torch.from_numpy(values)), torch.zeros(50, 3), rtol=0, atol=1e-6)
    assert prepare(torch.tensor([[-1e30, 0.0, 1e30]])).isfinite().all()


@pytest.mark.parametrize("scaling", ["linear", "log", "rank"])
@pytest.mark.parametrize("own", [False, True])
def test_a_saved_model_scales_as_before(scaling: str, own: bool, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 4))
    about = models.build(net if own else "auto", modality("image"), classes=4, scaling=scaling, values=VALUES).eval()
    path = tmp_path / "best.safetensors"
    save_model(path, about, name="auto", classes=("a", "b", "c", "d"), extra={})
    loaded, said = load_model(path, module=net if own else None)
    x = torch.from_numpy(VALUES[:100].reshape(-1, 3, 5, 4))
    assert torch.equal(loaded(x).logits, about(x).logits)
    assert said["scaling"] == scaling


def test_one_channel_that_is_a_column_of_a_table_is_saved(tmp_path: Path) -> None:
    center = torch.tensor(np.ones((1, 2), np.float32)[:, 0])
    assert center.stride() == (2,)
    write_tensors(tmp_path / "one.safetensors", {"center": center}, "about", {})
    assert read_tensors(tmp_path / "one.safetensors", "about", fix="")["center"].tolist() == [1.0]


def test_a_file_of_an_earlier_version_is_linear(tmp_path: Path) -> None:
    model = models.build("auto", modality("vector", 0.3), classes=4).eval()
    path = tmp_path / "best.safetensors"
    save_model(path, model, name="auto", classes=("a", "b", "c", "d"), extra={})
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    del about["scaling"], about["sha256"]  # earlier versions wrote neither
    save_file(load_file(path), path, metadata={"about": json.dumps(about)})
    x = torch.from_numpy(VALUES[:9])
    assert torch.equal(load_model(path)[0](x).logits, model(x).logits)


def test_what_is_wrong_is_one_line() -> None:
    with pytest.raises(CmkdError, match="unknown scaling 'lgo': did you mean 'log'"):
        models.build("auto", modality("vector"), classes=2, scaling="lgo")
    with pytest.raises(CmkdError, match=r"'rank' needs values of training pairs: models\.build"):
        models.build("auto", modality("vector"), classes=2, scaling="rank")
    with pytest.raises(CmkdError, match=r"student\.scaling must be 'linear' or 'log' or 'rank', got 'lgo'"):
        RunConfig(data="digits", out=Path("x"), student={"scaling": "lgo"})  # type: ignore[arg-type]


def written(path: Path, sensor: Modality, array: Floats, splits: list[str], present: list[bool]) -> Pack:
    ids = [str(k) for k in range(len(array))]
    with PackWriter(path, CardInfo("toy"), classes=["a", "b"], modalities=[sensor]) as writer:
        writer.add(ids, [0] * len(ids), splits, None, {"radar": array}, {"radar": np.array(present)})
    return Pack.open(path)


def test_values_come_from_training_pairs_that_have_the_modality(tmp_path: Path) -> None:
    array = np.arange(18, dtype=np.float32).reshape(6, 3) + 1
    splits = ["train", "train", "validation", "test", "train", "train"]
    present = [True, False, True, True, True, True]
    pack = written(tmp_path / "vectors", modality("vector"), array, splits, present)
    np.testing.assert_array_equal(train_values(pack, "radar"), array[[0, 4, 5]])
    points = RANDOM.random((6, 7, 3), np.float32) + 1
    points[:, 4:] = 0.0
    pack = written(tmp_path / "points", modality("points"), points, splits, present)
    np.testing.assert_array_equal(train_values(pack, "radar"), points[[0, 4, 5], :4].reshape(-1, 3))


def test_the_sample_is_bounded_even_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "PAIRS", 50)
    monkeypatch.setattr(sample, "VALUES", 200)
    image = np.arange(20, dtype=np.float32).reshape(5, 4)
    array = np.stack([np.stack([image, image + 100 * k, image * 0 - 1]) for k in range(120)])
    pack = written(tmp_path / "pack", modality("image"), array, ["train"] * 120, [True] * 120)
    values = train_values(pack, "radar")
    np.testing.assert_array_equal(values, train_values(Pack.open(pack.path), "radar"))
    assert values.shape == (200, 3) and (values[:, 2] == -1).all()
    assert set(values[:, 0]) == set(range(20))  # values of all pixels are drawn
    pairs = ((values[:, 1] - values[:, 0]) / 100).reshape(50, 4)
    assert pairs[0, 0] == 0 and pairs[-1, 0] == 119 and np.diff(pairs[:, 0]).max() <= 3


def test_a_run_scales_teacher_and_own_student_by_their_training_pairs(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    config = RunConfig(
        data="digits",
        out=tmp_path,
        methods="none",
        teacher={"scaling": "rank"},  # type: ignore[arg-type]
        student=ModelConfig(model=net, scaling="log"),
    )
    run = resolve(config)
    assert run.settings()["student"]["scaling"] == "log"
    teacher, student = run.build("teacher").preprocess, run.build("student").preprocess
    pack = run.pack
    for name, prepare, reference in (("optical", teacher, by_rank), ("degraded", student, by_log)):
        train = pack.array(name)[pack.rows("train")].astype(np.float64)
        scaled = reference(train, train.ravel())
        got = prepare(torch.from_numpy(pack.array(name)[pack.rows("train")])).numpy()
        np.testing.assert_allclose(got, (scaled - scaled.mean()) / scaled.std(), atol=1e-4)
