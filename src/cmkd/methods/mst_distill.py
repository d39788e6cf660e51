"""A mixture of specialized teachers with a router (MST-Distill, Li et al. 2025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.methods.base import ClassifierMethod, on_labeled
from cmkd.methods.kd import kd
from cmkd.ops import at_least_float32, check_pair
from cmkd.types import Batch, Output, Spec


def mst_distill(student_logits: Tensor, view_logits: Tensor, share: Tensor, *, temperature: float = 4.0) -> Tensor:
    """KD from several teachers, weighted per sample: ``T² mean sum over k of w_k KL(softmax(v_k/T) || softmax(s/T))``.

    Args:
        student_logits: ``(batch, classes)``.
        view_logits: ``(batch, teachers, classes)``.
        share: weights w ``(batch, teachers)``, which sum to 1 for each sample.
        temperature: T, above 0.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the batch sizes differ.

    Source:
        Li et al. 2025, arXiv 2507.07015, section 3.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> float(mst_distill(logits, logits[:, None], torch.ones(1, 1)))
        0.0
    """
    student, views = check_pair(student_logits, view_logits)
    (weights,) = at_least_float32(share)
    log_student, log_views = (F.log_softmax(x / temperature, -1) for x in (student, views))
    divergence = (log_views.exp() * (log_views - log_student[:, None])).sum(2)
    return (weights * divergence).sum(1).mean() * temperature**2


class MSTDistill(ClassifierMethod):
    """Learn from several masked views of the teacher, weighted per sample by a router.

    The paper has several teachers (cross-modal and multimodal), each with a trained mask, and a router. Here there is
    one teacher, so the specialized teachers are views of it (our adaptation): a trained gate per channel of its
    embedding, followed by its own frozen classifier. Three losses train gates and router: the cross-entropy of the
    routed mixture, the agreement of each view with the student (against knowledge drift), and a balanced use of the
    views. For the student, views and routing weights are constants. Start from a teacher that was trained in an
    ordinary run.

    Further differences from the authors' code, all our choices. Their router reads the student's logits and is trained
    by the balance alone; ours reads the teacher's embedding. They distill from the one view with the largest weight;
    here all views count, by their weights. Their balance is the KL divergence from the mean weights to uniform ones;
    here it is the reverse, which is finite where a view is not used. Their masks depend on the sample and are trained
    in a separate stage; here a gate is one number per channel and trains along with the student. Their weights of
    distillation and balance decay over the epochs; here they are constant.

    Args:
        views: number of masked views.
        temperature: softens the distributions of the distillation.
        teacher_weight: factor of the two terms that train gates and router.
        weight: factor of the distillation term.
    """

    name = "mst_distill"
    kind = "cross-modal"
    paper = "Li et al. 2025, ACM MM, arXiv 2507.07015"
    bibtex = """@inproceedings{li2025mst, title={MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge
  Distillation}, author={Li, Hui and Yang, Pengfei and Chen, Juanyang and Dong, Le and Chen, Yanxin and Wang, Quan},
  booktitle={ACM MM}, year={2025}}"""
    needs = ("logits", "embedding", "target")

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        views: int = 3,
        temperature: float = 4.0,
        teacher_weight: float = 1.0,
        weight: float = 4.0,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(views=views, temperature=temperature)
        self.temperature, self.teacher_weight, self.weight = temperature, teacher_weight, weight
        # around 2, where a gate is nearly open: the views start close to the teacher and apart from each other
        self.gates = nn.Parameter(2.0 + torch.randn(views, teacher.dim))
        self.router = nn.Linear(teacher.dim, views)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``mst_distill``, ``mst_distill_views`` and ``mst_distill_balance``."""
        embedding = teacher.embedding.detach()
        gated = embedding[:, None] * self.gates.sigmoid()
        views = self.teacher_classifier(gated.flatten(0, 1)).unflatten(0, gated.shape[:2])  # flat, for batch-norm
        (routed,) = at_least_float32(self.router(embedding))
        log_share = routed.log_softmax(1)
        share = log_share.exp()

        def mixture(logits: Tensor, log_weights: Tensor, target: Tensor) -> Tensor:
            mixed = torch.logsumexp(log_weights[:, :, None] + at_least_float32(logits)[0].log_softmax(2), 1)
            return F.nll_loss(mixed, target)

        agreement = torch.stack(
            [kd(view, student.logits.detach(), temperature=self.temperature) for view in views.unbind(1)]
        ).mean()
        used = gather(share).mean(0)
        balance = (used * (used * len(used)).clamp(min=1e-12).log()).sum()
        trained = on_labeled(mixture, views, log_share, batch) + agreement
        value = mst_distill(student.logits, views.detach(), share.detach(), temperature=self.temperature)
        return {
            "mst_distill": self.weight * value,
            "mst_distill_views": self.teacher_weight * trained,
            "mst_distill_balance": self.teacher_weight * balance,
        }
