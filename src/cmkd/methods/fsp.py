"""Flow of the solution procedure (FSP, Yim et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cmkd.methods.base import Method, deepest_pairs
from cmkd.ops import check_maps, in_float32, match_resolution
from cmkd.types import Batch, Output, Spec


def flows(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the flows between neighboring maps, each ``(batch, channels, next channels)``.

    A flow is the mean product of two channels over positions, at the smaller resolution.
    """
    matrices = []
    for lower, upper in pairwise(maps):
        bottom, top = (x.flatten(2) for x in match_resolution(lower, upper))
        matrices.append(bottom @ top.transpose(1, 2) / bottom.shape[2])
    return matrices


@in_float32
def fsp(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Squared difference of flows between neighboring stages: ``sum over pairs of mean (F(s) - F(t))²``.

    Args:
        student_maps: at least two maps ``(batch, channels, height, width)``, shallow to deep.
        teacher_maps: same number of maps, with the same channels; resolutions may differ.

    Raises:
        CmkdError: if the numbers of maps or the batch sizes differ.

    Source:
        Yim et al. 2017, CVPR, equations 1 and 2 (there in a first stage of training; here together with the task).

    Example:
        >>> maps = [torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]
        >>> float(fsp(maps, [torch.zeros(1, 2, 4, 4), maps[1]]))
        1.0
    """
    ours, theirs = (flows(maps) for maps in zip(*check_maps(student_maps, teacher_maps), strict=True))
    return torch.stack([(a - b).square().mean() for a, b in zip(ours, theirs, strict=True)]).sum()


class FSP(Method):
    """Match how the features of one stage turn into the features of the next stage.

    The paper needs equal channels; here 1 x 1 convolutions map the student's to the teacher's (our choice). Where the
    numbers of maps differ, the deepest ones are paired.

    Args:
        weight: factor of the term (50 in the common benchmark of 240 epochs on CIFAR-100; in a short training
            this dominates the cross-entropy).
    """

    name = "fsp"
    kind = "features"
    paper = "Yim et al. 2017, CVPR"
    bibtex = """@inproceedings{yim2017gift, title={A Gift from Knowledge Distillation: Fast Optimization, Network
  Minimization and Transfer Learning}, author={Yim, Junho and Joo, Donggyu and Bae, Jihoon and Kim, Junmo},
  booktitle={CVPR}, year={2017}}"""
    needs = ("feature_maps",)

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 5.0) -> None:
        super().__init__(student, teacher)
        self.require_maps(2)
        self.weight = weight
        pairs = deepest_pairs(student.map_shapes, teacher.map_shapes)
        self.projections = nn.ModuleList(nn.Conv2d(ours[0], theirs[0], 1, bias=False) for ours, theirs in pairs)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``fsp``."""
        ours, theirs = zip(*deepest_pairs(student.feature_maps, teacher.feature_maps), strict=True)
        projected = [project(x) for project, x in zip(self.projections, ours, strict=True)]
        return {"fsp": self.weight * fsp(projected, theirs)}
