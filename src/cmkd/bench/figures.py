"""Figures of a suite's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cmkd.datasets.open import without_folder
from cmkd.report.figures import COLORS, shown


def ranks_figure(found: Mapping[str, Any]) -> Figure:
    """Draw mean ranks on a line, best on the left; a bar joins methods without a significant difference (Nemenyi).

    Args:
        found: result of `cmkd.bench.table.overall`, with a critical difference.

    Source:
        The critical-difference diagram of Demsar 2006, JMLR 7.
    """
    methods, critical = found["methods"], found["critical_difference"]
    half = (len(methods) + 1) // 2
    figure = Figure(figsize=(8, 1.3 + 0.22 * half))
    axes = figure.add_subplot()
    for place, row in enumerate(methods):
        left = place < half
        level, end = -(place if left else len(methods) - 1 - place) - 1.0, 0.6 if left else len(methods) + 0.4
        axes.plot([row["rank"], row["rank"], end], [0, level, level], color="#666666", linewidth=0.8)
        side: dict[str, Any] = {"ha": "right" if left else "left", "va": "center", "fontsize": 9}
        axes.text(end, level, f" {shown(row['method'])}, {row['rank']:.1f} ", **side)
    for height, (first, last) in enumerate(alike([row["rank"] for row in methods], critical)):
        ends = [methods[first]["rank"] - 0.04, methods[last]["rank"] + 0.04]
        axes.plot(ends, [-0.25 - 0.2 * height] * 2, color=COLORS[0], linewidth=3, solid_capstyle="butt")
    axes.plot([1, 1 + critical], [2.1, 2.1], color=COLORS[2], linewidth=2)
    axes.text(1 + critical, 2.1, f" critical difference {critical:.2f}", va="center", fontsize=9)
    axes.set(xlim=(0.5, len(methods) + 0.5), ylim=(-half - 0.6, 2.6), yticks=[], xticks=range(1, len(methods) + 1))
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.spines["top"].set_position(("data", 0.0))
    axes.xaxis.tick_top()
    return figure


def alike(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Return the longest runs of sorted ranks within the critical difference, as first and last positions.

    Example:
        >>> alike([1.0, 1.5, 2.4, 4.0], 1.0)
        [(0, 1), (1, 2)]
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(k for k, other in enumerate(ranks) if other - rank < critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def gains_figure(comparisons: Sequence[Mapping[str, Any]], settings: Sequence[str], methods: Sequence[str]) -> Figure:
    """Draw the test gain over the student alone by data set and setting, with Student's 95 % intervals.

    Args:
        comparisons: results of `cmkd.bench.table.compare` whose rival is ``none``.
        settings: settings to draw, one panel each.
        methods: methods to draw, one color each.
    """
    sets = list(dict.fromkeys(row["data"] for row in comparisons))
    figure = Figure(figsize=(4.2 * len(settings), 0.9 + 0.5 * len(sets)))
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, settings, strict=True):
        for number, method in enumerate(methods):
            rows = {row["data"]: row for row in comparisons if (row["setting"], row["method"]) == (setting, method)}
            chosen = [row for row in (rows.get(name) for name in sets) if row and row["test"]["interval"]]
            places = [sets.index(row["data"]) + 0.7 * (number + 0.5) / len(methods) - 0.35 for row in chosen]
            means = np.array([100 * row["test"]["mean"] for row in chosen])
            ends = 100 * np.array([row["test"]["interval"] for row in chosen]).reshape(-1, 2)
            spread = np.abs(ends.T - means)
            style = {"fmt": "os^Dv"[number % 5], "color": COLORS[number % len(COLORS)], "markersize": 4, "linewidth": 1}
            axes.errorbar(means, places, xerr=spread, label=shown(method), **style)
        axes.axvline(0, color="#666666", linewidth=0.8, zorder=0)
        axes.set(title=shown(setting), xlabel="gain over the student alone, points")
        axes.set_yticks(range(len(sets)), [shown(without_folder(name)) for name in sets])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.tight_layout()
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(methods), frameon=False)
    return figure
