"""Modality hallucination (Hoffman et al. 2016, Garcia et al. 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method
from cmkd.methods.generalized import generalized
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def hallucination(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Mean squared difference of squashed embeddings: ``mean (sigmoid(s) - sigmoid(t))²``.

    Args:
        student_embedding: ``(batch, dim)``, after any projection.
        teacher_embedding: same shape as `student_embedding`.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Hoffman, Gupta, Darrell 2016, CVPR, equation 1; Garcia, Morerio, Murino 2018, arXiv 1806.07110, equation 4
        (there a squared norm, here its mean).

    Example:
        >>> import torch
        >>> float(hallucination(torch.zeros(1, 2), torch.full((1, 2), 100.0)))
        0.25
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    return F.mse_loss(student.sigmoid(), teacher.sigmoid())


class Hallucination(Method):
    """Hallucinate the embedding of the missing modality, and imitate its soft labels.

    In the papers a second network hallucinates the depth stream beside the image stream, and both are used together.
    Here the student is one network with one modality: the hallucination network, as in Garcia's second stage. Start
    from a teacher that was trained on the rich modality in an ordinary run.

    Args:
        temperature: softens the teacher's labels.
        label_weight: factor of the cross-entropy to the soft labels.
        weight: factor of the difference of embeddings.
    """

    name = "hallucination"
    kind = "cross-modal"
    paper = "Hoffman, Gupta, Darrell 2016, CVPR; Garcia, Morerio, Murino 2018, ECCV, arXiv 1806.07110"
    bibtex = """@inproceedings{garcia2018modality, title={Modality Distillation with Multiple Stream Networks for Action
  Recognition}, author={Garcia, Nuno C. and Morerio, Pietro and Murino, Vittorio}, booktitle={ECCV}, year={2018}}"""
    needs = ("embedding", "logits")

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        temperature: float = 10.0,
        label_weight: float = 1.0,
        weight: float = 10.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(temperature=temperature)
        self.temperature, self.label_weight, self.weight = temperature, label_weight, weight
        self.projection = nn.Linear(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``hallucination`` and ``hallucination_labels``."""
        labels = generalized(student.logits, teacher.logits, temperature=self.temperature)
        value = hallucination(self.projection(student.embedding), teacher.embedding)
        return {"hallucination": self.weight * value, "hallucination_labels": self.label_weight * labels}
