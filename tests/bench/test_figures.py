"""Figures of a suite are drawn from its results."""

from __future__ import annotations

from cmkd.bench.figures import gains_figure, ranks_figure
from cmkd.report.figures import draw


def test_ranks_name_every_method_and_join_those_that_are_alike() -> None:
    methods = [{"method": name, "rank": rank} for name, rank in (("ds", 1.2), ("kd", 1.9), ("none", 2.9))]
    figure = ranks_figure({"methods": methods, "critical_difference": 1.1})
    assert {text.get_text().strip().split(",")[0] for text in figure.axes[0].texts} >= {"ds", "kd", "none"}
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert len(bars) == 2  # bars join ds with kd, and kd with none
    assert draw(figure, "svg") == draw(ranks_figure({"methods": methods, "critical_difference": 1.1}), "svg")


def test_gains_are_drawn_where_they_were_measured() -> None:
    test = {"mean": 0.1, "interval": [0.05, 0.15]}
    rows = [{"data": "digits", "setting": s, "method": "kd", "test": test} for s in ("few", "all")]
    figure = gains_figure(rows, ("few", "all"), ("kd", "ds"))
    assert [axes.get_title() for axes in figure.axes] == ["few", "all"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["digits"]
