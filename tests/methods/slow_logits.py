"""Slow, independent forms of the losses on logits: loops over samples, written from the papers' equations."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the softmax of one sample's logits ``(classes,)``, written out."""
    scaled = logits / temperature
    powers = torch.exp(scaled - scaled.max())
    return powers / powers.sum()


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return ``KL(p || q)`` of two distributions."""
    return sum((a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q, strict=True)), torch.zeros(()))


def kd(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    terms = [
        divergence(probabilities(t, temperature), probabilities(s, temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    return temperature**2 * sum(terms) / len(terms)


def fixmatch(student: Tensor, teacher: Tensor, *, threshold: float) -> Tensor:
    sure = [(s, probabilities(t)) for s, t in zip(student, teacher, strict=True) if probabilities(t).max() >= threshold]
    assert 0 < len(sure) < len(student), "both kinds of pairs are to be compared"
    return -sum((torch.log(probabilities(s)[q.argmax()]) for s, q in sure), torch.zeros(())) / len(student)


def without(values: Tensor, index: int) -> Tensor:
    """Return the values ``(classes,)`` of one sample without one class."""
    return torch.cat([values[:index], values[index + 1 :]])


def average(terms: list[Tensor]) -> Tensor:
    return sum(terms, torch.zeros(())) / len(terms)


def dkd(student: Tensor, teacher: Tensor, target: Tensor, *, alpha: float, beta: float, temperature: float) -> Tensor:
    terms = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        p, q = probabilities(t, temperature), probabilities(s, temperature)
        binary_p, binary_q = (torch.stack([x[y], without(x, y).sum()]) for x in (p, q))
        rest_p, rest_q = (without(x, y) / without(x, y).sum() for x in (p, q))
        terms.append(alpha * divergence(binary_p, binary_q) + beta * divergence(rest_p, rest_q))
    return temperature**2 * average(terms)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    r, norms = torch.corrcoef(torch.stack([x, y]))[0, 1], (len(x) - 1) * x.std() * y.std()
    return r * norms / (norms + 1e-8)  # the authors' constant


def dist(
    student: Tensor, teacher: Tensor, *, beta: float, gamma: float, temperature: float, times_squared_temperature: bool
) -> Tensor:
    q = torch.stack([probabilities(s, temperature) for s in student])
    p = torch.stack([probabilities(t, temperature) for t in teacher])
    rows = average([1 - correlation(a, b) for a, b in zip(q, p, strict=True)])
    columns = average([1 - correlation(a, b) for a, b in zip(q.T, p.T, strict=True)])
    return (temperature**2 if times_squared_temperature else 1.0) * (beta * rows + gamma * columns)


def lskd(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    def z(x: Tensor) -> Tensor:
        return (x - x.mean()) / (((x - x.mean()) ** 2).sum() / (len(x) - 1)).sqrt().add(1e-7)

    return kd(torch.stack([z(s) for s in student]), torch.stack([z(t) for t in teacher]), temperature=temperature)


def nkd(student: Tensor, teacher: Tensor, target: Tensor, *, temperature: float, gamma: float) -> Tensor:
    terms = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        on_target = -probabilities(t)[y] * torch.log(probabilities(s)[y])
        p, q = probabilities(without(t, y), temperature), probabilities(without(s, y), temperature)
        terms.append(on_target - gamma * temperature**2 * (p * torch.log(q)).sum())
    return average(terms)


def wsld(student: Tensor, teacher: Tensor, target: Tensor, *, temperature: float) -> Tensor:
    terms = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        ratio = float(-torch.log(probabilities(s.detach())[y])) / (float(-torch.log(probabilities(t)[y])) + 1e-7)
        soft = -(probabilities(t, temperature) * torch.log(probabilities(s, temperature))).sum()
        terms.append((1 - torch.exp(torch.tensor(-ratio, dtype=s.dtype))) * soft)
    return temperature**2 * average(terms)


def ttm(student: Tensor, teacher: Tensor, *, exponent: float) -> Tensor:
    powers = [probabilities(t) ** exponent for t in teacher]
    return average([divergence(p / p.sum(), probabilities(s)) for p, s in zip(powers, student, strict=True)])


def wttm(student: Tensor, teacher: Tensor, *, exponent: float) -> Tensor:
    powers = [probabilities(t) ** exponent for t in teacher]
    return average([p.sum() * divergence(p / p.sum(), probabilities(s)) for p, s in zip(powers, student, strict=True)])


def ctkd(student: Tensor, teacher: Tensor, log_scale: Tensor, *, lowest: float, span: float, reversal: float) -> Tensor:
    temperature = lowest + span / (1 + float(torch.exp(-log_scale)))
    return kd(student, teacher, temperature=temperature)


def mlld(student: Tensor, teacher: Tensor, *, temperatures: tuple[float, ...]) -> Tensor:
    total = torch.zeros((), dtype=student.dtype)
    batch, classes = student.shape
    for temperature in temperatures:
        q = torch.stack([probabilities(s, temperature) for s in student])
        p = torch.stack([probabilities(t, temperature) for t in teacher])
        for i in range(classes):
            for j in range(classes):
                total = total + ((q[:, i] * q[:, j]).sum() - (p[:, i] * p[:, j]).sum()) ** 2 / classes
        for i in range(batch):
            for j in range(batch):
                total = total + ((q[i] * q[j]).sum() - (p[i] * p[j]).sum()) ** 2 / batch
        total = total + kd(student, teacher, temperature=temperature)
    return total


def ofa(student: Tensor, teacher: Tensor, target: Tensor, *, gamma: float, temperature: float) -> Tensor:
    terms = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        p, q = probabilities(t, temperature), probabilities(s, temperature)
        for c in range(len(p)):
            factor = (1 + p[c]) ** gamma - 1 if c == y else p[c] ** gamma
            terms.append(-factor * torch.log(q[c]) * len(p))
    return average(terms)


def generalized(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    return average(
        [
            -(probabilities(t, temperature) * torch.log(probabilities(s))).sum()
            for s, t in zip(student, teacher, strict=True)
        ]
    )
