"""Alignment with the teacher and uniformity on the hypersphere (Wang & Isola 2020)."""

from __future__ import annotations

from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method, projection
from cmkd.methods.uniformity import uniformity
from cmkd.ops import check_pair
from cmkd.pairwise import unit_rows
from cmkd.types import Batch, Output, Spec


def hypersphere(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    *,
    t: float = 2.0,
    alignment_power: float = 2.0,
    uniformity_weight: float = 1.0,
) -> Tensor:
    """Bring pairs together and spread each side: ``mean |u - v|^a + w (L_uni(s) + L_uni(t)) / 2`` of unit vectors.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, dim)``; its uniformity is a constant when it does not train.
        t: inverse width of the Gaussian potential.
        alignment_power: a, above 0.
        uniformity_weight: w, the factor of the uniformity.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Wang, Isola 2020, arXiv 2005.10242, section 4; there one network computes both sides, from two views.

    Example:
        >>> import torch
        >>> x = torch.tensor([[2.0, 0.0], [-0.5, 0.0]])
        >>> round(float(hypersphere(x, -x)), 3)  # 2² of each pair, -8 of each side
        -4.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    squared = (unit_rows(student) - unit_rows(teacher)).square().sum(1)
    # below power 2 the root has no derivative at 0; the clamp gives identical pairs a gradient of 0
    alignment = squared.clamp(min=1e-24).pow(alignment_power / 2.0).mean()
    spread = (uniformity(student, t=t) + uniformity(teacher, t=t)) / 2.0
    return alignment + uniformity_weight * spread


class Hypersphere(Method):
    """Align the student with the teacher on the hypersphere and spread it there, over the global batch.

    Where the widths differ, a trained linear map projects the student.

    Args:
        t: inverse width of the Gaussian potential.
        alignment_power: power of the distance of a pair.
        uniformity_weight: factor of the uniformity relative to the alignment.
        weight: factor of the whole term.
    """

    name = "hypersphere"
    kind = "structure"
    paper = "Wang, Isola 2020, arXiv 2005.10242"
    bibtex = """@inproceedings{wang2020understanding, title={Understanding Contrastive Representation Learning through
  Alignment and Uniformity on the Hypersphere}, author={Wang, Tongzhou and Isola, Phillip}, booktitle={ICML},
  year={2020}}"""
    needs = ("embedding",)

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        t: float = 2.0,
        alignment_power: float = 2.0,
        uniformity_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_channels(2, teacher.dim)
        self.require_positive(t=t, alignment_power=alignment_power)
        self.t, self.alignment_power = t, alignment_power
        self.uniformity_weight, self.weight = uniformity_weight, weight
        self.projection = projection(student, teacher)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``hypersphere``."""
        value = hypersphere(
            gather(self.projection(student.embedding)),
            gather(teacher.embedding),
            t=self.t,
            alignment_power=self.alignment_power,
            uniformity_weight=self.uniformity_weight,
        )
        return {"hypersphere": self.weight * value}
