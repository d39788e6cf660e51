"""The objective, on complete and on incomplete batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd import methods, models
from cmkd.errors import CmkdError
from cmkd.methods import Method
from cmkd.methods.fixmatch import fixmatch
from cmkd.training.objective import Objective
from cmkd.types import Batch, Modality, Output

OPTICAL = Modality("optical", "image", (3, 8, 8), "float32", (0.0,) * 3, (1.0,) * 3)
RADAR = Modality("radar", "image", (1, 8, 8), "float32", (0.0,), (1.0,))


class Seen(Method):
    """Method that records which pairs it was given."""

    rows: list[int]

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        self.rows = batch.index.tolist()
        assert not teacher.logits.requires_grad
        return {"seen": (student.embedding.mean() - teacher.embedding.mean()) ** 2}


def batch(present: Mapping[str, list[bool]], target: list[int]) -> Batch:
    n = len(target)
    torch.manual_seed(0)
    inputs = {"optical": torch.randn(n, 3, 8, 8), "radar": torch.randn(n, 1, 8, 8)}
    return Batch(inputs, torch.tensor(target), torch.arange(n), {k: torch.tensor(v) for k, v in present.items()})


def objective(**options: bool) -> tuple[Objective, Seen]:
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    method = Seen(student.spec, teacher.spec)
    return Objective(student, teacher=teacher, method=method, **options), method


def test_pairs_without_the_teachers_modality_take_part_in_the_cross_entropy_alone() -> None:
    made, method = objective(always_paired=False)
    teacher = made.eval().teacher
    assert teacher is not None
    output, terms = made(given := batch({"optical": [True, False, True], "radar": [True] * 3}, [0, 1, 2]))
    assert method.rows == [0, 2]
    embeddings = [m.classify({m.modality.name: given.inputs[m.modality.name]}).embedding for m in (made.model, teacher)]
    expected = (embeddings[0][[0, 2]].mean() - embeddings[1][[0, 2]].mean()) ** 2
    torch.testing.assert_close(terms["seen"], expected * 2 / 3)  # a mean over all pairs
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(output.logits, torch.tensor([0, 1, 2])))


def test_pairs_without_a_label_take_part_in_the_method_alone() -> None:
    made, method = objective()
    output, terms = made(batch({"optical": [True] * 3, "radar": [True] * 3}, [0, -1, 2]))
    assert method.rows == [0, 1, 2]
    expected = F.cross_entropy(output.logits[[0, 2]], torch.tensor([0, 2])) * 2 / 3
    torch.testing.assert_close(terms["cross_entropy"], expected)


def test_a_batch_with_neither_labels_nor_pairs_still_has_a_gradient() -> None:
    made, _ = objective(always_paired=False)
    _, terms = made(batch({"optical": [False] * 2, "radar": [True] * 2}, [-1, -1]))
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert float(total.detach()) == 0.0


def test_the_teacher_is_not_trained_saved_or_switched() -> None:
    made, _ = objective()
    assert made.teacher is not None
    before = {k: v.clone() for k, v in made.teacher.state_dict().items()}
    made.train()
    _, terms = made(batch({"optical": [True] * 4, "radar": [True] * 4}, [0, 1, 2, 0]))
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in made.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in made.teacher.state_dict().items())
    assert not any("teacher" in key for key in made.state_dict())
    assert not made.teacher.training


@pytest.mark.parametrize("name", ["kd", "self_training"])
def test_a_method_knows_a_pair_by_its_place_among_the_training_pairs(name: str) -> None:
    model = models.build("thin_resnet(width=4)", RADAR, classes=3)
    method = Seen(model.spec, model.spec)
    method.uses_teacher = name == "kd"
    made = Objective(model, teacher=model, method=method, places=torch.tensor([-1, -1, 0, 1]))
    given = batch({"optical": [True] * 2, "radar": [True] * 2}, [0, 1])
    made(replace(given, index=torch.tensor([2, 3])))
    assert method.rows == [0, 1]


def test_a_method_that_needs_a_teacher_does_not_learn_from_its_own_student() -> None:
    model = models.build("thin_resnet(width=4)", RADAR, classes=3)
    made = Objective(model, method=methods.create("kd", model.spec, model.spec))
    with pytest.raises(CmkdError, match=r"^kd needs a teacher: give one, or its outputs in each batch$"):
        made(batch({"radar": [True] * 2}, [0, 1]))


def test_a_method_without_use_for_the_teacher_does_not_run_it() -> None:
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    made = Objective(student, teacher=teacher, method=methods.create("none", student.spec, teacher.spec))
    calls: list[int] = []
    assert made.teacher is not None
    made.teacher.register_forward_hook(lambda *_: calls.append(1))
    radar = Batch({"radar": torch.randn(2, 1, 8, 8)}, torch.tensor([0, 1]), torch.arange(2))
    _, terms = made(radar)
    assert set(terms) == {"cross_entropy"} and not calls


@pytest.mark.parametrize("name", ["kd", "ds"])
def test_methods_add_their_terms_by_name(name: str) -> None:
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    made = Objective(student, teacher=teacher, method=methods.create(name, student.spec, teacher.spec))
    _, terms = made(batch({"optical": [True] * 4, "radar": [True] * 4}, [0, 1, 2, 0]))
    assert {"cross_entropy", "kd"} <= set(terms)


def test_a_teacher_that_trains_along_has_its_own_cross_entropy() -> None:
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    made = Objective(student, teacher=teacher, method=methods.create("c2kd", student.spec, teacher.spec))
    given = batch({"optical": [True] * 4, "radar": [True] * 4}, [0, 1, -1, 0])
    _, terms = made(given)
    assert made.teacher is not None
    expected = F.cross_entropy(made.teacher(given.inputs["optical"]).logits, given.target, ignore_index=-1)
    torch.testing.assert_close(terms["teacher_cross_entropy"], expected * 3 / 4)
    terms["teacher_cross_entropy"].backward()
    assert all(p.grad is not None for p in made.teacher.parameters())


def test_a_teacher_that_trains_along_learns_no_label_from_a_modality_that_is_not_there() -> None:
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    method = methods.create("c2kd", student.spec, teacher.spec)
    made = Objective(student, teacher=teacher, method=method, always_paired=False).eval()
    given = batch({"optical": [True] * 3 + [False], "radar": [True] * 4}, [0, 1, 2, 0])
    other = replace(given, target=torch.tensor([0, 1, 2, 1]))
    torch.testing.assert_close(made(given)[1]["teacher_cross_entropy"], made(other)[1]["teacher_cross_entropy"])


@pytest.mark.parametrize("name", ["c2kd", "discom_kd", "crodino_kd"])
@pytest.mark.parametrize("together", [False, True])
def test_a_teacher_that_trains_along_sees_no_stand_in_for_its_modality(name: str, together: bool) -> None:
    found = []
    for complete, filler in ((5, 0.0), (5, 9.0), (0, 0.0)):
        torch.manual_seed(0)
        teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
        if together:
            others = [models.build("thin_resnet(width=4)", RADAR, classes=teacher.spec.dim)]
            teacher = models.FusedModel(teacher, others, together=True)
        student = models.build("thin_resnet(width=4)", RADAR, classes=3)
        method = methods.create(name, student.spec, teacher.spec)
        method.on_train_start(8)
        method.on_train_epoch_start(0)
        made = Objective(student, teacher=teacher, method=method, always_paired=False)
        has = torch.arange(8) < complete
        given = batch({"optical": has.tolist(), "radar": [True] * 8}, [0, 1, 2, 0, 1, 2, 0, 1])
        given.inputs["optical"][~has] = filler
        _, terms = made(given)
        torch.stack(list(terms.values())).sum().backward()
        assert made.teacher is not None and all(p.grad is not None for p in made.teacher.encoder.parameters())
        statistics = {name: value for name, value in made.teacher.encoder.named_buffers()}
        found.append((statistics, {name: term.detach() for name, term in terms.items()}))
        if not complete:
            torch.testing.assert_close(statistics, dict(teacher.encoder.named_buffers()), rtol=0.0, atol=0.0)
    torch.testing.assert_close(found[0], found[1], rtol=0.0, atol=0.0)


def test_what_is_hidden_from_the_student_is_still_taught() -> None:
    torch.manual_seed(0)
    first = models.build("thin_resnet(width=4)", RADAR, classes=3)
    student = models.FusedModel(first, [models.build("thin_resnet(width=4)", OPTICAL, classes=first.spec.dim)])
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    method = Seen(student.spec, teacher.spec)
    made = Objective(student, teacher=teacher, method=method, always_paired=False, modality_dropout=1.0)
    given = batch({"optical": [True] * 7 + [False], "radar": [True] * 8}, [0, 1, 2, 0, 1, 2, 0, 1])
    output, _ = made(given)
    assert method.rows == [0, 1, 2, 3, 4, 5, 6]  # the pairs that have the teacher's modality
    alone = [{name: given.inputs[name]} for name in ("radar", "optical")]
    embeddings = [student.classify(inputs, recorded=given.present).embedding for inputs in alone]
    from_radar, from_optical = (torch.isclose(output.embedding, e, atol=1e-6).all(1) for e in embeddings)
    assert (from_radar ^ from_optical).tolist() == [True] * 8 and 0 < int(from_optical.sum()) < 8
    assert bool(from_radar[7])


def test_what_is_hidden_is_the_same_for_a_method_with_a_memory_of_pairs() -> None:
    torch.manual_seed(0)
    first = models.build("thin_resnet(width=4)", RADAR, classes=3)
    student = models.FusedModel(first, [models.build("thin_resnet(width=4)", OPTICAL, classes=first.spec.dim)])
    given = batch({"optical": [True] * 8, "radar": [True] * 8}, [0, 1, 2, 0, 1, 2, 0, 1])
    places = torch.arange(8).flip(0)
    seen = [Objective(student, modality_dropout=0.5, places=own)(given)[0].logits for own in (None, places)]
    torch.testing.assert_close(*seen, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("together", [False, True])
def test_a_teacher_that_reads_several_modalities_answers_with_its_first_alone_or_with_all(together: bool) -> None:
    torch.manual_seed(0)
    first = models.build("thin_resnet(width=4)", RADAR, classes=3)
    others = [models.build("thin_resnet(width=4)", OPTICAL, classes=first.spec.dim)]
    teacher = models.FusedModel(first, others, together=together)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    given, answers = batch({"optical": [True] * 3, "radar": [True] * 3}, [0, 1, 2]), []

    class Answered(Method):
        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
            answers.append(teacher.logits)
            return {}

    Objective(student, teacher=teacher, method=Answered(student.spec, teacher.spec))(given)
    seen = given.inputs if together else {"radar": given.inputs["radar"]}
    torch.testing.assert_close(answers[0], teacher.eval().classify(seen).logits)


def test_a_student_that_teaches_itself_sees_the_strong_view_and_learns_from_the_ordinary_one() -> None:
    torch.manual_seed(0)
    model = models.build("thin_resnet(width=4)", RADAR, classes=3)
    ordinary, strong = (
        Batch({"radar": torch.randn(4, 1, 8, 8)}, torch.tensor([0, -1, -1, 1]), torch.arange(4)) for _ in "ab"
    )
    method = methods.create("fixmatch", model.spec, model.spec, threshold=0.4)
    made = Objective(model, method=method).eval()
    output, terms = made(ordinary, strong)
    ours, theirs = model(strong.inputs["radar"]).logits, model(ordinary.inputs["radar"]).logits
    torch.testing.assert_close(output.logits, theirs)
    torch.testing.assert_close(terms["fixmatch"], fixmatch(ours, theirs, threshold=0.4))


@pytest.mark.parametrize("term", ["cross_entropy", "loss", "right"])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("uses_teacher", [True, False])
def test_a_term_does_not_replace_what_the_training_counts(term: str, paired: bool, uses_teacher: bool) -> None:
    class Taken(Method):
        """Method that returns a term with a name of the training."""

        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
            return {term: student.logits.mean()}

    Taken.uses_teacher = uses_teacher
    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    made = Objective(student, teacher=teacher, method=Taken(student.spec, teacher.spec), always_paired=paired)
    with pytest.raises(CmkdError, match=f"^Taken: a training has a '{term}' of its own"):
        made(batch({"optical": [True] * 4, "radar": [True] * 4}, [0, 1, 2, 0]))


def test_recorded_maps_that_a_method_does_not_declare_are_absent_and_not_empty() -> None:
    class Reader(Method):
        """Method that reads maps without declaring them; the mean of empty maps would be NaN."""

        needs = ("logits",)

        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
            return {"maps": teacher.feature_maps[-1].mean()}

    teacher = models.build("thin_resnet(width=4)", OPTICAL, classes=3)
    student = models.build("thin_resnet(width=4)", RADAR, classes=3)
    made = Objective(student, teacher_modality="optical", method=Reader(student.spec, teacher.spec))
    pairs = batch({"optical": [True] * 4, "radar": [True] * 4}, [0, 1, 2, 0])
    recorded = Output(torch.zeros(4, 3), torch.zeros(4, 16), (torch.zeros(4, 0, 0, 0),) * 3)
    with pytest.raises(IndexError):
        made(replace(pairs, teacher=recorded))
