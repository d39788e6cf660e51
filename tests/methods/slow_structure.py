"""Slow, independent forms of the losses on structure: loops over channels and pairs, written from the equations."""

from __future__ import annotations

from itertools import combinations, permutations

import torch
from torch import Tensor


def correlation(x: Tensor, y: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the correlation of two channels ``(batch,)``, with eps added to the biased variances."""
    x, y = x - sum(x) / len(x), y - sum(y) / len(y)
    n = len(x)
    return (sum(x * y) / n) / (torch.sqrt(sum(x * x) / n + eps) * torch.sqrt(sum(y * y) / n + eps))


def of_unit_scale(x: Tensor) -> Tensor:
    return torch.stack([channel / torch.sqrt(sum(channel**2) / len(channel)).detach() for channel in x.T], 1)


def independence(student: Tensor, teacher: Tensor, *, off_diagonal_weight: float, reference: str) -> Tensor:
    return of_correlations(
        of_unit_scale(student), of_unit_scale(teacher), off_diagonal_weight=off_diagonal_weight, reference=reference
    )


def of_correlations(student: Tensor, teacher: Tensor, *, off_diagonal_weight: float, reference: str) -> Tensor:
    width = student.shape[1]
    if reference in ("teacher", "cross"):
        own = 1.0 if reference == "cross" else 0.0
        tied = sum((1 - correlation(student[:, i], teacher[:, i])) ** 2 for i in range(width))
        others = sum(
            (correlation(teacher[:, i], student[:, j]) - own * correlation(teacher[:, i], teacher[:, j])) ** 2
            for i, j in permutations(range(width), 2)
        )
        return (tied + off_diagonal_weight * others) / width
    others = torch.zeros(())
    for i, j in permutations(range(width), 2):
        goal = correlation(teacher[:, i], teacher[:, j]) if reference == "structure" else 0.0
        others = others + (correlation(student[:, i], student[:, j]) - goal) ** 2
    return off_diagonal_weight * others / width


def barlow_twins(student: Tensor, teacher: Tensor, *, off_diagonal_weight: float) -> Tensor:
    return student.shape[1] * of_correlations(
        student, teacher, off_diagonal_weight=off_diagonal_weight, reference="teacher"
    )


def decorrelation(x: Tensor) -> Tensor:
    return independence(x, x, off_diagonal_weight=1.0, reference="self")


def unit(x: Tensor, eps: float = 0.0) -> Tensor:
    return torch.stack([row / torch.sqrt(sum(row * row) + eps) for row in x])


def uniformity(x: Tensor, *, t: float, eps: float = 0.0) -> Tensor:
    terms = [torch.exp(-t * ((a - b) ** 2).sum()) for a, b in combinations(unit(x, eps), 2)]
    return torch.log(sum(terms) / len(terms))


def feature_uniformity(
    student: Tensor, teacher: Tensor, *, t: float, center: bool, reference: str, eps: float
) -> Tensor:
    if center:
        student, teacher = student - student.mean(0), teacher - teacher.mean(0)
    if reference == "pairs":
        ours, theirs = (
            [torch.exp(-t * ((a - b) ** 2).sum()) for a, b in combinations(unit(x, eps), 2)] for x in (student, teacher)
        )
        return sum((k - g) ** 2 for k, g in zip(ours, theirs, strict=True)) / sum(g * g for g in theirs)
    ours = uniformity(student, t=t, eps=eps)
    return ours if reference == "self" else torch.relu(ours - uniformity(teacher, t=t, eps=eps))


def hypersphere(
    student: Tensor, teacher: Tensor, *, t: float, alignment_power: float, uniformity_weight: float
) -> Tensor:
    gaps = [(a - b).norm() ** alignment_power for a, b in zip(unit(student), unit(teacher), strict=True)]
    return sum(gaps) / len(gaps) + uniformity_weight * (uniformity(student, t=t) + uniformity(teacher, t=t)) / 2


def koleo(x: Tensor) -> Tensor:
    points = unit(x)
    nearest = [min((a - b).norm() for j, b in enumerate(points) if j != i) for i, a in enumerate(points)]
    return -sum(torch.log(d) for d in nearest) / len(nearest)


def vicreg_reg(x: Tensor, *, variance_weight: float, covariance_weight: float) -> Tensor:
    covariance = torch.cov(x.T)
    hinge = sum(torch.relu(1 - torch.sqrt(v + 1e-4)) for v in covariance.diagonal()) / x.shape[1]
    penalty = sum(covariance[i, j] ** 2 for i, j in permutations(range(x.shape[1]), 2)) / x.shape[1]
    return variance_weight * hinge + covariance_weight * penalty


def vicreg(
    student: Tensor,
    teacher: Tensor,
    *,
    invariance_weight: float,
    variance_weight: float,
    covariance_weight: float,
) -> Tensor:
    own = [
        vicreg_reg(x, variance_weight=variance_weight / 2, covariance_weight=covariance_weight)
        for x in (student, teacher)
    ]
    return invariance_weight * sum(((s - t) ** 2).mean() for s, t in zip(student, teacher, strict=True)) / len(
        student
    ) + sum(own)


def sliced_wasserstein(x: Tensor, y: Tensor, *, directions: int, seed: int) -> Tensor:
    """Compute the distance from the best of all assignments in each direction, without sorting."""
    drawn = torch.randn(x.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    total = x.new_zeros(())
    for direction in drawn.T:
        a, b = (z @ direction / direction.norm() for z in (x, y))
        total = (
            total + torch.stack([(a - b[list(order)]).square().mean() for order in permutations(range(len(a)))]).min()
        )
    return total / directions
