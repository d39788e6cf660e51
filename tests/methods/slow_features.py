"""Slow, independent forms of the losses on features and relations, written from the papers' equations."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor


def fitnet(student: Tensor, teacher: Tensor) -> Tensor:
    squares = [(s - t) ** 2 for s, t in zip(student.flatten(), teacher.flatten(), strict=True)]
    return sum(squares) / len(squares)


Maps = list[Tensor]


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum().sqrt()


def huber(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1, 0.5 * x * x, x.abs() - 0.5)


def at(student: Maps, teacher: Maps, *, power: float, paper_form: bool) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        for a, b in zip(s, t, strict=True):
            p, q = (unit(sum(channel.abs() ** power for channel in x).flatten()) for x in (a, b))
            gap = (p - q).square()
            total = total + (0.5 * gap.sum().sqrt() if paper_form else gap.mean()) / len(s)
    return total


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(student)):
        rows = [unit(torch.stack([(x[i] * other).sum() for other in x])) for x in (student, teacher)]
        total = total + (rows[0] - rows[1]).square().sum()
    return total / len(student) ** 2


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    n = len(student)
    pairs = [(i, j) for i, j in product(range(n), repeat=2) if i != j]
    ours, theirs = (torch.stack([(x[i] - x[j]).square().sum().sqrt() for i, j in pairs]) for x in (student, teacher))
    return huber(ours / ours.mean() - theirs / theirs.mean()).sum() / n**2


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), torch.zeros((), dtype=torch.float64)
    for i, j, k in product(range(n), repeat=3):
        if i not in (j, k):
            ours, theirs = ((unit(x[j] - x[i]) * unit(x[k] - x[i])).sum() for x in (student, teacher))
            total = total + huber(ours - theirs)
    return total / n**3


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), torch.zeros((), dtype=torch.float64)
    for i in range(n):
        p, q = (torch.stack([((unit(x[i]) * unit(x[j])).sum() + 1) / 2 for j in range(n)]) for x in (teacher, student))
        p, q = p / p.sum(), q / q.sum()
        total = total + (p * torch.log((p + 1e-7) / (q + 1e-7))).sum()
    return total / n**2


def cc(student: Tensor, teacher: Tensor, *, gamma: float, order: int, paper_form: bool) -> Tensor:
    n, total = len(student), torch.zeros((), dtype=torch.float64)
    for i, j in product(range(n), repeat=2):
        ours, theirs = (
            sum(
                math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * (unit(x[i]) * unit(x[j])).sum() ** p
                for p in range(order + 1)
            )
            for x in (student, teacher)
        )
        total = total + (ours - theirs) ** 2
    return (total if paper_form else total.sqrt()) / n**2


def nst(student: Tensor, teacher: Tensor) -> Tensor:
    def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
        values = [(unit(a.flatten()) * unit(b.flatten())).sum() ** 2 for a, b in product(x, y)]
        return sum(values) / len(values)

    terms = [
        mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t) for s, t in zip(student, teacher, strict=True)
    ]
    return sum(terms) / len(terms)


def fsp(student: Maps, teacher: Maps) -> Tensor:
    def flow(low: Tensor, high: Tensor) -> Tensor:
        low = torch.nn.functional.adaptive_avg_pool2d(low, high.shape[2:])
        return torch.einsum("bchw,bdhw->bcd", low, high) / high[0, 0].numel()

    gaps = [flow(*student) - flow(*teacher)]
    return sum(gap.square().mean() for gap in gaps)


def ab(student: Maps, teacher: Maps, *, margin: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for stage, (s, t) in enumerate(zip(student, teacher, strict=True)):
        for a, b in zip(s.flatten(), t.flatten(), strict=True):
            if b > 0 and a <= margin:
                error = (a - margin) ** 2
            elif b <= 0 and a > -margin:
                error = (a + margin) ** 2
            else:
                error = 0 * a
            total = total + error / len(s) * 0.003 / 2 ** (len(student) - 1 - stage)
    return total


def vid(student: Tensor, teacher: Tensor, log_scale: Tensor) -> Tensor:
    terms = []
    for channel in range(student.shape[1]):
        variance = torch.log(1 + torch.exp(log_scale[channel])) + 1e-5
        normal = torch.distributions.Normal(student[:, channel], variance.sqrt())
        terms.append(-normal.log_prob(teacher[:, channel]) - 0.5 * math.log(2 * math.pi))
    return torch.stack(terms).mean()


def ofd(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for channel in range(student.shape[1]):
        low = margin[0, channel, 0, 0]
        for s, t in zip(student[:, channel].flatten(), teacher[:, channel].flatten(), strict=True):
            goal = torch.maximum(t, low)
            if t > 0 or s > goal:
                total = total + (s - goal) ** 2
    return total / len(student)


def review_kd(student: Maps, teacher: Maps) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        levels = [level for level in (4, 2, 1) if level < s.shape[2]]
        weights = [2.0**-k for k in range(len(levels) + 1)]
        parts = [(s - t).square().mean()]
        for level in levels:
            gap = torch.nn.functional.adaptive_avg_pool2d(s - t, level)  # pooling is linear
            parts.append(gap.square().mean())
        total = total + sum(w * p for w, p in zip(weights, parts, strict=True)) / sum(weights)
    return total


def ickd(student: Tensor, teacher: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        for i in range(len(s)):
            ours, theirs = (unit(torch.stack([(x[i] * other).sum() for other in x])) for x in (s, t))
            total = total + (ours - theirs).square().sum()
    return total / (student.shape[0] * student.shape[1])


def vkd(student: Tensor, teacher: Tensor) -> Tensor:
    z = (teacher - teacher.mean(1, keepdim=True)) / (teacher.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return huber(student - z).mean()


def srd(student: Tensor, teacher: Tensor, *, exponent: float) -> Tensor:
    return torch.log(sum((s - t).abs() ** exponent for s, t in zip(student.flatten(), teacher.flatten(), strict=True)))


def squares(student: Tensor, teacher: Tensor) -> Tensor:
    return torch.stack([(s - t) ** 2 for s, t in zip(student.flatten(), teacher.flatten(), strict=True)]).mean()


def mgd(student: Tensor, teacher: Tensor) -> Tensor:
    return squares(student, teacher) * student[0].numel()


def ft(student: Tensor, teacher: Tensor) -> Tensor:
    gaps = [(unit(s) - unit(t)).abs().mean() for s, t in zip(student, teacher, strict=True)]
    return torch.stack(gaps).mean()


def crd(anchor: Tensor, positive: Tensor, negatives: Tensor, *, temperature: float, log_normalizer: float) -> Tensor:
    def belongs(a: Tensor, x: Tensor) -> Tensor:
        likelihood = torch.exp((a * x).sum() / temperature) / math.exp(log_normalizer)
        return likelihood / (likelihood + len(negatives))

    total = torch.zeros((), dtype=torch.float64)
    for a, p in zip(anchor, positive, strict=True):
        total = total - torch.log(belongs(a, p))
        for n in negatives:
            total = total - torch.log(1 - belongs(a, n))
    return total / len(anchor)
