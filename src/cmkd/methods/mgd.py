"""Masked generative distillation (MGD, Yang et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmkd.distributed import gather, rank, world_size
from cmkd.errors import CmkdError
from cmkd.methods.stepped import SteppedMethod
from cmkd.ops import check_pair, match_resolution, upload
from cmkd.types import Batch, Output, Spec


def mgd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the generated and the teacher's map: the sum over a map, the mean over samples.

    Args:
        student_map: ``(batch, channels, height, width)``, generated from the masked student map.
        teacher_map: same shape as `student_map`.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Yang et al. 2022, arXiv 2205.01529, equation 4.

    Example:
        >>> float(mgd(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)))
        4.0
    """
    student, teacher = check_pair(student_map, teacher_map, same_shape=True)
    return (student - teacher).square().sum() / student.shape[0]


class MGD(SteppedMethod):
    """Generate the teacher's whole map from a randomly masked student map.

    Positions are masked; the authors' code for classification, whose fraction and weight are the defaults here, masks
    channels instead. The mask depends on the step and on the sample's position in the global batch, ordered by pair
    index, so that a resumed run and several processes draw the same masks. Maps of different resolution are pooled to
    the smaller one.

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        masked: fraction of positions that are masked, from 0 to below 1.
        weight: factor of the term, which is a sum over the map.
    """

    name = "mgd"
    kind = "features"
    paper = "Yang et al. 2022, ECCV, arXiv 2205.01529"
    bibtex = """@inproceedings{yang2022masked, title={Masked Generative Distillation}, author={Yang, Zhendong and Li,
  Zhe and Shao, Mingqi and Shi, Dachuan and Yuan, Zehuan and Yuan, Chun}, booktitle={ECCV}, year={2022}}"""
    needs = ("feature_maps",)

    def __init__(
        self, student: Spec, teacher: Spec, *, stage: int = -1, masked: float = 0.15, weight: float = 7e-5
    ) -> None:
        super().__init__(student, teacher)
        ours, theirs = self.require_stage(stage)
        if not 0.0 <= masked < 1.0:
            raise CmkdError(f"mgd: masked must be at least 0 and below 1, got {masked}")
        self.teacher_maps = {stage: self.smaller_size(stage)}
        self.stage, self.masked, self.weight = stage, masked, weight
        self.projection = nn.Conv2d(ours, theirs, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(theirs, theirs, 3, padding=1), nn.ReLU(), nn.Conv2d(theirs, theirs, 3, padding=1)
        )

    def mask(self, like: Tensor, batch: Batch) -> Tensor:
        """Return the mask ``(batch, 1, height, width)``: 1 where a position is kept and 0 where it is masked."""
        order = self.order(batch)
        drawn = torch.rand(len(order), 1, *like.shape[2:], generator=self.generator())
        everywhere = torch.empty(drawn.shape, dtype=torch.bool, device=like.device)
        everywhere[order] = upload(drawn >= self.masked, like.device)
        if world_size() > 1:
            everywhere = everywhere[gather(torch.full_like(batch.index, rank())) == rank()]
        return everywhere.to(like.dtype)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``mgd``."""
        ours, theirs = match_resolution(student.feature_maps[self.stage], teacher.feature_maps[self.stage])
        projected = self.projection(ours)
        generated = self.generation(projected * self.mask(projected, batch))
        if self.training:
            self.count_step()
        return {"mgd": self.weight * mgd(generated, theirs)}
