"""Redundancy reduction between student and teacher (Barlow Twins, Zbontar et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from cmkd.correlation import cross_correlation
from cmkd.distributed import gather
from cmkd.methods.base import Method, projection
from cmkd.ops import check_pair, off_diagonal
from cmkd.types import Batch, Output, Spec


def barlow_twins(student_embedding: Tensor, teacher_embedding: Tensor, *, off_diagonal_weight: float = 0.005) -> Tensor:
    """Push the cross-correlation of channels toward the identity: ``Σ_i (1 - C_ii)² + w Σ_{i≠j} C_ij²``.

    ``C = ŝᵀ t̂ / B`` with channels standardized over the batch. The sums are not divided by the width.
    `cmkd.methods.ds.channel_independence` is the same loss divided by the width, if variances are well above 1e-5; it
    first scales up small ones.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, dim)``.
        off_diagonal_weight: w, the factor of the off-diagonal part.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Zbontar et al. 2021, arXiv 2103.03230, equation 1; there one network computes both sides, from two views.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> round(float(barlow_twins(-x, x)), 3)
        4.0
    """
    correlation = cross_correlation(*check_pair(student_embedding, teacher_embedding, same_shape=True))
    on_diagonal = (1.0 - correlation.diagonal()).square().sum()
    return on_diagonal + off_diagonal_weight * off_diagonal(correlation).square().sum()


class BarlowTwins(Method):
    """Tie each student channel to its teacher channel and decorrelate it from the others, over the global batch.

    Where the widths differ, a trained linear map projects the student.

    Args:
        off_diagonal_weight: factor of the redundancy term.
        weight: factor of the term, which grows with the width.
    """

    name = "barlow_twins"
    kind = "structure"
    paper = "Zbontar et al. 2021, arXiv 2103.03230"
    bibtex = """@inproceedings{zbontar2021barlow, title={Barlow Twins: Self-Supervised Learning via Redundancy
  Reduction}, author={Zbontar, Jure and Jing, Li and Misra, Ishan and LeCun, Yann and Deny, St{\\'e}phane},
  booktitle={ICML}, year={2021}}"""
    needs = ("embedding",)

    def __init__(
        self, student: Spec, teacher: Spec, *, off_diagonal_weight: float = 0.005, weight: float = 0.05
    ) -> None:
        super().__init__(student, teacher)
        self.off_diagonal_weight, self.weight = off_diagonal_weight, weight
        self.projection = projection(student, teacher)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``barlow_twins``."""
        ours, theirs = gather(self.projection(student.embedding)), gather(teacher.embedding)
        return {"barlow_twins": self.weight * barlow_twins(ours, theirs, off_diagonal_weight=self.off_diagonal_weight)}
