"""Hints from an intermediate map (FitNets, Romero et al. 2015; across modalities Gupta et al. 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method
from cmkd.ops import check_pair, match_resolution
from cmkd.types import Batch, Output, Spec


def fitnet(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference of two maps of the same shape: ``mean (s - t)²``.

    Args:
        student_map: ``(batch, channels, height, width)``, after any projection.
        teacher_map: same shape as `student_map`.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Romero et al. 2015, arXiv 1412.6550, equation 3 (there half the sum over positions; here the mean, as in
        the common implementations). Used across modalities by Gupta et al. 2016, arXiv 1507.00448.

    Example:
        >>> import torch
        >>> float(fitnet(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)))
        1.0
    """
    student, teacher = check_pair(student_map, teacher_map, same_shape=True)
    return F.mse_loss(student, teacher)


class FitNet(Method):
    """Predict one of the teacher's maps from the student's map with a trained 1 x 1 convolution.

    Maps of different resolution are average-pooled to the smaller one (our choice; the paper's maps are of equal size).

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        weight: factor of the term.
    """

    name = "fitnet"
    kind = "features"
    paper = "Romero et al. 2015, arXiv 1412.6550; Gupta et al. 2016, arXiv 1507.00448"
    bibtex = """@inproceedings{romero2015fitnets, title={FitNets: Hints for Thin Deep Nets}, author={Romero, Adriana and
  Ballas, Nicolas and Kahou, Samira Ebrahimi and Chassang, Antoine and Gatta, Carlo and Bengio, Yoshua},
  booktitle={ICLR}, year={2015}}"""
    needs = ("feature_maps",)

    def __init__(self, student: Spec, teacher: Spec, *, stage: int = -2, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        ours, theirs = self.require_stage(stage)
        self.teacher_maps = {stage: self.smaller_size(stage)}
        self.stage, self.weight = stage, weight
        self.projection = nn.Conv2d(ours, theirs, 1, bias=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``fitnet``."""
        ours, theirs = match_resolution(student.feature_maps[self.stage], teacher.feature_maps[self.stage])
        return {"fitnet": self.weight * fitnet(self.projection(ours), theirs)}
