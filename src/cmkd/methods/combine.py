"""Methods from text, as on the command line: a single method, or a weighted sum of several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.expression import Call, parse_sum
from cmkd.methods.base import METHODS, Method, create
from cmkd.types import Batch, Output, Spec

Options = Mapping[str, Mapping[str, object]]
_NO_OPTIONS: Options = MappingProxyType({})


class Sum(Method):
    """A weighted sum of methods; their terms keep their names.

    A repeated term name gets a number: ``kd``, ``kd_2``. The sum passes every hook on to its methods. Its `needs` and
    `required_hooks` hold those of all its methods.

    Args:
        student: shapes of the student's output.
        teacher: shapes of the teacher's output.
        methods: methods to add up.
        weights: factor of each method.
    """

    kind = "control"

    def __init__(self, student: Spec, teacher: Spec, methods: Sequence[Method], weights: Sequence[float]) -> None:
        super().__init__(student, teacher)
        self.methods, self.weights = nn.ModuleList(methods), tuple(weights)
        self.name = "+".join(method.name for method in methods)
        self.needs = tuple(dict.fromkeys(need for method in methods for need in method.needs))
        hooks = {hook: None for method in methods for hook in method.required_hooks}
        self.required_hooks = {
            hook: "; ".join(m.required_hooks[hook] for m in methods if hook in m.required_hooks) for hook in hooks
        }
        self.uses_teacher = any(method.uses_teacher for method in methods)
        self.trains_teacher = any(method.trains_teacher for method in methods)
        self.fresh_teacher = any(method.fresh_teacher for method in methods)
        self.teacher_maps = union_of_maps(methods)
        self.strong_view = any(method.strong_view for method in methods)
        if alone := [method.name for method in methods if method.strong_view and len(methods) > 1]:
            raise CmkdError(f"{alone[0]} compares two views of the student and cannot be added to other methods")
        own = [method.name for method in methods if method.fresh_teacher]
        if own and any(method.uses_teacher and not method.fresh_teacher for method in methods):
            raise CmkdError(f"{own[0]} trains a teacher of its own and cannot be added to methods that use the run's")
        self.sees_all_labels = any(method.sees_all_labels for method in methods)

    def parts(self) -> list[Method]:
        """Return the methods, in order."""
        return [method for method in self.methods if isinstance(method, Method)]

    @property
    def same_view(self) -> bool:
        """Whether any of the methods needs the student's view."""
        return any(method.same_view for method in self.parts())

    def check_hooks(self) -> None:
        """Check the hooks of each method, so that the error names the method."""
        for method in self.parts():
            method.check_hooks()

    def check_outputs_suffice(self) -> None:
        """Check each method, so that the error names the method."""
        for method in self.parts():
            method.check_outputs_suffice()

    def check_logits_suffice(self) -> None:
        """Check each method that uses a teacher, so that the error names the method."""
        for method in self.parts():
            if method.uses_teacher:
                method.check_logits_suffice()

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Pass both models to every method."""
        for method in self.parts():
            method.setup(student, teacher)

    def on_train_start(self, dataset_size: int) -> None:
        """Pass the number of training pairs to every method."""
        for method in self.parts():
            method.on_train_start(dataset_size)

    def on_train_epoch_start(self, epoch: int) -> None:
        """Pass the epoch to every method."""
        for method in self.parts():
            method.on_train_epoch_start(epoch)

    def on_train_end(self, student: nn.Module) -> None:
        """Pass the trained student to every method."""
        for method in self.parts():
            method.on_train_end(student)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of all methods.

        If one of them trains the teacher, the teacher's output is still a constant for the other methods.
        """
        terms: dict[str, Tensor] = {}
        constant = teacher.detach()
        for method, weight in zip(self.parts(), self.weights, strict=True):
            for name, term in method(student, teacher if method.trains_teacher else constant, batch).items():
                key, count = name, 2
                while key in terms:
                    key, count = f"{name}_{count}", count + 1
                terms[key] = weight * term
        return terms


def taught_by(text: str) -> str:
    """Return the name of the method whose student teaches a method or sum; empty for the run's teacher or no teacher.

    Raises:
        CmkdError: if the methods of the sum have different teachers.
    """
    kinds = {call.name: METHODS.find(call.name) for call in parse_sum(text)}
    taught = {name: kind for name, kind in kinds.items() if kind.uses_teacher or "setup" in kind.required_hooks}
    teachers = {name: kind.taught_by for name, kind in (taught or kinds).items()}
    if len(set(teachers.values())) > 1:
        own = next(name for name, teacher in teachers.items() if teacher)
        raise CmkdError(f"'{text}': {own} has its own teacher and cannot be added to methods with another teacher")
    return next(iter(teachers.values()))


def union_of_maps(methods: Iterable[Method]) -> dict[int, tuple[int, int] | None]:
    """Return the teacher maps that any of the methods reads: stage -> size, from the shallowest.

    A map that two methods request in different sizes is kept unpooled.
    """
    found: dict[int, tuple[int, int] | None] = {}
    for method in methods:
        for stage, size in method.teacher_maps.items():
            stage %= len(method.teacher_spec.map_shapes)
            found[stage] = size if found.get(stage, size) == size else None
    return dict(sorted(found.items()))


def from_expression(text: str, student: Spec, teacher: Spec, defaults: Options = _NO_OPTIONS) -> Method:
    """Build a method, or a weighted sum of methods, from text.

    Args:
        text: expression such as ``"kd"`` or ``"kd(temperature=2)+0.5*rkd"``.
        student: shapes of the student's output.
        teacher: shapes of the teacher's output.
        defaults: method -> option -> value, for options that `text` does not give.

    Returns:
        The method itself if there is only one, with weight 1; else a `Sum`.

    Raises:
        CmkdError: if a name or option is unknown (the message gives the nearest valid one), a value has the wrong type,
            a weight is not a finite number, or a method cannot work with the shapes.

    Example:
        >>> spec = Spec(classes=10, dim=64)
        >>> from_expression("kd(temperature=2)", spec, spec).temperature
        2
        >>> both = from_expression("kd + 0.5*rkd", spec, spec, {"kd": {"temperature": 3.0}})
        >>> both.name, both.needs, both.weights, both.parts()[0].temperature
        ('kd+rkd', ('logits', 'embedding'), (1.0, 0.5), 3.0)
    """
    calls = parse_sum(text)
    for call in calls:
        if not math.isfinite(call.weight):
            raise CmkdError(f"the weight of {call.name} in '{text}' must be a finite number, got {call.weight}")

    def build(call: Call) -> Method:
        return create(call.name, student, teacher, **{**defaults.get(call.name, {}), **call.options})

    methods = [build(call) for call in calls]
    if len(calls) == 1 and calls[0].weight == 1.0:
        return methods[0]
    return Sum(student, teacher, methods, [call.weight for call in calls])
