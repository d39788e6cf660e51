"""Correlation of predictions instead of their exact match (DIST, Huang et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import CONSTANT, check_pair
from cmkd.types import Batch, Output, Spec


def pearson_distance(x: Tensor, y: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Return the mean over rows of 1 - Pearson correlation of the rows of `x` and `y` ``(rows, columns)``."""
    least = [CONSTANT * torch.linalg.vector_norm(rows.detach(), dim=1) for rows in (x, y)]
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    ours, theirs = torch.linalg.vector_norm(x, dim=1), torch.linalg.vector_norm(y, dim=1)
    varied = (ours > least[0]) & (theirs > least[1])
    # a constant row is divided by 1, since eps would give a gradient of 1 / eps
    correlation: Tensor = (x * y).sum(1) / (ours * theirs + eps).where(varied, 1.0)
    return 1.0 - correlation.mean()


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 4.0,
    times_squared_temperature: bool = True,
) -> Tensor:
    """Correlation distance of softened probabilities: ``T² (beta d(rows) + gamma d(columns))``, d = 1 - Pearson's r.

    Rows compare the classes of one sample, columns the samples of one class.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        beta: weight of the relation between classes.
        gamma: weight of the relation between samples within a class.
        temperature: T, above 0.
        times_squared_temperature: multiply by T² as the authors' code does; the paper's appendix does not.

    Returns:
        Scalar. A constant row or column has no correlation and counts as distance 1. With two classes, the part over
        rows is left out: the correlation of two numbers is 1 or -1, with a gradient that is zero or unbounded.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Huang et al. 2022, arXiv 2205.10536, equations 8 to 10.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
        >>> abs(float(dist(logits, logits))) < 1e-3
        True
    """
    pair = check_pair(student_logits, teacher_logits, same_shape=True)
    student, teacher = ((x / temperature).softmax(1) for x in pair)
    factor = temperature**2 if times_squared_temperature else 1.0
    loss = gamma * pearson_distance(student.T, teacher.T)
    if student.shape[1] > 2:
        loss = loss + beta * pearson_distance(student, teacher)
    return factor * loss


class DIST(Method):
    """Correlate predictions with the teacher's, between classes and between the samples of the global batch.

    Args:
        beta: weight of the relation between classes.
        gamma: weight of the relation between samples within a class.
        temperature: softens both distributions (the paper has 1 for ImageNet and 4 for CIFAR-100).
        times_squared_temperature: multiply by T² as the authors' code does; the paper's appendix does not.
        weight: factor of the term. With the paper's weight of 1, the factor T²(beta + gamma) is 64 at this temperature;
            the weight was lowered together with that of `kd` (docs/performance.md).
    """

    name = "dist"
    kind = "logits"
    paper = "Huang et al. 2022, NeurIPS, arXiv 2205.10536"
    bibtex = """@inproceedings{huang2022knowledge, title={Knowledge Distillation from A Stronger Teacher},
  author={Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang}, booktitle={NeurIPS}, year={2022}}"""
    needs = ("logits",)

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        beta: float = 2.0,
        gamma: float = 2.0,
        temperature: float = 4.0,
        times_squared_temperature: bool = True,
        weight: float = 0.1,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(temperature=temperature)
        self.beta, self.gamma, self.temperature = beta, gamma, temperature
        self.times_squared_temperature, self.weight = times_squared_temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``dist``."""
        value = dist(
            gather(student.logits),
            gather(teacher.logits),
            beta=self.beta,
            gamma=self.gamma,
            temperature=self.temperature,
            times_squared_temperature=self.times_squared_temperature,
        )
        return {"dist": self.weight * value}
