"""Similarity of two models: linear CKA, channel-wise correlation, prediction agreement, non-target divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.ops import check_pair, in_float64, non_target
from cmkd.structure.channels import Moments
from cmkd.structure.features import Pooling, as_vectors, check_target


@dataclass(frozen=True)
class CrossMoments:
    """Float64 sums over samples of two models, additive like `Moments`.

    Args:
        student: moments of the student's features.
        teacher: moments of the teacher's features.
        products: ``(student dim, teacher dim)`` sum of the outer products.
    """

    student: Moments
    teacher: Moments
    products: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor, *, pooling: Pooling = "mean") -> CrossMoments:
        """Compute the sums over samples of features ``(n, dim)`` and ``(n, teacher dim)``, or of maps."""
        x, y = (as_vectors(f, pooling=pooling, at_least=1) for f in (student, teacher))
        check_pair(x, y)
        return cls(Moments.of(x), Moments.of(y), x.T @ y)

    def covariance(self) -> Tensor:
        """Return the biased cross-covariance ``(student dim, teacher dim)``."""
        n = self.student.count
        return self.products / n - (self.student.total / n)[:, None] * (self.teacher.total / n)[None, :]


def linear_cka(moments: CrossMoments) -> float:
    """Linear centered kernel alignment, ``|XᵀY|² / (|XᵀX| |YᵀY|)`` with Frobenius norms of covariances, in [0, 1].

    Invariant to rotating, shifting and scaling each model separately, and to duplicating the sample. NaN if a model's
    features are constant. With few samples relative to the dimensions, it is high even for unrelated features.

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

    Invariant to the same permutation of both models' channels, to shifting and positively scaling each, and to
    duplicating the sample. A constant channel counts as 0.

    Raises:
        CmkdError: if the widths differ.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0], [4.0, 1.0]])
        >>> round(cross_correlation_diagonal(CrossMoments.of(x, x * torch.tensor([5.0, -1.0]))), 6)
        0.0
    """
    check_pair(moments.student.total[None], moments.teacher.total[None], same_shape=True)
    live = moments.student.live() & moments.teacher.live()
    own = moments.student.covariance().diagonal() * moments.teacher.covariance().diagonal()
    values = moments.covariance().diagonal() * own.clamp(min=1e-300).rsqrt()
    return float(torch.where(live, values, 0.0).mean())


def prediction_agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the fraction of samples for which both models predict the same class, in [0, 1].

    Example:
        >>> prediction_agreement(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
        0.5
    """
    student, teacher = as_vectors(student_logits, at_least=1), as_vectors(teacher_logits, at_least=1)
    check_pair(student, teacher, same_shape=True)
    return float(in_float64(student.argmax(1) == teacher.argmax(1)).mean())


def non_target_divergences(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """KL divergence of each sample between the two softmaxes over the classes other than the target, ``(n,)``.

    ``KL(teacher || student)``; the target's logit is removed before the softmax. Invariant to adding a constant to a
    model's logits of a sample, and to the logits of the target. 0 with two classes, since only one of them remains.

    Args:
        student_logits: ``(n, classes)``.
        teacher_logits: ``(n, classes)``.
        target: ``(n,)`` classes.
        temperature: divides both models' logits.

    Source:
        Chen et al. 2024, arXiv 2409.02438 (the non-target divergence hypothesis of cross-modal distillation).

    Example:
        >>> s, t = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[-3.0, 1.0, 1.0]])
        >>> non_target_divergences(s, t, torch.tensor([0])).tolist()  # both are uniform over classes 1 and 2
        [0.0]
    """
    student, teacher = as_vectors(student_logits, at_least=1), as_vectors(teacher_logits, at_least=1)
    check_pair(student, teacher, same_shape=True)
    check_target(student, target)
    log_student, log_teacher = (
        F.log_softmax(non_target(logits, target.to(logits.device)) / temperature, 1) for logits in (student, teacher)
    )
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1)


def non_target_divergence(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float = 1.0
) -> float:
    """Return the mean of `non_target_divergences`, in nats."""
    return float(non_target_divergences(student_logits, teacher_logits, target, temperature=temperature).mean())
