"""The contract of a distillation method, and the registry of all methods."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from cmkd.errors import CmkdError, in_one_line
from cmkd.methods.requirements import Requirements
from cmkd.options import check
from cmkd.registry import Registry
from cmkd.types import Batch, Output, Spec

Stage = TypeVar("Stage")

READ = ("logits", "embedding", "feature_maps", "target", "index", "inputs")
"""What a method may need."""
WITHHELD = ("inputs", "index", "feature_maps")
"""What a method does not get unless it needs it."""
HOOKS = {
    "setup": "setup(student_model, teacher_model) before training",
    "on_train_start": "on_train_start(dataset_size) before the first step",
    "on_train_epoch_start": "on_train_epoch_start(epoch) at the start of each epoch",
    "on_train_end": "on_train_end(student_model) after training",
}
"""The life of a method, in order: each hook, and how a training loop calls it."""


def _recorded(hook: Callable[..., None]) -> Callable[..., None]:
    @wraps(hook)
    def run(self: Method, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # the hook's own arguments
        hook(self, *args, **kwargs)
        self._hooks_called.add(hook.__name__)

    return run


def _checked(forward: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    @wraps(forward)
    def run(self: Method, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401  # those of `forward`
        self.check_hooks()
        try:
            terms = forward(self, *args, **kwargs)
        except (IndexError, KeyError) as error:
            lacks = [name for name in WITHHELD if name not in self.needs]
            if lacks and not hasattr(error, "__notes__"):
                error.add_note(f"`needs` must name what forward reads, and lacks {', '.join(lacks)}")
            raise
        if not isinstance(terms, dict):
            raise CmkdError(f"{self.name}: forward must return a dict of terms by name, got {type(terms).__name__}")
        for name, term in terms.items():
            if not (isinstance(name, str) and isinstance(term, Tensor) and not term.shape):
                got = f"a tensor of shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
                raise CmkdError(f"{self.name}: each term must be a scalar tensor with a name, but {name!r} is {got}")
        return terms

    return run


class Method(Requirements, nn.Module):
    """A distillation method: named, weighted terms from a student's and a teacher's output.

    Subclasses take two `Spec`s and keyword-only, typed hyperparameters, keep their projections as submodules, and
    return only their distillation terms: the cross-entropy belongs to the objective. It is a mean over all pairs, those
    without a label as zero; so are terms that read labels (`on_labeled`). They work in any training loop:
    add the sum of the terms to the loss, give ``method.parameters()`` to the optimizer, and call the four hooks
    `setup`, `on_train_start`, `on_train_epoch_start` and `on_train_end`, or at least those in `required_hooks`.
    `forward` refuses to run before a required hook.

    The teacher's output arrives detached and its model in eval mode, unless `trains_teacher` is true.

    Args:
        student: shapes of the student's output.
        teacher: shapes of the teacher's output.

    Attributes:
        teacher_maps: the teacher's feature maps that `forward` reads, by stage, and the height and width to which they
            may be average-pooled before, None for the whole map. By default all, if it needs feature maps.
    """

    name: str = "method"
    """The name on the command line."""
    kind: ClassVar[str] = "control"
    """One of control, logits, features, relations, structure, cross-modal."""
    paper: ClassVar[str] = ""
    """Authors, year and where, in one line."""
    bibtex: ClassVar[str] = ""
    """The paper's BibTeX entry."""
    needs: tuple[str, ...] = ()
    """What it reads: logits, embedding, feature_maps, target, index, or inputs for the raw modalities."""
    required_hooks: Mapping[str, str] = {}
    """Each hook that it cannot do without, and why; an instance may set fewer, where its options make one needless."""
    uses_teacher: bool = True
    """Whether `forward` reads the teacher's output; where it does not, the teacher is not run."""
    strong_view: bool = False
    """Whether the student is its own teacher: `forward` receives its output on a strongly augmented view of the pairs
    as the student's, and that on the ordinary view, detached, as the teacher's."""
    trains_teacher: bool = False
    """Whether the teacher trains too; its output then arrives attached and its own cross-entropy is added."""
    fresh_teacher: bool = False
    """Whether the teacher that trains along starts untrained: only its architecture is then the run's."""
    sees_all_labels: bool = False
    """Whether its student sees the labels that a run hides: a control, which never counts as a gain."""

    alike: tuple[str, ...] = ()
    """Names of buffers that all processes change alike, so that they are sent once and not in every step."""

    taught_by: str = ""
    """Name of the method whose student, of the same seed, is the teacher; empty for the run's teacher."""

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  # those of other base classes
        super().__init_subclass__(**options)
        for hook in HOOKS:
            setattr(cls, hook, _recorded(getattr(cls, hook)))
        cls.forward = _checked(cls.forward)  # type: ignore[method-assign]
        if cls.name in (Method.name, *(base.__name__ for base in cls.__mro__)):  # messages then name the class
            cls.name = cls.__name__

    def __init__(self, student: Spec, teacher: Spec) -> None:
        super().__init__()
        self.student_spec, self.teacher_spec = student, teacher
        self.teacher_maps: Mapping[int, tuple[int, int] | None] = {}
        if "feature_maps" in self.needs:
            self.teacher_maps = dict.fromkeys(range(len(teacher.map_shapes)))
        self.epoch = 0
        self._hooks_called: set[str] = set()

    @property
    def same_view(self) -> bool:
        """Whether the teacher must see the view that the student sees, as where maps are compared place by place.

        Otherwise its outputs may be averaged over several views of a pair.
        """
        return bool(self.teacher_maps)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms by name, scalars, for one batch of pairs that have both modalities."""
        raise NotImplementedError

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Read both models once before training, to copy weights or a classifier. Does nothing by default."""

    def on_train_start(self, dataset_size: int) -> None:
        """Receive the number of training pairs that `forward` is given, which is above each ``batch.index``.

        Does nothing by default.
        """

    def on_train_epoch_start(self, epoch: int) -> None:
        """Receive the number of the epoch that begins, from 0, and keep it as `epoch`."""
        self.epoch = epoch

    def on_train_end(self, student: nn.Module) -> None:
        """Finish the student in memory. Does nothing by default.

        The file of a run holds the best epoch, before this call: what has to hold in use is done in each step.
        """

    def check_hooks(self) -> None:
        """Refuse a forward pass before a required hook.

        Raises:
            CmkdError: with the line of code that is missing, and why.
        """
        for hook, reason in self.required_hooks.items():
            if hook not in self._hooks_called and hook != "on_train_end":
                raise CmkdError(f"{self.name}: call method.{HOOKS[hook]}; {reason}")

    def check_outputs_suffice(self) -> None:
        """Refuse to work from a teacher's outputs alone, where the method needs its model, or an embedding they lack.

        Raises:
            CmkdError: with what it needs.
        """
        if self.uses_teacher and "embedding" in self.needs and not self.teacher_spec.dim:
            raise CmkdError(f"{self.name} reads the teacher's embedding, but its outputs have none; add an 'embedding'")
        reason = "it trains the teacher too" if self.trains_teacher else self.required_hooks.get("setup")
        if reason:
            raise CmkdError(f"{self.name} needs the teacher's model, not only its outputs: {reason}")

    def check_logits_suffice(self) -> None:
        """Refuse to work from the logits of several teachers, where the method reads more than logits.

        Raises:
            CmkdError: with what it reads.
        """
        embeds = self.uses_teacher and "embedding" in self.needs
        read = [*["embeddings"] * embeds, *["feature maps"] * bool(self.teacher_maps)]
        if read or self.trains_teacher:
            reason = "trains the teacher too" if self.trains_teacher else f"reads {' and '.join(read)}"
            raise CmkdError(f"{self.name} {reason}, but cross-fitted teachers give only logits; use --teacher.folds 1")

    def warmup(self, epochs: int) -> float:
        """Return a factor that rises linearly to 1 over the first `epochs` epochs; 1 throughout for 0."""
        return min((self.epoch + 1) / max(epochs, 1), 1.0)


class ClassifierMethod(Method):
    """A method that uses the teacher's classifier: a frozen copy, taken by `setup`."""

    required_hooks: Mapping[str, str] = {"setup": "it copies the teacher's classifier"}
    teacher_classifier: nn.Module

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Copy the teacher's classifier (embedding to logits).

        Raises:
            CmkdError: if the teacher has no module of that name.
        """
        classifier = getattr(teacher, "classifier", None)
        if not isinstance(classifier, nn.Module):
            raise CmkdError(
                f"{self.name}: {type(teacher).__name__} has no module named 'classifier' (embedding to logits)"
            )
        self.teacher_classifier = copy.deepcopy(classifier).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ClassifierMethod:
        """Put the method in a mode, except for the copy, which stays in eval mode."""
        super().train(mode)
        if "teacher_classifier" in self._modules:
            self.teacher_classifier.eval()
        return self


def projection(student: Spec, teacher: Spec) -> nn.Module:
    """Return a linear layer from the student's embeddings to the width of the teacher's; none if they are equal."""
    return nn.Identity() if student.dim == teacher.dim else nn.Linear(student.dim, teacher.dim, bias=False)


def deepest_pairs(student: Sequence[Stage], teacher: Sequence[Stage]) -> list[tuple[Stage, Stage]]:
    """Pair two lists of maps (or of their shapes), shallow to deep, from the deepest on.

    Example:
        >>> deepest_pairs((8, 16, 32), (64, 128))
        [(16, 64), (32, 128)]
    """
    return list(zip(reversed(student), reversed(teacher), strict=False))[::-1]


def on_labeled(
    loss: Callable[..., Tensor],
    student: Tensor,
    teacher: Tensor,
    batch: Batch,
    **options: Any,  # noqa: ANN401  # those of the loss
) -> Tensor:
    """Apply a loss that is a mean over samples to the labeled samples, and scale it to a mean over all of the batch.

    Those without a label count as zero, so a sample weighs the same in this term, in the cross-entropy, and in terms
    that need no labels, however few have one. With several processes it is the mean over this process's part of the
    batch, like every mean over samples, and the training loop weighs the parts by their sizes.

    Args:
        loss: maps student ``(n, ...)``, teacher ``(n, ...)`` and target ``(n,)`` to the mean over n samples.
        student: ``(batch, ...)``.
        teacher: ``(batch, ...)``.
        batch: whose labels to use. Where it has no `Batch.labeled_rows`, they are found, for which a GPU is waited for.
        options: keyword arguments of the loss.

    Returns:
        Scalar; a zero with a gradient path to `student` if no sample is labeled.

    Example:
        >>> import torch
        >>> difference = lambda s, t, y: (s - t).mean()
        >>> batch = Batch({}, torch.tensor([0, -1]), torch.arange(2))
        >>> float(on_labeled(difference, torch.tensor([3.0, 9.0]), torch.zeros(2), batch))
        1.5
    """
    rows = batch.labeled.nonzero()[:, 0] if batch.labeled_rows is None else batch.labeled_rows
    if not len(rows):  # a mean over none would be NaN
        return student[:0].sum()
    return loss(student[rows], teacher[rows], batch.target[rows], **options) * (len(rows) / len(batch))


METHODS: Registry[Method] = Registry(
    "method", "cmkd.methods", Method, support=("base", "combine", "pages", "requirements", "stepped")
)
"""All methods by name; those of plug-ins are entry points of the group ``cmkd.methods``."""


def create(name: str, student: Spec, teacher: Spec, /, **options: Any) -> Method:  # noqa: ANN401  # checked against the signature
    """Build a method by name; an unknown option is refused with the nearest valid one.

    Example:
        >>> create("kd", Spec(10, 64), Spec(10, 128), temperature=2.0).temperature
        2.0
    """
    method = METHODS.find(name)
    check(name, method, options)
    if inspect.unwrap(method.forward) is Method.forward:
        raise CmkdError(f"{name}: it has no method 'forward', which returns its terms")
    with in_one_line(f"{name} cannot be built"):  # the call alone: what its code raises keeps its traceback
        inspect.signature(method).bind(student, teacher, **options)
    made = method(student, teacher, **options)
    if not hasattr(made, "student_spec"):
        raise CmkdError(f"{name}: its __init__ must begin with super().__init__(student, teacher)")
    if isinstance(made.needs, str) or (unknown := [need for need in made.needs if need not in READ]):
        wrong = repr(made.needs) if isinstance(made.needs, str) else f"'{unknown[0]}'"
        raise CmkdError(f"{name}: needs names {wrong}; it is a tuple of some of {', '.join(READ)}")
    if unknown := [hook for hook in made.required_hooks if hook not in HOOKS]:
        raise CmkdError(f"{name}: required_hooks names '{unknown[0]}'; the hooks are {', '.join(HOOKS)}")
    return made
