"""Weighted transformed teacher matching (WTTM, Zheng and Yang 2024)."""

from __future__ import annotations

from torch import Tensor

from cmkd.methods.base import Method
from cmkd.methods.ttm import divergences
from cmkd.types import Batch, Output, Spec


def wttm(student_logits: Tensor, teacher_logits: Tensor, *, exponent: float = 0.2) -> Tensor:
    """`ttm` with each sample weighted by its normalizer: ``mean(sum p^g · KL(p^g / sum p^g || softmax(s)))``.

    The weight is largest where the teacher is least certain.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        exponent: g, above 0.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Zheng and Yang 2024, ICLR, arXiv 2402.11148, equation 14.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> abs(float(wttm(0.2 * logits, logits))) < 1e-6
        True
    """
    divergence, log_norm = divergences(student_logits, teacher_logits, exponent)
    return (log_norm.exp() * divergence).mean()


class WTTM(Method):
    """Match the teacher's softened classes, with most weight where the teacher is least certain.

    Args:
        exponent: power of the teacher's probabilities, the inverse of a temperature.
        weight: factor of the term.
    """

    name = "wttm"
    kind = "logits"
    paper = "Zheng and Yang 2024, ICLR, arXiv 2402.11148"
    bibtex = """@inproceedings{zheng2024knowledge, title={Knowledge Distillation Based on Transformed Teacher Matching},
  author={Zheng, Kaixiang and Yang, En-Hui}, booktitle={ICLR}, year={2024}}"""
    needs = ("logits",)

    def __init__(self, student: Spec, teacher: Spec, *, exponent: float = 0.2, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(exponent=exponent)
        self.exponent, self.weight = exponent, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``wttm``."""
        return {"wttm": self.weight * wttm(student.logits, teacher.logits, exponent=self.exponent)}
