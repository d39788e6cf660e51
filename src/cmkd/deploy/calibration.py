"""Calibrated probabilities and a reject option, fitted on validation pairs; applying them needs only numpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from cmkd.options import Bounds

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, and which predictions are rejected.

    Args:
        temperature: divisor of the logits (Guo et al. 2017, arXiv 1706.04599); 1 leaves them unchanged.
        thresholds: for each class, the lowest probability at which a prediction of it is accepted; None rejects every
            prediction of the class. An empty tuple accepts everything.
        precision: precision that the accepted predictions of each class reach on the validation pairs.
        pairs: number of validation pairs.

    Example:
        >>> calibration = Calibration(temperature=2.0, thresholds=(0.8, None))
        >>> found = calibration.probabilities(np.array([[4.0, 0.0], [0.0, 4.0]]))
        >>> found.round(2).tolist(), calibration.rejected(found).tolist()
        ([[0.88, 0.12], [0.12, 0.88]], [False, True])
    """

    temperature: Annotated[float, Bounds(above=0)] = 1.0
    thresholds: tuple[float | None, ...] = ()
    precision: float | None = None
    pairs: int = 0

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities ``(n, classes)`` of logits ``(n, classes)``."""
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return found

    def rejected(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which predictions ``(n,)`` are below the threshold of their class, or are NaN."""
        thresholds = self.thresholds or (0.0,) * probabilities.shape[1]
        limits = np.array([np.inf if limit is None else limit for limit in thresholds])
        found: NDArray[np.bool_] = ~(probabilities.max(axis=1) >= limits[probabilities.argmax(axis=1)])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return asdict(self) | {"thresholds": list(self.thresholds)}


def fit(logits: NDArray[Any], target: NDArray[Any], *, precision: float = 0.9) -> Calibration:
    """Fit temperature and thresholds on pairs that were not used for training.

    The temperature minimizes the log loss against smoothed targets (Platt 1999, "Probabilistic outputs for support
    vector machines", section 2.2): with n pairs, the true class gets (n + 1) / (n + 2), and the other classes share the
    rest. Without smoothing, a few pairs that are all right would drive the temperature to 0, and the loss of the first
    error on new pairs would have no bound. Platt counts the pairs of each class; with few pairs in each of many classes
    that flattens all probabilities, so all pairs are counted here. With 500 pairs or more, smoothing changes little.

    The threshold of a class is the lowest probability such that the predictions of the class with at least this
    probability reach the precision; a class whose predictions never reach it is always rejected.

    Args:
        logits: logits ``(n, classes)`` of the validation pairs.
        target: true classes ``(n,)``.
        precision: fraction of the accepted predictions of a class that must be right.

    Example:
        >>> logits = np.array([[9.0, 0.0], [9.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
        >>> found = fit(logits, np.array([0, 0, 1, 1]), precision=0.9)
        >>> found.temperature > 1, len(found.thresholds), found.pairs
        (True, 2, 4)
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    exact = np.asarray(logits, dtype=np.float64)
    rest, others = 1 / (len(target) + 2), max(1, exact.shape[1] - 1)
    smoothed = np.full(exact.shape, rest / others)
    smoothed[np.arange(len(target)), target] = 1 - rest

    def loss(log_temperature: float) -> float:
        return float(-(smoothed * log_softmax(exact / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3.0, 5.0), method="bounded").x))
    probabilities = Calibration(temperature).probabilities(exact)
    predicted, highest = probabilities.argmax(1), probabilities.max(1)
    thresholds = tuple(
        _threshold(highest[predicted == k], target[predicted == k] == k, precision) for k in range(exact.shape[1])
    )
    return Calibration(temperature, thresholds, precision, len(target))


def _threshold(confidence: NDArray[Any], right: NDArray[Any], precision: float) -> float | None:
    """Return the lowest confidence at or above which the predictions reach the precision; None if there is none."""
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    reached = np.cumsum(right) / np.arange(1, len(right) + 1) >= precision
    ends = np.append(confidence[1:] < confidence[:-1], True)[: len(confidence)]  # equal confidences go together
    found = np.flatnonzero(reached & ends)
    return float(confidence[found[-1]]) if len(found) else None


def reliability(probabilities: NDArray[Any], target: NDArray[Any], *, bins: int = BINS) -> list[dict[str, float]]:
    """Compare confidence with accuracy in bins of equal width; empty bins are left out.

    Args:
        probabilities: predicted probabilities ``(n, classes)``.
        target: true classes ``(n,)``.
        bins: number of bins between 0 and 1.

    Returns:
        For each bin, the mean ``confidence`` and ``accuracy`` of its predictions, and their ``fraction`` of all.
    """
    confidence, right, place = _binned(probabilities, target, bins)
    return [
        {
            "confidence": float(confidence[place == k].mean()),
            "accuracy": float(right[place == k].mean()),
            "fraction": float((place == k).mean()),
        }
        for k in np.unique(place)
    ]


def calibration_error(probabilities: NDArray[Any], target: NDArray[Any], *, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean distance between confidence and accuracy over the predictions.

    It is defined in Naeini et al. 2015 ("Obtaining well calibrated probabilities using Bayesian binning"). The bins
    have equal width.

    Args:
        probabilities: predicted probabilities ``(n, classes)``.
        target: true classes ``(n,)``.
        bins: number of bins between 0 and 1.

    Example:
        >>> round(calibration_error(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])), 3)
        0.45
    """
    return float(calibration_errors(probabilities, target, np.ones((1, len(target))), bins=bins)[0])


def calibration_errors(
    probabilities: NDArray[Any], target: NDArray[Any], weights: NDArray[Any], *, bins: int = BINS
) -> NDArray[np.float64]:
    """Return `calibration_error` ``(resamples,)`` for each row of weights ``(resamples, n)`` of the predictions."""
    confidence, right, place = _binned(probabilities, target, bins)
    gaps = np.zeros((len(target), bins))
    gaps[np.arange(len(target)), place] = confidence - right  # weighted sum of a bin: its gap times its weight
    found: NDArray[np.float64] = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
    return found


def _binned(
    probabilities: NDArray[Any], target: NDArray[Any], bins: int
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.int64]]:
    """Return for each prediction its confidence, whether it is right, and its bin."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == target
    return confidence, right, np.minimum((confidence * bins).astype(np.int64), bins - 1)
