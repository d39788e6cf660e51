"""Figures of dimensional structure, from plain arrays. Colors are safe for color-blind eyes; no global state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import gaussian_kde, rankdata
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cmkd.errors import CmkdError
from cmkd.io import atomic
from cmkd.report.figures import COLORS

Array = NDArray[np.float64]
_MARKERS = "osD^vP*X<>ph"
_EDGE = 1.35  # of the square around the circle


def save(figure: Figure, stem: Path, *, formats: Sequence[str] = ("svg", "pdf", "png")) -> list[Path]:
    """Write a figure as ``stem.svg``, ``stem.pdf`` and ``stem.png``, each whole or not at all.

    Args:
        figure: what to write.
        stem: path without a suffix; its folder is made.
        formats: of svg, pdf, png.
    """
    FigureCanvasAgg(figure)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    for kind, path in zip(formats, paths, strict=True):
        # without dates and random identifiers, the same figure is the same file
        stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}.get(kind)
        with atomic(path) as temporary, rc_context({"svg.hashsalt": "cmkd"}):
            figure.savefig(temporary, format=kind, dpi=160, bbox_inches="tight", metadata=stamp)
    return paths


def cluster_order(correlation: Array) -> NDArray[np.int64]:
    """Return the order of channels that puts alike ones beside each other, ``(dim,)``.

    Average linkage of the distances ``1 - |r|``; up to 512 channels the leaves are ordered optimally, which takes cubic
    time.

    Args:
        correlation: ``(dim, dim)``.

    Example:
        >>> r = np.array([[1.0, 0.0, 0.9], [0.0, 1.0, 0.1], [0.9, 0.1, 1.0]])
        >>> order = cluster_order(r).tolist()
        >>> abs(order.index(0) - order.index(2))
        1
    """
    if len(correlation) < 3:
        return np.arange(len(correlation))
    distance = np.clip(1.0 - np.abs(correlation), 0.0, None)
    np.fill_diagonal(distance, 0.0)
    condensed = squareform((distance + distance.T) / 2.0, checks=False)
    return np.asarray(
        leaves_list(linkage(condensed, "average", optimal_ordering=len(correlation) <= 512)), dtype=np.int64
    )


def correlation_figure(correlations: Mapping[str, Array]) -> Figure:
    """Draw correlation matrices of channels side by side, each in its own clustered order, on one color scale.

    Args:
        correlations: name, such as the modality -> ``(dim, dim)``.
    """
    figure = Figure(figsize=(3.3 * len(correlations) + 0.9, 3.5), layout="constrained")
    grid = figure.subplots(1, len(correlations), squeeze=False)[0]
    for axes, (name, correlation) in zip(grid, correlations.items(), strict=True):
        order = cluster_order(correlation)
        image = axes.imshow(correlation[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        others = np.abs(correlation[~np.eye(len(correlation), dtype=bool)])
        axes.set_title(f"{name}\nmean |r| off the diagonal {others.mean() if others.size else 0:.2f}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{len(correlation)} channels, clustered", fontsize=9)
    figure.colorbar(image, ax=list(grid), label="correlation", shrink=0.85)
    return figure


def spectrum_figure(spectra: Mapping[str, Array]) -> Figure:
    """Draw eigenvalues of covariances by rank, as parts of their sum, on logarithmic axes.

    Args:
        spectra: name -> eigenvalues ``(dim,)``, descending.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, values) in enumerate(spectra.items()):
        share = np.asarray(values) / max(float(np.sum(values)), 1e-300)
        kept = share > 1e-10 * share.max()  # below that is rounding
        ranks = np.arange(1, len(share) + 1)
        style = {"color": COLORS[place % len(COLORS)], "label": name, "linewidth": 1.5, "markersize": 3.5}
        axes.loglog(ranks[kept], share[kept], marker=_MARKERS[place % len(_MARKERS)], **style)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("rank of the eigenvalue")
    axes.set_ylabel("part of the variance")
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return figure


def circle(features: Array) -> Array:
    """Return features as points on the circle ``(n, 2)``: centered, their first two principal components, length one.

    Args:
        features: ``(n, dim)``, two dimensions or more.
    """
    if features.ndim != 2 or features.shape[1] < 2 or len(features) < 2:
        raise CmkdError(f"expected two samples of two dimensions or more, got features of shape {features.shape}")
    plane = PCA(2, svd_solver="full").fit_transform(features)
    length = np.linalg.norm(plane, axis=1, keepdims=True)
    return np.asarray(plane / np.maximum(length, 1e-12))


def hypersphere_figure(features: Mapping[str, Array], *, seed: int = 0) -> Figure:
    """Draw how features lie on the hypersphere: density on the circle above, histogram of angles below.

    The circle is that of `circle`: a projection, which shows the two widest directions alone.

    Args:
        features: name -> ``(n, dim)``.
        seed: of the hair's breadth of noise that lets a density of points on one line exist.
    """
    columns = len(features)
    figure = Figure(figsize=(2.9 * columns + 0.4, 4.4), layout="constrained")
    above, below = figure.subplots(2, columns, squeeze=False, height_ratios=(2.4, 1), sharey="row")
    points = [circle(np.asarray(values, dtype=np.float64)) for values in features.values()]
    densities = [_density(p, seed) for p in points]
    highest = max(float(d.max()) for d in densities)
    for column, name in enumerate(features):
        disc, bars = above[column], below[column]
        disc.imshow(densities[column], origin="lower", extent=(-_EDGE, _EDGE) * 2, cmap="Blues", vmin=0, vmax=highest)
        disc.set_title(name, fontsize=10)
        disc.set_xticks([])
        disc.set_yticks([])
        angles = np.degrees(np.arctan2(points[column][:, 1], points[column][:, 0]))
        # each sample weighs so that bars of height 1 are the uniform distribution
        bars.hist(
            angles, bins=np.linspace(-180, 180, 37), weights=np.full(len(angles), 36 / len(angles)), color=COLORS[1]
        )
        bars.axhline(1, color="#555555", linewidth=1, linestyle="--")
        bars.set_xticks([-180, -90, 0, 90, 180])
        bars.set_xlim(-180, 180)
        bars.set_xlabel("angle (degrees)", fontsize=9)
        bars.tick_params(labelsize=8)
        _plain(bars)
    below[0].set_ylabel("samples,\nuniform = 1", fontsize=9)
    return figure


def _density(points: Array, seed: int) -> Array:
    axis = np.linspace(-_EDGE, _EDGE, 140)
    mesh = np.stack(np.meshgrid(axis, axis))
    noise = np.random.default_rng(seed).normal(0.0, 1e-6, points.shape)
    density = gaussian_kde((points + noise).T, bw_method=0.12)(mesh.reshape(2, -1))
    return np.asarray(density.reshape(mesh.shape[1:]))


def tsne_figure(
    features: Mapping[str, Array],
    targets: NDArray[np.int64],
    classes: Sequence[str],
    *,
    sample: int = 1000,
    seed: int = 0,
    place: Callable[[Array], Array] | None = None,
) -> Figure:
    """Draw features of the same samples by t-SNE, colored and marked by class; those without a class in gray.

    Distances between clusters, and their sizes, say nothing in such a picture.

    Args:
        features: name -> ``(n, dim)``, four samples or more.
        targets: ``(n,)``.
        classes: their names.
        sample: the most samples that are drawn, at random.
        seed: of the draw and of t-SNE.
        place: another way to lay out ``(n, dim)`` as ``(n, 2)``, such as UMAP's.
    """
    if len(targets) < 4:
        raise CmkdError(f"expected 4 samples or more for t-SNE, got {len(targets)}")
    kept = np.random.default_rng(seed).permutation(len(targets))[:sample]
    figure = Figure(figsize=(3.3 * len(features) + 1.3, 3.4), layout="constrained")
    grid = figure.subplots(1, len(features), squeeze=False)[0]
    perplexity = min(30.0, (len(kept) - 1) / 3)
    for axes, (name, values) in zip(grid, features.items(), strict=True):
        x = np.asarray(values)[kept]
        placed = place(x) if place else TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
        if (targets[kept] < 0).any():
            axes.scatter(*placed[targets[kept] < 0].T, s=5, c="#bbbbbb", linewidths=0, label="no label")
        for number, label in enumerate(classes):
            own = targets[kept] == number
            color, marker = COLORS[number % len(COLORS)], _MARKERS[(number // len(COLORS)) % len(_MARKERS)]
            axes.scatter(*placed[own].T, s=9, c=color, marker=marker, alpha=0.75, linewidths=0, label=label)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right center",
        frameon=False,
        fontsize=8,
        markerscale=2,
        ncols=1 + len(labels) // 20,
    )
    return figure


def spearman(
    x: Array, y: Array, *, resamples: int = 4000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return Spearman's rank correlation and its percentile bootstrap interval over points.

    Args:
        x: ``(n,)``, three points or more.
        y: ``(n,)``.
        resamples: of the bootstrap; those in which x or y is constant are left out.
        level: of the interval.
        seed: of the draws.

    Returns:
        The correlation, and the interval's lower and upper end; NaN where x or y is constant.

    Example:
        >>> spearman(np.arange(6.0), np.arange(6.0) ** 3)
        (1.0, 1.0, 1.0)
    """
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise CmkdError(f"expected two lists of three points or more, got shapes {x.shape} and {y.shape}")
    drawn = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
    drawn = np.concatenate([np.arange(len(x))[None], drawn])  # the first row is the points themselves
    ranks = [rankdata(values[drawn], axis=1) for values in (x, y)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    spread = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    values = np.divide((a * b).sum(1), spread, out=np.full(len(drawn), np.nan), where=spread > 0)
    found = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(found):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
    return float(values[0]), float(low), float(high)


def relation_figure(x: Array, y: Array, groups: Sequence[str], *, x_label: str, y_label: str, seed: int = 0) -> Figure:
    """Draw a structure metric against a measure of discriminability, a dot a model, with Spearman's correlation.

    Args:
        x: ``(n,)`` structure metric of each model.
        y: ``(n,)`` discriminability.
        groups: ``(n,)`` what each model is marked by, such as its modality or method.
        x_label: of the axis.
        y_label: of the axis.
        seed: of the bootstrap.
    """
    rho, low, high = spearman(x, y, seed=seed)
    figure = Figure(figsize=(5.0, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for place, group in enumerate(dict.fromkeys(groups)):
        own = np.array([g == group for g in groups])
        color, marker = COLORS[place % len(COLORS)], _MARKERS[place % len(_MARKERS)]
        axes.scatter(x[own], y[own], s=34, c=color, marker=marker, alpha=0.8, linewidths=0, label=group)
    axes.set_title(f"Spearman's rho = {rho:.2f}, 95 % interval {low:.2f} to {high:.2f}, n = {len(x)}", fontsize=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, fontsize=8)
    _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
