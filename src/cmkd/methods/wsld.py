"""Weighted soft labels (WSLD, Zhou et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.methods.base import Method, on_labeled
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def wsld(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Soft-label cross-entropy, each sample weighted by how far the student lags behind the teacher on its label.

    ``T² mean(w · CE(softmax(t/T), softmax(s/T)))`` with ``w = 1 - exp(-CE(s, y) / CE(t, y))``, without gradient.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        target: ``(batch,)`` int64, all labeled.
        temperature: T, above 0.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Zhou et al. 2021, arXiv 2102.00650, equation 9; 1e-7 is added to the teacher's cross-entropy.

    Example:
        >>> round(float(wsld(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]), temperature=1.0)), 4)
        0.4382
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    soft = -((teacher / temperature).softmax(1) * F.log_softmax(student / temperature, 1)).sum(1)
    with torch.no_grad():
        ours, theirs = (F.cross_entropy(x, target, reduction="none") for x in (student, teacher))
        weight = 1.0 - torch.exp(-ours / (theirs + 1e-7))
    return temperature**2 * (weight * soft).mean()


class WSLD(Method):
    """Match soft labels, most where the student lags behind the teacher.

    Unlabeled pairs do not contribute: the weight needs the label.

    Args:
        temperature: softens both distributions.
        weight: factor of the term (in copies of the authors' code 2.25 at T = 4 and 2.5 at T = 2).
    """

    name = "wsld"
    kind = "logits"
    paper = "Zhou et al. 2021, ICLR, arXiv 2102.00650"
    bibtex = """@inproceedings{zhou2021rethinking, title={Rethinking Soft Labels for Knowledge Distillation: A
  Bias-Variance Tradeoff Perspective}, author={Zhou, Helong and Song, Liangchen and Chen, Jiajie and Zhou, Ye and Wang,
  Guoli and Yuan, Junsong and Zhang, Qian}, booktitle={ICLR}, year={2021}}"""
    needs = ("logits", "target")

    def __init__(self, student: Spec, teacher: Spec, *, temperature: float = 2.0, weight: float = 2.25) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(temperature=temperature)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``wsld``."""
        value = on_labeled(wsld, student.logits, teacher.logits, batch, temperature=self.temperature)
        return {"wsld": self.weight * value}
