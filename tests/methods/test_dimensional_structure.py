"""Checks specific to dimensional structure; those common to all methods are in `test_methods.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.methods import create
from cmkd.methods.decorrelation import decorrelation
from cmkd.methods.ds import channel_independence, feature_uniformity, map_points
from cmkd.types import Output

from .rows import NARROW, WIDE, a_batch, leaves, output

QUIET = {"kd_weight": 0.0, "independence_weight": 0.0, "uniformity_weight": 0.0}


def terms(student: Output | None = None, teacher: Output | None = None, **options: Any) -> dict[str, Tensor]:  # noqa: ANN401
    student = output(NARROW, 8, 0) if student is None else student
    teacher = (output(WIDE, 8, 1) if teacher is None else teacher).detach()
    method = create("ds", student.spec(), teacher.spec(), **options)
    return method(student, teacher, a_batch(len(student.logits), 4))


def test_each_term_is_named_and_weighted() -> None:
    torch.manual_seed(0)
    once = terms(uniformity_reference="self", kd_weight=4.0, independence_weight=10.0, uniformity_weight=0.3)
    assert set(once) == {"kd", "independence", "uniformity"}
    torch.manual_seed(0)
    twice = terms(uniformity_reference="self", kd_weight=8.0, independence_weight=20.0, uniformity_weight=0.6)
    for name, value in once.items():
        torch.testing.assert_close(twice[name], 2.0 * value)


@pytest.mark.parametrize("name", ["kd", "independence", "uniformity"])
def test_a_term_of_weight_zero_is_left_out(name: str) -> None:
    assert set(terms(**{f"{name}_weight": 0.0})) == {"kd", "independence", "uniformity"} - {name}


def test_what_a_term_does_not_need_is_not_asked_for() -> None:
    other = replace(WIDE, classes=9)
    create("ds", NARROW, other, kd_weight=0.0, independence_weight=0.0)
    create("ds", NARROW, other, kd_weight=0.0, independence_features="embedding")
    create("ds", NARROW, other, kd_weight=0.0, independence_reference="self")
    with pytest.raises(CmkdError, match="classes"):
        create("ds", NARROW, other, kd_weight=0.0)
    flat = Output(torch.zeros(2, 4), torch.zeros(2, 6)).spec()
    create("ds", flat, flat, uniformity_weight=0.0)
    with pytest.raises(CmkdError, match="maps"):
        create("ds", flat, flat)
    for without in ({"independence_weight": 0.0}, {"independence_reference": "self"}):
        assert not list(create("ds", NARROW, WIDE, independence_features="embedding", **without).parameters())
    logits = replace(WIDE, dim=0, map_shapes=())  # as for a file that holds only logits
    create("ds", NARROW, logits, uniformity_reference="self").check_logits_suffice()
    embeds = {"independence_features": "embedding", "uniformity_weight": 0.0}
    for without in ({"independence_reference": "self"}, {"independence_weight": 0.0}):
        for_logits = create("ds", NARROW, logits, **embeds, **without)
        for_logits.check_outputs_suffice()
        for_logits.check_logits_suffice()
    with pytest.raises(CmkdError, match="needs at least 1 feature maps, student has 0; choose"):
        create("ds", flat, flat, uniformity_reference="self")
    assert not list(create("ds", NARROW, WIDE).parameters())
    assert list(create("ds", NARROW, WIDE, independence_features="embedding").parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"independence_reference": "techer"},
        {"independence_features": "logits"},
        {"uniformity_reference": "structure"},
        {"points": "pixels"},
        {"stages": ()},
        {"stages": (2,)},
        {"pool": 0},
        {"kd_weight": -1.0},
        {"t": 0.0},
    ],
    ids=str,
)
def test_bad_options_are_refused_when_built(options: dict[str, Any]) -> None:
    with pytest.raises(CmkdError):
        create("ds", NARROW, WIDE, **options)


def test_references_without_a_teacher_do_not_read_it() -> None:
    student, options = output(NARROW, 8, 0), {"independence_reference": "self", "uniformity_reference": "self"}
    for features in ("probabilities", "embedding"):
        own = {"independence_features": features, **options}
        first, second = (terms(student, output(WIDE, 8, seed), kd_weight=0.0, **own) for seed in (1, 2))
        torch.testing.assert_close(first, second, rtol=0.0, atol=0.0)
        method = create("ds", NARROW, WIDE, kd_weight=0.0, **own)
        assert not method.uses_teacher and "feature_maps" in method.needs
        method.check_logits_suffice()
        nothing = Output(torch.zeros(8, 4), torch.zeros(8, 0))
        torch.testing.assert_close(method(student, nothing, a_batch(8, 4)), first, rtol=0.0, atol=0.0)
        assert create("ds", NARROW, WIDE, **own).needs == ("logits",)  # the teacher's, for the kd part
    assert create("ds", NARROW, WIDE, **QUIET).uses_teacher is False


def test_structure_reference_is_the_distance_of_the_two_correlation_matrices() -> None:
    x = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert channel_independence(-3.0 * x + 1.0, x, reference="structure") < 1e-8  # a sign change of all cancels
    assert channel_independence(-3.0 * x + 1.0, x) > 3.9
    mixed = x @ torch.linspace(-1, 1, 25, dtype=torch.float64).reshape(5, 5)
    difference = torch.corrcoef(mixed.T) - torch.corrcoef(x.T)
    wanted = 0.7 * difference.square().sum() / 5
    found = channel_independence(mixed, x, off_diagonal_weight=0.7, reference="structure")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0.0)  # eps of 1e-5 is added to the variances


@pytest.mark.parametrize("classes", [10, 1000])
def test_independence_holds_for_probabilities_among_many_classes(classes: int) -> None:
    logits = torch.randn(64, classes, generator=torch.Generator().manual_seed(0))
    teacher = logits.softmax(1)
    assert channel_independence(teacher, teacher, reference="cross") < 1e-6
    for scale in (1e-3, 1.0, 1e3):
        found, wanted = (channel_independence(scale * x, x) for x in (teacher, teacher.double()))
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(decorrelation(scale * teacher), decorrelation(teacher), rtol=1e-4, atol=1e-6)


def test_output_features_are_probabilities_or_embedding() -> None:
    student, teacher = output(NARROW, 8, 0), output(NARROW, 8, 1).detach()
    options = {**QUIET, "independence_weight": 2.0}
    found = terms(student, teacher, **options)["independence"]
    wanted = 2.0 * channel_independence((student.logits / 2).softmax(1), (teacher.logits / 2).softmax(1))
    torch.testing.assert_close(found, wanted)
    soft = 2.0 * channel_independence((student.logits / 3).softmax(1), (teacher.logits / 3).softmax(1))
    torch.testing.assert_close(terms(student, teacher, **options, temperature=3.0)["independence"], soft)
    shifted = replace(student, logits=student.logits + torch.randn(8, 1), embedding=student.embedding.flip(1))
    torch.testing.assert_close(terms(shifted, teacher, **options)["independence"], found)  # uses only probabilities
    embedded = terms(student, teacher, **options, independence_features="embedding")["independence"]
    torch.testing.assert_close(embedded, 2.0 * channel_independence(student.embedding, teacher.embedding))


def test_pairs_are_led_where_the_hinge_is_idle() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    other = x[torch.randperm(64, generator=torch.Generator().manual_seed(1))]  # equally uniform, other positions
    assert feature_uniformity(other, x, reference="teacher") < 1e-5
    assert feature_uniformity(other, x) > 0.5
    assert feature_uniformity(3.0 * x + 1.0, x) < 1e-8  # features are centered and normalized


def test_hinge_acts_only_where_the_student_is_less_uniform() -> None:
    spread = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    bunched = (spread * torch.tensor([5.0] + [0.1] * 7)).requires_grad_()
    teacher = spread.clone().requires_grad_()
    active = feature_uniformity(bunched, teacher, reference="teacher")
    active.backward()
    assert active > 0 and bunched.grad is not None and bunched.grad.any() and teacher.grad is None
    alone = feature_uniformity(bunched, reference="self") - feature_uniformity(spread, reference="self")
    torch.testing.assert_close(active, alone)
    assert feature_uniformity(spread, bunched, reference="teacher") == 0.0


def test_descending_uniformity_spreads_and_descending_independence_decorrelates() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(64, 1, generator=generator) + 0.3 * torch.randn(64, 6, generator=generator)

    def mean_correlation(x: Tensor) -> float:
        return float((torch.corrcoef(x.T) - torch.eye(6)).abs().mean())

    for reference, loss in (
        ("uniform", lambda x: feature_uniformity(x, reference="self")),
        ("independent", lambda x: channel_independence(x, x, off_diagonal_weight=1.0, reference="self")),
    ):
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            loss(x).backward()
            optimizer.step()
        assert mean_correlation(x.detach()) < 0.5 * mean_correlation(start), reference


def test_map_points() -> None:
    maps = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    pooled = map_points(maps, pool=2)
    assert pooled.shape == (2, 12) and pooled[0, 0] == maps[0, 0, :2, :2].mean()
    positions = map_points(maps, points="positions", pool=None)
    assert positions.shape == (32, 3) and torch.equal(positions[5], maps[0, :, 1, 1])
    # a map smaller than the pool is not enlarged: repeated positions would count as coinciding points
    assert map_points(maps[:, :, :1, :1], points="positions", pool=4).shape == (2, 3)


@pytest.mark.parametrize("points", ["pooled", "positions"])
@pytest.mark.parametrize("reference", ["teacher", "self"])
def test_stages_are_averaged(points: str, reference: str) -> None:
    options = {**QUIET, "uniformity_weight": 1.0, "points": points, "uniformity_reference": reference, "pool": None}
    both = terms(stages=(0, 1), **options)["uniformity"]
    each = [terms(stages=(stage,), **options)["uniformity"] for stage in (0, -1)]
    torch.testing.assert_close(both, torch.stack(each).mean())


REFERENCES = [
    {"independence_features": f, "independence_reference": i, "uniformity_reference": u, "points": p, "center": c}
    for f, i, u, p, c in [
        ("probabilities", "teacher", "pairs", "pooled", True),
        ("embedding", "teacher", "teacher", "pooled", True),
        ("probabilities", "cross", "pairs", "pooled", True),
        ("embedding", "self", "self", "positions", True),
        ("embedding", "structure", "self", "pooled", False),
    ]
]


@pytest.mark.parametrize("options", REFERENCES, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("how", ["random", "constant", "zero", "duplicated", "huge"])
def test_every_reference_stays_finite(options: dict[str, Any], size: int, how: str) -> None:
    student, teacher = output(NARROW, size, 0), output(WIDE, size, 1)
    with torch.no_grad():
        for tensor in leaves(student):
            if how == "duplicated":
                tensor.copy_(tensor[:1].expand_as(tensor).clone())
            elif how == "huge":
                tensor.mul_(1e6)
            elif how != "random":
                tensor.fill_({"constant": 0.1, "zero": 0.0}[how])
    found = terms(student, teacher, **options)
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert all(term.isfinite() for term in found.values()), found
    for tensor in leaves(student):
        assert tensor.grad is None or tensor.grad.isfinite().all()


@pytest.mark.parametrize("options", REFERENCES, ids=lambda o: "-".join(map(str, o.values())))
def test_nan_stays_visible(options: dict[str, Any]) -> None:
    student = output(NARROW, 8, 0)
    with torch.no_grad():
        student.embedding[3, 1] = torch.nan
        student.logits[3, 1] = torch.nan
        student.feature_maps[-1][3, 1, 2, 2] = torch.nan
    found = terms(student, **options)
    assert found["independence"].isnan() and found["uniformity"].isnan()
    assert sum(found.values()).isnan()  # type: ignore[union-attr]


def test_float32_statistics_under_autocast() -> None:
    student, teacher = output(NARROW, 64, 0), output(NARROW, 64, 1)
    plain = terms(student, teacher, uniformity_reference="self")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = terms(student, teacher, uniformity_reference="self")
    torch.testing.assert_close(mixed, plain, rtol=1e-6, atol=1e-6)  # bfloat16 would leave 4e-3
