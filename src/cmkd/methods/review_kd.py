"""Knowledge review (Chen et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method, deepest_pairs
from cmkd.ops import check_maps, match_resolution
from cmkd.types import Batch, Output, Spec

LEVELS = (4, 2, 1)


def review_kd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Hierarchical context loss: squared differences of maps and of their pooled pyramids.

    Per stage, ``(mse + sum over levels l below the height of 2^-k mse(pool to l x l)) / (1 + sum of 2^-k)``, where k
    counts the levels in use (of 4, 2, 1) from 1.

    Args:
        student_maps: maps ``(batch, channels, height, width)``, shallow to deep, after fusion.
        teacher_maps: same number of maps, of the same shapes.

    Raises:
        CmkdError: if the numbers or shapes of the maps differ.

    Source:
        Chen et al. 2021, arXiv 2104.09044, section 3.4; the weights follow the authors' code.

    Example:
        >>> maps = [torch.ones(1, 2, 8, 8)]
        >>> float(review_kd(maps, [torch.zeros(1, 2, 8, 8)]))
        1.0
    """
    total = student_maps[0].new_zeros(())
    for student, teacher in check_maps(student_maps, teacher_maps, same_shape=True):
        loss, factor, factors = F.mse_loss(student, teacher), 1.0, 1.0
        for level in LEVELS:
            if level < student.shape[2]:
                factor /= 2.0
                factors += factor
                pooled = [F.adaptive_avg_pool2d(x, (level, level)) for x in (student, teacher)]
                loss = loss + factor * F.mse_loss(pooled[0], pooled[1])
        total = total + loss / factors
    return total


class Fusion(nn.Module):
    """Attention-based fusion of a stage's map with the fused map of the deeper stages.

    Args:
        channels: channels of the student's map.
        width: channels of the map that is passed on.
        out_channels: channels of the teacher's map.
        first: whether this is the deepest stage, where there is nothing to fuse.
    """

    def __init__(self, channels: int, width: int, out_channels: int, *, first: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 1, bias=False)
        self.leave = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        self.attention = None if first else nn.Conv2d(2 * width, 2, 1)

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the map to compare and the map to pass on to the shallower stage."""
        x = self.enter(x)
        if self.attention is not None and deeper is not None:
            resized = F.interpolate(deeper, x.shape[2:], mode="nearest")
            share = self.attention(torch.cat([x, resized], 1)).sigmoid()
            x = x * share[:, :1] + resized * share[:, 1:]
        return self.leave(x), x


class ReviewKD(Method):
    """Let the student's deep stages help to match the teacher's shallow ones.

    The connectors have no batch-norm, unlike the paper's (our choice, so that a batch of one works and processes need
    not share statistics). Where the numbers of maps differ, the deepest ones are paired; each pair is pooled to the
    smaller resolution.

    Args:
        width: channels of the fused maps.
        warmup_epochs: the weight rises linearly over this many epochs (20 of 240 in the paper's recipe).
        weight: factor of the term.
    """

    name = "review_kd"
    kind = "features"
    paper = "Chen et al. 2021, CVPR, arXiv 2104.09044"
    bibtex = """@inproceedings{chen2021distilling, title={Distilling Knowledge via Knowledge Review}, author={Chen,
  Pengguang and Liu, Shu and Zhao, Hengshuang and Jia, Jiaya}, booktitle={CVPR}, year={2021}}"""
    needs = ("feature_maps",)
    required_hooks: Mapping[str, str] = {"on_train_epoch_start": "its weight rises over warmup_epochs"}

    def __init__(
        self, student: Spec, teacher: Spec, *, width: int = 64, warmup_epochs: int = 0, weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        self.require_maps()
        self.require_positive(width=width)
        self.warmup_epochs, self.weight = warmup_epochs, weight
        if warmup_epochs < 2:
            self.required_hooks = {}
        pairs = deepest_pairs(student.map_shapes, teacher.map_shapes)
        self.fusions = nn.ModuleList(
            Fusion(s[0], width, t[0], first=stage == len(pairs) - 1) for stage, (s, t) in enumerate(pairs)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``review_kd``."""
        pairs = deepest_pairs(student.feature_maps, teacher.feature_maps)
        fused: list[tuple[Tensor, Tensor]] = []
        deeper = None
        for fusion, (s, t) in reversed(list(zip(self.fusions, pairs, strict=True))):
            result, deeper = fusion(s, deeper)
            fused.append(match_resolution(result, t))
        value = review_kd(*zip(*fused, strict=True))
        return {"review_kd": self.weight * self.warmup(self.warmup_epochs) * value}
