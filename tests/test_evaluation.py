"""Statistics of an evaluation, compared with scikit-learn, with hand counts, and in simulations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cmkd.data import CardInfo, Modality, PackWriter
from cmkd.data.pack import Pack
from cmkd.deploy.calibration import calibration_error, calibration_errors
from cmkd.evaluation import (
    auroc,
    bootstrap,
    class_scores,
    group_numbers,
    intervals,
    mcnemar,
    prediction_table,
    scores,
    summarize,
    weighted_scores,
)
from cmkd.evaluation.results import right_answers

GENERATOR = np.random.default_rng(0)
TARGET = GENERATOR.integers(3, size=80)
LOGITS = np.round(GENERATOR.normal(size=(80, 4)), 1) + 1.5 * np.eye(4)[TARGET]  # class 3 never occurs
PROBABILITIES = np.round(np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True), 2)  # rounded, so that some are equal
TIMES = GENERATOR.integers(3, size=80)
REPEATED = np.repeat(np.arange(80), TIMES)
"""Rows of a resample; `TIMES` has the same resample as weights."""


def test_auroc_is_that_of_sklearn_with_equal_scores_and_an_absent_class() -> None:
    for rows, weights in ((np.arange(80), np.ones(80)), (REPEATED, TIMES.astype(float))):
        expected = [metrics.roc_auc_score(TARGET[rows] == k, PROBABILITIES[rows, k]) for k in range(3)]
        assert auroc(PROBABILITIES, TARGET, weights[None])[0] == pytest.approx(np.mean(expected), abs=1e-12)


def test_auroc_leaves_out_classes_that_a_resample_lacks() -> None:
    lacks, alone = (np.isin(TARGET, kept).astype(float) for kept in ((0, 1), (2,)))
    found = auroc(PROBABILITIES, TARGET, np.stack([lacks, alone]))
    kept = lacks > 0
    expected = [metrics.roc_auc_score(TARGET[kept] == k, PROBABILITIES[kept, k]) for k in (0, 1)]
    assert found[0] == pytest.approx(np.mean(expected), abs=1e-12)
    assert np.isnan(found[1])


def test_weights_are_repetitions() -> None:
    weights = np.stack([np.ones(80), TIMES])
    for row, rows in enumerate((np.arange(80), REPEATED)):
        for name, values in weighted_scores(LOGITS, TARGET, weights).items():
            assert values[row] == pytest.approx(scores(LOGITS[rows], TARGET[rows])[name], abs=1e-12)
        errors = calibration_errors(PROBABILITIES, TARGET, weights)
        assert errors[row] == pytest.approx(calibration_error(PROBABILITIES[rows], TARGET[rows]), abs=1e-12)


def test_class_scores_and_scores_are_those_of_sklearn() -> None:
    found, predicted = class_scores(LOGITS, TARGET, np.ones((1, 80))), LOGITS.argmax(1)
    expected = metrics.precision_recall_fscore_support(TARGET, predicted, labels=[0, 1, 2])
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(found[name][0, :3], values)
    assert np.isnan(found["recall"][0, 3]) and np.isnan(found["f1"][0, 3])
    whole = scores(LOGITS, TARGET)
    assert whole["balanced_accuracy"] == pytest.approx(expected[1].mean())
    assert whole["macro_f1"] == pytest.approx(metrics.f1_score(TARGET, predicted, labels=[0, 1, 2], average="macro"))


def test_the_id_of_a_pair_without_a_group_may_be_the_name_of_one(tmp_path: Path) -> None:
    ids, groups = ["1", "2", "3", "10", "4"], ["2", "", "2", "", "10"]
    with PackWriter(
        tmp_path / "pack", CardInfo("p"), classes=["a", "b"], modalities=[Modality("x", "vector", (1,), "float32")]
    ) as writer:
        writer.add(ids, [0, 1, 0, 1, 0], ["train"] * 5, groups, {"x": np.zeros((5, 1), np.float32)})
    table = prediction_table(Pack.open(tmp_path / "pack"), np.arange(5), np.eye(2)[[0, 1, 1, 0, 0]])
    table.to_parquet(tmp_path / "test.parquet")
    right, pairs = right_answers(tmp_path / "test.parquet", 2)
    assert (right.tolist(), pairs.tolist()) == ([1, 0, 1, 1], [1, 1, 2, 1])  # group 10, pair 10, group 2, pair 2


@pytest.mark.parametrize("groups", [["b", "", "b", "", "a"], [""] * 5, ["b"] * 5])
def test_predictions_of_an_older_version_have_the_same_groups_in_the_same_order(
    groups: list[str], tmp_path: Path
) -> None:
    table = pd.DataFrame(
        {"id": ["1", "ab", "3", "10", "4"], "group": groups, "target": 0, "predicted": [0, 1, 1, 0, 0]}
    )
    older = table.assign(group=table["group"].where(table["group"] != "", table["id"]))
    assert group_numbers(older).tolist() == group_numbers(table).tolist()
    tables = [table, older] if any(groups) else [table, older, table.drop(columns="group")]
    for number, each in enumerate(tables):
        each.to_parquet(tmp_path / f"{number}.parquet")
    counted = [right_answers(tmp_path / f"{number}.parquet", 2) for number in range(len(tables))]
    assert all(np.array_equal(counts, counted[0]) for counts in counted)


@pytest.mark.parametrize(("first_only", "second_only"), [(0, 0), (7, 1), (3, 9), (5, 5)])
def test_mcnemar_is_the_two_sided_binomial_test(first_only: int, second_only: int) -> None:
    first = np.array([True] * first_only + [False] * second_only + [True, False, True])
    second = np.array([False] * first_only + [True] * second_only + [True, False, True])
    n = first_only + second_only
    tail = sum(math.comb(n, k) for k in range(min(first_only, second_only) + 1)) / 2**n
    found = mcnemar(first, second)
    assert (found["first_only"], found["second_only"]) == (first_only, second_only)
    assert found["p_value"] == pytest.approx(min(1.0, 2 * tail))


def of(values: np.ndarray, groups: np.ndarray, resamples: int = 400) -> np.ndarray:
    return bootstrap(lambda w: {"mean": w @ values / w.sum(1)}, groups, resamples=resamples)["mean"]


def test_the_bootstrap_covers_what_it_says() -> None:
    generator, covered = np.random.default_rng(1), []
    for _ in range(200):
        _, low, high = of((generator.random(60) < 0.7).astype(float), np.arange(60))
        covered.append(low <= 0.7 <= high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_whole_groups_cover_what_single_pairs_do_not() -> None:
    generator, groups = np.random.default_rng(2), np.repeat(np.arange(20), 10)
    covered: dict[str, list[bool]] = {"groups": [], "pairs": []}
    for _ in range(100):
        chance = generator.beta(1.4, 0.6, 20)[groups]  # a group is mostly right or mostly wrong; 0.7 on average
        right = (generator.random(200) < chance).astype(float)
        for name, clusters in (("groups", groups), ("pairs", np.arange(200))):
            _, low, high = of(right, clusters)
            covered[name].append(bool(low <= 0.7 <= high))
    assert np.mean(covered["groups"]) >= 0.85
    assert np.mean(covered["pairs"]) <= 0.75


def test_pairs_of_a_single_group_and_equal_values_have_no_point_as_an_interval() -> None:
    values = np.arange(20.0)
    mean, low, high = bootstrap(lambda w: {"mean": w @ values / w.sum(1)}, np.zeros(20))["mean"]
    assert low < mean - 1 and high > mean + 1
    assert intervals.interval([0.05, 0.05]) is None and intervals.interval([0.05]) is None
    rounded = [round((k + 1) / 350, 6) - round(k / 350, 6) for k in (200, 5, 87)]  # as stored
    assert np.ptp(rounded) > 1e-6 and intervals.interval(rounded) is None


def test_a_difference_that_rounds_to_zero_has_no_minus_but_the_end_of_its_interval_has() -> None:
    assert intervals.in_points(-1e-9, (-0.0004, 0.0001)) == ("+0.0 (-0.0 to +0.0)", False)


def test_the_memory_does_not_change_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of(LOGITS[:, 0], TARGET)
    monkeypatch.setattr(intervals, "_WEIGHTS", 1000)
    np.testing.assert_array_equal(of(LOGITS[:, 0], TARGET), whole)


def test_a_statistic_without_a_value_in_some_resamples_has_an_interval_of_the_others() -> None:
    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            return {"rare": weights[:, 0] / weights[:, 0], "never": np.full(len(weights), np.nan)}

    found = bootstrap(statistics, np.arange(5), resamples=50)
    assert found["rare"].tolist() == [1, 1, 1]
    assert np.isnan(found["never"]).all()


def test_the_interval_of_a_gain_covers_test_pairs_on_which_all_seeds_differ_alike() -> None:
    generator, covers, alone = np.random.default_rng(0), [], []
    for _ in range(400):
        # nine tenths of the pairs differ alike in each seed, so the spread over seeds says little; the true gain is 0.1
        drawn = generator.choice([-1, 0, 1], p=[0.05, 0.8, 0.15], size=(4, 120))
        differences = np.where(generator.random((3, 120)) < 0.1, drawn[:3], drawn[3])
        for found, ends in (
            (covers, intervals.paired_interval(differences, np.ones(120, dtype=np.int64))),
            (alone, intervals.interval(differences.mean(1))),
        ):
            found.append(ends is not None and ends[0] <= 0.1 <= ends[1])
    assert np.mean(covers) > 0.93 and np.mean(alone) < 0.75


def test_a_gain_that_is_the_same_in_every_pair_has_no_interval_however_large_the_groups() -> None:
    sizes = np.array([9, 1, 2])
    assert intervals.paired_interval(np.stack([sizes, sizes]), sizes) is None


def test_a_gain_covers_test_pairs_where_the_answers_are_known() -> None:
    accuracies = {("none", 0): 0.5, ("none", 1): 0.5, ("kd", 0): 0.75, ("kd", 1): 0.75}
    rows = [{"method": m, "seed": seed, "test_accuracy": value} for (m, seed), value in accuracies.items()]
    sizes = np.array([2, 1, 1])
    right = {("none", 0): [2, 0, 0], ("none", 1): [0, 1, 1], ("kd", 0): [2, 1, 0], ("kd", 1): [1, 1, 1]}
    answers = {student: (np.array(hits), sizes) for student, hits in right.items()}
    without, known = summarize(rows)[1], summarize(rows, answers=answers)[1]
    assert (without["gain_interval"], without["gain_covers"]) == (None, ["seeds"])  # seeds with equal gains
    assert known["gain_covers"] == ["seeds", "test pairs"] and known["gain"] == 0.25
    assert known["gain_interval"][0] < 0.25 < known["gain_interval"][1]
    assert summarize(rows, answers={**answers, ("none", 2): answers["none", 0]})[1] == known
    assert summarize(rows, answers={**answers, ("kd", 1): (np.array([2, 1]), np.array([2, 2]))})[1] == without


def test_the_gap_closed_is_that_of_the_seeds_that_are_shared() -> None:
    measured = (("none", 0, 0.5), ("none", 1, 0.7), ("kd", 0, 0.65))
    rows = [{"method": method, "seed": seed, "test_accuracy": accuracy} for method, seed, accuracy in measured]
    kd = summarize(rows, teacher=0.8)[1]
    assert (kd["gain"], kd["gain_n"], kd["gap_closed"]) == (pytest.approx(0.15), 1, pytest.approx(0.15 / 0.3))
    assert "gap_closed" not in summarize(rows, teacher=0.5)[1]
