"""Decorrelation of the student's own channels: a control without a teacher (after Cogswell et al. 2016)."""

from __future__ import annotations

from torch import Tensor

from cmkd.correlation import cross_correlation, of_unit_scale
from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import at_least_float32, off_diagonal
from cmkd.types import Batch, Output, Spec


def decorrelation(embedding: Tensor) -> Tensor:
    """Mean over channels of the squared correlations with the other channels: ``(1/D) Σ_{i≠j} r_ij²``.

    Args:
        embedding: ``(batch, dim)``; correlations are over the batch.

    Source:
        After Cogswell et al. 2016, arXiv 1511.06068, who halve the sum of squared covariances of activations; here
        the terms are correlations, so that the scale of a channel does not matter.

    Example:
        >>> import torch
        >>> round(float(decorrelation(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))), 3)  # r = -1, twice, over D = 2
        1.0
    """
    x = of_unit_scale(*at_least_float32(embedding))
    return off_diagonal(cross_correlation(x, x)).square().sum() / x.shape[1]


class Decorrelation(Method):
    """Lower the correlation between the student's channels; uses no teacher.

    Args:
        weight: factor of the term.
    """

    name = "decorrelation"
    kind = "control"
    paper = "after Cogswell et al. 2016, arXiv 1511.06068"
    bibtex = """@inproceedings{cogswell2016reducing, title={Reducing Overfitting in Deep Networks by Decorrelating
  Representations}, author={Cogswell, Michael and Ahmed, Faruk and Girshick, Ross and Zitnick, Larry and Batra, Dhruv},
  booktitle={ICLR}, year={2016}}"""
    needs = ("embedding",)
    uses_teacher = False

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 0.02) -> None:
        super().__init__(student, teacher)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``decorrelation`` of the global batch."""
        return {"decorrelation": self.weight * decorrelation(gather(student.embedding))}
