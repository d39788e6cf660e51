"""Generalized distillation with privileged information (Lopez-Paz et al. 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.methods.base import Method
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def generalized(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the student to the teacher's soft labels: ``mean sum -softmax(t/T) log softmax(s)``.

    Args:
        student_logits: ``(batch, classes)``, not softened.
        teacher_logits: ``(batch, classes)``.
        temperature: T of the teacher, above 0.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Lopez-Paz, Bottou, Schölkopf, Vapnik 2016, arXiv 1511.03643, equation 6.

    Example:
        >>> import torch
        >>> round(float(generalized(torch.zeros(1, 2), torch.tensor([[5.0, 0.0]]))), 4)  # log(2)
        0.6931
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    return -((teacher / temperature).softmax(1) * F.log_softmax(student, 1)).sum(1).mean()


class Generalized(Method):
    """Imitate the soft labels of a teacher that saw privileged information.

    The paper's objective is ``(1 - l) CE + l soft``. Here the cross-entropy has weight 1 and this term l / (1 - l),
    which is the same objective divided by 1 - l.

    Args:
        imitation: l, from 0 to below 1.
        temperature: softens only the teacher.
    """

    name = "generalized"
    kind = "logits"
    paper = "Lopez-Paz et al. 2016, ICLR, arXiv 1511.03643"
    bibtex = """@inproceedings{lopezpaz2016unifying, title={Unifying Distillation and Privileged Information},
  author={Lopez-Paz, David and Bottou, L\\'eon and Sch\\"olkopf, Bernhard and Vapnik, Vladimir}, booktitle={ICLR},
  year={2016}}"""
    needs = ("logits",)

    def __init__(self, student: Spec, teacher: Spec, *, imitation: float = 0.5, temperature: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(temperature=temperature)
        if not 0.0 <= imitation < 1.0:
            raise CmkdError(f"generalized: imitation must be at least 0 and below 1, got {imitation}")
        self.imitation, self.temperature = imitation, temperature

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``generalized``."""
        value = generalized(student.logits, teacher.logits, temperature=self.temperature)
        return {"generalized": self.imitation / (1.0 - self.imitation) * value}
