"""FixMatch: a student learns from its own confident predictions; shows what unlabeled pairs add without a teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.methods.base import Method
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def fixmatch(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float = 0.95) -> Tensor:
    """Cross-entropy to the confident hard predictions on another view: ``mean 1[max q >= threshold] H(argmax q, p)``.

    Args:
        student_logits: ``(batch, classes)`` on the strong view; their softmax is p.
        teacher_logits: ``(batch, classes)`` on the weak view; their softmax is q. They receive no gradient.
        threshold: lowest confidence of a prediction that counts.

    Returns:
        Scalar, the mean over the batch; a pair below the threshold counts as 0.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Sohn et al. 2020, arXiv 2001.07685, equation 4.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.5, 0.0]])
        >>> round(float(fixmatch(torch.zeros(1, 2), sure)), 3), float(fixmatch(torch.zeros(1, 2), unsure))
        (0.693, 0.0)
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    confidence, label = teacher.softmax(1).max(1)
    return (F.cross_entropy(student, label, reduction="none") * (confidence >= threshold)).mean()


class FixMatch(Method):
    """Predict on a strongly augmented view what the student predicts with confidence on the ordinary view.

    A control: like distillation, it uses the pairs without a label. It does not use the rich modality, so it also uses
    pairs that lack it. In a training loop of your own, pass the student's output on a strong view as `student`, and its
    output on a weak view as `teacher`.

    The paper draws 7 unlabeled images for each labeled one; here a batch is drawn uniformly from all pairs, and the
    mean is over all of them, labeled ones included as in the paper. The paper's cross-entropy is a mean over the
    labeled images; here labels weigh less where few pairs have one. With a tenth of the labels, a weight of 0.1
    therefore has the paper's ratio. On validation over three data sets, it scores 1.3 points above a weight of 1, a
    difference within chance. The paper's strong views are RandAugment or CTAugment, then Cutout; ours are larger
    shifts, rotations, noise and gaps, then Cutout (`cmkd.training.augment.stronger`). Both views update the statistics
    of batch normalization. The run's optimizer replaces the paper's (SGD, cosine decay).

    Args:
        threshold: lowest confidence of a prediction that is learned from.
        weight: factor of the term; the cross-entropy has weight 1.
    """

    name = "fixmatch"
    kind = "control"
    paper = "Sohn et al. 2020, NeurIPS, arXiv 2001.07685"
    bibtex = """@inproceedings{sohn2020fixmatch, title={FixMatch: Simplifying Semi-Supervised Learning with Consistency
  and Confidence}, author={Sohn, Kihyuk and Berthelot, David and Li, Chun-Liang and Zhang, Zizhao and Carlini, Nicholas
  and Cubuk, Ekin D. and Kurakin, Alex and Zhang, Han and Raffel, Colin}, booktitle={NeurIPS}, year={2020}}"""
    needs = ("logits",)
    uses_teacher = False
    strong_view = True

    def __init__(self, student: Spec, teacher: Spec, *, threshold: float = 0.95, weight: float = 0.1) -> None:
        super().__init__(student, teacher)
        if not 0.0 <= threshold <= 1.0:
            raise CmkdError(f"fixmatch: threshold must be at least 0 and at most 1, got {threshold}")
        self.threshold, self.weight = threshold, weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``fixmatch``."""
        return {"fixmatch": self.weight * fixmatch(student.logits, teacher.logits, threshold=self.threshold)}
