"""The torchmetrics give the same over batches, over two processes, and in the pure functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from cmkd import structure
from cmkd.structure import metrics

N, DIM, WIDE, CLASSES = 30, 5, 7, 3


def data() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(N) % CLASSES
    target[4] = -1
    student = torch.randn(N, DIM, generator=generator) + target[:, None]
    return {
        "student": student,
        "teacher": student + torch.randn(N, DIM, generator=generator),
        "wide": torch.randn(N, WIDE, generator=generator),
        "student_logits": torch.randn(N, CLASSES, generator=generator),
        "teacher_logits": torch.randn(N, CLASSES, generator=generator),
        "target": target,
    }


METRICS: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[str, ...]]] = {
    "channels": (metrics.ChannelStructure, (DIM,), ("student",)),
    "scatter": (metrics.ClassScatter, (DIM, CLASSES), ("student", "target")),
    "uniformity": (metrics.SphereUniformity, (), ("student",)),
    "similarity": (metrics.Similarity, (DIM, DIM), ("student", "teacher")),
    "similarity of two widths": (metrics.Similarity, (DIM, WIDE), ("student", "wide")),
    "predictions": (metrics.PredictionSimilarity, (), ("student_logits", "teacher_logits", "target")),
}
EACH = pytest.mark.parametrize("name", METRICS)


def fed(name: str, start: int, stop: int, size: int) -> Any:  # noqa: ANN401  # one of the metrics
    cls, arguments, keys = METRICS[name]
    metric, tensors = cls(*arguments), data()
    for row in range(start, stop, size):
        metric.update(*(tensors[key][row : min(row + size, stop)] for key in keys))
    return metric


def streamed(name: str, start: int, stop: int, size: int) -> Any:  # noqa: ANN401  # a float or a dict of floats
    return fed(name, start, stop, size).compute()


def assert_same(actual: Any, expected: Any) -> None:  # noqa: ANN401
    assert actual == (
        {key: pytest.approx(value, rel=1e-9, abs=1e-12) for key, value in expected.items()}
        if isinstance(expected, dict)
        else pytest.approx(expected, rel=1e-9)
    )


@EACH
@pytest.mark.parametrize("size", [1, 7])
def test_batches_equal_the_whole(name: str, size: int) -> None:
    assert_same(streamed(name, 0, N, size), streamed(name, 0, N, N))


@EACH
def test_gathered_states_equal_the_whole(name: str) -> None:
    ours, theirs = fed(name, 0, 11, 4), fed(name, 11, N, 4)
    states = [getattr(theirs, state) for state in theirs.metric_state]
    others = iter([torch.cat(s) if isinstance(s, list) else s for s in states])
    # torchmetrics gathers one state after the other
    ours.dist_sync_fn = lambda tensor, group: [tensor, next(others)]
    ours.distributed_available_fn = lambda: True
    assert_same(ours.compute(), streamed(name, 0, N, N))


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    start, stop = [(0, 11), (11, N)][rank]
    torch.save({name: streamed(name, start, stop, 4) for name in METRICS}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow  # because torchmetrics is imported in two fresh processes
def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in METRICS:
            assert_same(found[name], streamed(name, 0, N, N))


def test_they_say_what_describe_and_compare_say() -> None:
    tensors = data()
    labeled = tensors["target"] >= 0
    whole = structure.describe(tensors["student"])
    told = structure.describe(tensors["student"][labeled], tensors["target"][labeled])
    assert_same(streamed("channels", 0, N, 4), {key: whole[key] for key in streamed("channels", 0, N, N)})
    assert_same(streamed("uniformity", 0, N, 4), whole["uniformity"])
    assert_same(streamed("scatter", 0, N, 4), {key: told[key] for key in streamed("scatter", 0, N, N)})
    pair = structure.compare(**{k: v for k, v in tensors.items() if k != "wide"})
    assert_same(streamed("similarity", 0, N, 4) | streamed("predictions", 0, N, 4), pair)


def test_reset_and_maps() -> None:
    metric, maps = metrics.ChannelStructure(3), torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    metric.update(maps)
    metric.reset()
    metric.update(maps)
    assert_same(metric.compute(), {k: structure.describe(maps)[k] for k in metric.compute()})


def test_half_precision_features_are_widened() -> None:
    metric = metrics.ChannelStructure(2)
    metric.update(torch.tensor([[300.0, 1.0], [-300.0, 2.0]], dtype=torch.float16))  # 300² overflows float16
    assert metric.compute()["participation_ratio"] == pytest.approx(1.0, abs=1e-4)
