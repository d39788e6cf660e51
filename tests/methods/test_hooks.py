"""Hooks of methods: which are required, and errors if they are not called."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from cmkd.errors import CmkdError
from cmkd.methods import METHODS, Method, create
from cmkd.methods.base import HOOKS
from cmkd.methods.combine import from_expression
from cmkd.options import parameters
from cmkd.types import Batch, Output, Spec

from .rows import NARROW, WIDE, Row, TinyModel, a_batch, output, total
from .table import ROWS

REQUIRED = [(row, hook) for row in ROWS for hook in METHODS[row.name].required_hooks if hook != "on_train_end"]


def fresh(row: Row) -> Method:
    """Build a method with options that make it require its hooks."""
    torch.manual_seed(0)
    slow = {name: 4 for name in parameters(METHODS[row.name]) if name.endswith(("warmup_epochs", "curriculum_epochs"))}
    return create(row.name, NARROW, NARROW, **row.options, **slow)


def call(method: Method, hooks: Iterable[str]) -> Method:
    torch.manual_seed(7)
    values: dict[str, Any] = {"on_train_start": (32,), "on_train_epoch_start": (2,)}
    values["setup"] = TinyModel(NARROW), TinyModel(NARROW)
    for hook in hooks:
        getattr(method, hook)(*values[hook])
    return method


def step(method: Method) -> dict[str, torch.Tensor]:
    return method(output(NARROW, 8, 0), output(NARROW, 8, 1).detach(), a_batch(8, 4))


BEFORE = [hook for hook in HOOKS if hook != "on_train_end"]


@pytest.mark.parametrize(("row", "hook"), REQUIRED, ids=[f"{row.name}-{hook}" for row, hook in REQUIRED])
@pytest.mark.parametrize("within", ["alone", "sum", "copy", "pickle"])
def test_without_a_required_hook_it_refuses_with_the_missing_line(row: Row, hook: str, within: str) -> None:
    method = call(fresh(row), [h for h in BEFORE if h != hook])
    if within == "sum":
        method = from_expression(f"kd+2*{row.name}", NARROW, NARROW, {row.name: {**row.options}})
        method.methods[1] = call(fresh(row), [])
        call(method, [h for h in BEFORE if h != hook])
    elif within == "copy":
        method = copy.deepcopy(method)
    elif within == "pickle":
        method = pickle.loads(pickle.dumps(method))
    args = output(NARROW, 8, 0), output(NARROW, 8, 1), a_batch(8, 4)
    for forward in (method, method.forward):
        with pytest.raises(CmkdError) as caught:
            forward(*args)
        assert str(caught.value).startswith(f"{row.name}: call method.{hook}(") and "\n" not in str(caught.value)
    call(method, [hook])
    step(method)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_other_hooks_do_not_matter(row: Row) -> None:
    few = call(fresh(row), [h for h in BEFORE if h in METHODS[row.name].required_hooks])
    every = call(fresh(row), BEFORE)
    torch.testing.assert_close(step(few), step(every), rtol=0.0, atol=0.0)
    assert set(few.required_hooks) <= set(HOOKS)
    assert few.state_dict().keys() == every.state_dict().keys()


@pytest.mark.parametrize("expression", ["dkd", "review_kd(warmup_epochs=1)", "ctkd(curriculum_epochs=1)", "kd+dkd"])
def test_options_that_make_a_hook_needless(expression: str) -> None:
    method = from_expression(expression, NARROW, WIDE)
    assert not method.required_hooks
    method(output(NARROW, 8, 0), output(WIDE, 8, 1), a_batch(8, 4))


def test_a_sum_requires_what_its_parts_require() -> None:
    both = from_expression("crd+dkd(warmup_epochs=3)+srrl", NARROW, WIDE)
    assert set(both.required_hooks) == {"setup", "on_train_start", "on_train_epoch_start"}
    said = from_expression("srrl+simkd", NARROW, WIDE).required_hooks["setup"]
    assert said == "it copies the teacher's classifier; the student classifies with the teacher's classifier"


def test_a_hook_that_fails_does_not_count() -> None:
    method = create("srrl", NARROW, NARROW)
    with pytest.raises(CmkdError, match="no module named 'classifier'"):
        method.setup(TinyModel(NARROW), torch.nn.Linear(1, 1))
    with pytest.raises(CmkdError, match=r"call method\.setup"):
        step(method)


def test_an_own_method_declares_hooks_too() -> None:
    class Counting:
        def on_train_start(self, dataset_size: int) -> None:
            self.dataset_size = dataset_size

    class Own(Counting, Method):
        required_hooks = {"on_train_start": "it counts"}  # noqa: RUF012

        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, torch.Tensor]:
            return {"own": student.logits.sum() / self.dataset_size}

    own = Own(Spec(4, 6), Spec(4, 6))
    with pytest.raises(CmkdError, match=r"on_train_start\(dataset_size\) before the first step; it counts"):
        step(own)
    own.on_train_start(5)
    assert total(step(own)).isfinite()


class Returns(Method):
    """Method that returns the terms that it was given."""

    name = "returns"

    def __init__(self, student: Spec, teacher: Spec, *, terms: object = None) -> None:
        super().__init__(student, teacher)
        self.terms = terms

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, torch.Tensor]:
        return self.terms  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([torch.zeros(())], "returns: forward must return a dict of terms by name, got list"),
        ({"a": torch.zeros(3, 2)}, r"must be a scalar tensor with a name, but 'a' is a tensor of shape \(3, 2\)"),
        ({"a": 1.0}, "but 'a' is float"),
        ({7: torch.zeros(())}, r"but 7 is a tensor of shape \(\)"),
    ],
)  # fmt: skip
def test_what_an_own_method_returns_is_checked(terms: object, words: str) -> None:
    with pytest.raises(CmkdError, match=words):
        Returns(NARROW, NARROW, terms=terms)(output(NARROW, 3, 0), output(NARROW, 3, 1), a_batch(3, 4))


@pytest.mark.parametrize(
    ("error", "told"), [(KeyError("optical"), True), (IndexError("0"), True), (LookupError("0"), False)]
)
def test_a_method_that_reads_what_it_does_not_declare_is_told_to(error: Exception, told: bool) -> None:
    class Reads(Method):
        needs = ("logits", "index")

        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, torch.Tensor]:
            raise error

    class More(Reads):
        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, torch.Tensor]:
            return super().forward(student, teacher, batch)

    with pytest.raises(LookupError) as raised:
        step(More(NARROW, NARROW))
    hint = "`needs` must name what forward reads, and lacks inputs, feature_maps"
    assert getattr(raised.value, "__notes__", []) == [hint] * told


@pytest.mark.parametrize(("needs", "words"), [(("logits", "maps"), "needs names 'maps'"), ("logits", "needs names 'l")])
def test_what_an_own_method_needs_is_checked(needs: object, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS["kd"], "needs", needs)
    with pytest.raises(CmkdError, match=words):
        create("kd", NARROW, NARROW)


def test_an_own_method_without_forward_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unfinished(Method):
        """Method without a forward pass."""

    monkeypatch.setattr(METHODS, "find", lambda name: Unfinished)
    with pytest.raises(CmkdError, match="it has no method 'forward', which returns its terms"):
        create("unfinished", NARROW, NARROW)


def test_an_own_method_that_forgets_the_constructor_of_its_base_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Returns):
        """Method that does not call the constructor of its base."""

        def __init__(self, student: Spec, teacher: Spec, *, weight: float = 1.0) -> None:
            self.weight = weight

    monkeypatch.setattr(METHODS, "find", lambda name: Forgetful)
    with pytest.raises(CmkdError, match=r"must begin with super\(\).__init__\(student, teacher\)"):
        create("forgetful", NARROW, NARROW)


def test_an_own_option_that_is_not_keyword_only_is_told_apart_from_an_unknown_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Positional(Returns):
        """Method whose option is not keyword-only."""

        def __init__(self, student: Spec, teacher: Spec, weight: float = 1.0) -> None:
            super().__init__(student, teacher)

    monkeypatch.setattr(METHODS, "find", lambda name: Positional)
    with pytest.raises(CmkdError, match=r"option weight of positional must be keyword-only: write '\*' before it"):
        create("positional", NARROW, NARROW, weight=2.0)
    with pytest.raises(CmkdError, match="unknown option of positional 'student'"):
        create("positional", NARROW, NARROW, **{"student": 2.0})


def test_an_own_method_without_a_name_is_called_by_its_class() -> None:
    class Base(Method):
        """Method without a name."""

    class Derived(Base):
        """Subclass without a name."""

        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, torch.Tensor]:
            return {"a": torch.zeros(3)}

    class Named(Returns):
        """Subclass with the name of its base."""

    assert (Base.name, Derived.name, Named.name) == ("Base", "Derived", "returns")
    with pytest.raises(CmkdError, match=r"^Derived: each term must be a scalar"):
        Derived(NARROW, NARROW)(output(NARROW, 3, 0), output(NARROW, 3, 1), a_batch(3, 4))


@pytest.mark.parametrize(
    ("name", "student", "words"),
    [
        ("kd", replace(NARROW, classes=3), r"'logits' of the student has the widths \(3,\), but its Spec says \(4,\)"),
        ("crd", replace(NARROW, dim=5), r"'embedding' of the student has the widths \(5,\), but its Spec says \(6,\)"),
        ("fsp", Spec(4, 6), r"'feature_maps' of the student has the widths \(\), but its Spec says \(4, 6\)"),
        (
            "kd+ickd",
            Spec(4, 6, ((4, 8, 8), (5, 4, 4))),
            r"the widths \(4, 5\), but its Spec says \(4, 6\); build the",
        ),
    ],
)
def test_outputs_that_contradict_their_specs_are_named(name: str, student: Spec, words: str) -> None:
    method = from_expression(name, NARROW, WIDE)
    method.on_train_start(3)
    with pytest.raises(CmkdError, match=words):
        method(output(student, 3, 0), output(WIDE, 3, 1), a_batch(3, 4))


@pytest.mark.parametrize("given", [(0, 6), (4, -1), (4, 6, (4, 8, 8)), (4, 6, ((4, 8),)), (4, 6, ((4, 0, 8),))])
def test_a_spec_that_no_output_can_have_is_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(CmkdError, match="a Spec has classes from 1, dim from 0, and map_shapes"):
        Spec(*given)
