"""Write ``structure.json``, the figures and the page of an analysis."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from cmkd import structure
from cmkd.analysis import Analysis
from cmkd.evaluation import spearman
from cmkd.io import write_json, write_text
from cmkd.report import structure as figures
from cmkd.report.figures import source
from cmkd.report.html import render
from cmkd.report.structure import Array

MOST = 4
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
FEWEST = 4
"""Smallest number of models, or of pairs in t-SNE, for which a figure is drawn."""


def write_analysis(analysis: Analysis, folder: Path, *, draw: bool = True, sample: int = 500, seed: int = 0) -> Path:
    """Write the results of an analysis, and return the path of its page.

    Args:
        analysis: of one or more models.
        folder: receives ``structure.json``, ``figures/`` (SVG and PNG) and ``analysis.html``, which needs neither.
        draw: draw the stages; without, the page has tables and scatter plots alone.
        sample: largest number of pairs that t-SNE draws.
        seed: of t-SNE and of the bootstrap.
    """
    drawn = _Drawings(folder / "figures")
    shown = side_by_side(analysis.summary["models"])
    relations = _relations(analysis.summary["models"], drawn, seed)
    summary = {**analysis.summary, "relations": relations}
    for stage in _stages(analysis, shown) if draw else ():
        if _is_embedding(analysis, shown, stage):
            drawn.notes.append(f"{stage}, averaged over its positions, is the embedding: drawn once.")
            continue
        _draw_stage(analysis, shown, stage, drawn, sample, seed)
    write_json(folder / "structure.json", summary)
    page = render(
        "analysis.html",
        summary=summary,
        shown=shown,
        stages=_stages(analysis, list(analysis.features)),
        drawn=drawn.by_stage,
        notes=drawn.notes,
        metrics=_METRICS,
        likeness=_LIKENESS,
    )
    write_text(folder / "analysis.html", page)
    return folder / "analysis.html"


_METRICS = {
    "correlation_mean_abs": "mean |r|", "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "spectral_decay": "spectral decay", _UNIFORMITY: "raw uniformity",
    "uniformity_centered": "centered uniformity",
    "fisher_ratio": "Fisher ratio", "nc1": "NC1", "silhouette": "silhouette", "knn_accuracy": "5-NN (%)",
    "linear_probe_accuracy": "probe (%)",
}  # fmt: skip
_LIKENESS = {
    "linear_cka": "linear CKA", "cross_correlation_diagonal": "diagonal of cross-correlation",
    "prediction_agreement": "agreement of predictions", "non_target_divergence": "non-target divergence (nats)",
}  # fmt: skip


def side_by_side(models: list[dict[str, Any]]) -> list[str]:
    """Return the labels of the models that figures show: teachers, then the first seed of each method.

    Example:
        >>> one = {"role": "student", "method": "kd", "modality": "radar"}
        >>> side_by_side([{"label": "kd 0", **one}, {"label": "kd 1", **one}])
        ['kd 0']
    """
    first: dict[tuple[object, ...], str] = {}
    for model in sorted(models, key=lambda m: m["role"] != "teacher"):
        alone = model["label"] if not model["role"] else None  # a checkpoint that does not say what it is
        first.setdefault((alone, model["role"], model["method"], model["modality"]), model["label"])
    return list(first.values())[:MOST]


class _Drawings:
    """Save figures, and collect them and notes for the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_stage: dict[str, list[dict[str, str]]] = {}
        self.notes: list[str] = []

    def add(self, stage: str, kind: str, caption: str, figure: Figure) -> None:
        name = re.sub(r"\W+", "-", f"{stage} {kind}".lower()).strip("-")
        vector, _ = figures.save(figure, self.folder / name, formats=("svg", "png"))
        shown = {"name": name, "caption": caption, "source": source(vector.read_bytes(), "svg")}
        self.by_stage.setdefault(stage, []).append(shown)


def _stages(analysis: Analysis, shown: list[str]) -> list[str]:
    """Return the stages of the shown models, shallow to deep; models may have different numbers of maps."""
    names = {stage: None for label in shown for stage in analysis.features[label]}
    maps = sorted((n for n in names if n.startswith("map ")), key=lambda n: int(n.split()[1]))
    return [*maps, *(n for n in names if not n.startswith("map "))]


def _is_embedding(analysis: Analysis, shown: list[str], stage: str) -> bool:
    """Return whether a map's average is the embedding of every model, as with global average pooling."""
    both = [(own.get(stage), own.get("embedding")) for own in (analysis.features[label] for label in shown)]
    return stage.startswith("map ") and all(a is not None and b is not None and np.array_equal(a, b) for a, b in both)


def _draw_stage(analysis: Analysis, shown: list[str], stage: str, drawn: _Drawings, sample: int, seed: int) -> None:
    values: dict[str, Array] = {}
    for label in shown:
        own = analysis.features[label].get(stage)
        if own is not None and np.isfinite(own).all():
            values[label] = own.astype(np.float64)
        elif own is not None:
            drawn.notes.append(f"{label}, {stage}: NaN or infinity, not drawn")
    moments = {label: structure.Moments.of(torch.from_numpy(x)) for label, x in values.items()}
    varied = {label: x for label, x in values.items() if bool(moments[label].live().any())}
    drawn.notes += [f"{label}, {stage}: every sample is the same, not drawn" for label in values.keys() - varied.keys()]
    if not varied:
        return
    correlations = {label: moments[label].correlation().numpy() for label in varied}
    drawn.add(stage, "correlation", _CORRELATION, figures.correlation_figure(correlations))
    spectra = {label: structure.spectrum(moments[label]).numpy() for label in varied}
    drawn.add(stage, "spectrum", _SPECTRUM, figures.spectrum_figure(spectra))
    wide = {label: x for label, x in varied.items() if x.shape[1] > 1}
    if wide:
        drawn.add(stage, "sphere", _SPHERE, figures.hypersphere_figure(wide, seed=seed))
    if len(analysis.target) >= FEWEST:
        for name, place in _placers(seed).items():
            figure = figures.tsne_figure(
                varied, analysis.target, analysis.classes, sample=sample, seed=seed, place=place
            )
            drawn.add(stage, name, f"{name} of the same {min(sample, len(analysis.target))} pairs. {_PLACED}", figure)


_CORRELATION = "Pearson's correlation of channels over the pairs; each model's channels are clustered by 1 - |r|."
_SPECTRUM = "Eigenvalues of the channels' covariance as fractions of their sum: a flat curve uses many directions."
_SPHERE = (
    "The centered features, projected to their first two principal components and scaled to length one. Above: "
    "density, on one scale for all models. Below: histogram of angles and the uniform distribution (dashed)."
)
_PLACED = "Neighborhoods have a meaning; distances between groups and sizes of groups have none."


def _placers(seed: int) -> Mapping[str, Callable[[Array], Array] | None]:
    """Return the layouts of neighborhoods: t-SNE (the default, None), and UMAP where it is installed."""
    found: dict[str, Callable[[Array], Array] | None] = {"t-SNE": None}
    if importlib.util.find_spec("umap") is not None:
        umap = importlib.import_module("umap")
        found["UMAP"] = lambda x: np.asarray(umap.UMAP(random_state=seed).fit_transform(x))
    return found


def _relations(models: list[dict[str, Any]], drawn: _Drawings, seed: int) -> list[dict[str, Any]]:
    """Correlate each structure metric with discriminability over the models, and draw it."""
    found = []
    for where, metric, said in RELATIONS:
        points = [p for model in models if (p := _point(model, where, metric)) is not None]
        entry: dict[str, Any] = {"stage": where, "metric": metric, "against": ACCURACY, "models": len(points)}
        entry |= {"spearman": None, "interval": None, "reason": None}
        if len(points) < FEWEST:
            entry["reason"] = f"{len(points)} models have both numbers; a rank correlation needs {FEWEST} or more"
        else:
            x, y = (np.array([p[i] for p in points], dtype=np.float64) for i in (0, 1))
            rho, low, high = spearman(x, y, seed=seed)
            if math.isfinite(rho):
                entry |= {"spearman": rho, "interval": [low, high]}
                labels = {"x_label": said, "y_label": "linear probe accuracy (%)"}
                groups = [p[2] for p in points]
                figure = figures.relation_figure(x, 100 * y, groups, correlation=(rho, low, high), **labels)
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
