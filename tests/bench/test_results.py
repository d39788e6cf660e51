"""Results that are handed in: what counts, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cmkd.bench import check
from cmkd.bench.resampling import encoded
from cmkd.bench.rows import stored
from cmkd.bench.suite import Suite
from cmkd.errors import CmkdError
from cmkd.io import write_json, write_text
from cmkd.options import plain

SUITE = Suite(("digits",), "kd", teachers=2, seeds=1)
ASKED = "data: [digits]\nmethods: kd\nteachers: 2\nseeds: 1\n"


def rows(suite: Suite) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{"data": "digits", "setting": "default", "teacher": teacher, "method": method, "seed": 1000 * teacher},
            **{"validation": 0.5, "test": 0.75, "teacher_test": None, "converged": True, "sees_all_labels": False},
            **{"commit": "abc", "right": encoded(np.array([2, 1])), "groups": encoded(np.array([2, 2]))},
        }
        for teacher in range(2)
        for method in suite.expressions
    )


def handed_in(folder: Path, suite: Suite, students: pd.DataFrame, others: dict[str, Any]) -> Path:
    write_text(folder / "small.yaml", ASKED)
    about = {"suite": plain(suite), "command": "", "commit": "abc", "runs": {"complete": 2, "all": 2}, "failures": {}}
    write_json(folder / "small.json", about | stored(students) | others)
    return folder / "small.yaml"


def test_results_with_a_method_more_are_those_of_the_suite(tmp_path: Path) -> None:
    suite = replace(SUITE, methods="kd,ds")
    path = handed_in(tmp_path, suite, rows(suite), {})
    assert check(path, tmp_path).startswith("6 students of 2 runs, as the suite asks, by commit abc; 0 not converged")


@pytest.mark.parametrize(
    ("suite", "change", "words"),
    [
        (replace(SUITE, methods="ds"), {}, "methods lacks kd"),
        (replace(SUITE, run={"epochs": 90}), {}, "run is {'epochs': 90}, not {}"),
        (SUITE, {"commit": "abc-dirty"}, "4 students were trained by commit abc-d"),
        (SUITE, {"seed": 7}, "none on digits, default, teacher 1, seed 0 is missing"),
        (SUITE, {"teacher": 0, "seed": 0}, "seed 0 is there twice"),
        (SUITE, {"test": 0.8}, "make another test accuracy"),
        (SUITE, {"right": encoded(np.array([3, 0]))}, "do not fit its test groups"),
        (SUITE, {"right": "eJw="}, "damaged"),
        (SUITE, {"converged": "yes"}, "converged must be"),
    ],
)  # fmt: skip
def test_what_does_not_count_is_said(tmp_path: Path, suite: Suite, change: dict[str, Any], words: str) -> None:
    path = handed_in(tmp_path, suite, rows(suite).assign(**change), {})
    with pytest.raises(CmkdError, match=words.replace("{", r"\{")):
        check(path, tmp_path)


@pytest.mark.parametrize("others", [{"groups": {}}, {"rows": [[1]]}, {"suite": {"data": ["digits"]}}])
def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path, others: dict[str, Any]) -> None:
    with pytest.raises(CmkdError, match=r"small.json' is damaged \(.*\): run"):
        check(handed_in(tmp_path, SUITE, rows(SUITE), others), tmp_path)
