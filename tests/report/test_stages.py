"""Tables of an analysis, its points, and the guide to its measures."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from cmkd.analysis import Analysis, compare
from cmkd.report.guide import MEASURES
from cmkd.report.points import embedding
from cmkd.report.stages import comparison_table
from cmkd.structure import COMPARED, DESCRIBED

ROW = {
    "who": "kd",
    "stage": "embedding",
    "metric": "effective_rank",
    "seeds": 1,
    "first": 9.0,
    "second": 10.0,
    "groups": 50,
}


def test_each_point_says_its_pair_and_is_a_cross_where_the_model_is_wrong() -> None:
    at, target = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, -1])
    drawn = embedding(at, ["p<0>", "p1", "p2"], target, np.array([0, 0, 1]), ["tug", "tanker"], "t-SNE")
    titles = re.findall("<title>(.*?)</title>", drawn)
    assert titles == ["p&lt;0&gt;: tug, right", "p1: tanker, predicted tug, wrong", "p2: no label, predicted tanker"]
    assert drawn.count("<path") == 1 and drawn.count("<circle") == 2


def test_a_difference_is_flagged_where_its_interval_excludes_zero() -> None:
    rows = [{**ROW, "difference": 1.0, "interval": [low, 2.0]} for low in (0.5, -0.5)]
    assert [row["excludes_zero"] for row in comparison_table(rows)] == [True, False]
    assert not comparison_table([{**rows[0], "groups": 3}])[0]["excludes_zero"]  # too few for a bootstrap


@pytest.mark.parametrize(
    ("metric", "difference", "interval", "written"),
    [
        ("effective_rank", 0.9, [0.3, 1.4], ("0.90", "0.30 to 1.40")),
        ("accuracy", 0.0032, [0.0004, 0.0062], ("0.320", "0.040 to 0.620")),
        ("effective_rank", -0.9, [-1.8, -0.0004], ("-0.9000", "-1.8000 to -0.0004")),
        ("effective_rank", 0.9, [-0.0004, 1.8], ("0.90", "-0.00 to 1.80")),
    ],
)
def test_the_ends_of_a_flagged_difference_do_not_read_as_zero(
    metric: str, difference: float, interval: list[float], written: tuple[str, str]
) -> None:
    sides = {"first": 120.2, "second": 121.1} if metric == "effective_rank" else {"first": 0.912, "second": 0.9152}
    (row,) = comparison_table([{**ROW, **sides, "metric": metric, "difference": difference, "interval": interval}])
    assert (row["difference"], row["interval"]) == written
    assert (row["first"], row["second"]) == (("120", "121") if metric == "effective_rank" else ("91.2", "91.5"))


@pytest.mark.parametrize(("groups", "clear"), [(np.arange(300), True), (np.zeros(300, int), False)])
def test_no_difference_is_flagged_on_pairs_of_one_group(groups: NDArray[np.int64], clear: bool) -> None:
    target, features = np.arange(300) % 2, {}
    for label, right in (("first", 100), ("second", 250)):
        predicted = np.where(np.arange(300) < right, target, 1 - target)
        features[label] = {"logits": np.eye(2, dtype=np.float32)[predicted]}
    summary = {"models": [{"label": label, "same_classes": True} for label in features]}
    ids = tuple(map(str, range(300)))
    analysis = Analysis(summary, features, target, ("a", "b"), ids, groups)  # type: ignore[arg-type]
    rows = comparison_table(compare(analysis, {"model": [("first", "second")]}, resamples=20))
    assert [row["excludes_zero"] for row in rows if row["metric"] == "accuracy"] == [clear]
    assert clear or not any(row["excludes_zero"] for row in rows)


def test_the_guide_has_two_pictures_of_every_measure_and_they_differ() -> None:
    assert set(MEASURES) <= {*DESCRIBED, *COMPARED}
    for measure in MEASURES.values():
        first, second = measure.pictures()
        assert (
            first["svg"].count("<circle") > 5
            and first["caption"] != second["caption"]
            and first["svg"] != second["svg"]
        )
        assert abs(float(first["caption"].split(":")[-1]) - float(second["caption"].split(":")[-1])) > 0.1
