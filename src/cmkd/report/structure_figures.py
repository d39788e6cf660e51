"""Figures of dimensional structure, from arrays and moments. They use no global state of matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import gaussian_kde
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cmkd.errors import CmkdError
from cmkd.io import write_bytes
from cmkd.report.figures import COLORS, draw, plain, shown
from cmkd.structure import Moments, correlation_mean_abs

Array = NDArray[np.float64]
_MARKERS = "osD^vP*X<>ph"
_EDGE = 1.35  # half the side of the square around the unit circle


def save(figure: Figure, stem: Path) -> Path:
    """Write a figure as ``stem.svg`` and ``stem.png``, each whole or not at all, and return the path of the SVG.

    Args:
        figure: figure to write.
        stem: path without a suffix; its folder is created.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    for path in paths:
        write_bytes(path, draw(figure, path.suffix[1:]))
    return paths[0]


def cluster_order(correlation: Array) -> NDArray[np.int64]:
    """Return an order of channels ``(dim,)`` in which similar ones are neighbors.

    The order comes from average linkage of the distances ``1 - |r|``. Up to 512 channels the leaves are ordered
    optimally, which takes cubic time.

    Args:
        correlation: correlations ``(dim, dim)``.

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


def correlation_figure(moments: Mapping[str, Moments]) -> Figure:
    """Draw correlation matrices of channels side by side, each in its own clustered order, on one color scale.

    Args:
        moments: name -> moments of the features.
    """
    figure = Figure(figsize=(3.3 * len(moments) + 0.9, 3.5), layout="constrained")
    grid = figure.subplots(1, len(moments), squeeze=False)[0]
    for axes, (name, own) in zip(grid, moments.items(), strict=True):
        correlation = own.correlation().numpy()
        order = cluster_order(correlation)
        image = axes.imshow(correlation[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(f"{shown(name)}\nmean |r| off the diagonal {correlation_mean_abs(own):.2f}", fontsize=10)
        axes.set(xticks=[], yticks=[])
        constant = int((~own.live()).sum())
        without = f"\n(the mean is without the {constant} constant ones)" if constant else ""
        axes.set_xlabel(f"{len(correlation)} channels, clustered{without}", fontsize=9)
    figure.colorbar(image, ax=list(grid), label="correlation", shrink=0.85)
    return figure


def spectrum_figure(spectra: Mapping[str, Array]) -> Figure:
    """Draw eigenvalues of covariances by rank, as fractions of their sum, on logarithmic axes.

    Args:
        spectra: name -> eigenvalues ``(dim,)``, descending.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, values) in enumerate(spectra.items()):
        share = np.asarray(values) / max(float(np.sum(values)), 1e-300)
        kept = share > 1e-10 * share.max()  # smaller values are rounding errors
        ranks = np.arange(1, len(share) + 1)
        style = {"color": COLORS[place % len(COLORS)], "label": shown(name), "linewidth": 1.5, "markersize": 3.5}
        axes.loglog(ranks[kept], share[kept], marker=_MARKERS[place % len(_MARKERS)], **style)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=9)
    plain(axes, xlabel="rank of the eigenvalue", ylabel="fraction of the variance")
    return figure


def circle(features: Array) -> Array:
    """Project features to the circle ``(n, 2)``: their first two principal components, scaled to length one.

    Args:
        features: features ``(n, dim)`` with at least two samples and two dimensions.
    """
    if features.ndim != 2 or features.shape[1] < 2 or len(features) < 2:
        raise CmkdError(f"expected at least two samples and two dimensions, got features of shape {features.shape}")
    plane = PCA(2, svd_solver="full").fit_transform(features)
    length = np.linalg.norm(plane, axis=1, keepdims=True)
    return np.asarray(plane / np.maximum(length, 1e-12))


def hypersphere_figure(features: Mapping[str, Array], *, seed: int = 0) -> Figure:
    """Draw how features spread on the hypersphere: density on the circle above, histogram of angles below.

    The features are projected by `circle`, so that the figure shows only the two directions of the largest variance.

    Args:
        features: name -> features ``(n, dim)``.
        seed: random seed of the tiny noise without which points on one line have no density.
    """
    columns = len(features)
    figure = Figure(figsize=(2.9 * columns + 0.4, 4.4), layout="constrained")
    above, below = figure.subplots(2, columns, squeeze=False, height_ratios=(2.4, 1), sharey="row")
    points = [circle(np.asarray(values, dtype=np.float64)) for values in features.values()]
    densities = [_density(p, seed) for p in points]
    highest = max(float(d.max()) for d in densities)
    for column, name in enumerate(features):
        disc, bars = above[column], below[column]
        disc.imshow(
            densities[column],
            origin="lower",
            extent=(-_EDGE, _EDGE) * 2,
            cmap="Blues",
            vmin=0,
            vmax=highest,
            interpolation="none",
        )
        disc.set_title(shown(name), fontsize=10)
        disc.set(xticks=[], yticks=[])
        angles = np.degrees(np.arctan2(points[column][:, 1], points[column][:, 0]))
        uniform = np.full(len(angles), 36 / len(angles))  # bars of height 1 are the uniform distribution
        bars.hist(angles, bins=np.linspace(-180, 180, 37), weights=uniform, color=COLORS[1])
        bars.axhline(1, color="#555555", linewidth=1, linestyle="--")
        bars.set_xlabel("angle (degrees)", fontsize=9)
        bars.tick_params(labelsize=8)
        plain(bars, xticks=[-180, -90, 0, 90, 180], xlim=(-180, 180))
    below[0].set_ylabel("samples,\nuniform = 1", fontsize=9)
    return figure


def _density(points: Array, seed: int) -> Array:
    axis = np.linspace(-_EDGE, _EDGE, 140)
    mesh = np.stack(np.meshgrid(axis, axis))
    noise = np.random.default_rng(seed).normal(0.0, 1e-6, points.shape)
    density = gaussian_kde((points + noise).T, bw_method=0.12)(mesh.reshape(2, -1))
    return np.asarray(density.reshape(mesh.shape[1:]))


def neighborhoods(
    features: Mapping[str, Array], *, seed: int = 0, place: Callable[[Array], Array] | None = None
) -> dict[str, Array]:
    """Return a layout by t-SNE of the features of the same samples, name -> ``(n, 2)``.

    Args:
        features: name -> features ``(n, dim)``, four samples or more.
        seed: random seed of t-SNE.
        place: function for another layout, from ``(n, dim)`` to ``(n, 2)``, such as UMAP.
    """
    count = min(map(len, features.values()))
    if count < 4:
        raise CmkdError(f"expected at least 4 samples for t-SNE, got {count}")
    made = place or TSNE(perplexity=min(30.0, (count - 1) / 3), init="pca", random_state=seed).fit_transform
    return {name: np.asarray(made(np.asarray(values)), dtype=np.float64) for name, values in features.items()}


def neighborhoods_figure(placed: Mapping[str, Array], targets: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw `neighborhoods`, colored and marked by class; samples without a class are gray.

    Distances between clusters, and their sizes, have no meaning in such a figure.

    Args:
        placed: name -> positions ``(n, 2)``.
        targets: classes ``(n,)``, negative without a class.
        classes: names of the classes.
    """
    figure = Figure(figsize=(3.3 * len(placed) + 1.3, 3.4), layout="constrained")
    grid = figure.subplots(1, len(placed), squeeze=False)[0]
    for axes, (name, at) in zip(grid, placed.items(), strict=True):
        if (targets < 0).any():
            axes.scatter(*at[targets < 0].T, s=5, c="#bbbbbb", linewidths=0, label="no label")
        for number, label in enumerate(classes):
            color, marker = COLORS[number % len(COLORS)], _MARKERS[(number // len(COLORS)) % len(_MARKERS)]
            own = at[targets == number]
            axes.scatter(*own.T, s=9, c=color, marker=marker, alpha=0.75, linewidths=0, label=shown(label))
        axes.set_title(shown(name), fontsize=10)
        axes.set(xticks=[], yticks=[])
    handles, labels = grid[0].get_legend_handles_labels()
    style = {"frameon": False, "fontsize": 8, "markerscale": 2, "ncols": 1 + len(labels) // 20}
    figure.legend(handles, labels, loc="outside right center", **style)
    return figure


def relation_figure(
    x: Array,
    y: Array,
    groups: Sequence[str],
    *,
    correlation: tuple[float, float, float],
    x_label: str,
    y_label: str,
) -> Figure:
    """Draw a structure metric against a measure of discriminability, one dot per model.

    Args:
        x: structure metric of each model ``(n,)``.
        y: discriminability of each model ``(n,)``.
        groups: names ``(n,)`` that choose color and marker, such as the modality or method.
        correlation: Spearman's correlation and the ends of its interval (`cmkd.evaluation.spearman`).
        x_label: label of the x axis.
        y_label: label of the y axis.
    """
    rho, low, high = correlation
    figure = Figure(figsize=(5.0, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for place, group in enumerate(dict.fromkeys(groups)):
        own = np.array([g == group for g in groups])
        color, marker = COLORS[place % len(COLORS)], _MARKERS[place % len(_MARKERS)]
        axes.scatter(x[own], y[own], s=34, c=color, marker=marker, alpha=0.8, linewidths=0, label=shown(group))
    axes.set_title(f"Spearman's rho = {rho:.2f}, 95 % interval {low:.2f} to {high:.2f}, n = {len(x)}", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    plain(axes, xlabel=x_label, ylabel=y_label)
    return figure
