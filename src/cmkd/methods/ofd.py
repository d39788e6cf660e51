"""Overhaul of feature distillation (OFD, Heo et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import at_least_float32, check_pair, match_resolution
from cmkd.types import Batch, Output, Spec


def ofd(student_map: Tensor, teacher_map: Tensor, margin: Tensor) -> Tensor:
    """Partial L2 distance to the teacher's map, cut off below at the margin.

    The sum over neurons, and the mean over samples, of ``(s - m)²`` if ``t <= m < s``; ``(s - t)²`` if ``m < t <= 0``
    and ``s > t``, or if ``t > 0``; else 0.

    Args:
        student_map: ``(batch, channels, height, width)``, after any projection.
        teacher_map: same shape as `student_map`, before its ReLU.
        margin: ``(1, channels, 1, 1)``, m, not above 0.

    Raises:
        CmkdError: if the shapes of the maps differ.

    Source:
        Heo et al. 2019, arXiv 1904.01866, equations 1 to 3.

    Example:
        >>> x = torch.tensor([[[[-5.0, 2.0]]]])
        >>> float(ofd(x - 1.0, x, torch.tensor(-1.0).view(1, 1, 1, 1)))  # already below the margin; off by one
        1.0
    """
    student, teacher = check_pair(student_map, teacher_map, same_shape=True)
    (low,) = at_least_float32(margin)
    to_margin = (student > low) & (teacher <= low)
    to_teacher = ((student > teacher) & (teacher > low) & (teacher <= 0)) | (teacher > 0)
    errors = (student - low).square() * to_margin + (student - teacher).square() * to_teacher
    return errors.sum() / student.shape[0]


class OFD(Method):
    """Match the teacher's positive responses exactly and its negative ones only as far as they matter.

    The margin is each channel's mean negative response. The paper derives it from the teacher's batch-norm; here it is
    the running mean over the training data (our choice: models return maps, not layers). Maps taken after a ReLU have
    margin 0.

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        weight: factor of the term, which is a sum over neurons.
    """

    name = "ofd"
    kind = "features"
    paper = "Heo et al. 2019, ICCV, arXiv 1904.01866"
    bibtex = """@inproceedings{heo2019comprehensive, title={A Comprehensive Overhaul of Feature Distillation},
  author={Heo, Byeongho and Kim, Jeesoo and Yun, Sangdoo and Park, Hyojin and Kwak, Nojun and Choi, Jin Young},
  booktitle={ICCV}, year={2019}}"""
    needs = ("feature_maps",)

    negative_sum: Tensor
    negative_count: Tensor

    def __init__(self, student: Spec, teacher: Spec, *, stage: int = -1, weight: float = 1e-3) -> None:
        super().__init__(student, teacher)
        ours, theirs = self.require_stage(stage)
        self.teacher_maps = {stage: self.smaller_size(stage)}
        self.stage, self.weight = stage, weight
        self.projection = nn.Conv2d(ours, theirs, 1)
        self.register_buffer("negative_sum", torch.zeros(theirs))
        self.register_buffer("negative_count", torch.zeros(theirs))

    @torch.no_grad()
    def observe(self, teacher_map: Tensor) -> Tensor:
        """Add a map to the running mean of negative responses; return the margin ``(1, channels, 1, 1)``."""
        if self.training:
            (values,) = at_least_float32(teacher_map)
            sums, counts = values.clamp(max=0).sum((2, 3)), (values < 0).sum((2, 3))
            self.negative_sum += gather(sums).sum(0)
            self.negative_count += gather(counts).sum(0)
        return (self.negative_sum / self.negative_count.clamp(min=1)).view(1, -1, 1, 1)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``ofd``."""
        ours, theirs = match_resolution(student.feature_maps[self.stage], teacher.feature_maps[self.stage])
        return {"ofd": self.weight * ofd(self.projection(ours), theirs, self.observe(theirs))}
