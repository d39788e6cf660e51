"""Spreading by nearest neighbors, without a teacher (KoLeo, Sablayrolles et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import at_least_float32
from cmkd.pairwise import nearest_neighbors, unit_rows
from cmkd.types import Batch, Output, Spec


def koleo(embedding: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Kozachenko-Leonenko spreading: ``-mean_i log |u_i - u_n(i)|`` of unit vectors and their nearest neighbors.

    Args:
        embedding: ``(batch, dim)``, scaled to unit rows here.
        eps: the distance is ``sqrt(d² + eps²)``; coinciding vectors give a finite value and no gradient between them.
            Common implementations add eps to the distance instead; the two agree where the distance is above eps.

    Returns:
        Scalar; 0 for fewer than two samples.

    Source:
        Sablayrolles et al. 2019, arXiv 1806.03198, section 3.2.

    Example:
        >>> round(float(koleo(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]))), 4)  # -log 2
        -0.6931
    """
    (x,) = at_least_float32(embedding)
    if x.shape[0] < 2:
        return 0.0 * x.sum()
    unit = unit_rows(x)
    with torch.no_grad():
        _, neighbor = nearest_neighbors(unit, unit, count=1, skip_self=True)
    squared = (unit - unit[neighbor[:, 0]]).square().sum(1)
    return -0.5 * (squared + eps**2).log().mean()


class KoLeo(Method):
    """Push each sample away from its nearest neighbor on the hypersphere; a control that uses no teacher.

    Args:
        weight: factor of the term.
    """

    name = "koleo"
    kind = "control"
    paper = "Sablayrolles et al. 2019, arXiv 1806.03198"
    bibtex = """@inproceedings{sablayrolles2019spreading, title={Spreading Vectors for Similarity Search},
  author={Sablayrolles, Alexandre and Douze, Matthijs and Schmid, Cordelia and J{\\'e}gou, Herv{\\'e}},
  booktitle={ICLR}, year={2019}}"""
    needs = ("embedding",)
    uses_teacher = False

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 0.1) -> None:
        super().__init__(student, teacher)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``koleo`` of the global batch."""
        return {"koleo": self.weight * koleo(gather(student.embedding))}
