"""Attention transfer (Zagoruyko and Komodakis 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.methods.base import Method, deepest_pairs
from cmkd.ops import check_maps, match_resolution
from cmkd.types import Batch, Output, Spec


def at(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, power: float = 2.0, paper_form: bool = False
) -> Tensor:
    """Squared difference of normalized attention: ``sum over stages of mean (a(s) - a(t))²``.

    ``a(x)`` is the mean over channels of ``|x|^power``, flattened and L2-normalized per sample.

    Args:
        student_maps: maps ``(batch, channels, height, width)``, shallow to deep.
        teacher_maps: same number of maps; channels may differ, and each pair is compared at its smaller resolution.
        power: exponent of the activations.
        paper_form: the paper's equation 2, ``half the sum over stages of the mean over samples of ||a(s) - a(t)||``,
            instead of the authors' code.

    Raises:
        CmkdError: if the numbers of maps or the batch sizes differ.

    Source:
        Zagoruyko and Komodakis 2017, arXiv 1612.03928. The authors' code has a mean of squares where the paper has a
        norm; the two scales differ widely, hence the large usual weight.

    Example:
        >>> import torch
        >>> maps = [torch.arange(32.0).reshape(1, 2, 4, 4)]
        >>> float(at(maps, [3.0 * maps[0]])) < 1e-9  # the scale is free
        True
    """
    total = student_maps[0].new_zeros(())
    for pair in check_maps(student_maps, teacher_maps):
        student, teacher = (F.normalize(x.abs().pow(power).mean(1).flatten(1)) for x in match_resolution(*pair))
        difference = student - teacher
        total = total + (0.5 * difference.norm(dim=1).mean() if paper_form else difference.square().mean())
    return total


class AT(Method):
    """Look where the teacher looks: match the spatial attention of all stages.

    Where the numbers of maps differ, the deepest ones are paired.

    Args:
        power: exponent of the activations, at least 1.
        paper_form: the paper's norm instead of the authors' mean of squares; choose a weight near 1.
        weight: factor of the term (1000 in the common benchmark of 240 epochs on CIFAR-100; in a short training
            this dominates the cross-entropy).
    """

    name = "at"
    kind = "features"
    paper = "Zagoruyko and Komodakis 2017, ICLR, arXiv 1612.03928"
    bibtex = """@inproceedings{zagoruyko2017paying, title={Paying More Attention to Attention: Improving the
  Performance of Convolutional Neural Networks via Attention Transfer}, author={Zagoruyko, Sergey and Komodakis, Nikos},
  booktitle={ICLR}, year={2017}}"""
    needs = ("feature_maps",)

    def __init__(
        self, student: Spec, teacher: Spec, *, power: float = 2.0, paper_form: bool = False, weight: float = 10.0
    ) -> None:
        super().__init__(student, teacher)
        self.require_maps()
        self.require_positions([-1 - k for k in range(min(len(student.map_shapes), len(teacher.map_shapes)))])
        if not power >= 1:
            raise CmkdError(f"at: power must be at least 1, got {power}")
        self.power, self.paper_form, self.weight = power, paper_form, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``at``."""
        ours, theirs = zip(*deepest_pairs(student.feature_maps, teacher.feature_maps), strict=True)
        return {"at": self.weight * at(ours, theirs, power=self.power, paper_form=self.paper_form)}
