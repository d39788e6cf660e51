"""Temperature, thresholds and calibration error, compared with slow references and hand-computed values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax

from cmkd.deploy.calibration import Calibration, calibration_error, fit, reliability
from cmkd.options import build


def draw(
    pairs: int, classes: int, *, sharpness: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return random logits multiplied by `sharpness`, and labels drawn from the softmax before."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (pairs, classes))
    target = (generator.gumbel(size=logits.shape) + logits).argmax(axis=1)
    return logits * sharpness, target


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 8.0])
def test_the_temperature_is_the_best_of_a_fine_grid(sharpness: float) -> None:
    logits, target = draw(400, 4, sharpness=sharpness)
    smoothed = np.where(np.eye(4)[target] > 0, 401 / 402, 1 / 402 / 3)

    def loss(temperature: float) -> float:
        return float(-(smoothed * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())

    grid = np.exp(np.linspace(-3, 5, 4001))
    found = fit(logits, target).temperature
    assert loss(found) <= min(map(loss, grid)) + 1e-6
    assert found == pytest.approx(sharpness, rel=0.15)  # the labels were drawn with this temperature


def margins(pairs: int, accuracy: float, generator: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return logits and labels of a model that is as confident in its errors as in its correct answers."""
    target = generator.integers(0, 3, pairs)
    said = np.where(generator.random(pairs) < accuracy, target, (target + 1) % 3)
    return generator.normal(0, 0.5, (pairs, 3)) + 3.5 * np.eye(3)[said], target


def test_few_pairs_that_are_all_right_do_not_make_new_pairs_worse() -> None:
    generator = np.random.default_rng(0)
    new, target = margins(4000, 0.96, generator)

    def loss(temperature: float) -> float:
        return float(-log_softmax(new / temperature, axis=1)[np.arange(len(target)), target].mean())

    for pairs in (20, 40, 60):
        found = fit(*margins(pairs, 1.0, generator)).temperature
        assert found > 0.5 and loss(found) < loss(1.0) + 0.03
    assert fit(*margins(2000, 0.96, generator)).temperature == pytest.approx(0.88, abs=0.05)  # optimum for new pairs


def test_thresholds_reach_the_precision_and_none_lower_does() -> None:
    logits, target = draw(600, 5)
    for precision in (0.5, 0.8, 0.95, 1.0):
        found = fit(logits, target, precision=precision)
        probabilities = found.probabilities(logits)
        highest, predicted = probabilities.max(1), probabilities.argmax(1)
        for k, threshold in enumerate(found.thresholds):
            own = predicted == k
            reached = [c for c in highest[own] if (target[own & (highest >= c)] == k).mean() >= precision]
            assert threshold == (min(reached) if reached else None)
        accepted = ~found.rejected(probabilities)
        assert all((target[accepted & (predicted == k)] == k).mean() >= precision for k in set(predicted[accepted]))


def test_equal_confidences_are_accepted_or_rejected_together() -> None:
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    first = np.array([0, 0, 1, 1])
    assert fit(logits, first, precision=0.7).thresholds[0] is None  # 2 of 3, whatever their order
    assert fit(logits, first, precision=0.6).thresholds[0] is not None
    np.testing.assert_array_equal(fit(logits, first[[2, 1, 0, 3]], precision=0.7).thresholds[0], None)


def test_a_class_that_is_never_predicted_is_never_accepted() -> None:
    logits = np.array([[2.0, 0.0, -9.0], [0.0, 2.0, -9.0], [1.0, 0.0, -9.0]])
    found = fit(logits, np.array([0, 1, 2]), precision=0.5)
    assert found.thresholds[2] is None
    assert found.rejected(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])).tolist() == [True, False]


def test_nothing_overflows_and_what_is_no_number_is_rejected() -> None:
    for temperature in (0.05, 1.0, 148.0):
        found = Calibration(temperature).probabilities(np.array([[1e4, -1e4], [3e38, 0.0], [-3e38, -3e38]], np.float32))
        np.testing.assert_allclose(found, [[1, 0], [1, 0], [0.5, 0.5]], atol=1e-12)
    separable = fit(np.array([[50.0, 0.0], [0.0, 50.0]] * 8), np.array([0, 1] * 8))
    assert np.isfinite(separable.temperature) and separable.rejected(np.array([[1.0, 0.0]])).tolist() == [False]
    for calibration in (Calibration(), Calibration(thresholds=(0.5, 0.5))):
        assert calibration.rejected(np.array([[np.nan, np.nan], [0.9, 0.1]])).tolist() == [True, False]
        assert calibration.rejected(np.zeros((0, 2))).tolist() == []


def test_the_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.93, 0.07], [0.6, 0.4], [0.3, 0.7]])
    target = np.array([0, 1, 0, 0])
    # bins of width 0.1: .93 and .95 share one, mean .94 against accuracy 1/2; .6 against 1; .7 against 0
    assert calibration_error(probabilities, target, bins=10) == pytest.approx((2 * 0.44 + 0.4 + 0.7) / 4)
    assert [round(b["fraction"], 2) for b in reliability(probabilities, target, bins=10)] == [0.25, 0.25, 0.5]
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0  # the last bin includes its upper end


def test_the_calibration_error_is_that_of_a_slow_reference() -> None:
    logits, target = draw(500, 3, sharpness=3.0)
    probabilities = Calibration().probabilities(logits)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == target
    expected = 0.0
    for low in range(15):
        inside = [i for i, c in enumerate(confidence) if low / 15 <= c < (low + 1) / 15]
        if inside:
            gap = sum(confidence[i] for i in inside) / len(inside) - sum(right[i] for i in inside) / len(inside)
            expected += len(inside) / len(target) * abs(gap)
    assert calibration_error(probabilities, target) == pytest.approx(expected, abs=1e-12)
    after = fit(logits, target).probabilities(logits)
    assert calibration_error(after, target) < 0.5 * expected


def test_it_survives_its_dictionary() -> None:
    found = Calibration(2.5, (0.5, None), 0.9, 7)
    assert build(Calibration, found.to_dict()) == found
