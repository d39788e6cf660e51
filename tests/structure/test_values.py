"""Each metric on features small enough for hand computation, or from a known distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cmkd import structure
from cmkd.errors import CmkdError
from cmkd.structure import CrossMoments, Moments

SQUARE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)


def vectors(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlation() -> None:
    # deviations (-1, 0, 1) and (-4, -1, 5): 9 / sqrt(2 * 42)
    x = torch.tensor([[1.0, 0.0], [2.0, 3.0], [3.0, 9.0]])
    r = 9.0 / math.sqrt(84.0)
    torch.testing.assert_close(structure.channel_correlation(x)[0, 1].item(), r, rtol=1e-12, atol=0.0)
    assert structure.correlation_mean_abs(Moments.of(-x)) == pytest.approx(r, rel=1e-12)
    assert structure.correlation_norm(Moments.of(x)) == pytest.approx(math.sqrt(2) * r, rel=1e-12)


def test_correlation_agrees_with_torch_far_from_the_origin() -> None:
    x = vectors(50, 7) + 1e4
    torch.testing.assert_close(structure.channel_correlation(x), torch.corrcoef(x.T), rtol=0.0, atol=1e-7)


def test_constant_channels_are_counted_not_averaged() -> None:
    x = torch.cat([vectors(30, 3), torch.full((30, 2), 1.1)], 1)
    whole, live = structure.describe(x), structure.describe(x[:, :3])
    assert whole["constant_channels"] == 2.0 and live["constant_channels"] == 0.0
    assert whole["correlation_mean_abs"] == pytest.approx(live["correlation_mean_abs"], rel=1e-9)


def test_spectrum_and_participation_ratio() -> None:
    x = SQUARE * torch.tensor([3.0, 1.0])  # covariance diag(9, 1)
    torch.testing.assert_close(structure.spectrum(Moments.of(x)).tolist(), [9.0, 1.0])
    assert structure.participation_ratio(Moments.of(x)) == pytest.approx(100.0 / 82.0, rel=1e-12)
    assert structure.participation_ratio(Moments.of(torch.ones(4, 3))) == 0.0


def test_effective_rank() -> None:
    # singular values 3 : 1, so p = (3/4, 1/4)
    p = (0.75, 0.25)
    wanted = math.exp(-sum(q * math.log(q) for q in p))
    assert structure.effective_rank(Moments.of(SQUARE * torch.tensor([3.0, 1.0]))) == pytest.approx(wanted, rel=1e-12)
    assert structure.effective_rank(Moments.of(torch.ones(5, 3))) == pytest.approx(1.0, rel=1e-12)
    # compared with the definition by singular values, with fewer samples than dimensions
    x = vectors(6, 20)
    singular = torch.linalg.svdvals(x)
    share = singular / singular.sum()
    assert structure.effective_rank(Moments.of(x)) == pytest.approx(
        float((-(share * share.log()).sum()).exp()), rel=1e-6
    )
    with pytest.raises(CmkdError, match="all features are 0"):
        structure.effective_rank(Moments.of(torch.zeros(3, 2)))


def test_spectral_decay() -> None:
    # rows of ± sqrt(k^-1.5) along axis k have the spectrum k^-1.5, up to a constant factor
    scales = torch.arange(1, 9, dtype=torch.float64) ** -0.75
    x = torch.cat([torch.diag(scales), -torch.diag(scales)])
    assert structure.spectral_decay(Moments.of(x)) == pytest.approx(1.5, rel=1e-9)
    assert structure.spectral_decay(Moments.of(x), first=3, last=6) == pytest.approx(1.5, rel=1e-9)
    assert math.isnan(structure.spectral_decay(Moments.of(x[:, :1])))
    assert math.isnan(structure.spectral_decay(Moments.of(torch.ones(4, 3))))


def test_uniformity() -> None:
    # unit vectors at 0, 90, 180 degrees: squared distances 2, 2, 4
    unit = structure.unit_vectors(torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]]))
    wanted = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert structure.uniformity(unit) == pytest.approx(wanted, rel=1e-12)
    # uniform on a high sphere: squared distances concentrate at 2
    assert structure.uniformity(structure.unit_vectors(vectors(500, 2000))) == pytest.approx(-4.0, abs=0.02)


def test_cosines() -> None:
    unit = structure.unit_vectors(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]]))
    # pairs: 0, 1, -1, 0, 0, -1
    assert structure.mean_cosine(unit) == pytest.approx(-1.0 / 6.0, rel=1e-12)
    assert structure.tolerance(unit, torch.tensor([0, 1, 0, 1])) == pytest.approx(0.5, rel=1e-12)
    assert math.isnan(structure.tolerance(unit, torch.tensor([0, 1, 2, 3])))


def test_alignment() -> None:
    student = structure.unit_vectors(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    teacher = structure.unit_vectors(torch.tensor([[0.0, 3.0], [0.0, 4.0]]))
    assert structure.alignment(student, teacher) == pytest.approx(1.0, rel=1e-12)
    assert structure.alignment(student, teacher, power=1.0) == pytest.approx(math.sqrt(2) / 2, rel=1e-12)


def test_unit_vectors_of_any_size() -> None:
    x = torch.tensor([[3e-200, 4e-200], [3e200, 4e200], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(structure.unit_vectors(x).tolist(), [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]])


def test_nearest_neighbor_entropy() -> None:
    # two opposite points on the circle: psi(2) - psi(1) = 1, log V_1 = log 2, distance 2
    unit = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert structure.nearest_neighbor_entropy(unit) == pytest.approx(1.0 + 2.0 * math.log(2.0), rel=1e-9)
    # uniform on the sphere: the logarithm of its area, 4 pi; its standard error at n = 4,000 is 0.02
    for neighbor in (1, 4):
        found = structure.nearest_neighbor_entropy(structure.unit_vectors(vectors(4000, 3)), neighbor=neighbor)
        assert found == pytest.approx(math.log(4 * math.pi), abs=0.08)
    assert math.isfinite(structure.nearest_neighbor_entropy(torch.ones(3, 2)))


def test_class_means_that_coincide_are_no_collapse() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    y = torch.tensor([0, 1, 0, 1])
    assert structure.fisher_ratio(x, y) == 0.0 and math.isnan(structure.neural_collapse(x, y))
    assert math.isnan(structure.neural_collapse(torch.ones(6, 3), torch.arange(6) % 2))


def test_fisher_and_neural_collapse() -> None:
    # class means (-2, 0) and (2, 0): S_B = diag(4, 0); within ±1 on each axis: S_W = I
    x = torch.cat([SQUARE + torch.tensor([-2.0, 0.0]), SQUARE + torch.tensor([2.0, 0.0])])
    y = torch.tensor([0] * 4 + [1] * 4)
    assert structure.fisher_ratio(x, y) == pytest.approx(4.0 / 2.0, rel=1e-12)
    assert structure.neural_collapse(x, y) == pytest.approx((1.0 / 4.0) / 2.0, rel=1e-12)
    assert structure.neural_collapse(x.float(), y) == pytest.approx((1.0 / 4.0) / 2.0, rel=1e-6)
    wide = torch.randn(200, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float32)  # more than classes
    of_wide = torch.arange(200) % 5
    assert structure.neural_collapse(wide, of_wide) == structure.neural_collapse(wide.double(), of_wide)
    # collapsed classes, and labels with a gap
    assert structure.fisher_ratio(x[[0, 0, 4, 4]], torch.tensor([3, 3, 7, 7])) == math.inf
    assert structure.neural_collapse(x[[0, 0, 4, 4]], torch.tensor([3, 3, 7, 7])) == pytest.approx(0.0, abs=1e-12)


def test_a_silhouette_of_samples_drawn_from_one_class_is_not_a_number() -> None:
    labels = torch.zeros(200, dtype=torch.int64)
    labels[0] = 1
    assert math.isnan(structure.silhouette(torch.randn(200, 2), labels, sample=3, seed=1))


def test_silhouette() -> None:
    # each sample has a = 1 and b = 3.5 (outer) or 2.5 (inner), so its silhouette is 1 - a / b
    x, y = torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
    wanted = ((1 - 1 / 3.5) + (1 - 1 / 2.5)) / 2
    assert structure.silhouette(x, y) == pytest.approx(wanted, rel=1e-6)
    many = torch.cat([vectors(400, 2), vectors(400, 2) + 8.0])
    labels = torch.arange(800) // 400
    assert structure.silhouette(many, labels, sample=200) == pytest.approx(structure.silhouette(many, labels), abs=0.05)


def test_accuracies() -> None:
    x, y = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]]), torch.tensor([0, 0, 0, 1, 1, 1])
    test_x, test_y = torch.tensor([[0.5], [3.0], [10.5], [9.0]]), torch.tensor([0, 0, 1, 0])
    for classifier in (structure.nearest_neighbor_classifier(3), structure.linear_probe()):
        assert structure.held_out_accuracy(classifier, x, y, test_x, test_y) == 0.75
        assert structure.cross_validated_accuracy(classifier, x, y, folds=3) == 1.0
    with pytest.raises(CmkdError, match="fewer than 5 folds"):
        structure.cross_validated_accuracy(structure.linear_probe(), x, y)


def test_accuracy_of_noise_is_chance() -> None:
    x, y = vectors(400, 5), torch.arange(400) % 2
    for classifier in (structure.nearest_neighbor_classifier(), structure.linear_probe()):
        # standard error 0.025
        assert structure.cross_validated_accuracy(classifier, x, y) == pytest.approx(0.5, abs=0.1)


def test_linear_cka() -> None:
    # centered X = (1, -1), Y = (1, -1), (1, 1) over four samples: |cov|² = 1; |XX| = 1, |YY| = sqrt(2)
    x, y = SQUARE[:, :1], SQUARE
    assert structure.linear_cka(CrossMoments.of(x, y)) == pytest.approx(1.0 / math.sqrt(2.0), rel=1e-12)
    assert structure.linear_cka(CrossMoments.of(x, SQUARE[:, 1:])) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(structure.linear_cka(CrossMoments.of(x, torch.ones(4, 2))))
    a, b = vectors(30, 4), vectors(30, 6, 1)
    centered = torch.eye(30, dtype=torch.float64) - 1.0 / 30
    k, m = centered @ a @ a.T @ centered, centered @ b @ b.T @ centered
    wanted = float((k * m).sum() / (k.norm() * m.norm()))  # the definition by kernels, n x n
    assert structure.linear_cka(CrossMoments.of(a, b)) == pytest.approx(wanted, rel=1e-9)


def test_cross_correlation_diagonal() -> None:
    x = torch.tensor([[1.0, 0.0, 1.0], [2.0, 3.0, 1.0], [3.0, 9.0, 1.0]])
    y = torch.stack([x[:, 1], -x[:, 1], x[:, 0]], 1)
    # 9 / sqrt(84), -1, and 0 of the constant channel
    wanted = (9.0 / math.sqrt(84.0) - 1.0) / 3.0
    assert structure.cross_correlation_diagonal(CrossMoments.of(x, y)) == pytest.approx(wanted, rel=1e-9)
    with pytest.raises(CmkdError, match="one shape"):
        structure.cross_correlation_diagonal(CrossMoments.of(x, y[:, :2]))


def test_non_target_divergence() -> None:
    # without the target: teacher (1/4, 3/4), student (1/2, 1/2)
    student = torch.tensor([[5.0, 0.0, 0.0], [1.0, -7.0, 1.0]])
    teacher = torch.tensor([[-2.0, 0.0, math.log(3.0)], [0.0, 40.0, 0.0]])
    target = torch.tensor([0, 1])
    each = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    found = structure.non_target_divergence(student, teacher, target)
    assert found == pytest.approx(each / 2.0, rel=1e-6)
    # a mask of 0 instead of minus infinity would leave a third class in
    masked = [logits * torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]) for logits in (student, teacher)]
    wrong = torch.nn.functional.kl_div(
        masked[0].log_softmax(1), masked[1].log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert abs(found - float(wrong)) > 0.01
    assert structure.non_target_divergence(student[:, :2], teacher[:, :2], target) == 0.0


def test_prediction_agreement() -> None:
    student, teacher = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert structure.prediction_agreement(student, teacher) == 0.5
