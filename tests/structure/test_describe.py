"""The two entry points of the structure metrics."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cmkd
from cmkd.errors import CmkdError
from cmkd.structure import ESSENTIAL, compare, describe, essentials

STRUCTURE = {
    "samples",
    "dim",
    "constant_channels",
    "correlation_mean_abs",
    "correlation_norm",
    "effective_rank",
    "participation_ratio",
    "spectral_decay",
    "uniformity",
    "uniformity_centered",
    "mean_cosine",
    "nearest_neighbor_entropy",
}
SCATTER = {"tolerance", "fisher_ratio", "nc1", "silhouette"}
ACCURACIES = {"knn_accuracy", "linear_probe_accuracy"}


def blobs(n: int, dim: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(n) % 3
    centers = torch.randn(3, dim, generator=torch.Generator().manual_seed(99))
    return centers[target] + spread * torch.randn(n, dim, generator=generator), target


def test_names() -> None:
    x, y = blobs(60, 6, 0.5)
    assert set(describe(x)) == STRUCTURE
    assert set(describe(x, y)) == STRUCTURE | SCATTER | ACCURACIES
    assert set(describe(x[:9], y[:9])) == STRUCTURE | SCATTER  # too few for five folds
    assert set(describe(x[:9], y[:9], test_features=x[9:], test_target=y[9:])) == STRUCTURE | SCATTER | ACCURACIES
    assert set(describe(x, torch.zeros(60, dtype=torch.long))) == STRUCTURE
    assert set(describe(x[:, :1])) == STRUCTURE - {"nearest_neighbor_entropy"}
    assert all(isinstance(value, float) for value in describe(x, y).values())


def test_essentials_are_those_of_describe() -> None:
    x, target = blobs(60, 6, 0.5)
    whole = describe(x, target)
    assert essentials(x, target) == {name: whole[name] for name in ESSENTIAL}
    assert set(ESSENTIAL) - essentials(x, torch.zeros_like(target)).keys() == {"fisher_ratio"}


def test_discriminability_falls_with_the_spread_of_the_classes() -> None:
    tight, loose = (describe(*blobs(300, 6, spread)) for spread in (0.3, 3.0))
    for name in ("fisher_ratio", "silhouette", "tolerance", "knn_accuracy", "linear_probe_accuracy"):
        assert tight[name] > loose[name], name
    assert tight["nc1"] < loose["nc1"]


def test_correlated_channels_lower_the_rank_and_the_uniformity() -> None:
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn(500, 8, generator=generator)
    correlated = independent + 3.0 * torch.randn(500, 1, generator=generator)
    good, bad = describe(independent), describe(correlated)
    assert good["effective_rank"] > bad["effective_rank"] and good["participation_ratio"] > bad["participation_ratio"]
    assert good["correlation_mean_abs"] < bad["correlation_mean_abs"]
    assert good["uniformity"] < bad["uniformity"] and good["spectral_decay"] < bad["spectral_decay"]
    assert good["nearest_neighbor_entropy"] > bad["nearest_neighbor_entropy"]


def test_unlabeled_samples_are_left_out_of_what_needs_classes() -> None:
    x, y = blobs(90, 4, 1.0)
    some = y.clone()
    some[60:] = -1
    found, wanted = describe(x, some), describe(x[:60], y[:60])
    for name in SCATTER | ACCURACIES:
        assert found[name] == wanted[name], name
    assert found["samples"] == 90.0


def test_a_test_set_is_scored_not_fitted() -> None:
    x, y = blobs(60, 4, 0.2)
    wrong = describe(x, y, test_features=x, test_target=(y + 1) % 3)
    assert wrong["knn_accuracy"] == wrong["linear_probe_accuracy"] == 0.0


def test_few_samples_have_no_neighbors_and_small_integers_are_classes() -> None:
    x, y = blobs(20, 3, 1.0)
    few = describe(x[:4], torch.tensor([0, 1, 2, 0]), test_features=x, test_target=y)
    assert "knn_accuracy" not in few and few["linear_probe_accuracy"] > 0
    assert describe(x, y.to(torch.int8)) == describe(x, y)


def test_groups_are_in_one_fold() -> None:
    """Random labels by group cannot be predicted across groups, although frames of one group are similar."""
    generator = torch.Generator().manual_seed(0)
    groups, label = torch.arange(40).repeat_interleave(8), torch.randint(0, 2, (40,), generator=generator)
    x = torch.randn(40, 6, generator=generator)[groups] + 0.1 * torch.randn(320, 6, generator=generator)
    apart, together = describe(x, label[groups]), describe(x, label[groups], groups=groups)
    assert apart["knn_accuracy"] > 0.99 and abs(together["knn_accuracy"] - 0.5) < 0.2
    assert abs(together["linear_probe_accuracy"] - 0.5) < 0.2 < apart["linear_probe_accuracy"] - 0.4
    assert describe(x, label[groups], groups=torch.arange(320)) == apart
    assert not ACCURACIES & set(describe(x, (groups > 36).long(), groups=groups)), "three groups are in three folds"
    with pytest.raises(CmkdError, match="one integer group per sample"):
        describe(x, label[groups], groups=groups[1:])


def test_maps_are_pooled_or_flattened() -> None:
    maps = torch.randn(20, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert describe(maps) == describe(maps.mean((2, 3), dtype=torch.float64))
    assert describe(maps, pooling="flatten")["dim"] == 12.0


@pytest.mark.parametrize("how", ["constant", "duplicated", "two samples", "one channel of zeros"])
def test_degenerate_features_give_numbers(how: str) -> None:
    x, y = blobs(20, 3, 1.0)
    x = {
        "constant": torch.full_like(x, 0.3),
        "duplicated": x[:1].expand_as(x),
        "two samples": x[:2],
        "one channel of zeros": x * torch.tensor([1.0, 1.0, 0.0]),
    }[how]
    found = describe(x, y[: len(x)])
    # undefined without two directions, two samples of a class, or two class means
    allowed = {"spectral_decay", "tolerance"} | ({"nc1"} if how in ("constant", "duplicated") else set())
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined <= allowed
    if how in ("constant", "duplicated"):
        assert found["constant_channels"] == 3.0 and found["effective_rank"] == pytest.approx(1.0)


def test_bad_input_is_refused_in_one_line() -> None:
    x, y = blobs(20, 3, 1.0)
    broken = x.clone()
    broken[4, 0] = math.nan
    with pytest.raises(CmkdError, match="1 of 20 samples hold NaN"):
        describe(broken)
    with pytest.raises(CmkdError, match="at least 2 samples"):
        describe(x[:1])
    with pytest.raises(CmkdError, match="one integer class per sample"):
        describe(x, y[:-1])
    with pytest.raises(CmkdError, match="the test set has no labeled sample"):
        describe(x, y, test_features=x[:4], test_target=torch.full((4,), -1))
    with pytest.raises(CmkdError, match="give target"):
        describe(x, test_features=x, test_target=y)
    with pytest.raises(CmkdError, match="test_target"):
        describe(x, y, test_features=x)
    with pytest.raises(CmkdError, match="test features of width 3, got 2"):
        describe(x, y, test_features=x[:, :2], test_target=y)
    with pytest.raises(CmkdError, match="batches of one size, got 20 and 19"):
        compare(x, x[:-1])
    with pytest.raises(CmkdError, match="pooling"):
        describe(x, pooling="max")  # type: ignore[arg-type]


def test_compare_names() -> None:
    x, y = blobs(30, 6, 0.5)
    assert set(compare(x, x[:, :2])) == {"linear_cka"}
    assert set(compare(x, x)) == {"linear_cka", "cross_correlation_diagonal", "alignment"}
    with_logits = compare(x, x[:, :2], student_logits=x[:, :3], teacher_logits=x[:, 3:], target=y)
    assert set(with_logits) == {"linear_cka", "prediction_agreement", "non_target_divergence"}
    unlabeled = compare(x, x[:, :2], student_logits=x[:, :3], teacher_logits=x[:, 3:], target=torch.full((30,), -1))
    assert set(unlabeled) == {"linear_cka", "prediction_agreement"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_memory_of_ten_thousand_samples() -> None:
    # a 10,000 x 10,000 matrix of float64 alone is 763 MiB
    script = """
        import pathlib, torch
        from cmkd.structure import describe
        def peak():
            status = pathlib.Path("/proc/self/status").read_text()
            return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
        describe(torch.randn(60, 8), torch.arange(60) % 3)
        x, y = torch.randn(10_000, 64), torch.arange(10_000) % 10
        before = peak()
        describe(x, y)
        print(peak() - before)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(cmkd.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    assert int(done.stdout) * 1024 < 700 * 2**20
