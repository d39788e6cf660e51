"""Correlation congruence (Peng et al. 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.ops import check_pair, in_float32
from cmkd.pairwise import unit_rows
from cmkd.types import Batch, Output, Spec


@in_float32
def cc(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    *,
    gamma: float = 0.4,
    order: int = 2,
    paper_form: bool = False,
) -> Tensor:
    """Difference of Gaussian kernel matrices of the batch: ``||K(s) - K(t)|| / batch²``.

    K is the Taylor expansion of ``exp(-gamma ||x - y||²)`` for L2-normalized embeddings,
    ``exp(-2 gamma) sum over p <= order of (2 gamma)^p / p! (x'y)^p``.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: ``(batch, teacher dim)``.
        gamma: inverse width of the kernel.
        order: highest power of the Taylor expansion.
        paper_form: use the squared norm, as in the paper's equation 5, instead of the norm.

    Returns:
        Scalar; the gradient is zero if the matrices are equal.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Peng et al. 2019, arXiv 1904.01802. The loss named CC in RepDistiller, a mean of absolute differences of
        consecutive samples, is not the paper's.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> float(cc(3.0 * x, x)) < 1e-6
        True
    """
    kernels = []
    for x in check_pair(student_embedding, teacher_embedding):
        unit = unit_rows(x)
        similarity = unit @ unit.T
        powers = [(2.0 * gamma) ** p / math.factorial(p) * similarity**p for p in range(order + 1)]
        kernels.append(math.exp(-2.0 * gamma) * torch.stack(powers).sum(0))
    difference = kernels[0] - kernels[1]
    distance = difference.square().sum() if paper_form else torch.linalg.vector_norm(difference)
    return distance / difference.shape[0] ** 2


class CC(Method):
    """Match the teacher's kernel matrix between the samples of the global batch.

    The embeddings are compared without projections. The paper projects both with trained layers; a trained projection
    of the teacher can collapse, so we leave both out (our choice).

    Args:
        gamma: inverse width of the Gaussian kernel.
        order: highest power of the kernel's Taylor expansion.
        paper_form: use the squared norm instead of the norm.
        weight: factor of the term.
    """

    name = "cc"
    kind = "relations"
    paper = "Peng et al. 2019, ICCV, arXiv 1904.01802"
    bibtex = """@inproceedings{peng2019correlation, title={Correlation Congruence for Knowledge Distillation},
  author={Peng, Baoyun and Jin, Xiao and Liu, Jiaheng and Li, Dongsheng and Wu, Yichao and Liu, Yu and Zhou, Shunfeng
  and Zhang, Zhaoning}, booktitle={ICCV}, year={2019}}"""
    needs = ("embedding",)

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        gamma: float = 0.4,
        order: int = 2,
        paper_form: bool = False,
        weight: float = 100.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_positive(gamma=gamma, order=order)
        self.gamma, self.order, self.paper_form, self.weight = gamma, order, paper_form, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``cc``."""
        value = cc(
            gather(student.embedding),
            gather(teacher.embedding),
            gamma=self.gamma,
            order=self.order,
            paper_form=self.paper_form,
        )
        return {"cc": self.weight * value}
