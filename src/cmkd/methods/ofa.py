"""One-for-all distillation between different architectures (OFA, Hao et al. 2023)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods.base import Method, on_labeled
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def ofa(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, gamma: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy to the teacher with the target enhanced: ``mean sum -((t + y)^gamma - y) log s``.

    t and s are softened probabilities, and y is the one-hot target.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        target: ``(batch,)`` int64, all labeled.
        gamma: exponent of the enhancement; 1 is cross-entropy to the teacher.
        temperature: T, above 0; there is no factor T².

    Returns:
        Scalar, the mean over the batch.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Hao et al. 2023, arXiv 2310.19444, equation 6. The authors' code takes the log of a softmax (NaN at large
        logits); here it is log-softmax.

    Example:
        >>> import torch
        >>> round(float(ofa(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))), 4)  # log(2)
        0.6931
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    one_hot = F.one_hot(target, student.shape[1]).to(student.dtype)
    # t^gamma at t = 0 has an infinite slope for gamma < 1; 1e-30 changes no other value
    probability = (teacher / temperature).softmax(1).clamp(min=1e-30)
    enhanced = (probability + one_hot) ** gamma - one_hot
    return -(enhanced * F.log_softmax(student / temperature, 1)).sum(1).mean()


class OFA(Method):
    """Match the teacher's target-enhanced probabilities with the final logits and with an exit at each student map.

    An exit is average pooling and a trained linear layer (our choice; the paper's exits are small networks). Unlabeled
    pairs do not contribute.

    Args:
        gamma: exponent of the enhancement.
        temperature: softens both distributions.
        exits: whether each of the student's maps gets an exit.
        weight: factor of both terms.
    """

    name = "ofa"
    kind = "logits"
    paper = "Hao et al. 2023, NeurIPS, arXiv 2310.19444"
    bibtex = """@inproceedings{hao2023one, title={One-for-All: Bridge the Gap Between Heterogeneous Architectures in
  Knowledge Distillation}, author={Hao, Zhiwei and Guo, Jianyuan and Han, Kai and Tang, Yehui and Hu, Han and Wang,
  Yunhe and Xu, Chang}, booktitle={NeurIPS}, year={2023}}"""
    needs = ("logits", "feature_maps", "target")

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        gamma: float = 1.0,
        temperature: float = 1.0,
        exits: bool = True,
        weight: float = 1.0,
    ) -> None:
        super().__init__(student, teacher)
        self.teacher_maps = {}  # the exits read the student's maps alone
        self.require_same_classes()
        self.require_positive(gamma=gamma, temperature=temperature)
        self.gamma, self.temperature, self.weight = gamma, temperature, weight
        shapes = student.map_shapes if exits else ()
        self.exits = nn.ModuleList(nn.Linear(channels, student.classes) for channels, _, _ in shapes)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``ofa`` and, with exits, ``ofa_exits``."""

        def term(logits: Tensor) -> Tensor:
            options = {"gamma": self.gamma, "temperature": self.temperature}
            return self.weight * on_labeled(ofa, logits, teacher.logits, batch, **options)

        terms = {"ofa": term(student.logits)}
        if self.exits:
            exits = [term(head(x.mean((2, 3)))) for head, x in zip(self.exits, student.feature_maps, strict=True)]
            terms["ofa_exits"] = sum(exits[1:], exits[0])
        return terms
