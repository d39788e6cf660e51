"""The pairs that a training uses if some have no label or lack a modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig
from cmkd.data import CardInfo, Modality, Pack, PackWriter
from cmkd.methods import Method
from cmkd.methods.crd import CRD
from cmkd.training.job import TrainingJob
from cmkd.training.module import DistillationModule


@pytest.fixture
def gaps(tmp_path: Path) -> Pack:
    """Write training pairs 0 to 8 of x and y: 4 and 5 have only x, 6 and 7 only y; odd ones have no label."""
    modalities = [Modality(name, "vector", (3,), "float32") for name in ("x", "y")]
    values = np.arange(33, dtype=np.float32).reshape(11, 3)
    with PackWriter(tmp_path / "pack", CardInfo("gaps"), classes=["a", "b"], modalities=modalities) as writer:
        splits = ["train"] * 9 + ["validation", "test"]
        labels = [0, -1, 1, -1, 0, -1, 1, -1, 1, 0, 0]
        samples = {
            "x": [None if row in (6, 7) else values[row] for row in range(11)],
            "y": [None if row in (4, 5) else values[row] for row in range(11)],
        }
        writer.add_samples([str(row) for row in range(11)], labels, splits, None, samples)
    return Pack.open(tmp_path / "pack")


class Unpaired(Method):
    """Method that uses only the student's outputs."""

    needs = ("embedding",)
    uses_teacher = False


def job(pack: Pack, method: str | None, pairs: int = 0) -> TrainingJob:
    rich, poor = pack.modalities.values()
    encoder = "mlp(width=4)" if rich.kind == "vector" else "thin_resnet(width=4)"
    teacher, student = (models.build(encoder, m, classes=len(pack.classes)) for m in (rich, poor))
    if method == "own":
        made: Method | None = Unpaired(student.spec, teacher.spec)
    else:
        made = None if method is None else methods.create(method, student.spec, teacher.spec)
    return TrainingJob(Path(), pack, student, "", 1, 0, teacher, made, pairs=pairs)


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        ("kd", [0, 1, 2, 3, 6, 8]),  # unlabeled pairs only with the teacher's modality
        ("own", [0, 1, 2, 3, 6, 7, 8]),  # reads only the student's outputs
        ("none", [0, 2, 6, 8]),
        (None, [0, 2, 6, 8]),  # a model that trains alone, such as the teacher
    ],
)
def test_pairs_without_a_label_are_drawn_where_a_method_can_use_them(
    method: str | None, rows: list[int], gaps: Pack
) -> None:
    made = job(gaps, method)
    assert made.rows("train").tolist() == rows and made.rows("validation").tolist() == [9]
    assert (made.pairs, made.labels) == (len(rows), 4)
    assert made.always_paired == (method != "kd")  # pair 6 has a label and lacks the teacher's modality
    drawn = [int(row) for batch in job(gaps, method, pairs=14).loader("train", 2) for row in batch.index]
    assert set(drawn) == set(rows) and len(drawn) == 14  # an epoch of more pairs repeats rows


def test_hidden_labels_are_those_of_pairs_without_one(digits: Pack) -> None:
    few = digits.withhold(labels=20)
    assert len(job(few, "kd").rows("train")) == len(digits.rows("train"))
    np.testing.assert_array_equal(job(few, "none").rows("train"), few.rows("train", labeled=True))
    np.testing.assert_array_equal(job(few, "kd").rows("validation"), digits.rows("validation"))
    assert job(few, "kd").labels == job(few, "none").labels == 20


def test_a_batch_holds_what_the_method_reads(digits: Pack) -> None:
    assert job(digits, "kd").modalities == ("degraded", "optical")
    assert job(digits, "none").modalities == ("degraded",)
    assert job(digits, "kd").always_paired


@pytest.mark.parametrize(("method", "taught"), [("kd", [0, 1, 2, 3, 8]), ("own", [0, 1, 2, 3, 6, 7, 8])])
def test_the_pairs_that_a_method_is_given_have_what_it_reads_of_the_teacher(
    method: str, taught: list[int], gaps: Pack
) -> None:
    made = job(gaps, method)  # pair 6 lacks the teacher's modality
    assert made.taught.tolist() == taught
    assert np.flatnonzero(made.loader("train", 2).taught).tolist() == taught


def test_a_memory_holds_the_pairs_that_a_method_is_given_and_no_other(gaps: Pack) -> None:
    made = job(gaps, "crd")
    module = DistillationModule(made, OptimizerConfig(), AugmentationConfig(), batch_size=7)
    assert isinstance(made.method, CRD) and len(made.method.teacher_memory) == 5
    before = made.method.teacher_memory.clone()
    module.objective(next(iter(made.loader("train", 7))))
    assert bool((made.method.teacher_memory != before).any(1).all())
