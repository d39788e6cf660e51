"""Frequency-decoupled cross-modal distillation (FD-CMKD, Liu et al. 2025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.methods.base import ClassifierMethod, on_labeled
from cmkd.ops import at_least_float32, check_pair, standardize
from cmkd.types import Batch, Output, Spec


def fd_cmkd(
    student_embedding: Tensor, teacher_embedding: Tensor, *, low_share: float = 0.5, high_weight: float = 1.0
) -> Tensor:
    """Match low frequencies exactly and high frequencies in the logarithm of their magnitude.

    ``mse(low) + high_weight mse(g(high))`` of the real FFT along the channels of features standardized per sample, with
    ``g(x) = sign(x) log(1 + |x|)`` on real and imaginary parts.

    Args:
        student_embedding: ``(batch, dim)``, after any projection.
        teacher_embedding: same shape as `student_embedding`.
        low_share: fraction of the frequencies that count as low.
        high_weight: factor of the high-frequency part.

    Returns:
        Scalar, a mean over frequencies and samples.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Liu et al. 2025, arXiv 2511.19887. Our choices: the transform is orthonormal, so the spectrum has the scale of
        the features, and the loss compares spectra. A copy of the authors' code (``re-FD-CMKD-main``) leaves the mean
        out, transforms each band back, and scales each band of a sample to unit length before the comparison: there
        the relative size of the two bands has no effect, and here it does.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
        >>> float(fd_cmkd(3.0 * x + 1.0, x)) < 1e-6  # invariant to scale and shift
        True
    """
    spectra = [
        torch.view_as_real(torch.fft.rfft(standardize(x, dim=1), dim=1, norm="ortho"))
        for x in check_pair(student_embedding, teacher_embedding, same_shape=True)
    ]
    cut = max(round(low_share * spectra[0].shape[1]), 1)
    loss = F.mse_loss(spectra[0][:, :cut], spectra[1][:, :cut])
    if cut < spectra[0].shape[1]:
        student, teacher = (torch.sign(x[:, cut:]) * torch.log1p(x[:, cut:].abs()) for x in spectra)
        loss = loss + high_weight * F.mse_loss(student, teacher)
    return loss


class FDCMKD(ClassifierMethod):
    """Match the teacher's low frequencies, and only the order of magnitude of its high ones.

    A second term is the cross-entropy of labeled pairs when the student's projected embedding goes through the
    teacher's frozen classifier. (The paper shares one classifier between both models; with a trained teacher, it is
    the teacher's. A copy of the authors' code also trains a classifier for each band, shared by both models.)

    Args:
        low_share: fraction of the frequencies that count as low.
        high_weight: factor of the high-frequency part.
        classifier_weight: factor of the cross-entropy through the teacher's classifier.
        weight: factor of the frequency term.
    """

    name = "fd_cmkd"
    kind = "cross-modal"
    paper = "Liu et al. 2025, AAAI 2026, arXiv 2511.19887"
    bibtex = """@inproceedings{liu2026distilling, title={Distilling Cross-Modal Knowledge via Feature Disentanglement},
  author={Liu, Junhong and Zhang, Yuan and Huang, Tao and Xu, Wenchao and Yang, Renyu}, booktitle={AAAI}, year={2026},
  note={arXiv:2511.19887}}"""
    needs = ("embedding", "target")

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        low_share: float = 0.5,
        high_weight: float = 1.0,
        classifier_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_channels(2, teacher.dim)
        if not 0.0 < low_share <= 1.0:
            raise CmkdError(f"fd_cmkd: low_share must be above 0 and at most 1, got {low_share}")
        self.low_share, self.high_weight = low_share, high_weight
        self.classifier_weight, self.weight = classifier_weight, weight
        self.projection = nn.Linear(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``fd_cmkd`` and ``fd_cmkd_classifier``."""

        def loss(logits: Tensor, _: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(at_least_float32(logits)[0], target)

        projected = self.projection(student.embedding)
        value = fd_cmkd(projected, teacher.embedding, low_share=self.low_share, high_weight=self.high_weight)
        shared = on_labeled(loss, self.teacher_classifier(projected), teacher.logits, batch)
        return {"fd_cmkd": self.weight * value, "fd_cmkd_classifier": self.classifier_weight * shared}
