"""Rows of the table of methods, and the synthetic data for the checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmkd.methods import Method, create
from cmkd.types import Batch, Output, Spec

REFERENCE = Path(__file__).parent / "reference"
EXPECTED: dict[str, Any] = json.loads((REFERENCE / "expected.json").read_text())

Function = Callable[..., Tensor]
Names = tuple[str | tuple[str, ...], ...]


@dataclass(frozen=True)
class Case:
    """One pure function, with the references that it must agree with.

    Args:
        function: the pure function.
        arguments: names of its tensors in order, as in ``reference/``: ``student_`` or ``teacher_`` followed by
            logits, embedding, shallow, deep, negatives, views or share; or target, log_scale, margin, one (one
            number), general (a mask of channels); a tuple is a list of maps.
        slow: an independent implementation with the same signature, in loops or in another form.
        options: hyperparameters for the comparison with `slow`.
        reference: the key in ``expected.json``, or None if there is no public value.
        constant_parts: whether the function detaches part of the student's graph on purpose, so that its gradient
            differs from finite differences.
    """

    function: Function
    arguments: Names
    slow: Function
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None
    constant_parts: bool = False


@dataclass(frozen=True)
class Row:
    """Description of a method for the test harness.

    Args:
        name: the method's name.
        cases: the method's pure functions.
        options: options with which the method is built in all checks.
        same_width: whether the method refuses a teacher and a student of different embedding widths.
        same_classes: whether the method refuses different numbers of classes.
        frozen: substrings of the names of trainable parameters that may have no gradient in the first step.
        tolerance: relative tolerance for two processes compared with one, in float64.
    """

    name: str
    cases: tuple[Case, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    same_width: bool = False
    same_classes: bool = False
    frozen: tuple[str, ...] = ()
    tolerance: float = 1e-9


LOGITS = ("student_logits", "teacher_logits")
LABELED = (*LOGITS, "target")
EMBEDDINGS = ("student_embedding", "teacher_embedding")
DEEP = ("student_deep", "teacher_deep")
BOTH = (("student_shallow", "student_deep"), ("teacher_shallow", "teacher_deep"))

NARROW = Spec(4, 6, ((4, 8, 8), (6, 4, 4)))
WIDE = Spec(4, 10, ((7, 6, 6), (9, 3, 3)))
SHAPES = {
    "logits": (5, 4),
    "embedding": (5, 7),
    "shallow": (5, 3, 4, 6),
    "deep": (5, 4, 3, 2),
    "negatives": (6, 7),
    "views": (5, 3, 4),
    "share": (5, 3),
}
SMALL = {
    "logits": (3, 3),
    "embedding": (3, 3),
    "shallow": (3, 2, 2, 2),
    "deep": (3, 2, 2, 2),
    "negatives": (4, 3),
    "views": (3, 2, 3),
    "share": (3, 2),
}


def tensors(arguments: Names, seed: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> list[Any]:
    """Draw float64 tensors for named arguments; those of the student require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str) -> Tensor:
        batch, channels = shapes["deep"][:2]
        if name == "target":
            return torch.randint(shapes["logits"][1], (batch,), generator=generator)
        if name == "general":
            return torch.arange(shapes["embedding"][1]) % 2 == 0
        if name == "one":
            return torch.randn(1, generator=generator, dtype=torch.float64)
        if name == "log_scale":
            return torch.randn(channels, generator=generator, dtype=torch.float64)
        if name == "margin":
            return -torch.rand(1, channels, 1, 1, generator=generator, dtype=torch.float64)
        side, kind = name.split("_", 1)
        drawn = torch.randn(shapes[kind], generator=generator, dtype=torch.float64) * 1.5
        return drawn.requires_grad_(side == "student")

    return [[draw(n) for n in name] if isinstance(name, tuple) else draw(name) for name in arguments]


def students(arguments: list[Any]) -> list[Tensor]:
    """Return the tensors among the arguments that require gradients."""
    flat = [t for a in arguments for t in (a if isinstance(a, list) else [a])]
    return [t for t in flat if t.requires_grad]


class TinyModel(nn.Module):
    """A tiny model with the interface of the library and the output shapes of a `Spec`, for `Method.setup`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = nn.Linear(3, 5)
        self.body = nn.Linear(5, 5)
        self.neck = nn.Linear(5, spec.dim)
        self.classifier = nn.Linear(spec.dim, spec.classes)

    def forward(self, x: Tensor) -> Output:
        hidden = self.body(self.stem(x))
        embedding = self.neck(hidden)
        maps = tuple(hidden.mean(1)[:, None, None, None].expand(-1, *shape) for shape in self.spec.map_shapes)
        return Output(self.classifier(embedding), embedding, maps)


def output(spec: Spec, batch: int, seed: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Output:
    """Draw an output with the shapes of `spec`; its tensors are leaves that require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        return drawn.to(dtype).requires_grad_()

    maps = tuple(draw(batch, *shape) for shape in spec.map_shapes)
    return Output(draw(batch, spec.classes), draw(batch, spec.dim), maps)


def leaves(out: Output) -> list[Tensor]:
    """Return the tensors of an output."""
    return [out.logits, out.embedding, *out.feature_maps]


def a_batch(size: int, classes: int, *, target: Tensor | None = None) -> Batch:
    """Return a batch with cycling classes and distinct indices."""
    target = torch.arange(size) % classes if target is None else target
    inputs = {"rich": torch.linspace(-1, 1, size * 3).reshape(size, 3), "poor": torch.zeros(size, 3)}
    return Batch(inputs, target, torch.arange(size) * 3 % 32)


def built(row: Row, student: Spec, teacher: Spec, *, seed: int = 0, start: bool = True, **options: Any) -> Method:  # noqa: ANN401
    """Build a row's method, call its `setup` with tiny models and, if `start`, the hooks at the start of training."""
    torch.manual_seed(seed)
    method = create(row.name, student, teacher, **{**row.options, **options})
    # the weights of the models must not depend on random numbers drawn by the method
    torch.manual_seed(7)
    method.setup(TinyModel(student), TinyModel(teacher))
    if start:
        method.on_train_start(32)
        method.on_train_epoch_start(0)
    return method


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum a method's terms."""
    return sum(terms.values(), torch.zeros(()))
