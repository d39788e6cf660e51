"""Variational information distillation (Ahn et al. 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method, deepest_pairs
from cmkd.ops import at_least_float32, check_pair, match_resolution
from cmkd.types import Batch, Output, Spec


def vid(student_map: Tensor, teacher_map: Tensor, log_scale: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian around the student's.

    ``mean ½ ((s - t)² / v + log v)``, with one variance per channel, ``v = softplus(log_scale) + eps``; the constant
    ``½ log 2 pi`` is left out.

    Args:
        student_map: ``(batch, channels, height, width)``, the predicted mean.
        teacher_map: the same shape.
        log_scale: ``(channels,)``, trained along: it must be in the optimizer.
        eps: the least variance.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Ahn et al. 2019, arXiv 1904.05835, equation 6.

    Example:
        >>> round(float(vid(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.tensor([math.log(math.e - 1)]))), 4)
        0.0
    """
    check_pair(student_map, teacher_map, same_shape=True)
    student, teacher, scale = at_least_float32(student_map, teacher_map, log_scale)
    variance = (F.softplus(scale) + eps).view(1, -1, *[1] * (student.dim() - 2))
    return 0.5 * ((student - teacher).square() / variance + variance.log()).mean()


class VID(Method):
    """Predict the teacher's maps with a variance per channel.

    All paired stages, the deepest of both; a 1 x 1 convolution predicts each mean (the paper has three layers: our
    choice). Resolutions meet at the smaller one.

    Args:
        student: shapes of the student's output.
        teacher: shapes of the teacher's output.
        initial_variance: of each channel before training.
        eps: the least variance.
        weight: of the term, a mean over stages.
    """

    name = "vid"
    kind = "features"
    paper = "Ahn et al. 2019, CVPR, arXiv 1904.05835"
    bibtex = """@inproceedings{ahn2019variational, title={Variational Information Distillation for Knowledge Transfer},
  author={Ahn, Sungsoo and Hu, Shell Xu and Damianou, Andreas and Lawrence, Neil D. and Dai, Zhenwen}, booktitle={CVPR},
  year={2019}}"""
    needs = ("feature_maps",)

    def __init__(
        self, student: Spec, teacher: Spec, *, initial_variance: float = 5.0, eps: float = 1e-5, weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        self.require_maps()
        self.require_positive(initial_variance=initial_variance - eps, eps=eps)
        self.eps, self.weight = eps, weight
        shapes = list(zip(*deepest_pairs(student.map_shapes, teacher.map_shapes), strict=True))
        self.means = nn.ModuleList(nn.Conv2d(ours[0], theirs[0], 1) for ours, theirs in shapes)
        start = math.log(math.expm1(initial_variance - eps))
        self.log_scales = nn.ParameterList(torch.full((theirs[0],), start) for _, theirs in shapes)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``vid``."""
        parts = []
        for ours, theirs, mean, scale in zip(
            *deepest_pairs(student.feature_maps, teacher.feature_maps), self.means, self.log_scales, strict=True
        ):
            seen, wanted = match_resolution(ours, theirs)
            parts.append(vid(mean(seen), wanted, scale, eps=self.eps))
        return {"vid": self.weight * torch.stack(parts).mean()}
