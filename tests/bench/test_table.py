"""Comparisons of methods over students, teachers and settings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cmkd.bench.report import page
from cmkd.bench.suite import Suite
from cmkd.bench.table import compare, models, overall, visible_difference

SUITE = Suite(("a",), "kd,ds", teachers=2, seeds=2, rivals=("none", "kd"))


def students(gains: dict[str, float], *, settings: int = 1, noise: float = 0.0) -> pd.DataFrame:
    """Return made-up students whose methods differ from `none` by what is given."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{"data": "a", "setting": f"s{setting}", "teacher": teacher, "method": method, "seed": seed},
            **{"validation": (value := 0.5 + 0.1 * seed + gain + noise * generator.normal()), "test": value},
            **{
                "teacher_validation": 0.9,
                "teacher_test": 0.9,
                "steps": 10,
                "converged": seed > 0,
                "sees_all_labels": False,
            },
        }
        for setting in range(settings)
        for teacher in (0, 1)
        for seed in (2 * teacher, 2 * teacher + 1)
        for method, gain in gains.items()
    )


def test_differences_are_between_students_of_one_teacher_and_seed() -> None:
    rows = compare(students({"none": 0.0, "kd": 0.02, "ds": 0.05}), SUITE)
    found = {(row["method"], row["rival"]): row for row in rows}
    assert set(found) == {("kd", "none"), ("ds", "none"), ("ds", "kd")}
    # the seeds differ by 10 points, the pairs by nothing
    assert found["ds", "none"]["test"]["interval"] == pytest.approx([0.05, 0.05])
    assert found["ds", "kd"]["test"]["mean"] == pytest.approx(0.03)
    assert found["ds", "kd"]["test"]["teachers"] == pytest.approx([0.03, 0.03])
    assert found["ds", "kd"]["n"] == 4


def test_a_student_without_its_partner_is_left_out() -> None:
    rows = students({"none": 0.0, "kd": 0.02, "ds": 0.05})
    rows = rows[~((rows["method"] == "kd") & (rows["seed"] == 3))]
    found = {(row["method"], row["rival"]): row["n"] for row in compare(rows, SUITE)}
    assert found == {("kd", "none"): 3, ("ds", "none"): 4, ("ds", "kd"): 3}


def test_difference_that_would_be_seen_has_its_power() -> None:
    generator, n = np.random.default_rng(0), 6
    shift = visible_difference(2.0, n)
    drawn = generator.normal(shift, 2.0, size=(4000, n))
    seen = (stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean()
    assert seen == pytest.approx(0.8, abs=0.03)


def test_methods_are_ranked_over_settings_and_tested_against_rivals() -> None:
    found = overall(students({"none": 0.0, "kd": 0.1, "ds": 0.3}, settings=8, noise=0.01), SUITE)
    assert [row["method"] for row in found] == ["ds", "kd", "none"]
    assert [row["rank"] for row in found] == [1.0, 2.0, 3.0]
    against = found[0]["against"]
    assert against["kd"]["difference"] == pytest.approx(0.2, abs=0.02)
    assert against["none"]["p_value"] == pytest.approx(2 * 2 / 2**8)  # the least of eight, times two methods


def test_few_settings_have_no_p_value_and_controls_have_no_rank() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3}, settings=5)
    rows.loc[rows["method"] == "ds", "sees_all_labels"] = True
    found = overall(rows, SUITE)
    assert [row["method"] for row in found] == ["kd", "none"]
    assert found[0]["against"]["none"]["p_value"] is None


def test_page_names_what_was_not_converged_what_failed_and_what_is_missing() -> None:
    rows = students({"none": 0.0, "kd": 0.1, "ds": 0.3})
    results = {
        **{"suite": {"rivals": ["none", "kd"]}, "command": "cmkd bench a.yaml", "commit": "abc"},
        **{"models": models(rows), "comparisons": compare(rows, SUITE), "overall": overall(rows, SUITE)},
        **{"failures": {"a, s0, teacher 1": "no disk"}, "runs": {"complete": 1, "all": 2}},
    }
    text = page("few labels", results)
    assert "| a | s0 | 90.0 | 65.0 | kd 75.0, ds 95.0 | 3 of 12 |" in text
    assert "**+30.0 (+30.0 to +30.0)**" in text
    assert "- a, s0, teacher 1: no disk" in text
    assert "Not finished: 1 of 2 runs" in text
