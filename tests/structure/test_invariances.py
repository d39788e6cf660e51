"""Invariances of each metric: rotation, scale, shift, order of samples, and duplication of all samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cmkd import structure
from cmkd.structure import CrossMoments, Moments

N, DIM, CLASSES = 24, 5, 3
Change = Callable[[Tensor, torch.Generator], Tensor]
SEEDS = st.integers(0, 2**31)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rotate(x: Tensor, generator: torch.Generator) -> Tensor:
    return x @ torch.linalg.qr(draw(generator, x.shape[1], x.shape[1]))[0]


def scale(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * draw(generator, 1).exp()


def scale_samples(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * draw(generator, x.shape[0], 1).exp()


def scale_channels(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * draw(generator, 1, x.shape[1]).exp()


def flip_channels(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * draw(generator, 1, x.shape[1]).sign()


def shift(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + draw(generator, 1, x.shape[1])


def permute_channels(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[:, torch.randperm(x.shape[1], generator=generator)]


CHANGES: dict[str, Change] = {
    "rotate": rotate,
    "scale": scale,
    "scale_samples": scale_samples,
    "scale_channels": scale_channels,
    "flip_channels": flip_channels,
    "shift": shift,
    "permute_channels": permute_channels,
}
TARGET = torch.arange(N) % CLASSES


def of_unit(metric: Callable[..., float], *arguments: Tensor) -> Callable[[Tensor], float]:
    return lambda x: metric(structure.unit_vectors(x), *(a.repeat(len(x) // N) for a in arguments))


def of_moments(metric: Callable[[Moments], float]) -> Callable[[Tensor], float]:
    return lambda x: metric(Moments.of(x))


def with_target(metric: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor], float]:
    return lambda x: metric(x, TARGET.repeat(len(x) // N))


# metric, invariances besides the order of samples, and whether it is invariant to duplication of all samples
ANGLES = "rotate scale scale_samples"
TABLE: dict[str, tuple[Callable[[Tensor], float], str, bool]] = {
    "correlation_mean_abs": (
        of_moments(structure.correlation_mean_abs),
        "scale shift scale_channels flip_channels permute_channels",
        True,
    ),
    "correlation_norm": (
        of_moments(structure.correlation_norm),
        "scale shift scale_channels flip_channels permute_channels",
        True,
    ),
    "effective_rank": (of_moments(structure.effective_rank), "rotate scale", True),
    "participation_ratio": (of_moments(structure.participation_ratio), "rotate scale shift", True),
    "spectral_decay": (of_moments(structure.spectral_decay), "rotate scale shift", True),
    "uniformity": (of_unit(structure.uniformity), ANGLES, False),
    "mean_cosine": (of_unit(structure.mean_cosine), ANGLES, False),
    "tolerance": (of_unit(structure.tolerance, TARGET), ANGLES, False),
    "nearest_neighbor_entropy": (of_unit(structure.nearest_neighbor_entropy), ANGLES, False),
    "fisher_ratio": (with_target(structure.fisher_ratio), "rotate scale shift", True),
    "nc1": (with_target(structure.neural_collapse), "rotate scale shift", True),
    "silhouette": (with_target(structure.silhouette), "rotate scale shift", False),
}
EACH = pytest.mark.parametrize("name", TABLE)


def same(metric: Callable[[Tensor], float], x: Tensor, y: Tensor) -> bool:
    return metric(x) == pytest.approx(metric(y), rel=1e-6, abs=1e-9)


@EACH
@settings(deadline=None, max_examples=8)
@given(seed=SEEDS)
def test_invariant(name: str, seed: int) -> None:
    metric, changes, duplication = TABLE[name]
    generator = torch.Generator().manual_seed(seed)
    x = draw(generator, N, DIM) + TARGET[:, None]
    for change in changes.split():
        assert same(metric, x, CHANGES[change](x, generator)), change
    if duplication:
        assert same(metric, x, torch.cat([x, x])), "duplication"


@EACH
def test_sees_everything_else(name: str) -> None:
    # the table is complete: every other change alters the value
    metric, changes, duplication = TABLE[name]
    generator = torch.Generator().manual_seed(0)
    x = draw(generator, N, DIM) + TARGET[:, None]
    allowed = set(changes.split())
    if "rotate" in allowed:
        allowed |= {"permute_channels", "flip_channels"}
    for change in CHANGES:
        assert same(metric, x, CHANGES[change](x, generator)) == (change in allowed), change
    assert same(metric, x, torch.cat([x, x])) == duplication


@EACH
@settings(deadline=None, max_examples=5)
@given(seed=SEEDS)
def test_the_order_of_samples_does_not_matter(name: str, seed: int) -> None:
    metric = TABLE[name][0]
    generator = torch.Generator().manual_seed(seed)
    x = draw(generator, N, DIM) + TARGET[:, None]
    # samples are permuted within classes, so the target stays the same
    order = torch.arange(N).view(-1, CLASSES)[torch.randperm(N // CLASSES, generator=generator)].flatten()
    assert same(metric, x, x[order])


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_two_models(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = draw(generator, N, DIM), draw(generator, N, DIM)
    x = x + 0.5 * y

    def cka(a: Tensor, b: Tensor) -> float:
        return structure.linear_cka(CrossMoments.of(a, b))

    def tied(a: Tensor, b: Tensor) -> float:
        return structure.cross_correlation_diagonal(CrossMoments.of(a, b))

    def aligned(a: Tensor, b: Tensor) -> float:
        return structure.alignment(structure.unit_vectors(a), structure.unit_vectors(b))

    for change in (rotate, scale, shift):
        assert cka(change(x, generator), y) == pytest.approx(cka(x, y), rel=1e-6), change
    assert cka(y, x) == pytest.approx(cka(x, y), rel=1e-9)
    for change in (scale_channels, shift):
        assert tied(change(x, generator), y) == pytest.approx(tied(x, y), rel=1e-6, abs=1e-9), change
    order = torch.randperm(DIM, generator=generator)
    assert tied(x[:, order], y[:, order]) == pytest.approx(tied(x, y), rel=1e-6, abs=1e-9)
    turn = torch.linalg.qr(draw(generator, DIM, DIM))[0]
    assert aligned(x @ turn, scale_samples(y @ turn, generator)) == pytest.approx(aligned(x, y), rel=1e-6)
    for metric in (cka, tied, aligned):
        assert metric(torch.cat([x, x]), torch.cat([y, y])) == pytest.approx(metric(x, y), rel=1e-6, abs=1e-9)
    assert 0.0 <= cka(x, y) <= 1.0 + 1e-9 and -1.0 <= tied(x, y) <= 1.0 and 0.0 <= aligned(x, y) <= 4.0


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_non_target_divergence_does_not_see_the_target_or_an_offset(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = draw(generator, N, 4), draw(generator, N, 4)
    target = torch.randint(4, (N,), generator=generator)
    found = structure.non_target_divergence(student, teacher, target)
    assert found >= 0.0
    changed = student + draw(generator, N, 1)
    changed[torch.arange(N), target] = 100.0
    assert structure.non_target_divergence(changed, teacher, target) == pytest.approx(found, rel=1e-9)
    assert structure.non_target_divergence(student, student, target) == pytest.approx(0.0, abs=1e-12)
