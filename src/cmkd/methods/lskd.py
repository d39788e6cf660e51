"""Distillation of standardized logits (Sun et al. 2024)."""

from __future__ import annotations

from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.methods.base import Method
from cmkd.methods.kd import kd
from cmkd.ops import CONSTANT, check_pair
from cmkd.types import Batch, Output, Spec


def lskd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0, eps: float = 1e-7) -> Tensor:
    """KD of logits standardized per sample: ``kd(z(s), z(t))`` with ``z(x) = (x - mean(x)) / (std(x) + eps)``.

    Args:
        student_logits: ``(batch, classes)``, at least three classes: two standardized logits are always the same.
        teacher_logits: ``(batch, classes)``.
        temperature: T of the KD, above 0.
        eps: added to the (unbiased) standard deviation.

    Returns:
        Scalar, the mean over the batch, times T².

    Raises:
        CmkdError: if the shapes differ, or there are fewer than three classes.

    Source:
        Sun et al. 2024, arXiv 2403.01427, algorithm 1.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> abs(float(lskd(10.0 * logits + 3.0, logits))) < 1e-6  # invariant to scale and shift
        True
    """
    pair = check_pair(student_logits, teacher_logits, same_shape=True)
    if student_logits.shape[1] < 3:
        raise CmkdError(f"lskd: needs at least three classes, got logits of shape {tuple(student_logits.shape)}")
    student, teacher = (_standardized(x, eps) for x in pair)
    return kd(student, teacher, temperature=temperature)


def _standardized(logits: Tensor, eps: float) -> Tensor:
    """Subtract each row's mean and divide by its deviation; a row that is constant up to rounding is not divided."""
    deviation = logits.std(1, keepdim=True)
    varied = deviation > CONSTANT * logits.detach().abs().amax(1, keepdim=True)
    return (logits - logits.mean(1, keepdim=True)) / (deviation + eps).where(varied, 1.0)


class LSKD(Method):
    """Match the teacher's logits up to their scale and shift.

    The published gain is confounded with a KD weight of 9. The temperature is the same as in `kd`, and so was the
    weight until the weight of `kd` was lowered to 1 on validation. To see the effect of the standardization alone,
    compare ``lskd(weight=1)`` with `kd`.

    Args:
        temperature: T of the KD on standardized logits (the paper's base temperature).
        weight: factor of the term.
    """

    name = "lskd"
    kind = "logits"
    paper = "Sun et al. 2024, CVPR, arXiv 2403.01427"
    bibtex = """@inproceedings{sun2024logit, title={Logit Standardization in Knowledge Distillation}, author={Sun,
  Shangquan and Ren, Wenqi and Li, Jingzhi and Wang, Rui and Cao, Xiaochun}, booktitle={CVPR}, year={2024}}"""
    needs = ("logits",)

    def __init__(self, student: Spec, teacher: Spec, *, temperature: float = 2.0, weight: float = 4.0) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_classes(3)
        self.require_positive(temperature=temperature)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``lskd``."""
        return {"lskd": self.weight * lskd(student.logits, teacher.logits, temperature=self.temperature)}
