"""Draw every stage of an analysis: figures as files and on the page, embeddings as points with tooltips."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from cmkd import structure
from cmkd.analysis import Analysis
from cmkd.report import structure_figures
from cmkd.report.figures import source
from cmkd.report.points import embedding
from cmkd.report.structure_figures import Array

FEWEST_PAIRS = 4
"""Smallest number of pairs that t-SNE draws."""


class Drawings:
    """Save figures, and collect figures and notes for the page, by stage.

    Args:
        folder: folder that receives each figure as SVG and PNG.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures: dict[str, list[dict[str, str]]] = {}
        self.embeddings: dict[str, list[dict[str, Any]]] = {}
        self.notes: dict[str, list[str]] = {}

    def save(self, stage: str, kind: str, figure: Figure) -> Path:
        """Write a figure, and return the path of its SVG."""
        name = re.sub(r"\W+", "-", f"{stage} {kind}".lower()).strip("-")
        return structure_figures.save(figure, self.folder / name)

    def add(self, stage: str, kind: str, caption: str, figure: Figure) -> None:
        """Write a figure, and show it on the page."""
        shown = {"caption": caption, "source": source(self.save(stage, kind, figure).read_bytes(), "svg")}
        self.figures.setdefault(stage, []).append(shown)

    def note(self, stage: str, text: str) -> None:
        """Add a note about a stage to the page."""
        self.notes.setdefault(stage, []).append(text)


def draw_stage(analysis: Analysis, shown: list[str], stage: str, drawn: Drawings, sample: int, seed: int) -> None:
    """Draw one stage of the models shown: correlation, spectrum, spread on the sphere and neighborhoods.

    Args:
        analysis: analysis of the models.
        shown: labels of the models to draw.
        stage: name of the stage.
        drawn: collects the figures.
        sample: largest number of pairs in a t-SNE or UMAP figure.
        seed: random seed of the pairs drawn, of t-SNE and UMAP, and of the noise in the density on the sphere.
    """
    values: dict[str, Array] = {}
    for label in shown:
        own = analysis.features[label].get(stage)
        if own is not None and np.isfinite(own).all():
            values[label] = own.astype(np.float64)
        elif own is not None:
            drawn.note(stage, f"{label}, {stage}: NaN or infinity, not drawn")
    moments = {label: structure.Moments.of(torch.from_numpy(x)) for label, x in values.items()}
    varied = {label: x for label, x in values.items() if bool(moments[label].live().any())}
    for label in sorted(values.keys() - varied.keys()):
        drawn.note(stage, f"{label}, {stage}: every sample is the same, not drawn")
    if not varied:
        return
    of_varied = {label: moments[label] for label in varied}
    drawn.add(stage, "correlation", _CORRELATION, structure_figures.correlation_figure(of_varied))
    spectra = {label: structure.spectrum(moments[label]).numpy() for label in varied}
    drawn.add(stage, "spectrum", _SPECTRUM, structure_figures.spectrum_figure(spectra))
    wide = {label: x for label, x in varied.items() if x.shape[1] > 1}
    if not wide:
        return
    drawn.add(stage, "sphere", _SPHERE, structure_figures.hypersphere_figure(wide, seed=seed))
    if len(analysis.target) >= FEWEST_PAIRS:
        for name, place in _placers(seed).items():
            _draw_embeddings(analysis, wide, stage, drawn, sample, seed, name, place)


_CORRELATION = "Pearson's correlation of channels over the pairs; each model's channels are clustered by 1 - |r|."
_SPECTRUM = "Eigenvalues of the channels' covariance as fractions of their sum: a flat curve uses many directions."
_SPHERE = (
    "The centered features, projected to their first two principal components and scaled to length one. Above: "
    "density, on one scale for all models. Below: histogram of angles and the uniform distribution (dashed)."
)


def _draw_embeddings(
    analysis: Analysis,
    wide: Mapping[str, Array],
    stage: str,
    drawn: Drawings,
    sample: int,
    seed: int,
    name: str,
    place: Callable[[Array], Array] | None,
) -> None:
    """Save one layout as a figure, and keep it for the page as points with tooltips."""
    kept = np.random.default_rng(seed).permutation(len(analysis.target))[:sample]
    placed = structure_figures.neighborhoods({label: x[kept] for label, x in wide.items()}, seed=seed, place=place)
    target, ids = analysis.target[kept], [analysis.ids[position] for position in kept]
    drawn.save(stage, name, structure_figures.neighborhoods_figure(placed, target, analysis.classes))
    pictures = []
    for label, at in placed.items():
        predicted = analysis.predicted(label)
        guesses = None if predicted is None else predicted[kept]
        svg = embedding(at, ids, target, guesses, analysis.classes, f"{name} of {stage}: {label}")
        pictures.append({"label": label, "svg": svg})
    drawn.embeddings.setdefault(stage, []).append({"name": name, "pairs": len(kept), "pictures": pictures})


def _placers(seed: int) -> Mapping[str, Callable[[Array], Array] | None]:
    """Return the layouts of neighborhoods: t-SNE (the default, None), and UMAP where it is installed."""
    found: dict[str, Callable[[Array], Array] | None] = {"t-SNE": None}
    if importlib.util.find_spec("umap") is not None:
        umap = importlib.import_module("umap")
        found["UMAP"] = lambda x: np.asarray(umap.UMAP(random_state=seed).fit_transform(x))
    return found
