"""Figures of dimensional structure: their computations, and that they draw their data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cmkd.errors import CmkdError
from cmkd.evaluation import spearman
from cmkd.report import structure_figures
from cmkd.structure import Moments, correlation_mean_abs

Array = NDArray[np.float64]


def features(n: int = 60, dim: int = 6, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, dim))


def test_cluster_order_gathers_correlated_channels() -> None:
    x = features(500, 3)[:, np.tile(np.arange(3), 4)] + 0.3 * features(500, 12, 1)  # channels 0, 3, 6, 9 are similar
    x[:, ::2] *= -1.0  # the sign of a channel does not separate it from similar ones
    order = structure_figures.cluster_order(np.corrcoef(x.T)) % 3
    assert sorted(order) == sorted(np.tile(np.arange(3), 4)) and np.count_nonzero(np.diff(order)) == 2
    for dim in (1, 2):
        assert structure_figures.cluster_order(np.eye(dim)).tolist() == list(range(dim))


def test_circle_is_the_widest_plane() -> None:
    x = features(50, 5) * np.array([0.01, 9.0, 0.01, 0.01, 4.0]) + 100.0
    points = structure_figures.circle(x)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-9)
    plane = (x - x.mean(0))[:, [1, 4]]
    plane /= np.linalg.norm(plane, axis=1, keepdims=True)
    # cosines between points, which rotation and reflection keep, equal those in the plane of channels 1 and 4
    np.testing.assert_allclose(points @ points.T, plane @ plane.T, atol=0.05)
    with pytest.raises(CmkdError, match="two dimensions"):
        structure_figures.circle(x[:, :1])


def test_spearman_is_scipys_and_its_interval_covers_the_truth() -> None:
    x, y = features(30, 2).T
    rho, low, high = spearman(x, x + y)
    assert rho == pytest.approx(spearmanr(x, x + y).statistic) and -1 <= low < rho < high <= 1
    tied = np.round(x)
    assert spearman(tied, y)[0] == pytest.approx(spearmanr(tied, y).statistic)
    covered = 0
    for seed in range(60):
        x, y = features(40, 2, seed).T
        _, low, high = spearman(x, y, resamples=400)
        covered += low <= 0.0 <= high
    assert covered >= 51  # 95 % of 60 is 57; fewer than 51 has a chance below 0.01
    teachers, covered, apart = np.repeat(np.arange(20), 5), 0, 0  # students of one teacher are similar
    for seed in range(60):
        x, y = (features(20, 2, seed)[teachers] + 0.1 * features(100, 2, 100 + seed)).T
        (_, low, high), (_, below, above) = (spearman(x, y, by, resamples=400) for by in (teachers, None))
        covered, apart = covered + (low <= 0.0 <= high), apart + (below <= 0.0 <= above)
    assert covered >= 49 > 40 > apart  # few groups: a little below 95 %
    assert np.isnan(spearman(np.ones(5), np.arange(5.0))).all()
    with pytest.raises(CmkdError, match="three points"):
        spearman(np.ones(2), np.ones(2))


def test_relation_figure_tells_the_correlation() -> None:
    x, y = np.arange(6.0), -np.arange(6.0)
    labels = {"x_label": "x", "y_label": "y"}
    figure = structure_figures.relation_figure(x, y, ["a", "b"] * 3, correlation=spearman(x, y), **labels)
    (axes,) = figure.axes
    assert axes.get_title().startswith("Spearman's rho = -1.00") and "n = 6" in axes.get_title()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert sum(len(c.get_offsets()) for c in axes.collections) == 6


def test_correlation_figure_draws_each_matrix_on_one_scale() -> None:
    alike = np.repeat(features()[:, :1], 4, axis=1)
    moments = {name: Moments.of(torch.from_numpy(x)) for name, x in (("rich", features()), ("poor", alike))}
    figure = structure_figures.correlation_figure(moments)
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert [image.get_array().shape for image in images] == [(6, 6), (4, 4)]
    assert {image.get_clim() for image in images} == {(-1.0, 1.0)}
    assert "1.00" in figure.axes[1].get_title()


def test_constant_channels_are_not_in_the_mean_correlation_of_figure_and_table() -> None:
    x = np.concatenate([np.repeat(features()[:, :1], 4, axis=1), np.zeros((len(features()), 4))], axis=1)
    (axes, _) = structure_figures.correlation_figure({"kd": Moments.of(torch.from_numpy(x))}).axes
    assert correlation_mean_abs(Moments.of(torch.from_numpy(x))) == pytest.approx(1.0)
    assert axes.get_title().endswith("off the diagonal 1.00")
    assert axes.get_xlabel() == "8 channels, clustered\n(the mean is without the 4 constant ones)"


def test_spectrum_figure_draws_parts_of_the_variance() -> None:
    figure = structure_figures.spectrum_figure({"a": np.array([3.0, 1.0, 0.0])})
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[1, 0.75], [2, 0.25]])  # rank 3 has none


def test_hypersphere_histograms_average_to_uniform() -> None:
    figure = structure_figures.hypersphere_figure({"a": features(), "b": np.ones((8, 3)) * np.arange(8)[:, None]})
    for axes in figure.axes[2:]:
        heights = [patch.get_height() for patch in axes.patches]
        assert len(heights) == 36 and np.mean(heights) == pytest.approx(1.0)


def test_neighborhoods_are_kept_and_every_sample_is_drawn_once() -> None:
    target = np.arange(40) % 3
    near = {"a": features(40) + 50.0 * target[:, None], "b": features(40, 3)}
    placed = structure_figures.neighborhoods(near)
    distance = np.linalg.norm(placed["a"][:, None] - placed["a"], axis=2) + np.diag(np.full(40, np.inf))
    assert (target[distance.argmin(1)] == target).all()
    figure = structure_figures.neighborhoods_figure(placed, target, ["x", "y", "z"])
    for axes in figure.axes:
        assert sum(len(c.get_offsets()) for c in axes.collections) == 40
    with pytest.raises(CmkdError, match="4 samples"):
        structure_figures.neighborhoods({"a": features(3)})


def test_files_are_whole_and_repeatable(tmp_path: Path) -> None:
    for name in ("one", "two"):
        figure = structure_figures.spectrum_figure({"a": np.array([3.0, 1.0])})
        assert structure_figures.save(figure, tmp_path / name / "spectrum") == tmp_path / name / "spectrum.svg"
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in first] == ["spectrum.png", "spectrum.svg"]
    for ours, theirs in zip(first, second, strict=True):
        assert ours.read_bytes() == theirs.read_bytes() and ours.stat().st_size > 1000


def test_umap_is_drawn_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from cmkd.report import drawings

    class Flat:
        def __init__(self, random_state: int) -> None:
            assert random_state == 5

        def fit_transform(self, x: Array) -> Array:
            return x[:, :2]

    module = ModuleType("umap")
    module.__spec__, module.UMAP = ModuleSpec("umap", None), Flat  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    placers = drawings._placers(5)
    assert list(placers) == ["t-SNE", "UMAP"]
    placed = structure_figures.neighborhoods({"a": features(20)}, place=placers["UMAP"])
    figure = structure_figures.neighborhoods_figure(placed, np.arange(20) % 2 - 1, ["x", "y"])
    drawn = {c.get_label(): len(c.get_offsets()) for c in figure.axes[0].collections}
    assert drawn == {"no label": 10, "x": 10, "y": 0}


def test_many_channels_are_ordered_in_reasonable_time() -> None:
    assert sorted(structure_figures.cluster_order(np.corrcoef(features(40, 700).T))) == list(range(700))
