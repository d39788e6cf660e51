"""Uniform distribution on the hypersphere, without a teacher (Wang & Isola 2020)."""

from __future__ import annotations

from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import at_least_float32
from cmkd.pairwise import log_mean_gaussian, unit_rows
from cmkd.types import Batch, Output, Spec


def uniformity(embedding: Tensor, *, t: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential of unit vectors: ``log mean_{i<j} exp(-t |u_i - u_j|²)``, ``u = x / |x|``.

    Args:
        embedding: ``(batch, dim)``, scaled to unit rows here.
        t: inverse width of the potential, above 0.

    Returns:
        Scalar in ``[-4t, 0]``, lower is more uniform; 0 where there are fewer than two samples. Memory is O(batch dim).

    Raises:
        CmkdError: if `embedding` is not a matrix or `t` is not positive.

    Source:
        Wang, Isola 2020, arXiv 2005.10242, section 4.

    Example:
        >>> import torch
        >>> round(float(uniformity(torch.tensor([[2.0, 0.0], [-0.5, 0.0]]))), 4)  # opposite points: -t 2²
        -8.0
    """
    (x,) = at_least_float32(embedding)
    return log_mean_gaussian(unit_rows(x) if x.dim() == 2 else x, t=t)


class Uniformity(Method):
    """Spread the student's embedding over the hypersphere; a control that uses no teacher.

    Args:
        t: inverse width of the Gaussian potential.
        weight: factor of the term.
    """

    name = "uniformity"
    kind = "control"
    paper = "Wang, Isola 2020, arXiv 2005.10242"
    bibtex = """@inproceedings{wang2020understanding, title={Understanding Contrastive Representation Learning through
  Alignment and Uniformity on the Hypersphere}, author={Wang, Tongzhou and Isola, Phillip}, booktitle={ICML},
  year={2020}}"""
    needs = ("embedding",)
    uses_teacher = False

    def __init__(self, student: Spec, teacher: Spec, *, t: float = 2.0, weight: float = 0.1) -> None:
        super().__init__(student, teacher)
        self.require_positive(t=t)
        self.t, self.weight = t, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``uniformity`` of the global batch."""
        return {"uniformity": self.weight * uniformity(gather(student.embedding), t=self.t)}
