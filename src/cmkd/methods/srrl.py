"""Softmax regression representation learning (SRRL, Yang et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import ClassifierMethod
from cmkd.ops import at_least_float32, check_pair
from cmkd.types import Batch, Output, Spec


def srrl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of logits that both come from the teacher's classifier: ``mean (W s - W t)²``.

    Args:
        student_logits: ``(batch, classes)``, the teacher's classifier on the student's projected embedding.
        teacher_logits: ``(batch, classes)``.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Yang et al. 2021, ICLR, equation 4 in the regression form of the authors' code.

    Example:
        >>> import torch
        >>> float(srrl(torch.ones(2, 3), torch.zeros(2, 3)))
        1.0
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    return F.mse_loss(student, teacher)


class SRRL(ClassifierMethod):
    """Match the teacher's embedding, and the logits that the teacher's classifier computes from it.

    The connector is one linear layer on the embedding (our choice; the paper has a convolution with batch-norm on the
    last map). The target logits are computed from the teacher's embedding, so that both terms agree: recorded logits
    may be an average over several views of a pair, which differs from the logits of the average embedding.

    Args:
        feature_weight: factor of the difference of embeddings.
        regression_weight: factor of the difference of logits.
    """

    name = "srrl"
    kind = "features"
    paper = "Yang et al. 2021, ICLR"
    bibtex = """@inproceedings{yang2021knowledge, title={Knowledge Distillation via Softmax Regression Representation
  Learning}, author={Yang, Jing and Martinez, Brais and Bulat, Adrian and Tzimiropoulos, Georgios}, booktitle={ICLR},
  year={2021}}"""
    needs = ("embedding",)

    def __init__(
        self, student: Spec, teacher: Spec, *, feature_weight: float = 1.0, regression_weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        self.feature_weight, self.regression_weight = feature_weight, regression_weight
        self.connector = nn.Linear(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``srrl_features`` and ``srrl_regression``."""
        projected = self.connector(student.embedding)
        ours, theirs = at_least_float32(projected, teacher.embedding)
        with torch.no_grad():
            logits = self.teacher_classifier(teacher.embedding)
        return {
            "srrl_features": self.feature_weight * F.mse_loss(ours, theirs),
            "srrl_regression": self.regression_weight * srrl(self.teacher_classifier(projected), logits),
        }
