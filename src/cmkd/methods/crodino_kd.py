"""Cross-modal distillation by disentangled, contrasted embeddings (CroDiNo-KD, Ferrod et al. 2025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.methods.base import Method, on_labeled
from cmkd.ops import at_least_float32, check_pair, in_float32
from cmkd.pairwise import unit_rows
from cmkd.types import Batch, Output, Spec


@in_float32
def info_nce(student_embedding: Tensor, teacher_embedding: Tensor, *, temperature: float = 0.1) -> Tensor:
    """InfoNCE of paired embeddings: the cross-entropy of finding the partner of each embedding in the batch.

    The similarity is the cosine divided by the temperature. The loss is the mean of both directions.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: same shape as `student_embedding`.
        temperature: divides the cosines, above 0.

    Returns:
        Scalar; ``log(batch)`` if all embeddings are alike.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        van den Oord et al. 2018, arXiv 1807.03748.

    Example:
        >>> x = torch.eye(3)
        >>> round(float(info_nce(x, torch.ones(3, 3))), 3), float(info_nce(x, x)) < 1e-3  # log 3, and found
        (1.099, True)
    """
    pair = check_pair(student_embedding, teacher_embedding, same_shape=True)
    student, teacher = (unit_rows(x) for x in pair)
    similarity, place = student @ teacher.T / temperature, torch.arange(len(student), device=student.device)
    return (F.cross_entropy(similarity, place) + F.cross_entropy(similarity.T, place)) / 2


class CroDiNoKD(Method):
    """Train both classifiers together, with each embedding split into a shared and a modality-specific part.

    A baseline that needs no trained teacher: it takes only the architecture of the run's teacher, and trains an
    untrained copy along with each student. The shared parts of one pair are pulled together and those of different
    pairs are pushed apart (InfoNCE); the shared and the specific part of an embedding are made orthogonal; one
    classifier for both modalities predicts the classes from the shared parts.

    This is our reading for classification: the paper segments RGB and depth images, and its full text was not
    available to us. Its abstract and the overview in its repository name disentanglement into invariant and specific
    features, contrastive learning, an auxiliary decoder, and separate augmentation of each modality. The formulas of
    the terms and their weight are ours. Here co-registered inputs keep the same augmentation; other inputs are
    augmented separately in any case.

    Args:
        width: number of channels of each part.
        temperature: temperature of the contrastive term.
        weight: factor of the three terms.
    """

    name = "crodino_kd"
    kind = "cross-modal"
    paper = "Ferrod et al. 2025, arXiv 2505.24361 (our reading of its abstract, for classification)"
    bibtex = """@article{ferrod2025revisiting, title={Revisiting Cross-Modal Knowledge Distillation: A Disentanglement
  Approach for RGBD Semantic Segmentation}, author={Ferrod, Roger and Dantas, C{\\'a}ssio F. and Di Caro, Luigi and
  Ienco, Dino}, journal={arXiv:2505.24361}, year={2025}}"""
    needs = ("embedding", "target")
    trains_teacher = True
    fresh_teacher = True

    def __init__(
        self, student: Spec, teacher: Spec, *, width: int = 64, temperature: float = 0.1, weight: float = 1.0
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(width=width, temperature=temperature)
        self.temperature, self.weight = temperature, weight
        self.student_parts, self.teacher_parts = (nn.Linear(spec.dim, 2 * width) for spec in (student, teacher))
        self.task = nn.Linear(width, student.classes)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``crodino_contrastive``, ``crodino_overlap`` and ``crodino_auxiliary``."""
        parts = at_least_float32(self.student_parts(student.embedding), self.teacher_parts(teacher.embedding))
        ours, theirs = (part.chunk(2, 1)[0] for part in parts)
        # gathered, so that processes with unequal numbers of pairs agree with one process
        all_ours, all_theirs = (gather(part).chunk(2, 1) for part in parts)

        def loss(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(at_least_float32(torch.cat([a, b]))[0], torch.cat([target, target]))

        terms = {
            "crodino_contrastive": info_nce(all_ours[0], all_theirs[0], temperature=self.temperature),
            "crodino_overlap": _squared_cosine(*all_ours) + _squared_cosine(*all_theirs),
            "crodino_auxiliary": on_labeled(loss, self.task(ours), self.task(theirs), batch),
        }
        return {name: self.weight * term for name, term in terms.items()}


def _squared_cosine(shared: Tensor, own: Tensor) -> Tensor:
    return F.cosine_similarity(shared, own).square().mean()
