"""Simple recipe distillation (SRD, Miles and Mikolajczyk 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.errors import CmkdError
from cmkd.methods.base import Method
from cmkd.ops import at_least_float32, check_pair, standardize
from cmkd.types import Batch, Output, Spec


def srd(student_embedding: Tensor, teacher_embedding: Tensor, *, exponent: float = 4.0) -> Tensor:
    """Soft maximum of the differences: ``log sum |s - t|^exponent`` over samples and channels.

    Args:
        student_embedding: ``(batch, dim)``, after projection and normalization.
        teacher_embedding: same shape as `student_embedding`.
        exponent: power of the differences, above 1.

    Returns:
        Scalar. Equal embeddings give the log of the smallest normal number, not minus infinity.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Miles and Mikolajczyk 2024, arXiv 2303.11098, equation 5.

    Example:
        >>> float(srd(torch.ones(1, 1), torch.zeros(1, 1)))
        0.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    total = (student - teacher).abs().pow(exponent).sum()
    return torch.log(total + torch.finfo(total.dtype).tiny)


class SRD(Method):
    """Match embeddings through one linear layer, with most weight on the largest differences.

    Both sides are standardized per channel over the global batch. The authors' training on ImageNet gives this term a
    weight of 2 and adds the KL divergence of the logits at temperature 1: compare ``srd(weight=2)+kd(temperature=1)``.

    Args:
        exponent: power of the differences, above 1.
        weight: factor of the term.
    """

    name = "srd"
    kind = "features"
    paper = "Miles and Mikolajczyk 2024, AAAI, arXiv 2303.11098"
    bibtex = """@inproceedings{miles2024understanding, title={Understanding the Role of the Projector in Knowledge
  Distillation}, author={Miles, Roy and Mikolajczyk, Krystian}, booktitle={AAAI}, year={2024}}"""
    needs = ("embedding",)

    def __init__(self, student: Spec, teacher: Spec, *, exponent: float = 4.0, weight: float = 0.1) -> None:
        super().__init__(student, teacher)
        if not exponent > 1:
            raise CmkdError(f"srd: exponent must be above 1, got {exponent}")
        self.exponent, self.weight = exponent, weight
        self.projection = nn.Linear(student.dim, teacher.dim, bias=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``srd``."""
        ours, theirs = at_least_float32(gather(self.projection(student.embedding)), gather(teacher.embedding))
        return {"srd": self.weight * srd(standardize(ours), standardize(theirs), exponent=self.exponent)}
