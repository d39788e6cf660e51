"""How alike two models are: linear CKA, tied channels, agreeing predictions, non-target divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.structure.channels import Moments
from cmkd.structure.features import Pooling, as_vectors, check_equal_width, check_rows, check_target


@dataclass(frozen=True)
class CrossMoments:
    """Sums over samples of two models, in float64; they add up as `Moments` do.

    Args:
        student: moments of the one.
        teacher: moments of the other.
        products: ``(student dim, teacher dim)`` sum of the outer products.
    """

    student: Moments
    teacher: Moments
    products: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor, *, pooling: Pooling = "mean") -> CrossMoments:
        """Sum over the features ``(n, dim)`` and ``(n, teacher dim)``, or maps."""
        x, y = (as_vectors(f, pooling=pooling, at_least=1) for f in (student, teacher))
        check_rows(x, y)
        return cls(Moments.of(x), Moments.of(y), x.T @ y)

    def covariance(self) -> Tensor:
        """``(student dim, teacher dim)``, biased."""
        n = self.student.count
        return self.products / n - (self.student.total / n)[:, None] * (self.teacher.total / n)[None, :]


def linear_cka(moments: CrossMoments) -> float:
    """Linear centered kernel alignment, ``|XᵀY|² / (|XᵀX| |YᵀY|)`` with Frobenius norms of covariances, in [0, 1].

    Invariant to rotating, shifting and scaling each model by itself and to duplicating the sample. NaN where a model's
    features are constant. With few samples beside dimensions it is high for unrelated features.

    Source:
        Kornblith et al. 2019, arXiv 1905.00414.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
        >>> round(linear_cka(CrossMoments.of(x, 3.0 * x.flip(1))), 6)
        1.0
    """
    if not (moments.student.live().any() and moments.teacher.live().any()):
        return math.nan
    own = moments.student.covariance().norm() * moments.teacher.covariance().norm()
    return float(moments.covariance().square().sum() / own)


def cross_correlation_diagonal(moments: CrossMoments) -> float:
    """Mean correlation of channel i of the student with channel i of the teacher, in [-1, 1].

    Invariant to permuting the channels of both alike, to shifting and positively scaling each, and to duplicating the
    sample. A constant channel counts as 0.

    Raises:
        CmkdError: if the widths differ.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0], [4.0, 1.0]])
        >>> round(cross_correlation_diagonal(CrossMoments.of(x, x * torch.tensor([5.0, -1.0]))), 6)
        0.0
    """
    check_equal_width(moments.student.total[None], moments.teacher.total[None])
    live = moments.student.live() & moments.teacher.live()
    own = moments.student.covariance().diagonal() * moments.teacher.covariance().diagonal()
    values = moments.covariance().diagonal() * own.clamp(min=1e-300).rsqrt()
    return float(torch.where(live, values, 0.0).mean())


def prediction_agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the part of the samples for which both models predict one class, in [0, 1].

    Example:
        >>> prediction_agreement(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
        0.5
    """
    student, teacher = as_vectors(student_logits, at_least=1), as_vectors(teacher_logits, at_least=1)
    check_equal_width(student, teacher)
    return float((student.argmax(1) == teacher.argmax(1)).double().mean())


def non_target_divergences(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """KL divergence of each sample between the two softmaxes over the classes other than the target, ``(n,)``.

    ``KL(teacher || student)``; the target's logit is taken out before the softmax (masked with minus infinity, not with
    0, which would leave it in). Invariant to adding a constant to a model's logits of a sample, and to the target's
    logits. 0 with two classes, where one class is left.

    Args:
        student_logits: ``(n, classes)``.
        teacher_logits: ``(n, classes)``.
        target: ``(n,)`` classes.
        temperature: of both softmaxes.

    Source:
        Chen et al. 2024, arXiv 2409.02438 (the non-target divergence hypothesis of cross-modal distillation).

    Example:
        >>> s, t = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[-3.0, 1.0, 1.0]])
        >>> non_target_divergences(s, t, torch.tensor([0])).tolist()  # both are even over classes 1 and 2
        [0.0]
    """
    student, teacher = as_vectors(student_logits, at_least=1), as_vectors(teacher_logits, at_least=1)
    check_equal_width(student, teacher)
    check_target(student, target)
    n, classes = student.shape
    others = ~F.one_hot(target, classes).bool()
    log_student, log_teacher = (
        F.log_softmax(logits[others].view(n, classes - 1) / temperature, 1) for logits in (student, teacher)
    )
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1)


def non_target_divergence(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0
) -> float:
    """Return the mean of `non_target_divergences`, in nats."""
    return float(non_target_divergences(student_logits, teacher_logits, target, temperature=temperature).mean())
