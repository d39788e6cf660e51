"""Which pairs a training uses, where some have no label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmkd import methods, models
from cmkd.data.pack.pack import Pack
from cmkd.training.job import TrainingJob


@pytest.fixture
def sparse(digits: Pack) -> Pack:
    return digits.withhold(0.3)


def job(pack: Pack, method: str | None, *, allow_unlabeled: bool) -> TrainingJob:
    teacher, student = (
        models.build("thin_resnet(width=4)", pack.modality(m), classes=10) for m in ("optical", "degraded")
    )
    made = None if method is None else methods.create(method, student.spec, teacher.spec)
    return TrainingJob(Path(), pack, student, "", 1, 0, teacher, made, allow_unlabeled=allow_unlabeled)


@pytest.mark.parametrize(("method", "all_pairs"), [("kd", True), ("none", False), (None, False)])
def test_pairs_without_a_label_are_used_by_methods_alone_and_where_allowed(
    method: str | None, all_pairs: bool, sparse: Pack
) -> None:
    everything, labeled = sparse.rows("train"), sparse.rows("train", labeled=True)
    assert 0 < len(labeled) < 0.4 * len(everything)
    strict, free = (job(sparse, method, allow_unlabeled=allowed) for allowed in (False, True))
    np.testing.assert_array_equal(strict.rows("train"), labeled)
    np.testing.assert_array_equal(free.rows("train"), everything if all_pairs else labeled)
    np.testing.assert_array_equal(free.rows("validation"), sparse.rows("validation", labeled=True))
    assert (strict.pairs, free.pairs) == (len(labeled), len(everything))  # students of all methods make as many steps


def test_a_batch_holds_what_the_method_reads(digits: Pack) -> None:
    assert job(digits, "kd", allow_unlabeled=False).modalities == ("degraded", "optical")
    assert job(digits, "none", allow_unlabeled=False).modalities == ("degraded",)
    assert job(digits, "kd", allow_unlabeled=False).always_paired


def test_a_pair_that_lacks_a_modality_is_noticed(digits: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = digits.rows
    monkeypatch.setattr(
        digits, "rows", lambda split, **options: rows(split, **options)[len(options["modalities"]) - 1 :]
    )
    assert not job(digits, "kd", allow_unlabeled=False).always_paired
    assert job(digits, "none", allow_unlabeled=False).always_paired
