"""Inter-channel correlation (ICKD, Liu et al. 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method
from cmkd.ops import check_pair, in_float32
from cmkd.types import Batch, Output, Spec

SMALLEST = 1e-24
"""Squared norm up to which a row of the Gram matrix counts as zero, the same limit as in `F.normalize`."""


@in_float32
def ickd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of each sample's row-normalized channel Gram matrices, ``/ (channels · batch)``.

    Args:
        student_map: ``(batch, channels, height, width)``, after any projection.
        teacher_map: same batch and channels; the resolution may differ.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Liu et al. 2021, ICCV, equations 2 to 4. One of the authors' codes divides by channels times batch, as here, the
        other by channels times batch squared.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 3, 4, 4)
        >>> abs(float(ickd(5.0 * x, x))) < 1e-6  # invariant to scale
        True
    """
    student, teacher = (x.flatten(2) for x in check_pair(student_map, teacher_map))
    batch, channels = student.shape[:2]
    if 4 * student.shape[2] * teacher.shape[2] > channels**2:
        ours, theirs = (F.normalize(x @ x.transpose(1, 2), dim=2) for x in (student, teacher))
        return (ours - theirs).square().sum() / (batch * channels)
    squares = [_row_products(x, x) for x in (student, teacher)]
    ours, theirs = ((square > SMALLEST) * square.clamp(min=SMALLEST).rsqrt() for square in squares)
    cosines = _row_products(student, teacher) * ours * theirs
    return (sum((square > SMALLEST).sum() for square in squares) - 2.0 * cosines.sum()) / (batch * channels)


def _row_products(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner product of each row of ``x xᵀ`` with the same row of ``y yᵀ``, ``(batch, channels)``.

    It is computed as ``x_i (xᵀ y) y_iᵀ``, without the Gram matrices. Deep maps have many channels and few positions,
    so this is much less work.
    """
    return (x @ (x.transpose(1, 2) @ y) * y).sum(2)


class ICKD(Method):
    """Match the correlations between the channels of each sample's map.

    A trained 1 x 1 convolution maps the student's channels to the teacher's. The authors also project the teacher; a
    trained projection of the teacher can collapse and an untrained one is no target, so here the teacher stays as it
    is. The best published ImageNet figure used a pretrained student.

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        weight: factor of the term (2.5 in the common benchmark of 240 epochs on CIFAR-100; in a short training
            this dominates the cross-entropy).
    """

    name = "ickd"
    kind = "features"
    paper = "Liu et al. 2021, ICCV"
    bibtex = """@inproceedings{liu2021exploring, title={Exploring Inter-Channel Correlation for Diversity-Preserved
  Knowledge Distillation}, author={Liu, Li and Huang, Qingle and Lin, Sihao and Xie, Hongwei and Wang, Bing and Chang,
  Xiaojun and Liang, Xiaodan}, booktitle={ICCV}, year={2021}}"""
    needs = ("feature_maps",)

    def __init__(self, student: Spec, teacher: Spec, *, stage: int = -1, weight: float = 0.5) -> None:
        super().__init__(student, teacher)
        ours, theirs = self.require_stage(stage)
        self.require_channels(2, theirs)
        self.teacher_maps = {stage: None}
        self.stage, self.weight = stage, weight
        self.projection = nn.Conv2d(ours, theirs, 1)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``ickd``."""
        return {
            "ickd": self.weight
            * ickd(self.projection(student.feature_maps[self.stage]), teacher.feature_maps[self.stage])
        }
