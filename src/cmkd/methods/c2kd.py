"""Customized cross-modal distillation (C2KD, Huo et al. 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method, on_labeled
from cmkd.methods.kd import kd
from cmkd.ops import check_pair, non_target
from cmkd.types import Batch, Output, Spec


@torch.no_grad()
def kendall(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return Kendall's rank correlation (tau-b) of each sample's classes, ``(batch,)``; 0 where a row is constant.

    Memory grows with batch · classes².

    Example:
        >>> kendall(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]])).tolist()
        [0.333...]
    """
    ours, theirs = (torch.sign(x[:, :, None] - x[:, None, :]) for x in check_pair(student_logits, teacher_logits))
    scale = (ours.square().sum((1, 2)) * theirs.square().sum((1, 2))).sqrt()
    return (ours * theirs).sum((1, 2)) / scale.clamp(min=1.0)


def c2kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """KL divergence over the non-target classes, for samples on which both models rank the classes alike.

    ``mean [tau(s, t) > threshold] KL(n_t || n_s)``, where n is the softened distribution over the classes other than
    the target, and tau is Kendall's rank correlation.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        target: ``(batch,)`` int64, all labeled.
        threshold: samples whose rank correlation is not above it contribute 0 to the mean.
        temperature: softens both distributions.

    Returns:
        Scalar, the mean over the batch; 0 with two classes, where only one non-target class is left.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Huo et al. 2024, CVPR, section 3.3. The authors' code multiplies the target's logit by 0, which keeps it in
        the softmax; here it is removed.

    Example:
        >>> logits = torch.tensor([[3.0, 1.0, 0.0]])
        >>> float(c2kd(logits, logits, torch.tensor([0])))
        0.0
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    selected = kendall(student, teacher) > threshold
    ours, theirs = (F.log_softmax(non_target(x, target) / temperature, 1) for x in (student, teacher))
    divergence = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(1)
    return (selected * divergence).mean()


class C2KD(Method):
    """Distill both ways between proxies of student and teacher, only on samples whose classes both rank alike.

    The teacher trains too. Each model and its own proxy (a small head on its embedding) distill into each other; the
    two proxies distill into each other over the non-target classes. The terms and their sum follow the authors' code
    (``cramed/utils/helper.py``). Start from a teacher that was trained in an ordinary run and a fresh student, as the
    authors' code does (it pretrains a student but never loads it). The authors' heads are a 1 x 1 convolution of the
    last map, batch-norm, a leaky ReLU and a linear layer; ours are two linear layers on the embedding, without
    batch-norm (our choice). Unlabeled pairs contribute only to the terms between a model and its proxy. The authors'
    AVE code trains with frozen batch-norm after its first evaluation; a training loop must set both models back to
    train mode.

    Args:
        threshold: rank correlation above which a sample contributes to the term between the proxies.
        temperature: softens both distributions of the term between the proxies.
        weight: factor of all three terms.
    """

    name = "c2kd"
    kind = "cross-modal"
    paper = "Huo et al. 2024, CVPR"
    bibtex = """@inproceedings{huo2024c2kd, title={C2KD: Bridging the Modality Gap for Cross-Modal Knowledge
  Distillation}, author={Huo, Fushuo and Xu, Wenchao and Guo, Jingcai and Wang, Haozhao and Guo, Song},
  booktitle={CVPR}, year={2024}}"""
    needs = ("logits", "embedding", "target")
    trains_teacher = True

    def __init__(
        self, student: Spec, teacher: Spec, *, threshold: float = 0.0, temperature: float = 1.0, weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_classes(3)
        self.require_positive(temperature=temperature)
        self.threshold, self.temperature, self.weight = threshold, temperature, weight
        self.student_proxy, self.teacher_proxy = (
            nn.Sequential(nn.Linear(s.dim, s.dim), nn.LeakyReLU(0.1), nn.Linear(s.dim, s.classes))
            for s in (student, teacher)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return ``c2kd_student`` and ``c2kd_teacher`` (model and its proxy), and ``c2kd_cross`` (both proxies)."""

        def both_ways(a: Tensor, b: Tensor) -> Tensor:
            return kd(a, b.detach(), temperature=1.0) + kd(b, a.detach(), temperature=1.0)

        def between_proxies(a: Tensor, b: Tensor) -> Tensor:
            options = {"threshold": self.threshold, "temperature": self.temperature}
            return on_labeled(c2kd, a, b.detach(), batch, **options)

        ours, theirs = self.student_proxy(student.embedding), self.teacher_proxy(teacher.embedding)
        return {
            "c2kd_student": self.weight * both_ways(student.logits, ours),
            "c2kd_teacher": self.weight * both_ways(teacher.logits, theirs),
            "c2kd_cross": self.weight * (between_proxies(ours, theirs) + between_proxies(theirs, ours)),
        }
