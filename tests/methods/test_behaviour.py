"""Properties of single methods beyond the common checks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cmkd.errors import CmkdError
from cmkd.methods import create
from cmkd.methods.c2kd import kendall
from cmkd.methods.crd import CRD
from cmkd.methods.ickd import ickd
from cmkd.methods.mfh import MFH, permutation_saliency
from cmkd.methods.mgd import MGD
from cmkd.methods.ofd import OFD
from cmkd.methods.pkt import pkt
from cmkd.methods.simkd import SimKD
from cmkd.methods.teacher_init import TeacherInit, copy_deeper
from cmkd.methods.vkd import VKD
from cmkd.models import FusedModel, Model, build
from cmkd.models.wrapping import wrap
from cmkd.types import Modality, Spec

from .rows import NARROW, WIDE, TinyModel, a_batch, output


def test_bound_teacher_is_a_frozen_copy() -> None:
    method, teacher = create("srrl", NARROW, WIDE), TinyModel(WIDE)
    method.setup(TinyModel(NARROW), teacher)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    nn.init.zeros_(teacher.classifier.weight)
    torch.testing.assert_close(dict(method.state_dict()), before, rtol=0.0, atol=0.0)


def simkd_pair() -> tuple[SimKD, TinyModel, TinyModel]:
    torch.manual_seed(0)
    method, student, teacher = SimKD(NARROW, WIDE), TinyModel(NARROW), TinyModel(WIDE)
    method.setup(student, teacher)
    return method, student, teacher


def through_teacher(method: SimKD, student: TinyModel, teacher: TinyModel, x: torch.Tensor) -> torch.Tensor:
    return teacher.classifier(method.projector(student.neck(student.body(student.stem(x)))))


def test_simkd_classifies_through_the_teacher_while_it_trains() -> None:
    method, student, teacher = simkd_pair()
    assert not any(p.requires_grad for p in [*student.classifier.parameters(), *method.teacher_classifier.parameters()])
    optimizer = torch.optim.SGD([p for p in [*student.parameters(), *method.parameters()] if p.requires_grad], lr=0.1)
    x = torch.randn(5, 3)
    for _ in range(3):
        optimizer.zero_grad()
        out = student(x)
        student(x)  # a second pass in one step must not spoil the first one's backward
        torch.testing.assert_close(out.logits, through_teacher(method, student, teacher, x))
        term = method(out, teacher(x).detach(), a_batch(5, 4))["simkd"]
        (term + out.logits.square().mean()).backward()
        optimizer.step()


def test_simkd_leaves_an_ordinary_student() -> None:
    method, student, teacher = simkd_pair()
    keys = set(TinyModel(NARROW).state_dict())
    x = torch.randn(5, 3)
    student(x)
    with torch.no_grad():
        method.projector.weight.add_(1.0)  # like the last optimizer step, after the last forward pass
    method.on_train_end(student)
    assert set(student.state_dict()) == keys and type(student.classifier) is nn.Linear
    assert all(p.requires_grad for p in student.parameters())
    rebuilt = TinyModel(NARROW)
    rebuilt.load_state_dict(student.state_dict())
    torch.testing.assert_close(rebuilt(x).logits, through_teacher(method, student, teacher, x))
    with torch.no_grad():
        method.projector.weight.add_(1.0)
    torch.testing.assert_close(rebuilt(x).logits, student(x).logits)  # the hook is removed


def test_a_moving_average_of_the_student_follows_simkd() -> None:
    method, student, teacher = simkd_pair()
    average = copy.deepcopy(student)
    with torch.no_grad():
        method.projector.weight.add_(1.0)
    x = torch.randn(5, 3)
    torch.testing.assert_close(average(x).logits, through_teacher(method, average, teacher, x))


def test_simkd_keeps_a_loaded_checkpoint() -> None:
    method, student, _ = simkd_pair()
    x = torch.randn(5, 3)
    student(x)
    best = copy.deepcopy(student.state_dict())
    with torch.no_grad():
        method.projector.weight.add_(1.0)
    student(x)
    student.load_state_dict(best)
    method.on_train_end(student)
    torch.testing.assert_close(dict(student.state_dict()), dict(best), rtol=0.0, atol=0.0)


def test_simkd_refuses_other_classifiers() -> None:
    student = TinyModel(NARROW)
    student.classifier = nn.Sequential(student.classifier)  # type: ignore[assignment]
    with pytest.raises(CmkdError, match="one linear layer"):
        SimKD(NARROW, WIDE).setup(student, TinyModel(WIDE))


def test_teacher_init_copies_all_but_the_input_layer() -> None:
    student, teacher = TinyModel(NARROW), TinyModel(NARROW)
    before = student.stem.weight.clone()
    copied = copy_deeper(student, teacher)
    assert sorted({name.split(".")[0] for name in copied}) == ["body", "classifier", "neck"]
    torch.testing.assert_close(student.stem.weight, before, rtol=0.0, atol=0.0)
    torch.testing.assert_close(student.body.weight, teacher.body.weight, rtol=0.0, atol=0.0)
    with pytest.raises(CmkdError, match="same architecture"):
        copy_deeper(nn.Sequential(nn.Linear(2, 3)), teacher)


def test_teacher_init_leaves_the_classifier_where_the_teacher_has_other_classes_or_another_order() -> None:
    names = [f"class {k}" for k in range(NARROW.classes)]
    ours, theirs = (replace(NARROW, class_names=tuple(order)) for order in (names, names[::-1]))
    student, teacher = TinyModel(NARROW), TinyModel(NARROW)
    before = student.classifier.weight.clone()
    TeacherInit(ours, theirs).setup(student, teacher)
    torch.testing.assert_close(student.classifier.weight, before, rtol=0.0, atol=0.0)
    torch.testing.assert_close(student.body.weight, teacher.body.weight, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("teacher", ["thin_resnet(width=8)", "resnet18"])
def test_teacher_init_refuses_another_architecture(teacher: str) -> None:
    """The biases of the classifiers have one shape in all networks, so shapes alone do not suffice."""
    image = Modality("radar", "image", (1, 32, 32), "uint8", mean=(0.0,), std=(1.0,))
    models = [build(name, image, classes=5) for name in ("thin_resnet(width=4)", teacher)]
    with pytest.raises(CmkdError, match="same architecture"):
        copy_deeper(*models)


def test_teacher_init_leaves_all_layers_that_read_the_input_and_the_classifier_of_an_own_network() -> None:
    series = Modality("motion", "series", (8, 3), "float32", mean=(0.0,) * 3, std=(1.0,) * 3)
    copied = copy_deeper(*(build("series_net", series, classes=5) for _ in range(2)))
    assert "encoder.stages.0.second.weight" in copied and "encoder.stages.0.first.weight" not in copied
    nets = [
        nn.Sequential(nn.Flatten(), nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 5)) for _ in range(2)
    ]
    own = [Model(series, wrap(net), classes=5) for net in nets]
    assert copy_deeper(*own, same_classes=False) == ["encoder.module.3.weight", "encoder.module.3.bias"]


def test_teacher_init_leaves_a_classifier_of_several_layers_and_the_encoders_of_a_fused_student() -> None:
    image = Modality("radar", "image", (1, 32, 32), "uint8", mean=(0.0,), std=(1.0,))
    models = [build("thin_resnet(width=4)", image, classes=5) for _ in range(2)]
    for model in models:
        model.classifier = nn.Sequential(nn.Dropout(), model.classifier)  # type: ignore[assignment]
    assert not [name for name in copy_deeper(*models, same_classes=False) if "classifier" in name]
    optical = replace(image, name="optical")
    fused = []
    for _ in range(2):
        first = build("thin_resnet(width=4)", image, classes=5)
        fused.append(FusedModel(first, [build("thin_resnet(width=4)", optical, classes=first.spec.dim)]))
    copied = copy_deeper(*fused)
    assert "others.0.encoder.stages.0.0.first.weight" in copied and "others.0.encoder.stem.0.weight" not in copied


def test_the_copy_of_the_teachers_classifier_stays_in_eval_mode() -> None:
    method, *_ = simkd_pair()
    method.eval().train()
    assert method.training and not method.teacher_classifier.training


def test_views_of_a_teacher_may_pass_a_classifier_with_batch_norm() -> None:
    torch.manual_seed(0)
    plain, normalized = (create("mst_distill", NARROW, WIDE) for _ in range(2))
    normalized.load_state_dict(plain.state_dict())
    teacher = TinyModel(WIDE)
    plain.setup(TinyModel(NARROW), teacher)
    teacher.classifier = nn.Sequential(nn.BatchNorm1d(WIDE.dim, eps=0.0, affine=False), teacher.classifier)
    normalized.setup(TinyModel(NARROW), teacher)
    outputs = output(NARROW, 8, 0), output(WIDE, 8, 1), a_batch(8, NARROW.classes)
    for ours, theirs in zip(plain(*outputs).values(), normalized(*outputs).values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def crd_method() -> CRD:
    torch.manual_seed(0)
    method = CRD(NARROW, WIDE, dim=5, negatives=16)
    method.on_train_start(32)
    return method


def test_crd_memory_holds_this_batch_only() -> None:
    method = crd_method()
    before = method.student_memory.clone()
    batch = a_batch(4, 4)
    method(output(NARROW, 4, 0), output(WIDE, 4, 1), batch)
    changed = (method.student_memory != before).any(1).nonzero().flatten()
    assert changed.tolist() == sorted(batch.index.tolist())
    torch.testing.assert_close(method.student_memory.norm(dim=1), torch.ones(32))


def test_crd_does_not_learn_in_eval_mode() -> None:
    method = crd_method().eval()
    before = copy.deepcopy(method.state_dict())
    method(output(NARROW, 4, 0), output(WIDE, 4, 1), a_batch(4, 4))
    torch.testing.assert_close(dict(method.state_dict()), dict(before), rtol=0.0, atol=0.0)


def test_crd_refuses_another_training_set() -> None:
    method = CRD(NARROW, WIDE, dim=5, negatives=16)
    method.load_state_dict(crd_method().state_dict())
    method.on_train_start(32)
    with pytest.raises(CmkdError, match="32 pairs, but the training set has 40"):
        method.on_train_start(40)


def test_crd_refuses_the_state_of_another_training_set() -> None:
    """A loop may load the state before the training starts, or afterwards."""
    states = {size: CRD(NARROW, WIDE, dim=8) for size in (30, 50)}
    for size, method in states.items():
        method.on_train_start(size)
    with pytest.raises(CmkdError, match="memory holds 30 pairs, but the training set has 50"):
        states[50].load_state_dict(states[30].state_dict())


def test_crd_is_finite_in_half_precision_at_low_temperature() -> None:
    method = crd_method()
    method.temperature = 0.01
    with torch.autocast("cpu", dtype=torch.float16):
        terms = method(output(NARROW, 4, 0, scale=100.0), output(WIDE, 4, 1, scale=100.0), a_batch(4, 4))
    assert all(torch.isfinite(term) for term in terms.values())


def test_kendall_agrees_with_scipy_with_ties() -> None:
    from scipy.stats import kendalltau

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(4, (6, 7), generator=generator).float() for _ in range(2))
    wanted = [kendalltau(a.numpy(), b.numpy()).statistic for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(kendall(x, y).double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_saliency_agrees_with_one_channel_at_a_time() -> None:
    torch.manual_seed(0)
    embedding, order = torch.randn(6, 70), torch.randperm(6)
    classifier = nn.Sequential(nn.Linear(70, 5), nn.ReLU(), nn.Linear(5, 3))
    wanted = []
    for channel in range(70):
        changed = embedding.clone()
        changed[:, channel] = embedding[order, channel]
        wanted.append((classifier(changed) - classifier(embedding)).square().mean().detach())
    torch.testing.assert_close(permutation_saliency(embedding, classifier, order), torch.stack(wanted))


def test_mfh_keeps_the_channels_the_classifier_uses() -> None:
    torch.manual_seed(0)
    method, teacher = MFH(NARROW, WIDE, keep=0.2), TinyModel(WIDE)
    with torch.no_grad():
        teacher.classifier.weight.zero_()
        teacher.classifier.weight[:, [3, 7]] = 1.0
    method.setup(TinyModel(NARROW), teacher)
    method.on_train_epoch_start(0)
    theirs = output(WIDE, 16, 1).detach()
    method(output(NARROW, 16, 0), theirs, a_batch(16, 4))["mfh"].backward()
    touched = method.projection.weight.grad.abs().sum(1).nonzero().flatten()  # type: ignore[union-attr]
    assert touched.tolist() == [3, 7]


def test_mgd_draws_another_mask_each_step_and_the_same_after_a_resume() -> None:
    torch.manual_seed(0)
    first, second = MGD(NARROW, WIDE, masked=0.5), MGD(NARROW, WIDE, masked=0.5)
    like = torch.zeros(4, 1, 8, 8)
    start = first.mask(like, a_batch(4, 4))
    first(output(NARROW, 4, 0), output(WIDE, 4, 1), a_batch(4, 4))
    assert not torch.equal(first.mask(like, a_batch(4, 4)), start)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.mask(like, a_batch(4, 4)), first.mask(like, a_batch(4, 4)), rtol=0.0, atol=0.0)
    assert 0.3 < start.mean() < 0.7


def test_ofd_margin_is_the_mean_negative_response() -> None:
    method = OFD(NARROW, WIDE)
    maps = torch.tensor([-1.0, -3.0, 5.0, 0.0]).reshape(1, 1, 2, 2).expand(2, 9, 2, 2)
    torch.testing.assert_close(method.observe(maps), torch.full((1, 9, 1, 1), -2.0))
    method.eval()
    torch.testing.assert_close(method.observe(maps * 100), torch.full((1, 9, 1, 1), -2.0))
    torch.testing.assert_close(OFD(NARROW, WIDE).observe(maps.relu()), torch.zeros(1, 9, 1, 1))


@pytest.mark.parametrize(("student", "teacher"), [(6, 10), (10, 6), (6, 6)])
def test_vkd_projection_is_orthogonal(student: int, teacher: int) -> None:
    torch.manual_seed(0)
    method = VKD(Spec(4, student), Spec(4, teacher))
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    for seed in range(3):
        optimizer.zero_grad()
        method(output(Spec(4, student), 8, seed), output(Spec(4, teacher), 8, 9).detach(), a_batch(8, 4))[
            "vkd"
        ].backward()
        optimizer.step()
    weight = method.projection.weight()
    product = weight.T @ weight if student <= teacher else weight @ weight.T
    torch.testing.assert_close(product, torch.eye(min(student, teacher)), rtol=0.0, atol=1e-5)


def test_unlike_numbers_of_maps_pair_the_deepest() -> None:
    deeper = replace(WIDE, map_shapes=((2, 16, 16), *WIDE.map_shapes))
    student, teacher = output(NARROW, 4, 0), output(deeper, 4, 1).detach()
    cut = replace(teacher, feature_maps=teacher.feature_maps[1:])
    for name in ("at", "vid", "review_kd", "fsp", "ab"):
        values = []
        for spec, out in ((deeper, teacher), (WIDE, cut)):
            torch.manual_seed(0)
            values.append(create(name, NARROW, spec)(student, out, a_batch(4, 4))[name])
        torch.testing.assert_close(values[0], values[1])


def test_a_stage_beyond_the_only_map_is_refused_with_the_stage_that_is_there() -> None:
    single = Spec(10, 64, ((8, 4, 4),))
    message = r"^fitnet: stage -2 needs 2 feature maps, student has 1 and teacher 1; choose stage=-1, the deepest map$"
    with pytest.raises(CmkdError, match=message):
        create("fitnet", single, single, stage=-2)
    create("fitnet", single, single, stage=-1)


def test_pkt_of_opposite_embeddings_is_finite() -> None:
    """The cosine of opposite vectors may round to less than -1."""
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, 32, generator=generator)
        student = torch.cat([x, -1.7 * x]).requires_grad_()
        pkt(student, torch.randn(2, 32, generator=generator)).backward()
        assert student.grad is not None and bool(student.grad.isfinite().all())


@pytest.mark.parametrize(("index", "seen"), [([0, 1, 2, 10], "0 to 10"), ([0, 1, 2, -1], "-1 to 2")])
def test_crd_refuses_an_index_that_is_not_of_a_training_pair(index: list[int], seen: str) -> None:
    method = CRD(NARROW, WIDE)
    method.on_train_start(10)
    given = replace(a_batch(4, 4), index=torch.tensor(index))
    message = f"^crd: batch.index must be the position of each pair among the 10 .*, from 0 to 9, got {seen}$"
    with pytest.raises(CmkdError, match=message):
        method(output(NARROW, 4, 0), output(WIDE, 4, 1).detach(), given)


@pytest.mark.parametrize("name", ["mgd", "mfh"])
def test_draws_belong_to_pairs_and_not_to_places_in_the_batch(name: str) -> None:
    """Processes that share a batch in another order draw the same numbers; views of one pair have different ones."""
    torch.manual_seed(0)
    batch = replace(a_batch(8, 4), index=torch.tensor([3, 9, 1, 1, 7, 0, 30, 5]), view=torch.tensor([0, 0, 1, 0] * 2))
    student, teacher, other = output(NARROW, 8, 0), output(WIDE, 8, 1).detach(), torch.randperm(8)
    values = []
    for rows in (torch.arange(8), other):
        torch.manual_seed(0)
        method = create(name, NARROW, WIDE, **({"masked": 0.5} if name == "mgd" else {}))
        torch.manual_seed(7)
        method.setup(TinyModel(NARROW), TinyModel(WIDE))
        method.on_train_epoch_start(0)
        value = method(student.select(rows), teacher.select(rows), batch.select(rows))[name]
        values.append((value, getattr(method, "saliency", value)))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("positions", [(2, 3), (4, 1)])
def test_ickd_of_many_channels_is_the_same_without_their_gram_matrices(positions: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(3, 40, 1, count, generator=generator, dtype=torch.float64) for count in positions]
    maps[1][0, 5] = maps[1][:, 7] = 0.0  # dead channels of the teacher
    maps[0][1, 6] = 0.0
    student = maps[0].requires_grad_()
    rows = [F.normalize(x.flatten(2) @ x.flatten(2).transpose(1, 2), dim=2) for x in (student, maps[1])]
    expected = (rows[0] - rows[1]).square().sum() / (3 * 40)
    found = ickd(student, maps[1])
    torch.testing.assert_close(found, expected)
    (theirs,) = torch.autograd.grad(expected, student, retain_graph=True)
    (ours,) = torch.autograd.grad(found, student)
    assert ours[1, 6].abs().max() < 1.0  # with Gram matrices, it is 1e10 where a channel is dead
    kept = torch.ones(3, 40, dtype=torch.bool)
    kept[1, 6] = False
    torch.testing.assert_close(ours[kept], theirs[kept])
