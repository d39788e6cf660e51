"""The contract of a distillation method, and finding methods by name."""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from cmkd.distributed import gather, world_size
from cmkd.errors import CmkdError, unknown_name
from cmkd.types import UNLABELLED, Batch, Output, Spec

Stage = TypeVar("Stage")


class Method(nn.Module):
    """A distillation method: named, weighted terms from a student's and a teacher's output.

    Subclasses take two `Spec`s and keyword-only, typed hyperparameters, keep their projections as submodules, and
    return their distillation terms alone: the cross-entropy belongs to the objective. They need no trainer of ours: in
    any loop, add the sum of the terms to the loss and give ``method.parameters()`` to the optimiser.

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

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """See both models once, before training (to copy weights, or read a classifier). Does nothing by default."""

    def on_train_start(self, dataset_size: int) -> None:
        """Learn the number of training pairs; ``batch.index`` is below it. Does nothing by default."""

    def on_epoch_start(self, epoch: int) -> None:
        """Learn the number of the epoch that begins, from 0. Does nothing by default."""

    def finish(self, student: nn.Module) -> None:
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


def not_bound(method: str) -> CmkdError:
    """Build the error for a forward pass before `Method.bind`."""
    return CmkdError(
        f"{method}: call bind(student_model, teacher_model) before training; it needs the teacher's weights"
    )


def deepest_pairs(student: Sequence[Stage], teacher: Sequence[Stage]) -> tuple[Sequence[Stage], Sequence[Stage]]:
    """Cut two lists of maps (or of their shapes), shallow to deep, to the deepest ones that both have.

    Example:
        >>> deepest_pairs((8, 16, 32), (64, 128))
        ((16, 32), (64, 128))
    """
    count = min(len(student), len(teacher))
    return student[len(student) - count :], teacher[len(teacher) - count :]


def on_labelled(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor, target: Tensor
) -> Tensor:
    """Apply a loss that is a mean over samples to the labelled samples alone.

    Processes may hold different numbers of labelled samples: each result is scaled so that their mean over processes is
    the mean over all labelled samples.

    Args:
        loss: maps student ``(n, ...)``, teacher ``(n, ...)`` and target ``(n,)`` to the mean over n samples.
        student: ``(batch, ...)``.
        teacher: ``(batch, ...)``.
        target: ``(batch,)`` int64, -1 where unlabelled.

    Returns:
        Scalar; a zero with a gradient path to `student` where no sample is labelled.

    Example:
        >>> import torch
        >>> difference = lambda s, t, y: (s - t).mean()
        >>> float(on_labelled(difference, torch.tensor([3.0, 9.0]), torch.zeros(2), torch.tensor([0, -1])))
        3.0
    """
    rows = target != UNLABELLED
    share = 1.0
    if world_size() > 1:
        everywhere = int(gather(rows.sum().reshape(1)).sum())
        share = world_size() * int(rows.sum()) / max(everywhere, 1)
    if not bool(rows.any()):
        return student[:0].sum()
    return share * loss(student[rows], teacher[rows], target[rows])


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        raise CmkdError(
            f"the plug-in '{point.value}' does not load ({type(error).__name__}: {error}); mend or uninstall it"
        ) from error


@cache
def registry() -> Mapping[str, type[Method]]:
    """Return all methods by name: those of this package and of plug-ins (entry point group ``cmkd.methods``)."""
    import cmkd.methods as package

    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    own = [
        c for module in modules for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__
    ]
    found: dict[str, type[Method]] = {}
    for candidate in [*own, *(_load(point) for point in entry_points(group="cmkd.methods"))]:
        if inspect.isclass(candidate) and issubclass(candidate, Method) and "name" in vars(candidate):
            if candidate.name in found:
                raise CmkdError(f"two methods are named '{candidate.name}': {found[candidate.name]} and {candidate}")
            found[candidate.name] = candidate
    return dict(sorted(found.items()))


def get(name: str) -> type[Method]:
    """Return the method class called `name`.

    Raises:
        CmkdError: with the nearest valid name.

    Example:
        >>> get("kd").__name__
        'KD'
    """
    if name not in registry():
        raise unknown_name("method", name, registry())
    return registry()[name]


def hyperparameters(method: type[Method]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a method's signature, in order."""
    parameters = inspect.signature(method).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def fits(value: object, hint: object) -> bool:
    """Return whether a literal is of an annotated type: numbers, text, choices, sequences and unions of these.

    Numbers must be finite; a whole number is a float, a bool is no number. Other annotations accept anything.

    Example:
        >>> fits(3, float), fits("a", float), fits(float("nan"), float), fits([1, 2.5], Sequence[float])
        (True, False, False, True)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, bool if hint is bool else str)
    return value is None if hint is type(None) else True


def create(name: str, student: Spec, teacher: Spec, **options: Any) -> Method:  # noqa: ANN401  # checked against the signature
    """Build a method by name; an unknown option is refused with the nearest valid one.

    Example:
        >>> create("kd", Spec(10, 64), Spec(10, 128), temperature=2.0).temperature
        2.0
    """
    cls = get(name)
    known = hyperparameters(cls)
    try:
        hints = get_type_hints(cls.__init__)
    except NameError:  # a plug-in whose annotations are imported for the type checker alone
        hints = {}
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
        if not fits(value, hints.get(option, object)):
            wanted = getattr(hints[option], "__name__", None) if not get_args(hints[option]) else str(hints[option])
            raise CmkdError(f"{name}: {option} must be {wanted}, got {value!r}")
    return cls(student, teacher, **options)
