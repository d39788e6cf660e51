"""Decoupled knowledge distillation (Zhao et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.methods.base import Method, on_labeled
from cmkd.ops import check_pair, non_target
from cmkd.types import Batch, Output, Spec


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """KD split in two: ``T² (alpha KL(b_t || b_s) + beta KL(n_t || n_s))``.

    b is the pair (target, all others) of softened probabilities, and n is the distribution over the other classes.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        target: ``(batch,)`` int64, all labeled.
        alpha: weight of the target part.
        beta: weight of the non-target part.
        temperature: T, above 0.

    Returns:
        Scalar, the mean over the batch. With two classes the second part is 0: only one other class is left.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Zhao et al. 2022, arXiv 2203.08679. The authors' code takes the log of a sum of probabilities, which underflows,
        and removes the target by subtracting 1000 from its logit; here sums stay in the log domain and the target's
        column is removed.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> abs(float(dkd(logits, logits, torch.tensor([0])))) < 1e-6
        True
    """
    student, teacher = (logits / temperature for logits in check_pair(student_logits, teacher_logits, same_shape=True))
    binary = []
    for log_p in (F.log_softmax(student, 1), F.log_softmax(teacher, 1)):
        others = torch.logsumexp(non_target(log_p, target), 1, keepdim=True)
        binary.append(torch.cat([log_p.gather(1, target[:, None]), others], 1))
    target_part = F.kl_div(binary[0], binary[1], log_target=True, reduction="batchmean")
    rest = [F.log_softmax(non_target(logits, target), 1) for logits in (student, teacher)]
    other_part = F.kl_div(rest[0], rest[1], log_target=True, reduction="batchmean")
    return (alpha * target_part + beta * other_part) * temperature**2


class DKD(Method):
    """Match the probability of the target and the distribution over the other classes, weighted separately.

    Unlabeled pairs do not contribute.

    Args:
        alpha: weight of the target part.
        beta: weight of the non-target part.
        temperature: softens both distributions.
        warmup_epochs: the weight rises linearly over this many epochs (20 of 240 in the authors' recipe; 0 here,
            because our runs are shorter).
        weight: factor of the term.
    """

    name = "dkd"
    kind = "logits"
    paper = "Zhao et al. 2022, CVPR, arXiv 2203.08679"
    bibtex = """@inproceedings{zhao2022decoupled, title={Decoupled Knowledge Distillation}, author={Zhao, Borui and Cui,
  Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun}, booktitle={CVPR}, year={2022}}"""
    needs = ("logits", "target")
    required_hooks: Mapping[str, str] = {"on_train_epoch_start": "its weight rises over warmup_epochs"}

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        warmup_epochs: int = 0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_classes(2)
        self.require_positive(temperature=temperature)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.warmup_epochs, self.weight = warmup_epochs, weight
        if warmup_epochs < 2:
            self.required_hooks = {}

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``dkd``."""
        value = on_labeled(
            dkd,
            student.logits,
            teacher.logits,
            batch,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
        )
        return {"dkd": self.weight * self.warmup(self.warmup_epochs) * value}
