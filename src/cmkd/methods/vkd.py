"""Orthogonal projection (VkD, Miles et al. 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def vkd(student_embedding: Tensor, teacher_embedding: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Smooth L1 distance to the teacher's embedding, standardized per sample: ``huber(s, layer_norm(t))``.

    Args:
        student_embedding: ``(batch, dim)``, after the orthogonal projection.
        teacher_embedding: same shape as `student_embedding`.
        eps: added to the teacher's variance.

    Returns:
        Scalar, the mean over all entries.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Miles, Elezi, Deng 2024, arXiv 2403.06213, the standardized form.

    Example:
        >>> round(float(vkd(torch.tensor([[-1.0, 1.0]]), torch.tensor([[3.0, 7.0]]))), 4)
        0.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    return F.smooth_l1_loss(student, F.layer_norm(teacher, teacher.shape[1:], eps=eps))


class OrthogonalProjection(nn.Module):
    """A linear map from ``(batch, dim)`` to ``(batch, out_dim)`` whose matrix is part of a rotation.

    The rotation is a random orthogonal matrix times ``exp(A - Aᵀ)`` with a trained A; both matrices are square, with
    the larger of the two widths. (torch's own parametrization cannot be sent to a spawned process.)
    """

    start: Tensor

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.dim, self.out_dim = dim, out_dim
        width = max(dim, out_dim)
        self.register_buffer("start", nn.init.orthogonal_(torch.empty(width, width)))
        self.skew = nn.Parameter(torch.zeros(width, width))

    def weight(self) -> Tensor:
        """Return the matrix ``(out_dim, dim)``: its columns are orthonormal, or its rows where they are fewer."""
        with torch.autocast(self.skew.device.type, enabled=False):
            rotation = self.start @ torch.matrix_exp(self.skew - self.skew.T)
        return rotation[: self.out_dim, : self.dim]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the projection."""
        return F.linear(x, self.weight())


class VKD(Method):
    """Match the teacher's embedding through a projection that can only rotate.

    An orthogonal projection preserves the student's similarities, so the backbone learns and not the projection. Where
    the student is wider, the rows of the matrix are orthonormal and part of the student stays free.

    Args:
        weight: factor of the term.
    """

    name = "vkd"
    kind = "features"
    paper = "Miles, Elezi, Deng 2024, CVPR, arXiv 2403.06213"
    bibtex = """@inproceedings{miles2024vkd, title={V\\_kD: Improving Knowledge Distillation using Orthogonal
  Projections}, author={Miles, Roy and Elezi, Ismail and Deng, Jiankang}, booktitle={CVPR}, year={2024}}"""
    needs = ("embedding",)

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.require_channels(2, teacher.dim)
        self.weight = weight
        self.projection = OrthogonalProjection(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``vkd``."""
        return {"vkd": self.weight * vkd(self.projection(student.embedding), teacher.embedding)}
