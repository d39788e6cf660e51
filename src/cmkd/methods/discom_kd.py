"""Cross-modal distillation without a trained teacher (DisCoM-KD, Ienco and Dantas 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.methods.base import Method, on_labeled
from cmkd.ops import at_least_float32, check_pair, reverse_gradient, standardize
from cmkd.types import Batch, Output, Spec


def overlap(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Mean cosine between two parts of the embeddings: ``mean cos(a, b)``; 0 where they are orthogonal.

    Args:
        student_embedding: ``(batch, dim)``.
        teacher_embedding: same shape as `student_embedding`.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Ienco and Dantas 2024, arXiv 2408.07080, in the form of the authors' code, with the sign of the cosine.

    Example:
        >>> float(overlap(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])))
        0.0
    """
    first, second = check_pair(student_embedding, teacher_embedding, same_shape=True)
    return (F.normalize(first) * F.normalize(second)).sum(1).mean()


class DisCoMKD(Method):
    """Train both classifiers together, with embeddings split into invariant, informative and irrelevant parts.

    A baseline that needs no trained teacher: it takes only the architecture of the run's teacher, and trains an
    untrained copy along with each student. A modality discriminator is trained adversarially on the invariant part; two
    others predict the modality from the informative and from the irrelevant part; one classifier for both modalities
    predicts the classes from the invariant and from the informative part; and the informative part is made orthogonal
    to the other two.

    Terms and their sum follow the authors' code (``model_pytorch.py``, and the script that trains it). Differences: the
    paper has two encoders a modality, one of them for the invariant part; here one embedding is split by a linear
    layer, and the student's own classifier reads the whole embedding. The invariant part of each modality is
    standardized per channel over the global batch, then passes a ReLU: the code's batch-norm without its trained scale
    and shift, with which the encoder could beat the discriminator merely by larger values. Here the modalities are two
    classes; the authors' code gives rows of ones and of zeros as probabilities, which does not distinguish them. The
    two modalities of its batches are not paired, ours are. It averages the cross-entropies of the two models where ours
    are added, hence the weight of 2. Unlabeled pairs, which the paper does not have, contribute to all terms that need
    no label.

    Args:
        width: number of channels of each part (our choice; the paper's parts have half the width of its embedding).
        weight: factor of the four terms, which have weight 1 in the paper.
    """

    name = "discom_kd"
    kind = "cross-modal"
    paper = "Ienco and Dantas 2024, BMVC, arXiv 2408.07080"
    bibtex = """@inproceedings{ienco2024discom, title={DisCoM-KD: Cross-Modal Knowledge Distillation via Disentanglement
  Representation and Adversarial Learning}, author={Ienco, Dino and Dantas, Cassio Fraga}, booktitle={BMVC},
  year={2024}}"""
    needs = ("embedding", "target")
    trains_teacher = True
    fresh_teacher = True

    def __init__(self, student: Spec, teacher: Spec, *, width: int = 64, weight: float = 2.0) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(width=width)
        self.weight = weight
        self.student_parts, self.teacher_parts = (nn.Linear(spec.dim, 3 * width) for spec in (student, teacher))
        self.task = nn.Linear(width, student.classes)
        self.adversary, self.informative_modality, self.irrelevant_modality = (nn.Linear(width, 2) for _ in range(3))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``discom_adversarial``, ``discom_modality``, ``discom_auxiliary`` and ``discom_overlap``."""
        both = at_least_float32(self.student_parts(student.embedding), self.teacher_parts(teacher.embedding))
        parts = [(_bounded(first), *others) for first, *others in (part.chunk(3, 1) for part in both)]
        invariant, informative, irrelevant = (torch.cat(part) for part in zip(*parts, strict=True))
        modality = torch.arange(2, device=invariant.device).repeat_interleave(len(batch))

        def told(logits: Tensor) -> Tensor:
            return F.cross_entropy(at_least_float32(logits)[0], modality)

        def loss(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(at_least_float32(torch.cat([a, b]))[0], torch.cat([target, target]))

        logits = [self.task(part).chunk(2) for part in (invariant, informative)]
        known = told(self.informative_modality(informative)) + told(self.irrelevant_modality(irrelevant))
        terms = {
            "discom_adversarial": told(self.adversary(reverse_gradient(invariant))),
            "discom_modality": known / 2,
            "discom_auxiliary": torch.stack([on_labeled(loss, a, b, batch) for a, b in logits]).sum(),
            "discom_overlap": overlap(informative, irrelevant) + overlap(informative, invariant),
        }
        return {name: self.weight * term for name, term in terms.items()}


def _bounded(part: Tensor) -> Tensor:
    return F.relu(standardize(part, over=gather(part)))
