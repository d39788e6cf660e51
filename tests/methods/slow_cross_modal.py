"""Slow, independent forms of the cross-modal losses, written from the papers' equations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .slow_logits import average, divergence, probabilities, without


def c2kd(student: Tensor, teacher: Tensor, target: Tensor, *, threshold: float, temperature: float) -> Tensor:
    from scipy.stats import kendalltau  # imported here because it is slow, and the gloo processes import this module

    terms = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        p, q = probabilities(without(t, y), temperature), probabilities(without(s, y), temperature)
        alike = kendalltau(s.detach().numpy(), t.numpy()).statistic > threshold
        terms.append(divergence(p, q) if alike else 0 * q.sum())
    return average(terms)


def fd_cmkd(student: Tensor, teacher: Tensor, *, low_share: float, high_weight: float) -> Tensor:
    dim = student.shape[1]
    frequencies = dim // 2 + 1
    cut = round(low_share * frequencies)
    angle = 2 * np.pi * np.outer(np.arange(frequencies), np.arange(dim)) / dim
    parts = [torch.from_numpy(f(angle) / np.sqrt(dim)) for f in (np.cos, np.sin)]

    def spectrum(x: Tensor) -> Tensor:
        z = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return torch.stack([z @ part.T for part in parts])

    def g(x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.log(1 + x.clamp(min=0)), -torch.log(1 - x.clamp(max=0)))

    ours, theirs = spectrum(student), spectrum(teacher)
    low = (ours[:, :, :cut] - theirs[:, :, :cut]).square().mean()
    return low + high_weight * (g(ours[:, :, cut:]) - g(theirs[:, :, cut:])).square().mean()


def hallucination(student: Tensor, teacher: Tensor) -> Tensor:
    return (1 / (1 + torch.exp(-student)) - 1 / (1 + torch.exp(-teacher))).square().mean()


def info_nce(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    terms = []
    for ours, theirs in ((student, teacher), (teacher, student)):
        for place, a in enumerate(ours):
            scores = [(a @ b) / torch.sqrt((a @ a) * (b @ b)) / temperature for b in theirs]
            terms.append(torch.logsumexp(torch.stack(scores), 0) - scores[place])
    return average(terms)


def mfh(student: Tensor, teacher: Tensor, general: Tensor) -> Tensor:
    return (student[:, general] - teacher[:, general]).square().mean()


def mst_distill(student: Tensor, views: Tensor, share: Tensor, *, temperature: float) -> Tensor:
    terms = []
    for s, several, weights in zip(student, views, share, strict=True):
        q = probabilities(s, temperature)
        kds = [w * divergence(probabilities(v, temperature), q) for v, w in zip(several, weights, strict=True)]
        terms.append(sum(kds))
    return temperature**2 * average(terms)


def overlap(student: Tensor, teacher: Tensor) -> Tensor:
    terms = [(a @ b) / torch.sqrt((a @ a) * (b @ b)) for a, b in zip(student, teacher, strict=True)]
    return torch.stack(terms).mean()
