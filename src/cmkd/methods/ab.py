"""Activation boundaries (Heo et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cmkd.methods.base import Method, deepest_pairs
from cmkd.ops import check_maps, match_resolution
from cmkd.types import Batch, Output, Spec


def ab(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, margin: float = 1.0) -> Tensor:
    """Put the student's neurons on the teacher's side of zero, with a margin.

    ``3/1000 · sum over stages i of 2^(i + 1 - stages) · sum(e) / batch``, i from 0, where e is ``(s + margin)²`` if the
    teacher's neuron is off and ``s > -margin``, ``(s - margin)²`` if it is on and ``s <= margin``, else 0.

    Args:
        student_maps: maps ``(batch, channels, height, width)``, shallow to deep, after any projection.
        teacher_maps: same number of maps, of the same shapes; a neuron is on where its value is above 0.
        margin: distance that the student should keep from zero, above 0.

    Raises:
        CmkdError: if the numbers or shapes of the maps differ.

    Source:
        Heo et al. 2019, arXiv 1811.03233, equation 4; the factor 3/1000 and the weights of the stages follow
        the authors' code.

    Example:
        >>> import torch
        >>> maps = [torch.tensor([[[[2.0, -2.0]]]])]
        >>> float(ab(maps, maps))
        0.0
    """
    total = student_maps[0].new_zeros(())
    for stage, (student, teacher) in enumerate(check_maps(student_maps, teacher_maps, same_shape=True)):
        off, on = (student > -margin) & (teacher <= 0), (student <= margin) & (teacher > 0)
        errors = (student + margin).square() * off + (student - margin).square() * on
        total = total + 2.0 ** (stage + 1 - len(student_maps)) * errors.sum() / student.shape[0]
    return total * 3.0 / 1000.0


class AB(Method):
    """Match which of the teacher's neurons are on, stage by stage.

    The paper first trains with this loss alone and then on the task; here both train together (our choice). 1 x 1
    convolutions map the student's channels to the teacher's; both maps are pooled to the smaller resolution.
    In a map taken after a ReLU, a neuron is on where its value is above 0, so the boundary is kept.

    Args:
        margin: how far beyond the boundary the student is pushed.
        weight: factor of the term.
    """

    name = "ab"
    kind = "features"
    paper = "Heo et al. 2019, AAAI, arXiv 1811.03233"
    bibtex = """@inproceedings{heo2019knowledge, title={Knowledge Transfer via Distillation of Activation Boundaries
  Formed by Hidden Neurons}, author={Heo, Byeongho and Lee, Minsik and Yun, Sangdoo and Choi, Jin Young},
  booktitle={AAAI}, year={2019}}"""
    needs = ("feature_maps",)

    def __init__(self, student: Spec, teacher: Spec, *, margin: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.require_maps()
        self.require_positive(margin=margin)
        self.margin, self.weight = margin, weight
        pairs = deepest_pairs(student.map_shapes, teacher.map_shapes)
        self.projections = nn.ModuleList(nn.Conv2d(ours[0], theirs[0], 1) for ours, theirs in pairs)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``ab``."""
        met = [match_resolution(*pair) for pair in deepest_pairs(student.feature_maps, teacher.feature_maps)]
        projected = [project(s) for project, (s, _) in zip(self.projections, met, strict=True)]
        return {"ab": self.weight * ab(projected, [t for _, t in met], margin=self.margin)}
