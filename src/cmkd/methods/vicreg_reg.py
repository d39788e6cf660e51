"""VICReg's variance and covariance terms on the student alone: a control."""

from __future__ import annotations

from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.methods.vicreg import covariance_penalty, variance_hinge
from cmkd.types import Batch, Output, Spec


def vicreg_reg(embedding: Tensor, *, variance_weight: float = 25.0, covariance_weight: float = 1.0) -> Tensor:
    """Return ``variance_weight v + covariance_weight c`` with VICReg's variance hinge v and covariance penalty c.

    Args:
        embedding: ``(batch, dim)``.
        variance_weight: factor of the hinge that keeps each channel's standard deviation at 1 or more.
        covariance_weight: factor of the squared covariances between channels.

    Source:
        Bardes, Ponce, LeCun 2022, arXiv 2105.04906, equations 1 and 4.

    Example:
        >>> import torch
        >>> round(float(vicreg_reg(torch.ones(3, 2), variance_weight=1.0)), 2)  # collapsed
        0.99
    """
    return variance_weight * variance_hinge(embedding) + covariance_weight * covariance_penalty(embedding)


class VICRegRegularizer(Method):
    """Keep the variance and lower the covariance of the student's channels; uses no teacher.

    Args:
        variance_weight: factor of the variance hinge.
        covariance_weight: factor of the covariance penalty.
        weight: factor of the whole term.
    """

    name = "vicreg_reg"
    kind = "control"
    paper = "Bardes, Ponce, LeCun 2022, arXiv 2105.04906"
    bibtex = """@inproceedings{bardes2022vicreg, title={VICReg: Variance-Invariance-Covariance Regularization for
  Self-Supervised Learning}, author={Bardes, Adrien and Ponce, Jean and LeCun, Yann}, booktitle={ICLR}, year={2022}}"""
    needs = ("embedding",)
    uses_teacher = False

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        weight: float = 0.01,
    ) -> None:
        super().__init__(student, teacher)
        self.variance_weight, self.covariance_weight, self.weight = variance_weight, covariance_weight, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``vicreg_reg`` of the global batch."""
        value = vicreg_reg(
            gather(student.embedding), variance_weight=self.variance_weight, covariance_weight=self.covariance_weight
        )
        return {"vicreg_reg": self.weight * value}
