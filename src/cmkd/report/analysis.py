"""Write ``structure.json``, the figures and the page of an analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmkd import structure
from cmkd.analysis import Analysis
from cmkd.evaluation import spearman
from cmkd.evaluation.intervals import FEW_GROUPS
from cmkd.io import write_json, write_text
from cmkd.progress import Progress, silent
from cmkd.report import structure_figures
from cmkd.report.drawings import Drawings, draw_stage
from cmkd.report.guide import MEASURES
from cmkd.report.html import render
from cmkd.report.points import legend
from cmkd.report.stages import FEWEST_MODELS, columns, comparison_table, findings, stage_table

MOST_DRAWN = 4
"""Largest number of models side by side in a figure; the tables show all."""
_UNIFORMITY = structure.uniformity.__name__
RELATIONS = (
    ("embedding", "correlation_mean_abs", "mean |r| between channels of the embedding"),
    ("embedding", "effective_rank", "effective rank of the embedding"),
    ("embedding", "participation_ratio", "participation ratio of the embedding"),
    ("embedding", "uniformity_centered", "uniformity of the centered embedding (lower is more uniform)"),
    ("deepest map", _UNIFORMITY, "uniformity of the deepest map (lower is more uniform)"),
    ("deepest map", "uniformity_centered", "uniformity of the centered deepest map (lower is more uniform)"),
)
ACCURACY = "linear_probe_accuracy"


def write_analysis(
    analysis: Analysis,
    folder: Path,
    *,
    draw: bool = True,
    sample: int = 500,
    seed: int = 0,
    comparison: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Path:
    """Write the results of an analysis, and return the path of its page.

    Args:
        analysis: analysis of one or more models.
        folder: receives ``structure.json``, ``figures/`` (SVG and PNG) and ``analysis.html``, which needs no other
            file.
        draw: draw the stages; if False, the page has only tables and scatter plots.
        sample: largest number of pairs in a t-SNE or UMAP figure.
        seed: random seed of the drawings and the bootstrap.
        comparison: ``first`` and ``second``, the compared paths, and ``rows``, the result of `cmkd.analysis.compare`.
        progress: called as stages are drawn.
    """
    drawn, models = Drawings(folder / "figures"), analysis.summary["models"]
    shown = side_by_side(models)
    summary = {**analysis.summary, "relations": _relations(models, drawn, seed)}
    if comparison is not None:
        summary["comparison"] = comparison
    drawing = _stages(analysis, shown) if draw else []
    for count, stage in enumerate(drawing, 1):
        if _is_embedding(analysis, shown, stage):
            drawn.note(stage, f"{stage}, averaged over its positions, is the embedding: drawn once, there.")
        else:
            draw_stage(analysis, shown, stage, drawn, sample, seed)
        progress(count, len(drawing))
    write_json(folder / "structure.json", summary)
    stages = _stages(analysis, list(analysis.features))
    page = render(
        "analysis.html",
        summary=summary,
        findings=findings(summary),
        columns={stage: list(columns([m for m in models if stage in m["stages"]])) for stage in stages},
        tables={stage: stage_table(models, stage) for stage in stages},
        few_groups=FEW_GROUPS,
        fewest_models=FEWEST_MODELS,
        compared=comparison_table(comparison["rows"]) if comparison else [],
        shown=shown,
        drawn=drawn,
        legend=legend(analysis.classes),
        measures=MEASURES,
    )
    write_text(folder / "analysis.html", page)
    return folder / "analysis.html"


def side_by_side(models: list[dict[str, Any]]) -> list[str]:
    """Return the labels of the models that figures show: teachers, then the first seed of each method.

    Example:
        >>> one = {"role": "student", "method": "kd", "modality": "radar"}
        >>> side_by_side([{"label": "kd 0", **one}, {"label": "kd 1", **one}])
        ['kd 0']
    """
    first: dict[tuple[object, ...], str] = {}
    for model in sorted(models, key=lambda m: m["role"] != "teacher"):
        alone = model["label"] if not model["role"] else None  # a checkpoint that does not state its role
        first.setdefault((alone, model["role"], model["method"], model["modality"]), model["label"])
    return list(first.values())[:MOST_DRAWN]


def _stages(analysis: Analysis, shown: list[str]) -> list[str]:
    """Return the stages of the shown models, shallow to deep; models may have different numbers of maps."""
    names = {stage: None for label in shown for stage in analysis.features[label]}
    maps = sorted((n for n in names if n.startswith("map ")), key=lambda n: int(n.split()[1]))
    return [*maps, *(n for n in names if not n.startswith("map "))]


def _is_embedding(analysis: Analysis, shown: list[str], stage: str) -> bool:
    """Return whether a map's average is the embedding of every model, as with global average pooling."""
    both = [(own.get(stage), own.get("embedding")) for own in (analysis.features[label] for label in shown)]
    return stage.startswith("map ") and all(a is not None and b is not None and np.array_equal(a, b) for a, b in both)


def _relations(models: list[dict[str, Any]], drawn: Drawings, seed: int) -> list[dict[str, Any]]:
    """Correlate each structure metric with discriminability over the models, and draw the relation.

    Students of one teacher count as one model and are resampled together; a model without a teacher counts by itself.
    """
    found = []
    for where, metric, said in RELATIONS:
        known = [(m, p) for m in models if (p := _point(m, where, metric)) is not None]
        points = [point for _, point in known]
        independent = len({model["teacher"] or model["label"] for model, _ in known})
        entry: dict[str, Any] = {"stage": where, "metric": metric, "against": ACCURACY, "models": len(points)}
        entry |= {"independent": independent, "spearman": None, "interval": None, "reason": None}
        if independent < FEWEST_MODELS:
            entry["reason"] = f"{len(points)} models, {independent} that share no teacher; needs {FEWEST_MODELS}"
        else:
            x, y = (np.array([p[i] for p in points], dtype=np.float64) for i in (0, 1))
            rho, low, high = spearman(x, y, [m["teacher"] or m["label"] for m, _ in known], seed=seed)
            if math.isfinite(rho):
                entry |= {"spearman": rho, "interval": [low, high]}
                labels = {"x_label": said, "y_label": "linear probe accuracy (%)"}
                groups = [p[2] for p in points]
                figure = structure_figures.relation_figure(x, 100 * y, groups, correlation=(rho, low, high), **labels)
                drawn.add("relations", f"{where} {metric}", f"{said}; one dot per model.", figure)
            else:
                entry["reason"] = "one of the two numbers is the same for all models"
        found.append(entry)
    return found


def _point(model: dict[str, Any], where: str, metric: str) -> tuple[float, float, str] | None:
    maps = [name for name in model["stages"] if name.startswith("map ")]
    stage = where if where in model["stages"] else maps[-1] if where == "deepest map" and maps else None
    if stage is None:
        return None
    x = model["stages"][stage]["metrics"][metric]
    y = model["stages"]["embedding"]["metrics"][ACCURACY]
    group = f"{model['method'] or model['role'] or 'model'}, {model['modality']}"
    return None if x is None or y is None else (x, y, group)
