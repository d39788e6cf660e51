"""The contract of a distillation method, and the registry of all methods."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from cmkd.distributed import gather, world_size
from cmkd.errors import CmkdError
from cmkd.options import check
from cmkd.registry import Registry
from cmkd.types import UNLABELED, Batch, Output, Spec

Stage = TypeVar("Stage")


class Method(nn.Module):
    """A distillation method: named, weighted terms from a student's and a teacher's output.

    Subclasses take two `Spec`s and keyword-only, typed hyperparameters, keep their projections as submodules, and
    return their distillation terms alone: the cross-entropy belongs to the objective. They need no trainer of ours: in
    any loop, add the sum of the terms to the loss and give ``method.parameters()`` to the optimizer.

    The teacher's output arrives detached and its model in eval mode, unless `trains_teacher` is true.

    Args:
        student: shapes of the student's output.
        teacher: shapes of the teacher's output.
    """

    name: ClassVar[str]
    """The name on the command line."""
    kind: ClassVar[str]
    """One of control, logits, features, relations, structure, cross-modal."""
    paper: ClassVar[str] = ""
    """Authors, year and where, in one line."""
    bibtex: ClassVar[str] = ""
    """The paper's BibTeX entry."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What it reads: of logits, embedding, maps, target, index; `inputs` for the raw modalities."""
    uses_teacher: ClassVar[bool] = True
    """Whether `forward` reads the teacher's output; where it does not, the teacher is not run."""
    trains_teacher: ClassVar[bool] = False
    """Whether the teacher trains along; its output then arrives attached and its own cross-entropy is added."""

    def __init__(self, student: Spec, teacher: Spec) -> None:
        super().__init__()
        self.student_spec, self.teacher_spec = student, teacher

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms by name, scalars, for one batch of pairs that have both modalities."""
        raise NotImplementedError

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """See both models once, before training (to copy weights, or read a classifier). Does nothing by default."""

    def on_train_start(self, dataset_size: int) -> None:
        """Learn the number of training pairs; ``batch.index`` is below it. Does nothing by default."""

    def on_train_epoch_start(self, epoch: int) -> None:
        """Learn the number of the epoch that begins, from 0. Does nothing by default."""

    def on_train_end(self, student: nn.Module) -> None:
        """See the student once more after training, on the weights to be kept. Does nothing by default."""

    def require_positive(self, **values: float) -> None:
        """Refuse hyperparameters, given by name, that are not above 0."""
        for name, value in values.items():
            if not value > 0:
                raise CmkdError(f"{self.name}: {name} must be above 0, got {value}")

    def require_same_classes(self) -> None:
        """Refuse a teacher of other classes."""
        if not self.student_spec.same_classes(self.teacher_spec):
            ours, theirs = self.student_spec.classes, self.teacher_spec.classes
            counted = f"{ours} classes and the teacher {theirs}" if ours != theirs else f"{ours} other classes"
            raise CmkdError(
                f"{self.name}: the student has {counted}, so logits cannot be matched; use a method of features or "
                "relations, such as sp or ds(kd_weight=0,independence_weight=0,uniformity_weight=3)"
            )

    def require_maps(self, count: int = 1) -> None:
        """Refuse specs with fewer than `count` intermediate maps on either side."""
        ours, theirs = len(self.student_spec.map_shapes), len(self.teacher_spec.map_shapes)
        if min(ours, theirs) < count:
            raise CmkdError(
                f"{self.name}: needs at least {count} intermediate maps, student has {ours} and teacher {theirs}; "
                "choose a model with feature maps"
            )


def frozen_classifier(model: nn.Module, method: str) -> nn.Module:
    """Return a copy of a model's `classifier` (embedding to logits) that does not train.

    Raises:
        CmkdError: if the model has none.
    """
    classifier = getattr(model, "classifier", None)
    if not isinstance(classifier, nn.Module):
        raise CmkdError(f"{method}: {type(model).__name__} has no module named 'classifier' (embedding to logits)")
    return copy.deepcopy(classifier).eval().requires_grad_(False)


def not_set_up(method: str) -> CmkdError:
    """Build the error for a forward pass before `Method.setup`."""
    return CmkdError(
        f"{method}: call setup(student_model, teacher_model) before training; it needs the teacher's weights"
    )


def deepest_pairs(student: Sequence[Stage], teacher: Sequence[Stage]) -> tuple[Sequence[Stage], Sequence[Stage]]:
    """Cut two lists of maps (or of their shapes), shallow to deep, to the deepest ones that both have.

    Example:
        >>> deepest_pairs((8, 16, 32), (64, 128))
        ((16, 32), (64, 128))
    """
    count = min(len(student), len(teacher))
    return student[len(student) - count :], teacher[len(teacher) - count :]


def on_labeled(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor, target: Tensor
) -> Tensor:
    """Apply a loss that is a mean over samples to the labeled samples alone.

    Processes may hold different numbers of labeled samples: each result is scaled so that their mean over processes is
    the mean over all labeled samples.

    Args:
        loss: maps student ``(n, ...)``, teacher ``(n, ...)`` and target ``(n,)`` to the mean over n samples.
        student: ``(batch, ...)``.
        teacher: ``(batch, ...)``.
        target: ``(batch,)`` int64, -1 where unlabeled.

    Returns:
        Scalar; a zero with a gradient path to `student` where no sample is labeled.

    Example:
        >>> import torch
        >>> difference = lambda s, t, y: (s - t).mean()
        >>> float(on_labeled(difference, torch.tensor([3.0, 9.0]), torch.zeros(2), torch.tensor([0, -1])))
        3.0
    """
    rows = target != UNLABELED
    share = 1.0
    if world_size() > 1:
        everywhere = int(gather(rows.sum().reshape(1)).sum())
        share = world_size() * int(rows.sum()) / max(everywhere, 1)
    if not bool(rows.any()):
        return student[:0].sum()
    return share * loss(student[rows], teacher[rows], target[rows])


METHODS: Registry[Method] = Registry("method", "cmkd.methods", Method, support=("base", "combine", "pages"))
"""All methods by name; those of plug-ins are entry points of the group ``cmkd.methods``."""


def create(name: str, student: Spec, teacher: Spec, **options: Any) -> Method:  # noqa: ANN401  # checked against the signature
    """Build a method by name; an unknown option is refused with the nearest valid one.

    Example:
        >>> create("kd", Spec(10, 64), Spec(10, 128), temperature=2.0).temperature
        2.0
    """
    method = METHODS.find(name)
    check(name, method, options)
    return method(student, teacher, **options)
