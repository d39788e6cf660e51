"""Variance, invariance and covariance between student and teacher (VICReg, Bardes et al. 2022)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method, projection
from cmkd.ops import at_least_float32, check_pair, in_float32, off_diagonal
from cmkd.types import Batch, Output, Spec


def variance_hinge(embedding: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Keep the standard deviation of each channel at 1 or more: ``mean_i max(0, 1 - sqrt(var_i + eps))``.

    Args:
        embedding: ``(batch, dim)``; the variance is unbiased, and 0 for one sample.
        eps: added to the variance.

    Example:
        >>> import torch
        >>> round(float(variance_hinge(torch.ones(3, 2))), 2)
        0.99
    """
    (x,) = at_least_float32(embedding)
    variance = (x - x.mean(0)).square().sum(0) / max(x.shape[0] - 1, 1)
    return F.relu(1.0 - (variance + eps).sqrt()).mean()


@in_float32
def covariance_penalty(embedding: Tensor) -> Tensor:
    """Decorrelate channels: ``(1/D) Σ_{i≠j} cov_ij²``, the unbiased covariance.

    Args:
        embedding: ``(batch, dim)``.

    Example:
        >>> import torch
        >>> float(covariance_penalty(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])))  # cov = 2, twice, over D = 2
        4.0
    """
    (x,) = at_least_float32(embedding)
    x = x - x.mean(0)
    covariance = x.T @ x / max(x.shape[0] - 1, 1)
    return off_diagonal(covariance).square().sum() / x.shape[1]


def vicreg(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """Mean squared difference, with variance and covariance terms of both sides.

    ``invariance mean (s - t)² + variance (v(s) + v(t)) / 2 + covariance (c(s) + c(t))``, with `variance_hinge` v and
    `covariance_penalty` c. The teacher's own parts are constants if it does not train.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, dim)``.
        invariance_weight: factor of the squared difference.
        variance_weight: factor of the mean of the two hinges. The paper adds them; the mean follows the authors' code.
        covariance_weight: factor of the sum of the two penalties.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Bardes, Ponce, LeCun 2022, arXiv 2105.04906, equation 6. The paper's invariance is a squared distance; here it
        is also divided by the width, as in the authors' code.

    Example:
        >>> import torch
        >>> x = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
        >>> float(vicreg(x, x))
        0.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    invariance = F.mse_loss(student, teacher)
    variance = (variance_hinge(student) + variance_hinge(teacher)) / 2.0
    covariance = covariance_penalty(student) + covariance_penalty(teacher)
    return invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance


class VICReg(Method):
    """Match the teacher's embedding while channels keep their variance and lose their covariance.

    The statistics are those of the global batch. Where the widths differ, a trained linear map projects the student.

    Args:
        invariance_weight: factor of the squared difference.
        variance_weight: factor of the variance hinge.
        covariance_weight: factor of the covariance penalty.
        weight: factor of the whole term.
    """

    name = "vicreg"
    kind = "structure"
    paper = "Bardes, Ponce, LeCun 2022, arXiv 2105.04906"
    bibtex = """@inproceedings{bardes2022vicreg, title={VICReg: Variance-Invariance-Covariance Regularization for
  Self-Supervised Learning}, author={Bardes, Adrien and Ponce, Jean and LeCun, Yann}, booktitle={ICLR}, year={2022}}"""
    needs = ("embedding",)

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        weight: float = 0.04,
    ) -> None:
        super().__init__(student, teacher)
        self.invariance_weight, self.variance_weight = invariance_weight, variance_weight
        self.covariance_weight, self.weight = covariance_weight, weight
        self.projection = projection(student, teacher)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``vicreg``."""
        value = vicreg(
            gather(self.projection(student.embedding)),
            gather(teacher.embedding),
            invariance_weight=self.invariance_weight,
            variance_weight=self.variance_weight,
            covariance_weight=self.covariance_weight,
        )
        return {"vicreg": self.weight * value}
