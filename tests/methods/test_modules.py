"""Each `Method` wraps its pure function: arguments, options, weight, and which tensors get a gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods import METHODS, Method, create
from cmkd.methods.c2kd import C2KD, c2kd
from cmkd.methods.crd import CRD
from cmkd.methods.crodino_kd import info_nce
from cmkd.methods.kd import kd
from cmkd.methods.mst_distill import mst_distill
from cmkd.methods.ofa import ofa
from cmkd.methods.review_kd import ReviewKD, review_kd
from cmkd.methods.rkd import rkd_angle
from cmkd.methods.vid import vid
from cmkd.methods.vkd import VKD
from cmkd.ops import match_resolution, standardize
from cmkd.options import parameters
from cmkd.types import Batch, Output

from .rows import NARROW, WIDE, Case, Row, TinyModel, a_batch, built, leaves, output, total
from .table import ROWS

WEIGHTS = {
    "rkd_distance": {"distance_weight": 2.0, "angle_weight": 0.0},
    "rkd_angle": {"distance_weight": 0.0, "angle_weight": 2.0},
    "generalized": {"imitation": 2.0 / 3.0},
}
OWN_TESTS = {
    "c2kd",
    "crd",
    "crodino_kd",
    "ctkd",
    "discom_kd",
    "ds",
    "ft",
    "mfh",
    "mgd",
    "mst_distill",
    "ofd",
    "review_kd",
    "srrl",
    "vid",
}
PLAIN = [(row, case) for row in ROWS for case in row.cases if row.name not in OWN_TESTS]


def identity(method: Method) -> Method:
    """Set every projection of a method between equal widths to the identity."""
    for name, module in method.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and "classifier" not in name:
            (nn.init.eye_ if isinstance(module, nn.Linear) else nn.init.dirac_)(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if isinstance(method, VKD):
        method.projection.start.copy_(torch.eye(NARROW.dim))
    return method


def argument(name: Any, student: Output, teacher: Output, batch: Batch) -> Any:  # noqa: ANN401
    if isinstance(name, tuple):
        return [argument(n, student, teacher, batch) for n in name]
    if name == "target":
        return batch.target
    side, kind = name.split("_")
    out = student if side == "student" else teacher
    maps = {"shallow": out.feature_maps[0], "deep": out.feature_maps[-1]}
    return {"logits": out.logits, "embedding": out.embedding, **maps}[kind]


@pytest.mark.parametrize(("row", "case"), PLAIN, ids=lambda v: v.name if isinstance(v, Row) else v.function.__name__)
def test_a_method_is_its_weight_times_its_function(row: Row, case: Case) -> None:
    known = parameters(METHODS[row.name])
    options = WEIGHTS.get(case.function.__name__, {"weight": 2.0}) | ({"stage": -1} if "stage" in known else {})
    options |= {name: value for name, value in case.options.items() if name in known}
    method = identity(built(row, NARROW, NARROW, **options))
    student, teacher, batch = output(NARROW, 8, 0), output(NARROW, 8, 1).detach(), a_batch(8, 4)
    found = method(student, teacher, batch)[case.function.__name__]
    arguments = [argument(name, student, teacher, batch) for name in case.arguments]
    if row.name in ("srd", "sliced_wasserstein"):
        arguments = [standardize(x) for x in arguments]
    seed = {"seed": int(method.seed)} if "seed" in case.options else {}
    torch.testing.assert_close(found, 2.0 * case.function(*arguments, **{**case.options, **seed}))


def trained(loss: Tensor) -> set[int]:
    """Return the ids of all tensors that would get a gradient in a backward pass."""
    found, nodes = set(), [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None:
            found |= {id(node.variable)} if hasattr(node, "variable") else set()
            nodes += [following for following, _ in node.next_functions]
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_all_that_trains_is_a_parameter(row: Row) -> None:
    method = built(row, NARROW, WIDE)
    student, teacher = output(NARROW, 8, 0), output(WIDE, 8, 1)
    terms = method(student, teacher if method.trains_teacher else teacher.detach(), a_batch(8, 4))
    known = {id(p) for p in method.parameters()} | {id(t) for out in (student, teacher) for t in leaves(out)}
    assert all(trained(term) <= known for term in terms.values())


@pytest.mark.parametrize(
    ("name", "term", "untouched"),
    [
        ("mst_distill", "mst_distill", ("gates", "router.weight")),
        ("mst_distill", "mst_distill_views", ("student",)),
        ("mst_distill", "mst_distill_balance", ("student", "gates")),
        ("ft", "ft", ("teacher", "encoder.0.weight", "decoder.0.weight")),
        ("ft", "ft_paraphraser", ("student", "teacher", "translator.0.weight")),
        ("c2kd", "c2kd_student", ("teacher", "teacher_proxy.0.weight")),
        ("c2kd", "c2kd_teacher", ("student", "student_proxy.0.weight")),
    ],
)
def test_a_term_trains_nothing_else(name: str, term: str, untouched: tuple[str, ...]) -> None:
    method = built(next(row for row in ROWS if row.name == name), NARROW, WIDE)
    student, teacher = output(NARROW, 8, 0), output(WIDE, 8, 1)
    reached = trained(method(student, teacher, a_batch(8, 4))[term])
    named: dict[str, list[Tensor]] = {n: [p] for n, p in method.named_parameters()}
    named |= {"student": leaves(student), "teacher": leaves(teacher)}
    assert reached and not reached & {id(t) for part in untouched for t in named[part]}


def gradients(loss: Tensor, *tensors: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, tensors, retain_graph=True)
    assert all(g.abs().sum() > 0 for g in found)
    return list(found)


def test_c2kd_exchanges_constants() -> None:
    torch.manual_seed(0)
    method = C2KD(NARROW, WIDE, threshold=-2.0, temperature=3.0, weight=2.0)
    student, teacher, batch = output(NARROW, 8, 0), output(WIDE, 8, 1), a_batch(8, 4)
    terms = method(student, teacher, batch)
    ours, theirs = method.student_proxy(student.embedding), method.teacher_proxy(teacher.embedding)
    mirrored = method.student_proxy(-student.embedding) + ours - 2.0 * method.student_proxy(torch.zeros(1, NARROW.dim))
    assert mirrored.abs().max() > 1e-3, "a proxy must not be linear"
    cross = [
        2.0 * c2kd(a, b.detach(), batch.target, threshold=-2.0, temperature=3.0)
        for a, b in ((ours, theirs), (theirs, ours))
    ]
    torch.testing.assert_close(terms["c2kd_cross"], sum(cross))
    for part, out in zip(cross, (student, teacher), strict=True):
        found = gradients(terms["c2kd_cross"], out.embedding)
        torch.testing.assert_close(found, gradients(part, out.embedding))
    for name, out, proxy in (("c2kd_student", student, ours), ("c2kd_teacher", teacher, theirs)):
        wanted = 2.0 * (
            kd(out.logits, proxy.detach(), temperature=1.0) + kd(proxy, out.logits.detach(), temperature=1.0)
        )
        torch.testing.assert_close(terms[name], wanted)
        parts = out.logits, out.embedding
        torch.testing.assert_close(gradients(terms[name], *parts), gradients(wanted, *parts))


def test_crd_agrees_with_a_loop_over_anchors_and_blends_its_memories() -> None:
    torch.manual_seed(0)
    method = CRD(NARROW, WIDE, dim=5, negatives=40, temperature=0.5, momentum=0.9, weight=2.0)
    method.on_train_start(32)
    memories = {"student": torch.randn(32, 5), "teacher": torch.randn(32, 5)}
    method.student_memory, method.teacher_memory = (F.normalize(memories[side]) for side in memories)
    memories = {"student": method.student_memory.clone(), "teacher": method.teacher_memory.clone()}
    student, teacher, batch = output(NARROW, 8, 0), output(WIDE, 8, 1).detach(), a_batch(8, 4)
    drawn = method.draw(torch.device("cpu")).tolist()
    assert set(drawn) & set(batch.index.tolist()), "some negatives must be samples of the batch"
    terms = method(student, teacher, batch)
    now = {
        "student": F.normalize(method.student_projection(student.embedding)),
        "teacher": F.normalize(method.teacher_projection(teacher.embedding)),
    }
    for side, other in (("student", "teacher"), ("teacher", "student")):
        similarity = now[side] @ memories[other][drawn].T / 0.5
        mean = similarity.exp().mean()
        loss = torch.zeros(())
        for i, index in enumerate(batch.index.tolist()):
            positive = (now[side][i] @ now[other][i] / 0.5).exp()
            loss = loss - (positive / (positive + 40 * mean)).log()
            for j, place in enumerate(drawn):
                if place != index:
                    loss = loss - (40 * mean / (similarity[i, j].exp() + 40 * mean)).log()
        torch.testing.assert_close(terms[f"crd_{side}"], 2.0 * loss / 8)
        blended = F.normalize(0.9 * memories[side][batch.index] + 0.1 * now[side])
        torch.testing.assert_close(getattr(method, f"{side}_memory")[batch.index], blended.detach())
    assert method.steps == 1 and method.draw(torch.device("cpu")).tolist() != drawn


@pytest.mark.parametrize("name", ["crd", "sliced_wasserstein", "mgd", "mfh"])
def test_draws_differ_between_seeds_and_survive_a_checkpoint(name: str) -> None:
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(create(name, NARROW, NARROW))
    first, same, other = (method.generator().initial_seed() for method in made)
    assert first == same != other
    made[2].load_state_dict(made[0].state_dict())
    assert made[2].generator().initial_seed() == first


def test_crd_keeps_a_running_mean_of_its_normalizers() -> None:
    torch.manual_seed(0)
    method = CRD(NARROW, WIDE, dim=5, negatives=16)
    method.on_train_start(32)
    anchors, negatives = (F.normalize(torch.randn(6, 5)) for _ in range(2))
    first = method.normalizer(0, anchors, negatives)
    method.count_step()
    means = [(x @ negatives.T / 0.07).exp().mean() for x in (anchors, -anchors)]
    torch.testing.assert_close(first, means[0].log())
    torch.testing.assert_close(method.normalizer(0, -anchors, negatives), (0.9 * means[0] + 0.1 * means[1]).log())


def test_ctkd_works_against_the_student_more_from_epoch_to_epoch() -> None:
    method = create("ctkd", NARROW, NARROW, curriculum_epochs=4, lowest=2.0, span=5.0, weight=2.0)
    student, teacher = output(NARROW, 8, 0), output(NARROW, 8, 1).detach()
    scale = torch.ones(1, requires_grad=True)
    temperature = 2.0 + 5.0 * scale.sigmoid()
    ours, theirs = (F.log_softmax(out.logits / temperature, 1) for out in (student, teacher))
    loss = 2.0 * temperature**2 * (theirs.exp() * (theirs - ours)).sum(1).mean()
    along, (downhill,) = gradients(loss, scale), gradients(loss, student.logits)
    for epoch, strength in ((0, 0.1464466), (1, 0.5), (3, 1.0), (9, 1.0)):
        method.on_train_epoch_start(epoch)
        term = method(student, teacher, a_batch(8, 4))["ctkd"]
        torch.testing.assert_close(term, loss.squeeze())
        found, (also_downhill,) = gradients(term, *method.parameters()), gradients(term, student.logits)
        torch.testing.assert_close(found[0], -strength * along[0])
        torch.testing.assert_close(also_downhill, downhill)


@pytest.mark.parametrize("variance", [0.1, 5.0, 1000.0])
def test_vid_starts_at_any_variance(variance: float) -> None:
    method = built(next(row for row in ROWS if row.name == "vid"), NARROW, NARROW, initial_variance=variance)
    found = torch.nn.functional.softplus(method.log_scales[0]) + method.eps  # type: ignore[index, operator]
    torch.testing.assert_close(found, torch.full_like(found, variance))


def test_samples_that_coincide_for_the_student_alone_do_not_drown_the_angles_of_others() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(12, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    student[1] = student[0]
    found = []
    for dtype in (torch.float32, torch.float64):
        x = student.to(dtype).requires_grad_()
        rkd_angle(x, teacher.to(dtype)).backward()
        assert x.grad is not None
        found.append(x.grad.double())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)
    assert found[0].norm() < 1


def test_vid_trains_its_scales() -> None:
    method = built(next(row for row in ROWS if row.name == "vid"), NARROW, NARROW, weight=2.0, initial_variance=3.0)
    assert [p.shape for n, p in method.named_parameters() if "scale" in n] == [(4,), (6,)]
    student, teacher = output(NARROW, 8, 0), output(NARROW, 8, 1).detach()
    stages = zip(student.feature_maps, teacher.feature_maps, identity(method).log_scales, strict=True)
    wanted = torch.stack([vid(s, t, scale) for s, t, scale in stages]).mean()
    torch.testing.assert_close(method(student, teacher, a_batch(8, 4))["vid"], 2.0 * wanted)
    torch.testing.assert_close(F.softplus(method.log_scales[1]) + 1e-5, torch.full((6,), 3.0))


def test_review_kd_passes_from_the_deepest_stage_to_the_shallowest() -> None:
    torch.manual_seed(0)
    method = ReviewKD(NARROW, WIDE, weight=2.0)
    student, teacher = output(NARROW, 4, 0), output(WIDE, 4, 1).detach()
    deep, passed = method.fusions[1](student.feature_maps[1], None)
    shallow, _ = method.fusions[0](student.feature_maps[0], passed)
    met = [match_resolution(s, t) for s, t in zip((shallow, deep), teacher.feature_maps, strict=True)]
    wanted = review_kd([s for s, _ in met], [t for _, t in met])
    torch.testing.assert_close(method(student, teacher, a_batch(4, 4))["review_kd"], 2.0 * wanted)
    reached = torch.autograd.grad(shallow.sum(), student.feature_maps, retain_graph=True)
    assert all(g.any() for g in reached)
    assert torch.autograd.grad(deep.sum(), student.feature_maps[0], allow_unused=True)[0] is None


def test_sliced_wasserstein_takes_new_directions_each_step_and_the_same_after_a_resume() -> None:
    row = next(row for row in ROWS if row.name == "sliced_wasserstein")
    first, second = built(row, NARROW, NARROW, directions=2), built(row, NARROW, NARROW, directions=2)
    outputs = output(NARROW, 8, 0), output(NARROW, 8, 1).detach(), a_batch(8, 4)
    values = [total(first(*outputs)).item() for _ in range(3)]
    assert len(set(values)) == 3
    second.load_state_dict(first.state_dict())
    assert total(second.eval()(*outputs)) == total(second(*outputs)) == total(first(*outputs))


def test_mfh_sums_the_saliency_over_its_epochs_and_then_keeps_it() -> None:
    row = next(row for row in ROWS if row.name == "mfh")
    method = built(row, NARROW, NARROW, saliency_epochs=2)
    seen = []
    for epoch in range(4):
        method.on_train_epoch_start(epoch)
        method(output(NARROW, 8, epoch), output(NARROW, 8, 9 + epoch).detach(), a_batch(8, 4))
        seen.append(method.saliency.clone())
    assert (seen[0] > 0).all() and (seen[1] > seen[0]).all()
    assert torch.equal(seen[1], seen[2]) and torch.equal(seen[2], seen[3])
    assert method.steps == 2  # each step has its own permutation


def test_mgd_masks_the_share_it_says() -> None:
    method = create("mgd", NARROW, NARROW, masked=0.2)
    assert 0.75 < method.mask(torch.zeros(8, 1, 32, 32), a_batch(8, 4)).mean() < 0.85


def test_srrl_compares_what_the_teachers_classifier_makes_of_both() -> None:
    torch.manual_seed(0)
    method, teacher_model = create("srrl", NARROW, WIDE, feature_weight=2.0, regression_weight=3.0), TinyModel(WIDE)
    method.setup(TinyModel(NARROW), teacher_model)
    student, teacher = output(NARROW, 8, 0), output(WIDE, 8, 1).detach()
    logits = teacher_model.classifier(teacher.embedding)  # not the recorded logits, which may be averages over views
    terms = method(student, teacher, a_batch(8, 4))
    projected = method.connector(student.embedding)
    torch.testing.assert_close(terms["srrl_features"], 2.0 * F.mse_loss(projected, teacher.embedding))
    wanted = 3.0 * F.mse_loss(teacher_model.classifier(projected), logits)
    torch.testing.assert_close(terms["srrl_regression"], wanted)
    torch.testing.assert_close(
        gradients(terms["srrl_regression"], student.embedding), gradients(wanted, student.embedding)
    )


def test_second_terms() -> None:
    torch.manual_seed(0)
    student, teacher, batch = output(NARROW, 8, 0), output(WIDE, 8, 1).detach(), a_batch(8, 4)
    models = TinyModel(NARROW), TinyModel(WIDE)
    labels = create("hallucination", NARROW, WIDE, temperature=3.0, label_weight=2.0)(student, teacher, batch)
    soft = (teacher.logits / 3.0).softmax(1)
    wanted = -2.0 * (soft * student.logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(labels["hallucination_labels"], wanted)
    shared = create("fd_cmkd", NARROW, WIDE, classifier_weight=2.0)
    shared.setup(*models)
    found = shared(student, teacher, batch)["fd_cmkd_classifier"]
    wanted = 2.0 * F.cross_entropy(models[1].classifier(shared.projection(student.embedding)), batch.target)
    torch.testing.assert_close(found, wanted)
    exits = create("ofa", NARROW, WIDE, weight=2.0, temperature=3.0)
    heads = zip(exits.exits, student.feature_maps, strict=True)
    each = [ofa(head(x.mean((2, 3))), teacher.logits, batch.target, temperature=3.0) for head, x in heads]
    torch.testing.assert_close(exits(student, teacher, batch)["ofa_exits"], 2.0 * sum(each))
    structure = create("ds", NARROW, WIDE, kd_weight=2.0, temperature=3.0)(student, teacher, batch)
    torch.testing.assert_close(structure["kd"], 2.0 * kd(student.logits, teacher.logits, temperature=3.0))


def test_mst_distill_mixes_masked_views_of_the_teacher() -> None:
    torch.manual_seed(0)
    method = create("mst_distill", NARROW, WIDE, views=3, temperature=2.0, teacher_weight=3.0, weight=2.0)
    teacher_model = TinyModel(WIDE)
    method.setup(TinyModel(NARROW), teacher_model)
    student, teacher, batch = output(NARROW, 8, 0), output(WIDE, 8, 1).detach(), a_batch(8, 4)
    terms = method(student, teacher, batch)
    views = [teacher_model.classifier(teacher.embedding / (1.0 + (-gate).exp())) for gate in method.gates]
    share = method.router(teacher.embedding).softmax(1)
    mixed = sum(share[:, k, None] * view.softmax(1) for k, view in enumerate(views))
    routed = -mixed[torch.arange(8), batch.target].log().mean()
    agreement = sum(kd(view, student.logits, temperature=2.0) for view in views) / 3
    torch.testing.assert_close(terms["mst_distill_views"], 3.0 * (routed + agreement))
    torch.testing.assert_close(terms["mst_distill_balance"], 3.0 * (share.mean(0) * (3 * share.mean(0)).log()).sum())
    torch.testing.assert_close(
        terms["mst_distill"], 2.0 * mst_distill(student.logits, torch.stack(views, 1), share, temperature=2.0)
    )


@pytest.mark.parametrize("name", ["dkd", "review_kd"])
def test_the_weight_warms_up(name: str) -> None:
    torch.manual_seed(0)
    method = create(name, NARROW, NARROW, warmup_epochs=4)
    outputs, seen = (output(NARROW, 8, 0), output(NARROW, 8, 1).detach(), a_batch(8, 4)), []
    for epoch in (0, 1, 3, 8):
        method.on_train_epoch_start(epoch)
        seen.append(total(method(*outputs)).item())
    torch.testing.assert_close(seen, [seen[-1] * factor for factor in (0.25, 0.5, 1.0, 1.0)])


def test_crodino_kd_contrasts_shared_parts_keeps_own_parts_apart_and_reads_classes_from_the_shared() -> None:
    method = built(next(row for row in ROWS if row.name == "crodino_kd"), NARROW, WIDE, width=5, weight=2.0)
    target = torch.tensor([0, -1, 2, -1, 1, 3])
    student, teacher = output(NARROW, 6, 0), output(WIDE, 6, 1)
    terms = method(student, teacher, a_batch(6, 4, target=target))
    ours, our_own = method.student_parts(student.embedding).split(5, 1)
    theirs, their_own = method.teacher_parts(teacher.embedding).split(5, 1)
    torch.testing.assert_close(terms["crodino_contrastive"], 2.0 * info_nce(ours, theirs, temperature=0.1))
    cosines = [F.cosine_similarity(a, b) for a, b in ((ours, our_own), (theirs, their_own))]
    torch.testing.assert_close(terms["crodino_overlap"], 2.0 * torch.stack(cosines).square().mean(1).sum())
    read = torch.cat([method.task(ours), method.task(theirs)])
    wanted = F.cross_entropy(read, torch.cat([target, target]), ignore_index=-1, reduction="sum") / len(read)
    torch.testing.assert_close(terms["crodino_auxiliary"], 2.0 * wanted)


def test_discom_kd_hides_the_modality_in_one_part_and_reads_it_from_the_others() -> None:
    method = built(next(row for row in ROWS if row.name == "discom_kd"), NARROW, WIDE, width=5)
    student, teacher, batch = (
        output(NARROW, 6, 0),
        output(WIDE, 6, 1),
        a_batch(6, 4, target=torch.tensor([0, -1, 2, -1, 1, 3])),
    )
    terms = method(student, teacher, batch)
    ours, theirs = (
        method.student_parts(student.embedding).split(5, 1),
        method.teacher_parts(teacher.embedding).split(5, 1),
    )
    modality = torch.tensor([0] * 6 + [1] * 6)
    _, informative, irrelevant = (torch.cat(both) for both in zip(ours, theirs, strict=True))
    # as in the authors' code, each modality has a batch-norm of its own
    invariant = torch.cat([torch.relu(F.batch_norm(part[0], None, None, training=True)) for part in (ours, theirs)])
    adversarial = F.cross_entropy(method.adversary(invariant), modality)
    torch.testing.assert_close(terms["discom_adversarial"], 2.0 * adversarial)
    (reversed_gradient,) = torch.autograd.grad(terms["discom_adversarial"], student.embedding, retain_graph=True)
    (gradient,) = torch.autograd.grad(2.0 * adversarial, student.embedding, retain_graph=True)
    torch.testing.assert_close(reversed_gradient, -gradient)
    seen = (method.informative_modality(informative), method.irrelevant_modality(irrelevant))
    torch.testing.assert_close(terms["discom_modality"], 2.0 * F.cross_entropy(torch.cat(seen), modality.repeat(2)))
    target = torch.cat([batch.target, batch.target])
    logits = [method.task(part) for part in (invariant, informative)]
    wanted = sum(F.cross_entropy(x, target, ignore_index=-1, reduction="sum") / len(target) for x in logits)
    torch.testing.assert_close(terms["discom_auxiliary"], 2.0 * wanted)
    cosines = F.cosine_similarity(informative, irrelevant).mean() + F.cosine_similarity(informative, invariant).mean()
    torch.testing.assert_close(terms["discom_overlap"], 2.0 * cosines)
