"""Checks that every method must pass; differences between methods are in `table.py`."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.methods import METHODS, Method
from cmkd.options import parameters
from cmkd.types import UNLABELED, Batch, Output, Spec

from .processes import BATCH, SHARES, mean, run_pair, two_steps
from .rows import (
    EXPECTED,
    NARROW,
    REFERENCE,
    SMALL,
    WIDE,
    Case,
    Row,
    TinyModel,
    a_batch,
    built,
    leaves,
    output,
    students,
    tensors,
    total,
)
from .table import ROWS

EACH = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
CASES = [case for row in ROWS for case in row.cases]


def each_case(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.function.__name__)


EACH_CASE = each_case(CASES)


def test_every_method_has_one_row() -> None:
    names = [row.name for row in ROWS]
    assert sorted(names) == sorted(METHODS), "tests/methods/table.py needs exactly one row per method"


def test_every_reference_value_is_checked() -> None:
    assert set(EXPECTED) == {case.reference for case in CASES} - {None}


@EACH
def test_class_says_what_it_is(row: Row) -> None:
    method = METHODS[row.name]
    assert method.kind in ("control", "logits", "features", "relations", "structure", "cross-modal")
    assert set(method.needs) <= {"logits", "embedding", "feature_maps", "target", "index", "inputs"}
    assert method.__doc__ and method.forward.__doc__
    if method.kind != "control":
        assert method.paper and "@" in method.bibtex
    for name, parameter in parameters(method).items():
        assert parameter.default is not parameter.empty, f"{name} needs a default"
        assert f"{name}:" in method.__doc__, f"{name} is not in the docstring"


@each_case([case for case in CASES if case.reference])
def test_reference_value_and_gradient(case: Case) -> None:
    entry = EXPECTED[case.reference]
    inputs = load_file(REFERENCE / "inputs.safetensors")
    given = {name: inputs[name].clone().requires_grad_(name in entry["gradient_norms"]) for name in inputs}
    arguments = [[given[n] for n in a] if isinstance(a, list) else given[a] for a in entry["arguments"]]
    value = case.function(*arguments, **entry["hyperparameters"])
    value.backward()
    torch.testing.assert_close(value.item(), entry["value"], rtol=1e-6, atol=0.0)
    for name, norm in entry["gradient_norms"].items():
        gradient = given[name].grad
        assert gradient is not None
        torch.testing.assert_close(gradient.norm().item(), norm, rtol=1e-6, atol=0.0)
        probe = torch.tensor(entry["gradient_probe"][name], dtype=torch.float64)
        torch.testing.assert_close(gradient.flatten()[:4], probe, rtol=1e-6, atol=1e-6 * norm)


@EACH_CASE
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_slow_form(case: Case, seed: int) -> None:
    fast, slow = tensors(case.arguments, seed), tensors(case.arguments, seed)
    value, wanted = case.function(*fast, **case.options), case.slow(*slow, **case.options)
    torch.testing.assert_close(value, wanted.reshape(()).to(value.dtype), rtol=1e-6, atol=1e-9)
    gradients = torch.autograd.grad(value, students(fast))
    # tolerance 1e-6, because the slow forms lack the authors' small constants in denominators (such as 1e-8)
    for ours, theirs in zip(gradients, torch.autograd.grad(wanted, students(slow)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@each_case([case for case in CASES if not case.constant_parts])
def test_gradient_is_right(case: Case) -> None:
    arguments = tensors(case.arguments, 3, SMALL)
    inputs = students(arguments)

    def function(*_: Tensor) -> Tensor:  # the leaves are inside `arguments`; gradcheck perturbs them in place
        return case.function(*arguments, **case.options)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=False, atol=1e-5)


@EACH_CASE
def test_autocast_does_not_lower_precision(case: Case) -> None:
    arguments = tensors(case.arguments, 0)
    arguments = [
        [t.float() for t in a] if isinstance(a, list) else a.float() if a.is_floating_point() else a for a in arguments
    ]
    outside = case.function(*arguments, **case.options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.function(*arguments, **case.options)
    torch.testing.assert_close(inside, outside, rtol=1e-6, atol=1e-7)


def run(method: Method, student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Run a step, check that terms are finite scalars and gradients are finite, and return the loss."""
    teacher = teacher if method.trains_teacher else teacher.detach()
    terms = method(student, teacher, batch)
    for name, term in terms.items():
        assert term.shape == (), f"{name} is not a scalar"
        assert torch.isfinite(term), f"{name} is {term}"
    loss = total(terms)
    if terms:
        assert loss.requires_grad, "the terms are cut from the student's graph"
        loss.backward()
    # half-precision gradients are not rescaled, so an infinite value would be a bug of the method
    for tensor in [*leaves(student), *method.parameters()]:
        assert tensor.grad is None or torch.isfinite(tensor.grad).all(), "a gradient is not finite"
    return loss.detach()


@EACH
@pytest.mark.parametrize(
    ("student", "teacher"), [(NARROW, WIDE), (WIDE, NARROW), (NARROW, NARROW)], ids=["narrow", "wide", "same"]
)
def test_widths_and_resolutions(row: Row, student: Spec, teacher: Spec) -> None:
    if row.same_width and student.dim != teacher.dim:
        with pytest.raises(CmkdError, match=row.name):
            built(row, student, teacher)
        return
    method = built(row, student, teacher)
    run(method, output(student, 8, 0), output(teacher, 8, 1), a_batch(8, 4))
    for name, parameter in method.named_parameters():
        if parameter.requires_grad and not any(part in name for part in row.frozen):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"{name} gets no gradient"


@EACH
def test_different_classes(row: Row) -> None:
    teacher = replace(WIDE, classes=7) if not row.same_width else replace(NARROW, classes=7)
    if row.same_classes:
        with pytest.raises(CmkdError, match="classes"):
            built(row, NARROW, teacher)
    else:
        method = built(row, NARROW, teacher)
        given = output(NARROW if method.strong_view else teacher, 8, 1)  # the student's other view, or the teacher
        run(method, output(NARROW, 8, 0), given, a_batch(8, 4))


def teacher_spec(row: Row, classes: int = 4) -> Spec:
    return replace(NARROW if row.same_width else WIDE, classes=classes)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_bfloat16_autocast(row: Row, dtype: torch.dtype) -> None:
    method = built(row, NARROW, teacher_spec(row))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(method, output(NARROW, 8, 0, dtype=dtype), output(teacher_spec(row), 8, 1, dtype=dtype), a_batch(8, 4))


EXTREME = [(row, {}) for row in ROWS] + [
    (row, {"temperature": 0.07}) for row in ROWS if "temperature" in parameters(METHODS[row.name])
]


@pytest.mark.parametrize(("row", "options"), EXTREME, ids=[f"{r.name}-{o.get('temperature', '')}" for r, o in EXTREME])
def test_extreme_logits(row: Row, options: dict[str, float]) -> None:
    method = built(row, NARROW, teacher_spec(row), **options)
    student, teacher = output(NARROW, 8, 0), output(teacher_spec(row), 8, 1)
    with torch.no_grad():
        for tensor in (student.logits, teacher.logits):
            tensor.copy_(tensor.sign() * 1e4)
    run(method, student, teacher, a_batch(8, 4))


@EACH
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_scale_of_features(row: Row, scale: float) -> None:
    method = built(row, NARROW, teacher_spec(row))
    run(method, output(NARROW, 8, 0, scale=scale), output(teacher_spec(row), 8, 1, scale=scale), a_batch(8, 4))


@EACH
def test_batch_of_one(row: Row) -> None:
    method = built(row, NARROW, teacher_spec(row))
    run(method, output(NARROW, 1, 0), output(teacher_spec(row), 1, 1), a_batch(1, 4))


@EACH
@pytest.mark.parametrize(
    ("few", "refusing", "message"),
    [
        ("classes", ("lskd", "c2kd"), "at least 3 classes"),
        ("positions", ("at", "nst"), "has only one"),
        ("channels", ("ickd", "vkd", "fd_cmkd", "hypersphere"), "at least 2 channels, got 1"),
    ],
    ids=lambda given: given if given in ("classes", "positions", "channels") else "",
)
def test_two_classes_and_maps_of_one_position_or_channel_teach_or_are_refused(
    row: Row, few: str, refusing: tuple[str, ...], message: str
) -> None:
    student, teacher = NARROW, teacher_spec(row)
    if few == "classes":
        student, teacher = replace(student, classes=2), teacher_spec(row, 2)
    elif few == "positions":
        ours, theirs = (tuple((c, 1, 1) for c, _, _ in spec.map_shapes) for spec in (student, teacher))
        student, teacher = replace(student, map_shapes=ours), replace(teacher, map_shapes=theirs)
    else:
        teacher = replace(teacher, dim=1, map_shapes=tuple((1, h, w) for _, h, w in teacher.map_shapes))
        student = teacher if row.same_width else student
    if row.name in refusing:
        with pytest.raises(CmkdError, match=message):
            built(row, student, teacher)
        return
    method, given = built(row, student, teacher), output(student, 8, 0)
    run(method, given, output(teacher, 8, 1), a_batch(8, student.classes))
    gradients = [tensor.grad.abs().max() for tensor in leaves(given) if tensor.grad is not None]
    assert not gradients or float(max(gradients)) > 1e-7


@EACH
@pytest.mark.parametrize("label", [0, 3])
def test_single_class_in_batch(row: Row, label: int) -> None:
    method = built(row, NARROW, teacher_spec(row))
    batch = a_batch(8, 4, target=torch.full((8,), label))
    run(method, output(NARROW, 8, 0), output(teacher_spec(row), 8, 1), batch)


@EACH
@pytest.mark.parametrize("how", ["all", "some"])
def test_unlabeled(row: Row, how: str) -> None:
    method = built(row, NARROW, teacher_spec(row))
    target = torch.full((8,), UNLABELED)
    if how == "some":
        target[::3] = 1
    run(method, output(NARROW, 8, 0), output(teacher_spec(row), 8, 1), a_batch(8, 4, target=target))


@pytest.mark.parametrize("row", [row for row in ROWS if "target" in METHODS[row.name].needs], ids=lambda row: row.name)
def test_an_unlabeled_pair_is_of_no_class(row: Row) -> None:
    def value(label: int) -> float:
        torch.manual_seed(0)
        method = built(row, NARROW, teacher_spec(row), **({"threshold": -2.0} if row.name == "c2kd" else {}))
        teacher = output(teacher_spec(row), 6, 1)
        batch = a_batch(6, 4, target=torch.tensor([0, 1, label, 2, 3, label]))
        return total(method(output(NARROW, 6, 0), teacher if method.trains_teacher else teacher.detach(), batch)).item()

    assert value(UNLABELED) == value(UNLABELED) and value(UNLABELED) not in [value(label) for label in range(4)]


@pytest.mark.parametrize("name", ["dkd", "nkd", "wsld"])  # all their terms use only labeled samples
def test_unlabeled_rows_count_as_zero_in_target_terms(name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    method = built(row, NARROW, teacher_spec(row))
    target = torch.tensor([0, 1, -1, 2, 3, -1])
    student, teacher = output(NARROW, 6, 0), output(teacher_spec(row), 6, 1)
    mixed = total(method(student, teacher.detach(), a_batch(6, 4, target=target)))
    kept = target != UNLABELED
    alone = total(method(student.select(kept), teacher.detach().select(kept), a_batch(4, 4, target=target[kept])))
    torch.testing.assert_close(mixed, alone * 4 / 6)


@EACH
@pytest.mark.parametrize("how", ["identical", "constant", "zero", "constant student"])
def test_identical_and_collapsed(row: Row, how: str) -> None:
    method = built(row, NARROW, NARROW)
    student, teacher = output(NARROW, 8, 0), output(NARROW, 8, 0)
    with torch.no_grad():
        for ours, theirs in zip(leaves(student), leaves(teacher), strict=True):
            if how in ("constant", "zero"):
                theirs.fill_(0.5 if how == "constant" else 0.0)
            if how != "identical":
                ours.fill_(0.0 if how == "zero" else 0.5)
    run(method, student, teacher, a_batch(8, 4))


@EACH
def test_a_collapsed_sample_has_a_gradient_of_ordinary_size(row: Row) -> None:
    """Half precision holds 6e4 at most, and clipping would let the noise of one sample dominate the step."""
    largest = []
    for collapsed in (False, True):
        student = output(NARROW, 8, 0)
        with torch.no_grad():
            for tensor in leaves(student) if collapsed else []:
                tensor[0] = 0.0
        run(built(row, NARROW, teacher_spec(row)), student, output(teacher_spec(row), 8, 1), a_batch(8, 4))
        largest.append(max((float(t.grad.abs().max()) for t in leaves(student) if t.grad is not None), default=0.0))
    assert largest[1] <= 100 * largest[0]


def test_dist_of_two_classes_compares_samples_alone() -> None:
    """Over two classes, r is 1 or -1, and its gradient is unbounded if both values are almost equal."""
    row = next(row for row in ROWS if row.name == "dist")
    spec = replace(NARROW, classes=2)
    student, teacher = output(spec, 8, 0), output(spec, 8, 1)
    with torch.no_grad():
        student.logits[0] = torch.tensor([0.3, 0.3 + 1e-6])
    run(built(row, spec, spec), student, teacher, a_batch(8, 2))
    assert student.logits.grad is not None and float(student.logits.grad.abs().max()) < 1.0


@EACH
def test_teacher_is_left_alone(row: Row) -> None:
    method = built(row, NARROW, teacher_spec(row), start=False)
    torch.manual_seed(7)
    student_model, teacher_model = TinyModel(NARROW), TinyModel(teacher_spec(row)).eval()
    before = {name: value.clone() for name, value in teacher_model.state_dict().items()}
    method.setup(student_model, teacher_model)
    method.on_train_start(32)
    method.on_train_epoch_start(0)
    teacher = teacher_model(torch.randn(8, 3))
    run(method, output(NARROW, 8, 0), teacher, a_batch(8, 4))
    if method.trains_teacher:
        assert teacher_model.neck.weight.grad is not None
    else:
        assert all(p.grad is None for p in teacher_model.parameters())
    assert not teacher_model.training
    owned = {id(p) for p in method.parameters() if p.requires_grad}
    assert not owned & {id(p) for p in [*teacher_model.parameters(), *student_model.parameters()]}
    torch.testing.assert_close(dict(teacher_model.state_dict()), before, rtol=0.0, atol=0.0)


@EACH
def test_state_round_trip(row: Row, tmp_path: Path) -> None:
    first, second = built(row, NARROW, teacher_spec(row)), built(row, NARROW, teacher_spec(row), seed=5, start=False)

    def step(method: Method, seed: int) -> Tensor:
        return run(method, output(NARROW, 8, seed), output(teacher_spec(row), 8, seed + 1), a_batch(8, 4))

    step(first, 0)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second.on_train_start(32)
    second.on_train_epoch_start(0)
    torch.testing.assert_close(step(second, 2), step(first, 2), rtol=0.0, atol=0.0)


@EACH
def test_goes_to_a_spawned_process_with_its_models(row: Row) -> None:
    torch.manual_seed(0)
    method, student, teacher = built(row, NARROW, teacher_spec(row)), TinyModel(NARROW), TinyModel(teacher_spec(row))
    method.setup(student, teacher)
    method.eval()  # both processes share memory, so neither may count steps
    sent_method, sent_student = ForkingPickler.loads(bytes(ForkingPickler.dumps((method, student))))
    x = torch.randn(8, 3)
    torch.testing.assert_close(sent_student(x).logits, student(x).logits)
    outputs, batch = (output(NARROW, 8, 0), output(teacher_spec(row), 8, 1).detach()), a_batch(8, 4)
    torch.testing.assert_close(sent_method(*outputs, batch), method(*outputs, batch), rtol=0.0, atol=0.0)


@EACH
def test_runs_three_optimizer_steps(row: Row) -> None:
    method = built(row, NARROW, teacher_spec(row))
    student = output(NARROW, 8, 0)
    teacher = output(teacher_spec(row), 8, 1)
    optimizer = torch.optim.SGD([*leaves(student), *method.parameters()], lr=1e-3)
    for epoch in range(3):
        method.on_train_epoch_start(epoch)
        optimizer.zero_grad()
        run(method, student, teacher, a_batch(8, 4))
        optimizer.step()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    return run_pair(tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("shares", SHARES)
@EACH
def test_two_processes_equal_one(row: Row, shares: str, pair: list[dict[str, dict[str, Any]]]) -> None:
    whole = two_steps(row, [range(BATCH)], 0)
    parts = [results[row.name][shares] for results in pair]
    close = {"rtol": row.tolerance, "atol": row.tolerance * 1e-2}
    torch.testing.assert_close(mean([part["loss"] for part in parts]), whole["loss"], **close)
    for name, gradient in whole["parameters"].items():
        torch.testing.assert_close(mean([part["parameters"][name] for part in parts]), gradient, **close)
    for place, gradient in enumerate(whole["outputs"]):
        for part, rows in zip(parts, SHARES[shares], strict=True):
            found = part["outputs"][place]
            if gradient is None:
                assert found is None or not found.any()
            else:
                # DDP's mean over two processes halves each gradient
                torch.testing.assert_close(found / 2, gradient[list(rows)], **close)
