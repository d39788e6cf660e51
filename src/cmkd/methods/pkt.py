"""Probabilistic knowledge transfer (Passalis and Tefas 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import check_pair, in_float32
from cmkd.types import Batch, Output, Spec


@in_float32
def pkt(student_embedding: Tensor, teacher_embedding: Tensor, *, eps: float = 1e-7) -> Tensor:
    """KL divergence of neighbor probabilities: ``mean p_t log((p_t + eps) / (p_s + eps))``.

    p is the cosine similarity of two samples shifted to [0, 1], with each row divided by its sum.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, teacher dim)``.
        eps: added to norms and probabilities.

    Returns:
        Scalar, the mean over all ordered pairs.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Passalis and Tefas 2018, arXiv 1803.10837; the mean over batch² entries follows the authors' code; the paper
        sums.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> abs(float(pkt(3.0 * x, x))) < 1e-9
        True
    """
    probabilities = []
    for x in check_pair(student_embedding, teacher_embedding):
        length = x.norm(dim=1, keepdim=True)
        unit = x / (length + eps).where(length > 0, 1.0)  # 1 / eps would be too large for half precision
        similarity = ((unit @ unit.T + 1.0) / 2.0).clamp(min=0.0)  # rounding can make it negative
        probabilities.append(similarity / similarity.sum(1, keepdim=True))
    student, teacher = probabilities
    divergence: Tensor = (teacher * torch.log((teacher + eps) / (student + eps))).mean()
    return divergence


class PKT(Method):
    """Match the probability that two samples of the global batch are neighbors.

    Args:
        weight: factor of the term, large because the mean over batch² is small (30000 in the common benchmark of 240
            epochs on CIFAR-100; in a short training this dominates the cross-entropy).
    """

    name = "pkt"
    kind = "relations"
    paper = "Passalis and Tefas 2018, ECCV, arXiv 1803.10837"
    bibtex = """@inproceedings{passalis2018learning, title={Learning Deep Representations with Probabilistic Knowledge
  Transfer}, author={Passalis, Nikolaos and Tefas, Anastasios}, booktitle={ECCV}, year={2018}}"""
    needs = ("embedding",)

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 3000.0) -> None:
        super().__init__(student, teacher)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``pkt``."""
        return {"pkt": self.weight * pkt(gather(student.embedding), gather(teacher.embedding))}
