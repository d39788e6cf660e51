"""Comparisons of methods over students, teachers and settings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cmkd.bench.report import html, markdown
from cmkd.bench.resampling import Resamples, decoded, encoded, levels, percentiles, sign_p_value
from cmkd.bench.rows import restored, rising, stored
from cmkd.bench.suite import Suite
from cmkd.bench.table import _wilcoxon, compare, overall, statistics, visible_difference
from cmkd.errors import CmkdError
from cmkd.evaluation import paired_interval, paired_p_value

SUITE = Suite(("a",), "kd,ds", teachers=2, seeds=2, rivals=("none", "kd"))
ONE = replace(SUITE, methods="kd", rivals=("none",))


def test_resamples_weigh_groups_by_their_pairs() -> None:
    sizes = np.array([9, 1, 2])
    assert (Resamples.draw(np.array([0]), 3).accuracy(sizes[None], sizes) == 1.0).all()


def test_methods_are_resampled_in_pairs() -> None:
    rows = students({"none": 0.0, "kd": 0.1})
    rows["groups"] = encoded(np.full(30, 10))
    none = np.random.default_rng(0).integers(0, 10, 30)
    rows["right"] = rows["method"].map({"none": encoded(none), "kd": encoded(none + 1)})
    (row,) = compare(rows, ONE)
    assert row["over_groups"]["interval"] == pytest.approx([0.1, 0.1])  # one more correct answer in every group
    assert row["over_groups"]["p_value"] == pytest.approx(2 / 2001)


def test_few_groups_have_an_interval_that_knows_that_they_are_few() -> None:
    rows = students({"none": 0.0, "kd": 0.1})
    right = np.array([[10, 10, 10, 10], [11, 12, 13, 14], [11, 13, 12, 14], [12, 12, 13, 13], [12, 13, 13, 14]])
    rows["groups"] = encoded(np.full(4, 20))
    rows["right"] = [
        encoded(right[0 if method == "none" else 1 + seed]) for method, seed in rows[["method", "seed"]].values
    ]
    rows["test"] = [decoded(text).sum() / 80 for text in rows["right"]]
    (row,) = compare(rows, ONE)
    by_teacher = np.array([right[1:3].mean(0), right[3:].mean(0)]) - 10  # mean of two students per teacher
    sizes = np.full(4, 20)
    ends = paired_interval(by_teacher, sizes)
    assert ends is not None and row["over_groups"]["interval"] == pytest.approx(ends)
    assert row["over_groups"]["p_value"] == paired_p_value(by_teacher, sizes)
    # a difference of half the interval would be detected about half the time
    assert row["test"]["detectable"] > 1.2 * (ends[1] - ends[0]) / 2


def test_few_groups_have_such_an_interval_with_one_teacher_too() -> None:
    rows = students({"none": 0.0, "kd": 0.1})
    rows = rows[rows["teacher"] == 0].assign(groups=encoded(np.full(4, 20)))
    right = {("none", 0): [10, 10, 10, 10], ("none", 1): [10, 11, 10, 10], ("kd", 0): [11, 12, 13, 14]}
    right["kd", 1] = [11, 13, 12, 14]
    rows["right"] = [encoded(np.array(right[method, seed])) for method, seed in rows[["method", "seed"]].values]
    (row,) = compare(rows, replace(SUITE, methods="kd", rivals=("none",), teachers=1))
    of_students = np.array([[1, 2, 3, 4], [1, 2, 2, 4]])
    assert row["over_groups"]["interval"] == pytest.approx(paired_interval(of_students, np.full(4, 20)))
    assert row["over_groups"]["p_value"] == paired_p_value(of_students, np.full(4, 20))


@pytest.mark.parametrize("groups", [4, 40])
def test_the_p_value_over_groups_belongs_to_the_interval(groups: int) -> None:
    generator, sizes = np.random.default_rng(groups), np.full(groups, 100)
    for shift in np.linspace(0, 6, 30):
        differences = np.rint(generator.normal(shift, 4, (5, groups))).astype(int)
        if groups == 4:
            interval, p = paired_interval(differences, sizes), paired_p_value(differences, sizes)
        else:
            drawn = Resamples.draw(np.arange(5), groups).accuracy(differences, sizes)[1:]
            interval, p = tuple(percentiles(drawn)), sign_p_value(drawn)
        assert interval is not None and p is not None
        if abs(p - 0.05) > 0.005:
            assert (interval[0] > 0 or interval[1] < 0) == (p < 0.05)


def test_teachers_count_alike_in_every_interval_however_many_students_they_have() -> None:
    rows = students({"none": 0.0, "kd": 0.0})
    sizes = np.full(20, 10)
    rows["groups"] = encoded(sizes)
    rows["right"] = [
        encoded(np.full(20, 5 + 2 * (method == "kd" and teacher == 0)))
        for method, teacher in rows[["method", "teacher"]].values
    ]
    rows["test"] = [float(decoded(text).sum()) / 200 for text in rows["right"]]
    rows = rows[rows["seed"] != 3]  # the second teacher has one student
    (row,) = compare(rows.assign(teacher_test=0.9), ONE)
    assert row["test"]["mean"] == pytest.approx(0.1)
    assert row["closed"]["mean"] == pytest.approx(0.1 / 0.4)


def students(gains: dict[str, float], *, sets: int = 1, settings: int = 1, noise: float = 0.0) -> pd.DataFrame:
    """Return synthetic students; `gains` gives the difference of each method from `none`."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{"data": "abcdefgh"[data], "setting": f"s{setting}", "teacher": teacher, "method": method, "seed": seed},
            **{"validation": (value := 0.5 + 0.1 * seed + gain + noise * generator.normal()), "test": value},
            **{
                "teacher_validation": 0.9,
                "teacher_test": 0.9,
                "steps": 10,
                "converged": seed > 0,
                "teacher_converged": True,
                "sees_all_labels": False,
                "commit": "abc",
                "right": encoded(np.array([round(100 * value)])),
                "groups": encoded(np.array([100])),
            },
        }
        for data in range(sets)
        for setting in range(settings)
        for teacher in (0, 1)
        for seed in (2 * teacher, 2 * teacher + 1)
        for method, gain in gains.items()
    )


def test_differences_are_between_students_of_one_teacher_and_seed() -> None:
    rows = compare(students({"none": 0.0, "kd": 0.02, "ds": 0.05}, noise=1e-5), SUITE)
    found = {(row["method"], row["rival"]): row for row in rows}
    assert set(found) == {("kd", "none"), ("ds", "none"), ("ds", "kd")}
    # seeds differ by 10 points, but the paired differences hardly vary
    assert found["ds", "none"]["test"]["interval"] == pytest.approx([0.05, 0.05], abs=1e-4)
    assert found["ds", "kd"]["test"]["mean"] == pytest.approx(0.03, abs=1e-4)
    assert found["ds", "kd"]["test"]["teachers"] == pytest.approx([0.03, 0.03], abs=1e-4)
    assert found["ds", "kd"]["n"] == 4


def test_a_student_without_its_partner_is_left_out() -> None:
    rows = students({"none": 0.0, "kd": 0.02, "ds": 0.05})
    rows = rows[~((rows["method"] == "kd") & (rows["seed"] == 3))]
    found = {(row["method"], row["rival"]): row["n"] for row in compare(rows, SUITE)}
    assert found == {("kd", "none"): 3, ("ds", "none"): 4, ("ds", "kd"): 3}


@pytest.mark.parametrize("groups", [[90], [50, 50]])
def test_students_that_were_tested_on_different_pairs_are_not_compared(groups: list[int]) -> None:
    rows = students({"none": 0.0, "kd": 0.02})
    rows.loc[rows["teacher"] == 1, "groups"] = encoded(np.array(groups))
    with pytest.raises(
        CmkdError, match="the test pairs of a, s0, teacher 2 are not those of teachers before: its data"
    ):
        statistics(rows, SUITE)


def test_difference_that_would_be_seen_has_its_power() -> None:
    generator, n = np.random.default_rng(0), 6
    shift = visible_difference(2.0, n)
    drawn = generator.normal(shift, 2.0, size=(4000, n))
    seen = np.mean(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(0.8, abs=0.03)


def test_students_of_one_teacher_count_as_one() -> None:
    rows = students({"none": 0.0, "kd": 0.02})
    kd = rows["method"] == "kd"
    rows.loc[kd, "test"] += np.array([0.01, 0.03, 0.05, 0.07])  # two students per teacher
    [row] = compare(rows, SUITE)
    of_teachers = stats.ttest_1samp([0.04, 0.08], 0.0)
    assert row["test"]["teachers"] == pytest.approx([0.04, 0.08])
    assert row["test"]["interval"] == pytest.approx(of_teachers.confidence_interval())
    assert row["test"]["p_value"] == pytest.approx(of_teachers.pvalue)
    [alone] = compare(rows[rows["teacher"] == 0], SUITE)  # with one teacher, only the spread of its students is known
    assert alone["test"]["interval"] == pytest.approx(stats.ttest_1samp([0.03, 0.05], 0.0).confidence_interval())


def test_settings_and_variants_of_a_data_set_are_no_further_data_sets() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, sets=3, settings=2)
    once = overall(rows[rows["data"] == "a"], SUITE)
    assert once is not None and once["data_sets"] == 1 and once["friedman"] is None
    names = {"a": "digits(severity=0.2)", "b": "digits(severity=0.4)", "c": "c"}
    found = overall(rows.assign(data=rows["data"].map(names)), SUITE)
    assert found is not None and found["data_sets"] == 2


def test_methods_are_ranked_over_data_sets_and_tested_against_rivals() -> None:
    found = overall(students({"none": 0.0, "kd": 0.1, "ds": 0.3}, sets=8, noise=0.01), SUITE)
    assert found is not None
    assert [row["method"] for row in found["methods"]] == ["ds", "kd", "none"]
    assert [row["rank"] for row in found["methods"]] == [1.0, 2.0, 3.0]
    assert found["friedman"] < 0.001
    assert found["critical_difference"] == pytest.approx(2.343 * (3 * 4 / (6 * 8)) ** 0.5, abs=1e-3)  # Demsar, table 5
    against = found["methods"][0]["against"]
    assert against["kd"]["difference"] == pytest.approx(0.2, abs=0.02)
    assert against["none"]["p_value"] == pytest.approx(2 * 2 / 2**8)  # smallest p of eight data sets, times two methods


def test_methods_with_as_many_right_answers_tie() -> None:
    rows = students({"none": 0.0, "kd": 0.0, "ds": 0.0}, sets=8)
    right = {"none": [100, 100, 100, 100], "kd": [238, 237, 238, 237], "ds": [239, 236, 237, 238]}  # kd and ds: 950
    for method, hits in right.items():
        rows.loc[rows["method"] == method, "test"] = [round(k / 901, 7) for k in hits] * 8
    rows.loc[rows["data"] != "a", "test"] += 0.1  # differences tie, although their floating-point values do not
    found = overall(rows, SUITE)
    assert found is not None
    assert {row["method"]: row["rank"] for row in found["methods"]} == {"kd": 1.5, "ds": 1.5, "none": 3.0}
    assert found["friedman"] == pytest.approx(stats.friedmanchisquare(*[[1] * 8, [2] * 8, [2] * 8]).pvalue)
    against = {row["method"]: row["against"] for row in found["methods"]}
    assert against["ds"]["kd"] == {"difference": 0.0, "p_value": 1.0}
    assert against["ds"]["none"]["p_value"] == against["kd"]["none"]["p_value"]


def test_a_data_set_without_a_difference_leaves_the_exact_p_value_of_the_others() -> None:
    assert _wilcoxon(np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.0])) == 2 / 2**5
    assert _wilcoxon(np.zeros(3)) == 1.0


def test_few_data_sets_have_no_p_value_and_controls_have_no_rank() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, sets=5)
    rows.loc[rows["method"] == "ds", "sees_all_labels"] = True
    found = overall(rows, SUITE)
    assert found is not None
    assert [row["method"] for row in found["methods"]] == ["kd", "none"]
    assert found["methods"][0]["against"]["none"]["p_value"] is None


def test_no_p_value_is_given_that_could_not_reach_five_percent_after_correction() -> None:
    suite = Suite(("a",), "kd,ds,dist,sp,rkd,crd", rivals=("none",))
    rows = students({"none": 0.0} | dict.fromkeys(suite.methods.split(","), 0.1), sets=7)
    found = overall(rows, suite)
    assert found is not None and found["lacking"] == []
    assert found["methods"][0]["against"]["none"]["p_value"] is None  # with six methods, p is at least 6 / 2^6
    found = overall(rows[rows["method"].isin(["none", "kd", "ds", "dist"])], suite)
    assert found is not None
    assert found["methods"][0]["against"]["none"]["p_value"] == pytest.approx(3 / 2**6)


def test_methods_are_ranked_by_students_of_the_same_teachers() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, sets=4, noise=0.01)
    better = (rows["data"] == "b") & (rows["teacher"] == 1)
    rows.loc[better, "test"] += 0.5
    rows = rows[~(better & (rows["method"] == "ds"))]  # over all students, kd would be ahead of ds on b
    found = overall(rows, SUITE)
    assert found is not None and found["lacking"] == [] and found["fewer"] == [["b", "s0"]]
    assert {row["method"]: row["rank"] for row in found["methods"]} == {"ds": 1.0, "kd": 2.0, "none": 3.0}
    results = {"suite": {"rivals": ["none"]}, "command": "", "commit": None, "failures": {}, "rows": []}
    text = markdown("a", results | statistics(rows, SUITE) | {"runs": {"complete": 2, "all": 2}})
    assert "Some students are left out on: b (s0)." in text


def test_an_accuracy_of_zero_is_shown_and_one_that_is_not_known_is_not() -> None:
    rows = students({"none": -0.5})
    rows[["validation", "test"]] = 0.0
    rows[["teacher_validation", "teacher_test"]] = None
    results = {"suite": {"rivals": ["none"]}, "command": "", "commit": None, "failures": {}, "rows": []}
    text = markdown("a", results | statistics(rows, SUITE) | {"runs": {"complete": 2, "all": 2}})
    assert "| a | s0 |  | 0.0 / 0.0 |" in text


def test_the_mean_of_teachers_counts_each_once() -> None:
    rows = students({"none": 0.0, "kd": 0.1})
    rows["teacher_test"] = 0.8 + 0.1 * rows["teacher"]
    rows = rows[~((rows["method"] == "kd") & (rows["teacher"] == 1))]
    assert statistics(rows, SUITE)["models"][0]["teacher"]["test"] == pytest.approx(0.85)


def test_page_of_ranks_names_what_lacks_a_method() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, sets=8, settings=2, noise=0.01)
    rows = rows[~((rows["data"] == "h") & (rows["method"] == "ds"))]
    found = statistics(rows, SUITE)
    assert found["overall"]["lacking"] == [["h", "s0"], ["h", "s1"]]
    assert found["by_setting"]["s1"]["lacking"] == [["h", "s1"]]
    results = {"suite": {"rivals": ["none"]}, "command": "", "commit": None, "failures": {}, "rows": []}
    text = markdown("a", results | found | {"runs": {"complete": 2, "all": 2}})
    assert (
        "7 data sets. The accuracy on a data set is the mean over its settings in which every method was trained, and "
        "over the teachers and seeds that all methods have there. Left out because a method is missing: h (s0), h (s1)."
        in text
    )


def test_a_difference_that_would_be_seen_needs_test_groups_too() -> None:
    generator = np.random.default_rng(0)
    rows = students({"none": 0.0, "kd": 0.1}, noise=1e-3)
    rows["groups"] = encoded(np.full(30, 10))  # teachers agree, but test groups differ
    right = {"none": np.full(30, 5), "kd": np.clip(generator.integers(2, 11, 30), 0, 10)}
    rows["right"] = [encoded(right[method]) for method in rows["method"]]
    (row,) = compare(rows, ONE)
    spread = float((right["kd"] / 10).std()) / 30**0.5
    assert row["test"]["detectable"] == pytest.approx(2.8 * spread, rel=0.1)
    assert row["validation"]["detectable"] < row["test"]["detectable"] / 3


def test_what_is_detectable_follows_from_the_spread_between_teachers() -> None:
    rows = students({"none": 0.0, "kd": 0.02})
    rows.loc[rows["method"] == "kd", "validation"] += np.array([0.01, 0.03, 0.05, 0.07])
    (row,) = compare(rows, ONE)
    assert row["validation"]["detectable"] == pytest.approx(visible_difference(float(np.std([0.04, 0.08], ddof=1)), 2))


def test_closed_gap_is_a_fraction_of_what_the_teacher_is_ahead() -> None:
    found = {(r["method"], r["rival"]): r for r in compare(students({"none": 0.0, "kd": 0.05}), SUITE)}
    # mean accuracies: `none` 0.65, the teacher 0.9
    assert found["kd", "none"]["closed"]["mean"] == pytest.approx(0.05 / 0.25)
    rows = students({"none": 0.0, "kd": 0.05}).assign(teacher_test=0.6)
    assert compare(rows, SUITE)[0]["closed"] is None


def test_the_closed_gap_varies_with_the_teachers_that_are_drawn() -> None:
    rows = students({"none": 0.0, "kd": 0.0})
    rows["groups"] = encoded(np.full(20, 10))
    rows["right"] = [encoded(np.full(20, 5 + (method == "kd"))) for method in rows["method"]]
    rows["test"] = [decoded(text).sum() / 200 for text in rows["right"]]
    rows["teacher_test"] = 0.9 - 0.2 * rows["teacher"]  # gaps of 0.4 and 0.2
    (row,) = compare(rows, ONE)
    assert row["closed"]["mean"] == pytest.approx(0.1 / 0.3)
    assert row["closed"]["interval"] == pytest.approx([0.1 / 0.4, 0.1 / 0.2])


def test_nothing_is_closed_of_a_gap_that_may_be_none() -> None:
    rows = students({"none": 0.0, "kd": 0.05}).assign(teacher_test=0.66)  # the student alone has 0.5 to 0.8
    assert compare(rows, ONE)[0]["closed"] is None


def test_statistics_are_finite_where_a_resample_has_no_gap_and_where_all_methods_tie() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.1})
    # in a few resamples, all answers are correct, and so are the teacher's
    few = {name: encoded(np.array(counts)) for name, counts in (("right", [1] * 8 + [0] * 4), ("groups", [1] * 12))}
    ties = rows.assign(validation=0.7, test=8 / 12, **few)
    found = {share: statistics(ties.assign(teacher_test=share), SUITE) for share in (0.7, 0.8, 0.9, 1.0)}
    json.dumps(list(found.values()), allow_nan=False)
    assert found[1.0]["comparisons"][0]["closed"] is not None
    more = pd.concat([ties, ties.assign(data="b")])
    tied = overall(more, SUITE)
    assert tied is not None and tied["friedman"] == 1.0


def test_interval_over_groups_covers_the_mean_of_new_people_and_new_students() -> None:
    """Draw differences with known spreads of students and groups; 95 % intervals must cover 0 about as often."""
    generator, covered, tries = np.random.default_rng(0), 0, 150
    for _ in range(tries):
        student, group = generator.normal(0, 2, (12, 1)), generator.normal(0, 5, (1, 40))
        right = np.rint(50 + student + group + generator.normal(0, 3, (12, 40))).astype(int)
        drawn = Resamples.draw(np.arange(12), 40, resamples=300)
        low, high = percentiles(drawn.accuracy(right - 50, np.full(40, 100))[1:])
        covered += low <= 0 <= high
    assert 0.86 <= covered / tries <= 0.99


def test_of_many_groups_blocks_are_drawn_that_spread_as_they_do() -> None:
    right = np.zeros((1, 50_000), dtype=np.int64)
    right[:, :25_000] = 1  # like pairs sorted by class
    drawn = Resamples.draw(np.array([0]), right.shape[1], resamples=500)
    assert drawn.groups.nbytes < 20e6
    found = drawn.accuracy(right, np.ones(right.shape[1], dtype=np.int64))
    assert found[0] == 0.5
    assert found[1:].std() == pytest.approx(0.5 / 50_000**0.5, rel=0.15)


def test_students_of_one_teacher_are_drawn_together() -> None:
    drawn = Resamples.draw(np.array([0, 0, 0, 1, 1, 1]), 1, resamples=4000).students[1:]
    counts = drawn[:, :3].sum(1)
    assert np.unique(counts.round(6)).tolist() == [0.0, 1.0, 2.0]
    assert (counts == 0).mean() == pytest.approx(0.25, abs=0.03)


def test_students_are_drawn_within_a_teacher_too() -> None:
    drawn = Resamples.draw(np.zeros(4, np.int64), 1, resamples=4000).students[1:]
    assert drawn.sum(1) == pytest.approx(1.0)
    assert (drawn[:, 0] == 0).mean() == pytest.approx(0.75**4, abs=0.03)


def test_levels_are_told_apart_only_where_a_teacher_has_several_students() -> None:
    generator = np.random.default_rng(0)
    teachers = np.repeat(np.arange(200), 5)
    values = np.repeat(generator.normal(0, 3, 200), 5) + generator.normal(0, 1, 1000)
    assert levels(values, teachers) == pytest.approx((3.0, 1.0), abs=0.3)
    assert levels(values[:5], np.arange(5)) is None


@pytest.mark.parametrize("other", ["s0", "s1"])
def test_rows_are_stored_with_the_pairs_of_a_group_once_and_come_back(other: str) -> None:
    rows = students({"none": 0.0, "kd": 0.02}, settings=2)
    rows.loc[rows["setting"] == other, "groups"] = encoded(np.array([60, 40]))  # a setting may have other test pairs
    assert len(stored(rows)["groups"]) == 2
    pd.testing.assert_frame_equal(restored(stored(rows)), rows, check_dtype=False, check_like=True)


@pytest.mark.parametrize(
    "change", [("3x3", "3x9"), ("3x3", "1x3"), ("3x3", "0x3"), ("3x3", "3x99999999"), ("3x3:", ""), ("=", "")]
)
def test_damaged_counts_are_refused(change: tuple[str, str]) -> None:
    text = encoded(np.arange(3, 6))
    assert text.startswith("3x3:") and text.endswith("=")
    for damaged in (text.replace(*change), text[:-6]):
        with pytest.raises(CmkdError, match="damaged"):
            decoded(damaged)


@pytest.mark.parametrize("counts", [[0, 65_535], [70_000, 66_000], [2**32 - 1], [0], []])
def test_counts_of_any_size_come_back(counts: list[int]) -> None:
    assert decoded(encoded(np.array(counts, dtype=int))).tolist() == counts


def test_page_names_what_was_not_converged_what_failed_and_what_is_missing() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, noise=1e-5)
    results = {
        **{"suite": {"rivals": ["none", "kd"]}, "command": "cmkd bench a.yaml", "commit": "abc"},
        **statistics(rows, SUITE),
        **{"failures": {"a, s0, teacher 1": "no <disk>"}, "runs": {"complete": 1, "all": 2}, "rows": []},
    }
    text = markdown("few labels", results)
    assert "| a | s0 | 90.0 / 90.0 | 65.0 / 65.0 | kd 75.0, ds 95.0 | 3 of 12 |" in text
    assert "**+30.0 (+30.0 to +30.0)**" in text
    assert r"| a, s0, teacher 1 | no \<disk\> |" in text
    assert "Not finished: 1 of 2 runs" in text
    rows["teacher_converged"] = [None if row > 0 else False for row in rows["teacher"]]
    assert rising(rows) == 6  # all students of the first teacher, including one that had not converged itself
    made = html("few labels", results)
    assert "<b>+30.0 (+30.0 to +30.0)</b>" in made and "no &lt;disk&gt;" in made and "Not finished: 1 of 2 runs" in made


def test_a_row_of_the_page_is_what_was_compared() -> None:
    rows = students({"none": 0.0, "kd": 0.1}, noise=2e-3)
    rows["groups"] = encoded(np.full(30, 10))
    right = {"none": np.full(30, 5), "kd": np.random.default_rng(0).integers(2, 10, 30)}
    rows["right"] = [encoded(right[method]) for method in rows["method"]]
    rows["test"] -= 0.06 * (rows["method"] == "kd")
    (row,) = compare(rows, ONE)
    assert row["test"]["interval"][0] > 0 >= row["over_groups"]["interval"][0]  # not significant over groups
    about: dict[str, Any] = {"suite": {"rivals": ["none"]}, "command": "", "commit": None, "failures": {}, "rows": []}
    text = markdown("a", about | statistics(rows, ONE) | {"runs": {"complete": 2, "all": 2}})
    line = next(line for line in text.splitlines() if line.startswith("| a | s0 | kd |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[4].startswith("**") and not cells[5].startswith("**")
    assert cells[7] == ", ".join(f"{100 * value:.1f}" for value in row["levels"])
    assert cells[8] == f"{100 * row['test']['detectable']:.1f}" != f"{100 * row['validation']['detectable']:.1f}"
    low, high = row["closed"]["interval"]
    assert cells[9] == f"{100 * row['closed']['mean']:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def test_diagram_joins_what_cannot_be_told_apart() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, sets=8, noise=0.01)
    found = statistics(rows, SUITE)
    results = {"suite": {"rivals": ["none"]}, "command": "", "commit": None, "failures": {}, "rows": []}
    made = html("a", results | found | {"runs": {"complete": 2, "all": 2}})
    assert made.count("<svg") == 1
    assert "ds, kd; kd, none" in made  # ranks 1, 2 and 3; the critical difference of three methods is 1.17
