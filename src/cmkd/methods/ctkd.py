"""Curriculum temperature (CTKD, Li et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmkd.methods.base import Method
from cmkd.ops import check_pair, reverse_gradient
from cmkd.types import Batch, Output, Spec


def ctkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    log_scale: Tensor,
    *,
    lowest: float = 1.0,
    span: float = 20.0,
    reversal: float = 1.0,
) -> Tensor:
    """KD at a temperature that is learned adversarially: ``T = lowest + span sigmoid(log_scale)``.

    The gradient with respect to `log_scale` is reversed and scaled, so one optimizer raises the loss with respect
    to T and lowers it with respect to the student.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        log_scale: learned parameter, a scalar or one element.
        lowest: the temperature's lower limit, above 0.
        span: the temperature's range.
        reversal: strength of the reversed gradient, 0 to 1.

    Returns:
        Scalar, the mean over the batch, times T².

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Li et al. 2023, arXiv 2211.16231, the global temperature.

    Example:
        >>> scale = torch.zeros(1, requires_grad=True)
        >>> loss = ctkd(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), scale)
        >>> bool(loss > 0)
        True
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    temperature = (lowest + span * reverse_gradient(log_scale, reversal).sigmoid()).reshape(())
    log_student, log_teacher = (x.div(temperature).log_softmax(1) for x in (student, teacher))
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean() * temperature**2


class CTKD(Method):
    """Distill at a temperature that is learned against the student, with a strength that grows over the epochs.

    Args:
        lowest: the temperature's lower limit.
        span: the temperature's range.
        curriculum_epochs: epochs over which the reversed gradient rises from near 0 to full, along a cosine.
        weight: factor of the term.
    """

    name = "ctkd"
    kind = "logits"
    paper = "Li et al. 2023, AAAI, arXiv 2211.16231"
    bibtex = """@inproceedings{li2023curriculum, title={Curriculum Temperature for Knowledge Distillation}, author={Li,
  Zheng and Li, Xiang and Yang, Lingfeng and Zhao, Borui and Song, Renjie and Luo, Lei and Li, Jun and Yang, Jian},
  booktitle={AAAI}, year={2023}}"""
    needs = ("logits",)
    required_hooks: Mapping[str, str] = {"on_train_epoch_start": "the reversed gradient grows over curriculum_epochs"}

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        lowest: float = 1.0,
        span: float = 20.0,
        curriculum_epochs: int = 10,
        weight: float = 1.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(lowest=lowest, span=span, curriculum_epochs=curriculum_epochs)
        self.lowest, self.span, self.curriculum_epochs, self.weight = lowest, span, curriculum_epochs, weight
        if curriculum_epochs < 2:
            self.required_hooks = {}
        self.log_scale = nn.Parameter(torch.ones(1))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``ctkd``."""
        value = ctkd(
            student.logits,
            teacher.logits,
            self.log_scale,
            lowest=self.lowest,
            span=self.span,
            reversal=0.5 * (1.0 - math.cos(math.pi * self.warmup(self.curriculum_epochs))),
        )
        return {"ctkd": self.weight * value}
