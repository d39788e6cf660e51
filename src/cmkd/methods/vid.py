"""Variational information distillation (Ahn et al. 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.methods.base import Method, deepest_pairs
from cmkd.ops import at_least_float32, check_pair, match_resolution
from cmkd.types import Batch, Output, Spec


def vid(student_map: Tensor, teacher_map: Tensor, log_scale: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian around the student's.

    ``mean ½ ((s - t)² / v + log v)``, with one variance per channel, ``v = softplus(log_scale) + eps``; the constant
    ``½ log 2 pi`` is left out.

    Args:
        student_map: ``(batch, channels, height, width)``, the predicted mean.
        teacher_map: same shape as `student_map`.
        log_scale: ``(channels,)``, trained too: it must be in the optimizer.
        eps: smallest variance.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Ahn et al. 2019, arXiv 1904.05835, equation 6.

    Example:
        >>> round(float(vid(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.tensor([math.log(math.e - 1)]))), 4)
        0.0
    """
    student, teacher = check_pair(student_map, teacher_map, same_shape=True)
    (scale,) = at_least_float32(log_scale)
    variance = (F.softplus(scale) + eps).view(1, -1, *[1] * (student.dim() - 2))
    return 0.5 * ((student - teacher).square() / variance + variance.log()).mean()


class VID(Method):
    """Predict the teacher's maps with a trained variance per channel.

    Where the numbers of maps differ, the deepest ones are paired; each pair is pooled to the smaller resolution. A
    1 x 1 convolution predicts each mean (our choice; the paper has three layers).

    Args:
        initial_variance: variance of each channel before training.
        eps: smallest variance.
        weight: factor of the term, a mean over stages.
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
        self.require_positive(eps=eps)
        if not initial_variance > eps:
            raise CmkdError(f"vid: initial_variance must be above eps, got {initial_variance} and {eps}")
        self.eps, self.weight = eps, weight
        pairs = deepest_pairs(student.map_shapes, teacher.map_shapes)
        self.means = nn.ModuleList(nn.Conv2d(ours[0], theirs[0], 1) for ours, theirs in pairs)
        wanted = initial_variance - eps
        start = wanted + math.log(-math.expm1(-wanted))  # the inverse of softplus
        self.log_scales = nn.ParameterList(torch.full((theirs[0],), start) for _, theirs in pairs)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``vid``."""
        met = [match_resolution(*pair) for pair in deepest_pairs(student.feature_maps, teacher.feature_maps)]
        parts = [
            vid(mean(ours), theirs, scale, eps=self.eps)
            for (ours, theirs), mean, scale in zip(met, self.means, self.log_scales, strict=True)
        ]
        return {"vid": self.weight * torch.stack(parts).mean()}
