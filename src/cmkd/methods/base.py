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
"""Fields of the outputs and of the batch that `Method.needs` may name."""
WITHHELD = ("inputs", "index", "feature_maps")
"""Fields that `forward` can rely on only if `Method.needs` names them."""
HOOKS = {
    "setup": "setup(student_model, teacher_model) before training",
    "on_train_start": "on_train_start(dataset_size) before the first step",
    "on_train_epoch_start": "on_train_epoch_start(epoch) at the start of each epoch",
    "on_train_end": "on_train_end(student_model) after training",
}
"""Hooks in the order in which a training loop calls them: name -> call, and when to make it."""


def _recorded(hook: Callable[..., None]) -> Callable[..., None]:
    """Wrap a hook so that the method remembers that it was called."""

    @wraps(hook)
    def run(self: Method, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # the hook's own arguments
        hook(self, *args, **kwargs)
        self._hooks_called.add(hook.__name__)

    return run


def _checked(forward: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """Wrap `forward` so that hooks are checked before it and the returned terms after it."""

    @wraps(forward)
    def run(self: Method, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401  # `forward`'s own
        self.check_hooks()
        try:
            terms = forward(self, *args, **kwargs)
        except Exception as error:
            if wrong := _contradiction(self, [one for one in (*args, *kwargs.values()) if isinstance(one, Output)]):
                raise CmkdError(f"{self.name}: {wrong}; build the method with output.spec() of both models") from error
            lacks = [name for name in WITHHELD if name not in self.needs]
            if lacks and isinstance(error, IndexError | KeyError) and not hasattr(error, "__notes__"):
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


def _contradiction(method: Method, outputs: Sequence[Output]) -> str:
    """Describe the first output in `Method.needs` whose width differs from its `Spec`; empty if there is none."""
    specs = {"student": method.student_spec, "teacher": method.teacher_spec}
    for (role, spec), output in zip(specs.items(), outputs, strict=False):
        if role == "teacher" and not method.uses_teacher:
            break
        channels = tuple(shape[0] for shape in spec.map_shapes)
        # a map that is not read may be empty
        maps = [m.shape[1] if m.numel() else next(iter(channels[k:]), 0) for k, m in enumerate(output.feature_maps)]
        widths = {
            "logits": (output.logits.shape[1:], (spec.classes,)),
            "embedding": (output.embedding.shape[1:], (spec.dim,)),
            "feature_maps": (maps, channels),
        }
        for name in method.needs:
            got, expected = map(tuple, widths.get(name, ((), ())))
            if got != expected and not (role == "teacher" and name == "feature_maps" and not method.teacher_maps):
                return f"'{name}' of the {role} has the widths {got}, but its Spec says {expected}"
    return ""


class Method(Requirements, nn.Module):
    """A distillation method: named, weighted loss terms, computed from the outputs of a student and a teacher.

    The constructor of a subclass takes two `Spec`s and typed, keyword-only hyperparameters, and stores its projections
    as submodules. `forward` returns only the distillation terms; the cross-entropy belongs to the objective. The
    cross-entropy is a mean over all pairs, where pairs without a label count as zero. Terms that read labels follow
    the same rule (see `on_labeled`).

    A method works in any training loop: add the sum of its terms to the loss, pass ``method.parameters()`` to the
    optimizer, and call the four hooks `setup`, `on_train_start`, `on_train_epoch_start` and `on_train_end`, or at least
    those in `required_hooks`. `forward` raises an error if a required hook other than `on_train_end` is missing.

    The teacher's output arrives detached and the teacher is in eval mode, unless `trains_teacher` is true.

    Args:
        student: shapes of the student's output.
        teacher: shapes of the teacher's output.

    Attributes:
        teacher_maps: feature maps of the teacher that `forward` reads: stage -> height and width to which the map may
            be average-pooled beforehand, None for the full map. By default all maps, if `needs` names feature_maps.
    """

    name: str = "method"
    """Name of the method on the command line."""
    kind: ClassVar[str] = "control"
    """One of control, logits, features, relations, structure, cross-modal."""
    paper: ClassVar[str] = ""
    """Reference in one line: authors, year, and venue or arXiv number."""
    bibtex: ClassVar[str] = ""
    """The paper's BibTeX entry."""
    needs: tuple[str, ...] = ()
    """What `forward` reads: logits, embedding, feature_maps, target, index, or inputs (the raw modalities)."""
    required_hooks: Mapping[str, str] = {}
    """Hook that a training loop must call -> reason; an instance may require fewer hooks, depending on its options."""
    uses_teacher: bool = True
    """Whether `forward` reads the teacher's output; if not, the teacher is not run."""
    strong_view: bool = False
    """Whether the student is its own teacher. `forward` then receives the student's output on a strongly augmented view
    of the pairs as `student`, and its detached output on the ordinary view as `teacher`."""
    trains_teacher: bool = False
    """Whether the teacher trains too. Its output then arrives attached, and its own cross-entropy is added."""
    fresh_teacher: bool = False
    """Whether the teacher starts untrained and trains with the student, using only the run's teacher's architecture."""
    sees_all_labels: bool = False
    """Whether the student sees the labels that the run hides; such a method is a control and never counts as a gain."""

    alike: tuple[str, ...] = ()
    """Names of buffers that change identically in all processes, so that they are sent once and not in every step."""

    taught_by: str = ""
    """Name of the method whose student, trained with the same seed, is the teacher; empty for the run's teacher."""

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  # options of other base classes
        super().__init_subclass__(**options)
        for hook in HOOKS:
            setattr(cls, hook, _recorded(getattr(cls, hook)))
        cls.forward = _checked(cls.forward)  # type: ignore[method-assign]
        if cls.name in (Method.name, *(base.__name__ for base in cls.__mro__)):  # messages then show the class name
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
        """Whether the teacher must see the same view as the student, for example to compare maps by position.

        If not, the teacher's outputs may be averaged over several views of a pair.
        """
        return bool(self.teacher_maps)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms by name, each a scalar, for one batch of pairs that have both modalities."""
        raise NotImplementedError

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Read both models once before training, for example to copy weights. Does nothing by default."""

    def on_train_start(self, dataset_size: int) -> None:
        """Receive the number of training pairs that `forward` is given; every ``batch.index`` is below this number.

        Does nothing by default.
        """

    def on_train_epoch_start(self, epoch: int) -> None:
        """Store the number of the epoch that begins, counted from 0, as `epoch`."""
        self.epoch = epoch

    def on_train_end(self, student: nn.Module) -> None:
        """Finalize the student in memory after training. Does nothing by default.

        A run saves the student of the best epoch before this call, so anything that the saved student needs must be
        done in each step.
        """

    def check_hooks(self) -> None:
        """Raise an error if a hook that must precede the forward pass was not called.

        Raises:
            CmkdError: if a required hook was not called; the message gives the missing line of code and the reason.
        """
        for hook, reason in self.required_hooks.items():
            if hook not in self._hooks_called and hook != "on_train_end":
                raise CmkdError(f"{self.name}: call method.{HOOKS[hook]}; {reason}")

    def check_outputs_suffice(self) -> None:
        """Raise an error if recorded outputs cannot replace the teacher: its model or a missing embedding is needed.

        Raises:
            CmkdError: if the method needs more than the outputs; the message says what.
        """
        if self.uses_teacher and "embedding" in self.needs and not self.teacher_spec.dim:
            raise CmkdError(f"{self.name} reads the teacher's embedding, but its outputs have none; add an 'embedding'")
        reads = inspect.unwrap(type(self).setup) is not Method.setup and "its setup reads both models"
        reason = "it trains the teacher too" if self.trains_teacher else self.required_hooks.get("setup", reads)
        if reason:
            raise CmkdError(f"{self.name} needs the teacher's model, not only its outputs: {reason}")

    def check_logits_suffice(self) -> None:
        """Raise an error if the method reads more than logits, which is all that several teachers provide.

        Raises:
            CmkdError: if the method reads more than logits; the message says what.
        """
        embeds = self.uses_teacher and "embedding" in self.needs
        read = [*["embeddings"] * embeds, *["feature maps"] * bool(self.teacher_maps)]
        if read or self.trains_teacher:
            reason = "trains the teacher too" if self.trains_teacher else f"reads {' and '.join(read)}"
            raise CmkdError(f"{self.name} {reason}, but cross-fitted teachers give only logits; use --teacher.folds 1")

    def warmup(self, epochs: int) -> float:
        """Return a factor that rises linearly to 1 over the first `epochs` epochs; always 1 if `epochs` is 0."""
        return min((self.epoch + 1) / max(epochs, 1), 1.0)


class ClassifierMethod(Method):
    """A method that uses a frozen copy of the teacher's classifier, made in `setup`."""

    required_hooks: Mapping[str, str] = {"setup": "it copies the teacher's classifier"}
    teacher_classifier: nn.Module

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Copy the teacher's classifier (embedding to logits).

        Raises:
            CmkdError: if the teacher has no module named ``classifier``.
        """
        classifier = getattr(teacher, "classifier", None)
        if not isinstance(classifier, nn.Module):
            raise CmkdError(
                f"{self.name}: {type(teacher).__name__} has no module named 'classifier' (embedding to logits)"
            )
        self.teacher_classifier = copy.deepcopy(classifier).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ClassifierMethod:
        """Set train or eval mode; the copied classifier always stays in eval mode."""
        super().train(mode)
        if "teacher_classifier" in self._modules:
            self.teacher_classifier.eval()
        return self


def projection(student: Spec, teacher: Spec) -> nn.Module:
    """Return a linear layer from the width of the student's embedding to the teacher's; identity for equal widths."""
    return nn.Identity() if student.dim == teacher.dim else nn.Linear(student.dim, teacher.dim, bias=False)


def deepest_pairs(student: Sequence[Stage], teacher: Sequence[Stage]) -> list[tuple[Stage, Stage]]:
    """Pair two lists of maps (or of their shapes), each ordered shallow to deep, starting with the deepest.

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
    **options: Any,  # noqa: ANN401  # options of the loss
) -> Tensor:
    """Apply a loss that averages over samples to the labeled samples only, and scale it to a mean over the whole batch.

    Samples without a label count as zero. A sample therefore has the same weight in this term, in the cross-entropy,
    and in terms that need no labels, even if few samples are labeled. With several processes, the result is the mean
    over this process's part of the batch, like every mean over samples, and the training loop weights the parts by
    their sizes.

    Args:
        loss: function of student ``(n, ...)``, teacher ``(n, ...)`` and target ``(n,)``, the mean over n samples.
        student: student values ``(batch, ...)``, such as logits.
        teacher: teacher values ``(batch, ...)``.
        batch: batch with the labels. If it has no `Batch.labeled_rows`, they are computed, which synchronizes the GPU.
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
"""All methods by name. Plug-ins add theirs through entry points of the group ``cmkd.methods``."""


def create(name: str, student: Spec, teacher: Spec, /, **options: Any) -> Method:  # noqa: ANN401  # checked against the signature
    """Build a method by name. The error for an unknown option names the nearest valid one.

    Example:
        >>> create("kd", Spec(10, 64), Spec(10, 128), temperature=2.0).temperature
        2.0
    """
    method = METHODS.find(name)
    check(name, method, options)
    if inspect.unwrap(method.forward) is Method.forward:
        raise CmkdError(f"{name}: it has no method 'forward', which returns its terms")
    with in_one_line(f"{name} cannot be built"):  # errors inside the constructor keep their traceback
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
