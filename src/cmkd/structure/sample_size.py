"""Effect of the number of pairs on metrics: their value by chance alone, and their bias with few pairs.

One rule applies to all metrics: a caveat is given if the number of pairs changes a value by more than a tenth (our
choice).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy import stats

Metrics = Mapping[str, float | None]
NOTABLE = 0.1
"""Relative change of a value above which the effect of the number of pairs is reported."""


def chance_correlation(pairs: int) -> float:
    """Return the expected ``|r|`` of two independent normal channels over n pairs, ``Γ((n-1)/2) / (√π Γ(n/2))``.

    It is the mean of ``|r|`` under its null density, ``(1 - r²)^((n - 4) / 2)`` (Fisher 1915), near ``√(2 / (π n))``.

    Args:
        pairs: number of pairs n, at least 2.

    Example:
        >>> round(chance_correlation(18), 3), round(chance_correlation(2000), 3)
        (0.196, 0.018)
    """
    return math.exp(math.lgamma((pairs - 1) / 2) - math.lgamma(pairs / 2)) / math.sqrt(math.pi)


def chance_cka(student_ratio: float, teacher_ratio: float, pairs: int) -> float:
    """Return the mean linear CKA over all random matchings of two models' pairs, ``√(γ_S γ_T) / (n - 1)``.

    Exact for features of any distribution: over permutations of the pairs the mean of ``tr(K L)`` is ``tr(K) tr(L) /
    (n - 1)`` for centered Gram matrices K and L, and ``tr(K)² / |K|²`` is the participation ratio γ. Murphy et al.
    2024 (arXiv 2405.01012) show the effect: many channels and few pairs give a high CKA between random features.

    Args:
        student_ratio: participation ratio of the student's features.
        teacher_ratio: participation ratio of the teacher's features.
        pairs: number of pairs n.

    Example:
        >>> chance_cka(9.0, 4.0, 13)
        0.5
    """
    return math.sqrt(student_ratio * teacher_ratio) / (pairs - 1)


def corrected_participation_ratio(ratio: float, pairs: int) -> float:
    """Return the estimated participation ratio over infinitely many pairs, ``1 / (1/γ - 1/n)``; infinity if γ >= n.

    Source:
        Chun et al. 2025, arXiv 2509.26560: ``1/γ`` of a sample exceeds ``1/γ`` of the population by about ``1/n``.

    Example:
        >>> corrected_participation_ratio(9.0, 18), corrected_participation_ratio(17.0, 17)
        (18.0, inf)
    """
    return ratio * pairs / (pairs - ratio) if ratio < pairs else math.inf


def caveats(
    metrics: Metrics, *, channels: int, pairs: int, labeled: int, classes: int, groups: int | None = None
) -> dict[str, str]:
    """Return the effect of few pairs on the metrics of one feature space, with a sentence for each affected metric.

    Args:
        metrics: metrics of `describe`; None for those not measured.
        channels: number of channels of the features.
        pairs: number of measured pairs.
        labeled: number of measured pairs with a label.
        classes: number of classes among the labels.
        groups: number of groups of the labeled pairs, such as scenes or people, whose pairs are not independent; by
            default every pair is its own group.

    Effective rank: with independent channels of equal variance, it is a fifth too low with one pair per channel, and a
    twelfth with two (measured, 200 normal channels).
    Spectral decay: the spread of equal eigenvalues follows Marchenko and Pastur 1967, ``(1 ± √(channels / n))²``.
    Fisher's ratio: ``(classes - 1) / (n - classes)`` for random labels, since its parts add up to the total scatter;
    n counts groups instead of pairs, which is exact if the pairs of a group are equal, and else an upper limit.

    Example:
        >>> caveats({"effective_rank": 11.0}, channels=64, pairs=18, labeled=0, classes=0)
        {'effective_rank': 'biased low: 18 pairs for 64 channels, so at most 18'}
    """
    found: dict[str, str] = {}
    if r := metrics.get("correlation_mean_abs"):
        chance = chance_correlation(pairs)
        if 1 - math.sqrt(max(0.0, 1 - (chance / r) ** 2)) > NOTABLE:  # r² of a sample exceeds the true one by about 1/n
            found["correlation_mean_abs"] = f"independent channels would show {chance:.2g} over {pairs} pairs"
    if metrics.get("effective_rank") and pairs < 2 * channels:
        limit = f", so at most {pairs}" if pairs < channels else ""
        found["effective_rank"] = f"biased low: {pairs} pairs for {channels} channels{limit}"
    if ratio := metrics.get("participation_ratio"):
        corrected = corrected_participation_ratio(ratio, pairs)
        if not corrected <= (1 + NOTABLE) * ratio:
            estimate = f"about {min(corrected, channels):.3g}" if math.isfinite(corrected) else "no estimate"
            found["participation_ratio"] = f"biased low by {pairs} pairs: {estimate} after correction"
    if metrics.get("spectral_decay") is not None and pairs < 10 * channels:
        edge = math.sqrt(channels / pairs)
        found["spectral_decay"] = (
            f"biased high: over {pairs} pairs, {channels} equal eigenvalues already spread from {(1 + edge) ** 2:.2g} "
            f"to {max(0.0, 1 - edge) ** 2:.2g}"
        )
    return found | _of_classes(metrics, labeled, classes, groups)


def _of_classes(metrics: Metrics, labeled: int, classes: int, groups: int | None) -> dict[str, str]:
    found: dict[str, str] = {}
    of, unit = _counted(labeled, groups)
    most = "up to " if unit == "groups" else ""
    if (ratio := metrics.get("fisher_ratio")) and labeled > classes > 1:
        # exact under permutation of the labels
        chance = (classes - 1) / (of - classes) if of > classes else math.inf
        if chance > NOTABLE * ratio:
            found["fisher_ratio"] = f"labels at random would show {most}{chance:.2g} over {of} {unit}"
            found["nc1"] = f"biased low, since {of} {unit} give noisy class means"
    for name in ("knn_accuracy", "linear_probe_accuracy"):
        found |= fraction_caveat(name, metrics.get(name), of, unit)
    return found


def _counted(pairs: int, groups: int | None) -> tuple[int, str]:
    """Return the number of independent samples, and their unit (pairs or groups)."""
    return (pairs, "pairs") if groups is None or groups == pairs else (groups, "groups")


def fraction_caveat(name: str, fraction: float | None, of: int, unit: str = "pairs") -> dict[str, str]:
    """Return a caveat with the 95 % interval of Wilson (1927) for a fraction of pairs; empty if it is narrow.

    Args:
        name: name of the metric.
        fraction: fraction from 0 to 1; None if not measured.
        of: number of pairs, or of groups of similar pairs.
        unit: counted unit, ``pairs`` or ``groups``.

    Example:
        >>> fraction_caveat("accuracy", 0.5, 18), fraction_caveat("accuracy", 0.9, 2000)
        ({'accuracy': '95 % interval 29 to 71 % over 18 pairs'}, {})
    """
    if fraction is None or of < 1:
        return {}
    found = stats.binomtest(round(fraction * of), of).proportion_ci(method="wilson")
    if found.high - found.low <= 2 * NOTABLE * fraction:
        return {}
    return {name: f"95 % interval {100 * found.low:.0f} to {100 * found.high:.0f} % over {of} {unit}"}


def likeness_caveats(
    metrics: Metrics, *, student_ratio: float, teacher_ratio: float, pairs: int, groups: int | None = None
) -> dict[str, str]:
    """Return the effect of few pairs on the metrics of `compare`, with a sentence for each affected metric.

    Args:
        metrics: metrics of `compare`; None for those not measured.
        student_ratio: participation ratio of the student's features.
        teacher_ratio: participation ratio of the teacher's features.
        pairs: number of measured pairs.
        groups: number of groups of the pairs, as in `caveats`.

    Example:
        >>> likeness_caveats({"linear_cka": 0.6}, student_ratio=9.0, teacher_ratio=4.0, pairs=13)
        {'linear_cka': 'pairs matched at random would show 0.5 over 13 pairs'}
    """
    found = fraction_caveat("prediction_agreement", metrics.get("prediction_agreement"), *_counted(pairs, groups))
    chance = chance_cka(student_ratio, teacher_ratio, pairs)
    if (cka := metrics.get("linear_cka")) and chance > NOTABLE * cka:
        found["linear_cka"] = f"pairs matched at random would show {chance:.2g} over {pairs} pairs"
    return found
