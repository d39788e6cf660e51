"""Multi-level logit distillation (Jin et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.methods.kd import kd
from cmkd.ops import check_pair, in_float32
from cmkd.types import Batch, Output, Spec


@in_float32
def mlld(
    student_logits: Tensor, teacher_logits: Tensor, *, temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0)
) -> Tensor:
    """Match instances, class correlations and batch correlations at several temperatures, summed.

    For each T, with p the softened probabilities ``(batch, classes)``: ``kd + ||p_s'p_s - p_t'p_t||² / classes +
    ||p_s p_s' - p_t p_t'||² / batch``.

    Args:
        student_logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``.
        temperatures: values of T, all above 0.

    Returns:
        Scalar.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Jin, Wang, Lin 2023, CVPR. The authors multiply masks of confident samples and classes after taking the
        mean, so the masks select nothing; there are none here. Their recipe also doubles epochs and augmentation.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> abs(float(mlld(logits, logits))) < 1e-5
        True
    """
    student, teacher = check_pair(student_logits, teacher_logits, same_shape=True)
    batch, classes = student.shape
    total = student.new_zeros(())
    for temperature in temperatures:
        ours, theirs = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
        class_part = (ours.T @ ours - theirs.T @ theirs).square().sum() / classes
        batch_part = (ours @ ours.T - theirs @ theirs.T).square().sum() / batch
        total = total + kd(student, teacher, temperature=temperature) + class_part + batch_part
    return total


class MLLD(Method):
    """Match logits per instance, per class and over the global batch, at several temperatures.

    Args:
        temperatures: temperatures over which the three parts are summed.
        weight: factor of the term, a sum over temperatures (1 in the authors' recipe of 480 epochs; ours is lower for
            short trainings).
    """

    name = "mlld"
    kind = "logits"
    paper = "Jin, Wang, Lin 2023, CVPR"
    bibtex = """@inproceedings{jin2023multi, title={Multi-Level Logit Distillation}, author={Jin, Ying and Wang, Jiaqi
  and Lin, Dahua}, booktitle={CVPR}, year={2023}}"""
    needs = ("logits",)

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        weight: float = 0.3,
    ) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.require_positive(temperatures=min(temperatures, default=0.0))
        self.temperatures, self.weight = tuple(temperatures), weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``mlld``."""
        value = mlld(gather(student.logits), gather(teacher.logits), temperatures=self.temperatures)
        return {"mlld": self.weight * value}
