"""Relational knowledge distillation: distances and angles (Park et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import check_pair, in_float32
from cmkd.types import Batch, Output, Spec


def rkd_distance(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Smooth L1 difference of pairwise distances, each divided by its mean: ``huber(d(s) / mean, d(t) / mean)``.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, teacher dim)``.

    Returns:
        Scalar, the mean over all ordered pairs, including each sample with itself (as in the authors' code).

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Park et al. 2019, arXiv 1904.05068, equations 7 to 9. Distances are computed from differences, not from a Gram
        matrix, whose rounding hides near neighbors; coinciding samples have distance 0 and no gradient.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> float(rkd_distance(5.0 * x, x)) < 1e-9  # invariant to scale
        True
    """
    relative = []
    for x in check_pair(student_embedding, teacher_embedding):
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        apart = distances > 0
        mean = distances.sum() / apart.sum().clamp(min=1)
        relative.append(distances / mean.clamp(min=torch.finfo(x.dtype).tiny))
    return F.smooth_l1_loss(relative[0], relative[1])


@in_float32
def rkd_angle(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Smooth L1 difference of the cosines of the angles in all triples of samples.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, teacher dim)``.

    Returns:
        Scalar, the mean over all ordered triples. Memory grows with batch³. Coinciding samples have no direction and no
        gradient.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Park et al. 2019, arXiv 1904.05068, equations 10 to 12.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> float(rkd_angle(5.0 * x, x)) < 1e-9
        True
    """
    cosines = []
    for x in check_pair(student_embedding, teacher_embedding):
        difference = x[None] - x[:, None]
        length = difference.norm(dim=2, keepdim=True)
        directions = difference / length.where(length > 0, 1.0)
        cosines.append(directions @ directions.transpose(1, 2))
    return F.smooth_l1_loss(cosines[0], cosines[1])


class RKD(Method):
    """Match the teacher's distances and angles between the samples of the global batch.

    Args:
        distance_weight: factor of the distances; the paper's ratio to the angles is 1 : 2 (25 and 50 in the common
            benchmark of 240 epochs on CIFAR-100; in a short training this dominates the cross-entropy).
        angle_weight: factor of the angles.
    """

    name = "rkd"
    kind = "relations"
    paper = "Park et al. 2019, CVPR, arXiv 1904.05068"
    bibtex = """@inproceedings{park2019relational, title={Relational Knowledge Distillation}, author={Park, Wonpyo and
  Kim, Dongju and Lu, Yan and Cho, Minsu}, booktitle={CVPR}, year={2019}}"""
    needs = ("embedding",)

    def __init__(
        self, student: Spec, teacher: Spec, *, distance_weight: float = 2.5, angle_weight: float = 5.0
    ) -> None:
        super().__init__(student, teacher)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``rkd_distance`` and ``rkd_angle``."""
        ours, theirs = gather(student.embedding), gather(teacher.embedding)
        return {
            "rkd_distance": self.distance_weight * rkd_distance(ours, theirs),
            "rkd_angle": self.angle_weight * rkd_angle(ours, theirs),
        }
