"""Similarity-preserving distillation (Tung and Mori 2019)."""

from __future__ import annotations

from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import check_pair, in_float32
from cmkd.pairwise import unit_rows
from cmkd.types import Batch, Output, Spec


@in_float32
def sp(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of row-normalized Gram matrices of the batch: ``||G(s) - G(t)||² / batch²``.

    Args:
        student_map: ``(batch, ...)``; all dimensions after the batch are flattened.
        teacher_map: ``(batch, ...)``, any shape.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Tung and Mori 2019, arXiv 1907.09682, equations 1 to 4.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> float(sp(x, 2.0 * x.flip(1)))
        0.0
    """
    student, teacher = (x.flatten(1) for x in check_pair(student_map, teacher_map))
    grams = [unit_rows(x @ x.T) for x in (student, teacher)]
    return (grams[0] - grams[1]).square().mean()


class SP(Method):
    """Make samples of the global batch similar for the student where they are similar for the teacher.

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        weight: factor of the term (3000 in the common benchmark of 240 epochs on CIFAR-100; in a short training
            this dominates the cross-entropy).
    """

    name = "sp"
    kind = "relations"
    paper = "Tung and Mori 2019, ICCV, arXiv 1907.09682"
    bibtex = """@inproceedings{tung2019similarity, title={Similarity-Preserving Knowledge Distillation}, author={Tung,
  Frederick and Mori, Greg}, booktitle={ICCV}, year={2019}}"""
    needs = ("feature_maps",)

    def __init__(self, student: Spec, teacher: Spec, *, stage: int = -1, weight: float = 300.0) -> None:
        super().__init__(student, teacher)
        self.require_stage(stage)
        self.teacher_maps = {stage: None}
        self.stage, self.weight = stage, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``sp``."""
        return {
            "sp": self.weight * sp(gather(student.feature_maps[self.stage]), gather(teacher.feature_maps[self.stage]))
        }
