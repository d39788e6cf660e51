"""Transformed teacher matching (TTM, Zheng and Yang 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.methods.base import Method
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def divergences(student_logits: Tensor, teacher_logits: Tensor, exponent: float) -> tuple[Tensor, Tensor]:
    """Return per sample ``KL(q || softmax(s))`` and ``log n``, where ``q = p^exponent / n`` and ``n = sum p^exponent``.

    p is the teacher's softmax.
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    powered = exponent * F.log_softmax(teacher, 1)
    log_norm = torch.logsumexp(powered, 1)
    transformed = powered - log_norm[:, None]
    divergence = F.kl_div(F.log_softmax(student, 1), transformed, log_target=True, reduction="none").sum(1)
    return divergence, log_norm


def ttm(student_logits: Tensor, teacher_logits: Tensor, *, exponent: float = 0.2) -> Tensor:
    """KL divergence to the teacher's power-transformed classes: ``KL(p^g / sum p^g || softmax(s))``.

    The student is not softened: this is KD with g = 1/T and no temperature on the student's side.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        exponent: g, above 0.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Zheng and Yang 2024, ICLR, arXiv 2402.11148. The power is taken in the log domain.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> abs(float(ttm(0.2 * logits, logits))) < 1e-6
        True
    """
    divergence, _ = divergences(student_logits, teacher_logits, exponent)
    return divergence.mean()


class TTM(Method):
    """Match the teacher's softened classes with an unsoftened student.

    Args:
        exponent: power of the teacher's probabilities, the inverse of a temperature.
        weight: factor of the term.
    """

    name = "ttm"
    kind = "logits"
    paper = "Zheng and Yang 2024, ICLR, arXiv 2402.11148"
    bibtex = """@inproceedings{zheng2024knowledge, title={Knowledge Distillation Based on Transformed Teacher Matching},
  author={Zheng, Kaixiang and Yang, En-Hui}, booktitle={ICLR}, year={2024}}"""
    needs = ("logits",)

    def __init__(self, student: Spec, teacher: Spec, *, exponent: float = 0.2, weight: float = 4.0) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(exponent=exponent)
        self.exponent, self.weight = exponent, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``ttm``."""
        return {"ttm": self.weight * ttm(student.logits, teacher.logits, exponent=self.exponent)}
