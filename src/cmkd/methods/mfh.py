"""Modality-general channels (the modality focusing hypothesis, Xue et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.errors import CmkdError
from cmkd.methods.base import ClassifierMethod
from cmkd.methods.stepped import SteppedMethod
from cmkd.ops import at_least_float32, check_pair, upload
from cmkd.types import Batch, Output, Spec

CHANNELS_AT_ONCE = 64


def mfh(student_embedding: Tensor, teacher_embedding: Tensor, general: Tensor) -> Tensor:
    """Mean squared difference on the kept channels: ``mean over kept channels of (s - t)²``.

    Args:
        student_embedding: ``(batch, dim)``, after any projection.
        teacher_embedding: same shape as `student_embedding`.
        general: ``(dim,)`` bool, the channels that are kept.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Xue et al. 2023, arXiv 2206.06487, section 5.

    Example:
        >>> float(mfh(torch.ones(1, 2), torch.tensor([[1.0, 5.0]]), torch.tensor([True, False])))
        0.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    kept = general.to(student)
    return ((student - teacher).square() * kept).sum() / (kept.sum().clamp(min=1) * student.shape[0])


@torch.no_grad()
def permutation_saliency(embedding: Tensor, classifier: nn.Module, order: Tensor) -> Tensor:
    """Return how much the logits change when one channel is swapped between samples, ``(dim,)``.

    Args:
        embedding: ``(batch, dim)``.
        classifier: embedding to logits.
        order: ``(batch,)`` int64, the permutation of the samples.

    Returns:
        The mean squared change of the logits, per channel.

    Example:
        >>> classifier = nn.Linear(2, 1)
        >>> _ = nn.init.constant_(classifier.weight, 1.0)
        >>> saliency = permutation_saliency(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), classifier, torch.tensor([1, 0]))
        >>> [round(value, 3) for value in saliency.tolist()]
        [4.0, 0.0]
    """
    batch, dim = embedding.shape
    plain, changes = classifier(embedding), []
    for start in range(0, dim, CHANNELS_AT_ONCE):
        channels = torch.arange(start, min(start + CHANNELS_AT_ONCE, dim), device=embedding.device)
        swapped = embedding.expand(len(channels), batch, dim).clone()
        swapped[torch.arange(len(channels)), :, channels] = embedding[order][:, channels].T
        logits = classifier(swapped.reshape(-1, dim)).view(len(channels), batch, -1)
        changes.append((logits - plain).square().mean((1, 2)))
    return torch.cat(changes)


class MFH(ClassifierMethod, SteppedMethod):
    """Match only the teacher's decisive channels, found by permuting one channel at a time.

    The saliency of each channel for the teacher's classifier is summed over the first epochs and then fixed; the most
    salient channels are kept. In the paper, teacher and student are first trained to have similar features, so that the
    channels that the teacher's classifier uses are general to both modalities. So train the teacher beforehand, best
    with a method that pulls both models together (such as c2kd); with an ordinary teacher, the kept channels are its
    decisive ones, whether general or not.

    Args:
        keep: fraction of the teacher's channels that are kept.
        saliency_epochs: number of epochs over which the saliency is summed.
        weight: factor of the term.
    """

    name = "mfh"
    kind = "cross-modal"
    paper = "Xue et al. 2023, ICLR, arXiv 2206.06487"
    bibtex = """@inproceedings{xue2023modality, title={The Modality Focusing Hypothesis: Towards Understanding
  Crossmodal Knowledge Distillation}, author={Xue, Zihui and Gao, Zhengqi and Ren, Sucheng and Zhao, Hang},
  booktitle={ICLR}, year={2023}}"""
    needs = ("embedding",)
    required_hooks: Mapping[str, str] = {
        **ClassifierMethod.required_hooks,
        "on_train_epoch_start": "it chooses the channels in the first saliency_epochs and keeps them from then on",
    }

    saliency: Tensor

    def __init__(
        self, student: Spec, teacher: Spec, *, keep: float = 0.5, saliency_epochs: int = 1, weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        if not 0.0 < keep <= 1.0:
            raise CmkdError(f"mfh: keep must be above 0 and at most 1, got {keep}")
        self.require_positive(saliency_epochs=saliency_epochs)
        self.kept = max(round(keep * teacher.dim), 1)
        self.saliency_epochs, self.weight = saliency_epochs, weight
        self.projection = nn.Linear(student.dim, teacher.dim)
        self.register_buffer("saliency", torch.zeros(teacher.dim))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``mfh``."""
        if self.training and self.epoch < self.saliency_epochs:
            (everywhere,) = at_least_float32(gather(teacher.embedding.detach()))
            order = self.order(batch)
            swapped = torch.empty_like(order)
            swapped[order] = order[upload(torch.randperm(len(order), generator=self.generator()), order.device)]
            with torch.autocast(everywhere.device.type, enabled=False):
                self.saliency += permutation_saliency(everywhere, self.teacher_classifier, swapped)
            self.count_step()
        general = torch.zeros_like(self.saliency, dtype=torch.bool)
        general[self.saliency.topk(self.kept).indices] = True
        return {"mfh": self.weight * mfh(self.projection(student.embedding), teacher.embedding, general)}
