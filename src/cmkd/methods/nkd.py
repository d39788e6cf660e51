"""Normalized distillation of the non-target classes (NKD, Yang et al. 2023)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cmkd.methods.base import Method, on_labeled
from cmkd.ops import check_pair, non_target
from cmkd.types import Batch, Output, Spec


def nkd(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0, gamma: float = 1.5
) -> Tensor:
    """Soft loss on the target, and cross-entropy of the renormalized rest.

    ``mean(-t_y log s_y) + gamma T² mean(-sum n_t log n_s)``, where n is the softened distribution over the classes
    other than the target y.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        target: ``(batch,)`` int64, all labeled.
        temperature: T of the second part, above 0; the first part has temperature 1.
        gamma: weight of the second part.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Yang et al. 2023, arXiv 2303.13005, equation 8. All logarithms come from log-softmax: no NaN at large logits.

    Example:
        >>> import torch
        >>> round(float(nkd(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))), 4)  # log(2) / 2, and no rest
        0.3466
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    on_target = F.log_softmax(student, 1).gather(1, target[:, None])
    weight = teacher.softmax(1).gather(1, target[:, None]).detach()
    rest_student = F.log_softmax(non_target(student, target) / temperature, 1)
    rest_teacher = (non_target(teacher, target) / temperature).softmax(1)
    rest = (rest_teacher * rest_student).sum(1).mean()
    return -(weight * on_target).mean() - gamma * temperature**2 * rest


class NKD(Method):
    """Weight the target by the teacher's confidence, and match the renormalized other classes.

    Unlabeled pairs do not contribute.

    Args:
        temperature: softens the distributions over the other classes.
        gamma: weight of the other classes.
        weight: factor of the term.
    """

    name = "nkd"
    kind = "logits"
    paper = "Yang et al. 2023, ICCV, arXiv 2303.13005"
    bibtex = """@inproceedings{yang2023knowledge, title={From Knowledge Distillation to Self-Knowledge Distillation: A
  Unified Approach with Normalized Loss and Customized Soft Labels}, author={Yang, Zhendong and Zeng, Ailing and Li, Zhe
  and Zhang, Tianke and Yuan, Chun and Li, Yu}, booktitle={ICCV}, year={2023}}"""
    needs = ("logits", "target")

    def __init__(
        self, student: Spec, teacher: Spec, *, temperature: float = 1.0, gamma: float = 1.5, weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(temperature=temperature)
        self.temperature, self.gamma, self.weight = temperature, gamma, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``nkd``."""
        logits = student.logits, teacher.logits
        value = on_labeled(nkd, *logits, batch, temperature=self.temperature, gamma=self.gamma)
        return {"nkd": self.weight * value}
