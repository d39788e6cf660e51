"""The effect of few pairs on a measure, checked with random features."""

from __future__ import annotations

import pytest
import torch

from cmkd import structure
from cmkd.structure.sample_size import chance_cka, chance_correlation, corrected_participation_ratio


def moments(x: torch.Tensor) -> structure.Moments:
    return structure.Moments.of(x)


def normal(pairs: int, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(pairs, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_independent_channels_show_the_correlation_of_chance() -> None:
    assert structure.correlation_mean_abs(moments(normal(18, 200))) == pytest.approx(chance_correlation(18), rel=0.02)


def test_cka_of_wrongly_matched_pairs_is_that_of_chance() -> None:
    x, y = normal(30, 8) * torch.arange(1, 9), normal(30, 5, 1).abs()
    generator = torch.Generator().manual_seed(2)
    found = [
        structure.linear_cka(structure.CrossMoments.of(x, y[torch.randperm(30, generator=generator)]))
        for _ in range(400)
    ]
    ratios = [structure.participation_ratio(moments(z)) for z in (x, y)]
    assert sum(found) / 400 == pytest.approx(chance_cka(*ratios, 30), rel=0.03)


def test_the_corrected_participation_ratio_is_that_of_many_pairs() -> None:
    few = structure.participation_ratio(moments(normal(60, 40)))
    assert few < 26 and corrected_participation_ratio(few, 60) == pytest.approx(40, rel=0.06)


def test_few_pairs_are_told_and_many_are_not() -> None:
    sizes = {"channels": 16, "classes": 2}
    for pairs, told in ((20, True), (1500, False)):
        x, target = normal(pairs, 16), torch.arange(pairs) % 2
        metrics = structure.describe(x + 0.5 * x[:, :1] + 3.0 * target[:, None] * (torch.arange(16) > 12), target)
        found = structure.caveats(metrics, pairs=pairs, labeled=pairs, **sizes)
        names = {"effective_rank", "spectral_decay", "participation_ratio"}
        assert (names <= found.keys()) if told else not found


def test_groups_are_counted_in_place_of_their_pairs() -> None:
    metrics, sizes = {"knn_accuracy": 0.8, "fisher_ratio": 0.5}, {"channels": 4, "pairs": 2000, "labeled": 2000}
    for none in (None, 2000):
        assert not structure.caveats(metrics, **sizes, classes=3, groups=none)
    found = structure.caveats(metrics, **sizes, classes=3, groups=40)
    assert found["knn_accuracy"] == "95 % interval 65 to 90 % over 40 groups"
    assert found["fisher_ratio"] == "labels at random would show up to 0.054 over 40 groups"
    ratios = {"student_ratio": 2.0, "teacher_ratio": 2.0, "pairs": 2000}
    assert not structure.likeness_caveats({"prediction_agreement": 0.8}, **ratios)
    agreement = structure.likeness_caveats({"prediction_agreement": 0.8}, **ratios, groups=40)
    assert agreement == {"prediction_agreement": "95 % interval 65 to 90 % over 40 groups"}
