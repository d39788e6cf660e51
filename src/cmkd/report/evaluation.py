"""Write ``evaluation.json`` and its page: scores, reliability, robustness, classes, groups, and two models compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cmkd.evaluation.intervals import FEW_GROUPS
from cmkd.io import write_json, write_text
from cmkd.report import figures
from cmkd.report.html import render
from cmkd.report.page import finding
from cmkd.report.predictions import MOST, confusion

SCORES = {
    "accuracy": ("accuracy (%)", 100),
    "balanced_accuracy": ("balanced accuracy (%)", 100),
    "macro_f1": ("macro F1 (%)", 100),
    "auroc": ("AUROC (%)", 100),
    "log_loss": ("log loss (nats)", 1),
    "calibration_error": ("ECE (%)", 100),
    "calibration_error_uncalibrated": ("ECE before temperature scaling (%)", 100),
    "accepted": ("accepted (%)", 100),
    "accuracy_of_accepted": ("accuracy of accepted (%)", 100),
}
"""Score -> its name and unit, and the factor to that unit."""


def write_evaluation(found: Mapping[str, Any], folder: Path) -> Path:
    """Write the results of an evaluation, and return the path of its page.

    Args:
        found: result of `cmkd.deploy.evaluate.evaluate`.
        folder: receives ``evaluation.json`` and ``evaluation.html``, which needs no other file.
    """
    said = verdict(found) if "comparison" in found else ""
    made = dict(found) | ({"verdict": said} if said else {})
    models = found["models"]
    page = render(
        "evaluation.html",
        found=found,
        verdict=said,
        scores=score_rows(models),
        estimate=estimate,
        most=MOST,
        reliability=figures.inline(figures.reliability_figure(models), "Reliability diagram: accuracy by confidence"),
        robustness=[
            (
                _caption(same),
                figures.inline(
                    robustness_figure(same), f"Accuracy and log loss by corruption and severity: {_caption(same)}"
                ),
            )
            for same in _alike(models)
        ],
        kinds=dict.fromkeys(f"{kind['name']}: {kind['title']}" for m in models for kind in m.get("robustness", ())),
        unspeckled=[m["name"] for m in models if _unspeckled(m)],
        confusions={m["name"]: confusion(np.array(m["confusion"]), [c["class"] for c in m["classes"]]) for m in models},
    )
    write_json(folder / "evaluation.json", made)
    write_text(folder / "evaluation.html", page)
    return folder / "evaluation.html"


def verdict(found: Mapping[str, Any]) -> str:
    """Say in a sentence which of two models is more accurate, as far as the pairs can tell.

    McNemar's test assumes independent pairs, but pairs of one group are not independent. With groups the test is left
    out; without groups, a difference is significant only if test and interval agree. With few groups the interval is
    too narrow for a conclusion. If the difference is the same in all resamples, there is no interval.

    Args:
        found: contents of ``evaluation.json`` for two models.

    Example:
        >>> difference = {"value": 0.02, "low": 0.011, "high": 0.029}
        >>> test = {"first_only": 9, "second_only": 2, "p_value": 0.0654}
        >>> comparison = {"names": ["ds", "kd"], "accuracy_difference": difference, "mcnemar": test}
        >>> verdict({"comparison": comparison, "data": {"pairs": 350, "groups": 0}})
        'ds: +2.0 points over kd (95 % CI +1.1 to +2.9, n = 350 pairs), not significant; McNemar p = 0.065'
    """
    comparison, pairs, groups = found["comparison"], found["data"]["pairs"], found["data"]["groups"]
    first, second = comparison["names"]
    value, low, high = (comparison["accuracy_difference"][key] for key in ("value", "low", "high"))
    ends = "" if low is None else f"95 % CI {100 * low:+.1f} to {100 * high:+.1f}, "
    said = f"{first}: {100 * value:+z.1f} points over {second} ({ends}n = {pairs:,} pairs"
    found_ends = "the same in all resamples" if low is None else finding(low, high)
    if groups:
        shown = found_ends if groups >= FEW_GROUPS else "too few groups to say which is better"
        return f"{said} of {groups:,} group{'s' if groups > 1 else ''}), {shown}"
    p_value = comparison["mcnemar"]["p_value"]
    shown = found_ends if low is None or p_value < 0.05 else finding(low=-1.0, high=1.0)
    return f"{said}), {shown}; McNemar p {f'= {p_value:.2g}' if p_value else '< 1e-300'}"


def score_rows(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the rows of the table of scores: a name, and one cell per model.

    Example:
        >>> score_rows([{"scores": {"accuracy": {"value": 0.5, "low": 0.42, "high": 0.58}}}])
        [('accuracy (%)', ['50.0 (42.0 to 58.0)'])]
    """
    return [
        (said, [estimate(model["scores"].get(name), factor, 1 if factor == 100 else 3) for model in models])
        for name, (said, factor) in SCORES.items()
        if any(name in model["scores"] for model in models)
    ]


def estimate(said: Mapping[str, float | None] | None, factor: float = 100, digits: int = 1) -> str:
    """Return an estimate with its interval as text; a dash where there is none.

    Example:
        >>> estimate({"value": 0.5, "low": 0.42, "high": 0.58})
        '50.0 (42.0 to 58.0)'
    """
    if said is None or said["value"] is None:
        return "—"
    value, low, high = (f"{factor * (said[key] or 0.0):.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})" if said["low"] is not None else value


def robustness_figure(models: Mapping[int, Mapping[str, Any]]) -> Figure:
    """Draw accuracy and log loss by severity, one column per corruption, with 95 % intervals as bands.

    Args:
        models: position, which chooses the color -> entry of ``models`` in ``evaluation.json``; the severities of all
            entries are the same.
    """
    kinds = next(iter(models.values()))["robustness"]
    figure = Figure(figsize=(max(4.0, 2.9 * len(kinds)), 4.8), layout="constrained")
    grid = figure.subplots(2, len(kinds), squeeze=False, sharey="row", sharex="col")
    for column, kind in enumerate(kinds):
        for place, model in models.items():
            for axes, name, factor in ((grid[0, column], "accuracy", 100), (grid[1, column], "log_loss", 1)):
                cells = [cell[name] for cell in model["robustness"][column]["severities"]]
                value, low, high = (
                    factor * np.array([c[k] for c in cells], dtype=float) for k in ("value", "low", "high")
                )
                color = figures.COLORS[place + 1]
                axes.plot(value, "o-", color=color, markersize=4, linewidth=1.6, label=figures.shown(model["name"]))
                axes.fill_between(range(len(value)), low, high, color=color, alpha=0.15, linewidth=0)
        labels = [cell["label"] for cell in kind["severities"]]
        grid[1, column].set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
        grid[0, column].set_title(kind["name"], fontsize=10)
        for row, ylabel in enumerate(("accuracy (%)", "log loss (nats)")):
            figures.plain(grid[row, column], ylabel="" if column else ylabel)
    grid[0, 0].set_ylim(0, 102)
    if len(models) > 1:
        grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _alike(models: Sequence[Mapping[str, Any]]) -> list[dict[int, Mapping[str, Any]]]:
    """Group the models with robustness curves by modality and severities; each group maps positions to models."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for place, model in enumerate(models):
        if model.get("robustness"):
            axes = [[kind["title"], [cell["label"] for cell in kind["severities"]]] for kind in model["robustness"]]
            found.setdefault(json.dumps([model["modality"], axes]), {})[place] = model
    return list(found.values())


def _caption(models: Mapping[int, Mapping[str, Any]]) -> str:
    names = [model["name"] for model in models.values()]
    return f"{' and '.join(names)} on {next(iter(models.values()))['modality']}"


def _unspeckled(model: Mapping[str, Any]) -> bool:
    kinds = [kind["name"] for kind in model.get("robustness", ())]
    return model["kind"] == "image" and bool(kinds) and "speckle" not in kinds
