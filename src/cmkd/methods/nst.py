"""Neuron selectivity transfer (Huang and Wang 2017)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cmkd.methods.base import Method
from cmkd.ops import check_pair, in_float32, match_resolution
from cmkd.types import Batch, Output, Spec


@in_float32
def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Maximum mean discrepancy between channels as samples, with the kernel ``(x'y)²``.

    ``mean k(t, t) + mean k(s, s) - 2 mean k(s, t)`` over channels, each flattened over positions and L2-normalized.

    Args:
        student_map: ``(batch, channels, height, width)``.
        teacher_map: same batch and resolution, any number of channels.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Huang and Wang 2017, arXiv 1707.01219, equation 6 with the polynomial kernel of degree 2 and no offset. The
        teacher's own term is kept, so that the loss of equal maps is 0.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 3, 4, 4)
        >>> abs(float(nst(x, x.flip(1)))) < 1e-6  # the order of channels does not matter
        True
    """
    student, teacher = (F.normalize(x.flatten(2), dim=2) for x in check_pair(student_map, teacher_map))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.transpose(1, 2)).square().mean()

    return kernel(teacher, teacher) + kernel(student, student) - 2.0 * kernel(student, teacher)


class NST(Method):
    """Match the distribution of channels, each seen as a spatial pattern.

    Maps of different resolution are pooled to the smaller one.

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        weight: factor of the term (50 in the common benchmark of 240 epochs on CIFAR-100; in a short training
            this dominates the cross-entropy).
    """

    name = "nst"
    kind = "features"
    paper = "Huang and Wang 2017, arXiv 1707.01219"
    bibtex = """@article{huang2017like, title={Like What You Like: Knowledge Distill via Neuron Selectivity Transfer},
  author={Huang, Zehao and Wang, Naiyan}, journal={arXiv:1707.01219}, year={2017}}"""
    needs = ("feature_maps",)

    def __init__(self, student: Spec, teacher: Spec, *, stage: int = -1, weight: float = 5.0) -> None:
        super().__init__(student, teacher)
        self.require_stage(stage)
        self.require_positions([stage])
        self.teacher_maps = {stage: self.smaller_size(stage)}
        self.stage, self.weight = stage, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``nst``."""
        return {
            "nst": self.weight
            * nst(*match_resolution(student.feature_maps[self.stage], teacher.feature_maps[self.stage]))
        }
