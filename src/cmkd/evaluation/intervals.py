"""Confidence intervals of means, fractions, correlations and resampled statistics, and a test for two models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cmkd.errors import CmkdError

LEVEL = 0.95
"""Confidence level: probability that an interval covers the true value."""
TAILS = (1 - LEVEL) / 2, (1 + LEVEL) / 2
"""Quantiles at the ends of a two-sided interval."""
RESAMPLES = 2000
"""Default number of bootstrap resamples."""
FEW_GROUPS = 10
"""Number of groups below which the intervals of `bootstrap` are too narrow."""
ROUNDED = 1e-6
"""Largest difference between two equal accuracies that rounding of stored values can cause."""
_WEIGHTS = 2**22
"""Largest number of weights that `bootstrap` keeps in memory at once."""
Statistics = Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]]
"""Function from weights of the pairs ``(resamples, n)`` to named values ``(resamples, ...)``, one per resample."""


def bootstrap(
    statistics: Statistics,
    groups: NDArray[Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    centered: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Return statistics with the ends of their percentile bootstrap intervals; whole groups are drawn with replacement.

    Pairs of one group (a vessel, a person, a scene) are similar, so drawing pairs individually would give intervals
    that are too narrow (Field and Welsh 2007, "Bootstrapping clustered data"). With few groups, see `FEW_GROUPS`, the
    intervals are still somewhat too narrow. If there is a single group, its pairs are drawn individually. Resamples in
    which a statistic has no value are left out.

    Args:
        statistics: function of the weights, which are the number of times that a resample contains each pair.
        groups: ``(n,)`` group names; pairs of the same group are drawn together.
        resamples: number of resamples.
        seed: random seed of the draws.
        centered: shift the resampled values so that their mean equals the value on the original pairs, for statistics
            that repeated pairs bias, such as a rank.

    Returns:
        Each statistic as ``(3, ...)``: its value on the original pairs, and the lower and upper end of its interval.

    Example:
        >>> right = np.array([1.0, 1.0, 0.0, 1.0])
        >>> found = bootstrap(lambda w: {"accuracy": w @ right / w.sum(1)}, np.array(["a", "a", "b", "c"]))
        >>> found["accuracy"].tolist()
        [0.75, 0.0, 1.0]
    """
    names, place = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        names = place = np.arange(len(groups))
    generator, count = np.random.default_rng(seed), len(names)
    step = max(1, _WEIGHTS // max(1, len(groups)))
    parts = []
    for start in range(0, resamples, step):
        number = min(step, resamples - start)
        drawn = generator.integers(count, size=(number, count)) + count * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * count).reshape(number, count)
        parts.append(statistics(times[:, place].astype(np.float64)))
    found = {}
    for name, value in statistics(np.ones((1, len(groups)))).items():
        drawn_values = np.concatenate([part[name] for part in parts])
        if centered:
            drawn_values = drawn_values + value[0] - np.ma.filled(np.ma.masked_invalid(drawn_values).mean(0), np.nan)
        found[name] = np.stack([value[0], *_quantiles(drawn_values, TAILS)])
    return found


def _quantiles(values: NDArray[np.float64], at: Sequence[float]) -> NDArray[np.float64]:
    """Return quantiles over the first axis, ignoring NaN; NaN if all values are NaN."""
    known = ~np.isnan(values).all(0)
    found: NDArray[np.float64] = np.full((len(at), *values.shape[1:]), np.nan)
    found[:, known] = np.nanquantile(values[:, known], at, axis=0)
    return found


def fraction_interval(hits: int, of: int) -> tuple[float, float]:
    """Return Wilson's interval for a fraction of independent trials (Wilson 1927).

    Example:
        >>> low, high = fraction_interval(8, 10)
        >>> round(low, 3), round(high, 3)
        (0.49, 0.943)
    """
    found = stats.binomtest(hits, of).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def unless_certain(estimate: NDArray[np.float64], trials: int) -> NDArray[np.float64]:
    """Return the estimate of a fraction, with Wilson's interval if it is 0 or 1 in every resample of `bootstrap`.

    If all pairs are correct, so are all resamples, but new pairs may still be wrong.

    Args:
        estimate: ``(3,)`` value, lower and upper end, as returned by `bootstrap`.
        trials: number of units drawn: groups, or pairs if there are no groups.

    Example:
        >>> unless_certain(np.array([1.0, 1.0, 1.0]), 10).round(3).tolist()
        [1.0, 0.722, 1.0]
        >>> unless_certain(np.array([0.9, 0.7, 1.0]), 10).tolist()
        [0.9, 0.7, 1.0]
    """
    value, low, high = estimate
    if trials and low == high and value in (0.0, 1.0):
        return np.array([value, *fraction_interval(round(trials * value), trials)])
    return estimate


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, float | int]:
    """Test whether two models are correct equally often on the same pairs: the exact form of McNemar's test.

    Only the pairs on which exactly one model is correct distinguish the models. Under the null hypothesis each model is
    correct on half of them, which gives a two-sided binomial test (McNemar 1947, "Note on the sampling error of the
    difference between correlated proportions or percentages"; Dietterich 1998 for classifiers). The pairs are assumed
    to be independent.

    Args:
        first: ``(n,)`` whether the first model is correct on each pair.
        second: ``(n,)`` whether the second model is correct on each pair.

    Returns:
        ``first_only`` and ``second_only``, the numbers of pairs on which only that model is correct, and ``p_value``.

    Example:
        >>> mcnemar(np.array([True] * 6 + [False]), np.array([False] * 6 + [False]))
        {'first_only': 6, 'second_only': 0, 'p_value': 0.03125}
    """
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    apart = first_only + second_only
    p_value = float(stats.binomtest(first_only, apart).pvalue) if apart else 1.0
    return {"first_only": first_only, "second_only": second_only, "p_value": p_value}


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return Student's t interval for the mean of independent values, such as one difference per seed.

    Args:
        values: the independent values.

    Returns:
        The ends of the interval; None for fewer than two values, or for values that are equal up to the rounding of
        accuracies. Two differences on a few hundred test pairs are often equal by chance, so their spread means
        nothing.

    Example:
        >>> low, high = interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    array = np.asarray(values, dtype=float)
    if len(array) < 2 or np.ptp(array) < 3 * ROUNDED:  # two differences contain four rounded accuracies
        return None
    half = float(stats.t.ppf(TAILS[1], len(array) - 1)) * float(array.std(ddof=1)) / len(array) ** 0.5
    return (float(array.mean()) - half, float(array.mean()) + half)


def paired_interval(differences: NDArray[Any], sizes: NDArray[np.integer]) -> tuple[float, float] | None:
    """Return an interval for a mean difference of accuracies, over seeds and test groups at once.

    The mean varies with the seeds and with the choice of the test groups, so the variances of both are added, with
    Satterthwaite's degrees of freedom (1946, "An approximate distribution of estimates of variance components"). The
    part of the seed variance that comes from the test pairs is counted twice, so the interval is slightly too wide.
    Student's interval over the seeds alone is much too narrow, because all seeds are tested on the same pairs.

    Args:
        differences: ``(seeds, groups)`` correct answers of the first model minus those of the second.
        sizes: ``(groups,)`` number of pairs.

    Returns:
        The ends of the interval; None for a single seed or group, or if the estimated variance is 0.

    Example:
        >>> low, high = paired_interval(np.array([[1, 0, 0, 1], [1, 0, 1, 1]]), np.array([2, 2, 2, 2]))
        >>> round(low, 3), round(high, 3)
        (-0.063, 0.688)
    """
    if (found := paired_error(differences, sizes)) is None:
        return None
    mean, error, freedom = found
    half = float(stats.t.ppf(TAILS[1], freedom)) * error
    return mean - half, mean + half


def paired_p_value(differences: NDArray[Any], sizes: NDArray[np.integer]) -> float | None:
    """Return the p-value of the two-sided test that matches `paired_interval`; arguments and None as there.

    Example:
        >>> round(paired_p_value(np.array([[1, 0, 0, 1], [1, 0, 1, 1]]), np.array([2, 2, 2, 2])), 3)
        0.082
    """
    if (found := paired_error(differences, sizes)) is None:
        return None
    mean, error, freedom = found
    return float(2 * stats.t.sf(abs(mean) / error, freedom))


def paired_error(differences: NDArray[Any], sizes: NDArray[np.integer]) -> tuple[float, float, float] | None:
    """Return mean difference, standard error and degrees of freedom; arguments and None as for `paired_interval`.

    Example:
        >>> found = paired_error(np.array([[1, 0, 0, 1], [1, 0, 1, 1]]), np.array([2, 2, 2, 2]))
        >>> [round(value, 3) for value in found]
        [0.312, 0.135, 3.973]
    """
    seeds, groups = differences.shape
    if min(seeds, groups) < 2:
        return None
    pairs = sizes.sum()
    each = differences.sum(1) / pairs
    mean = float(each.mean())
    # variance of a ratio, since the number of pairs varies between groups
    of_groups = groups / (groups - 1) * float(((differences.mean(0) - mean * sizes) ** 2).sum()) / pairs**2
    of_seeds = float(each.var(ddof=1)) / seeds
    if not of_groups + of_seeds:
        return None
    freedom = (of_seeds + of_groups) ** 2 / (of_seeds**2 / (seeds - 1) + of_groups**2 / (groups - 1))
    return mean, float((of_seeds + of_groups) ** 0.5), float(freedom)


def in_points(mean: float, ends: Sequence[float] | None, *others: Sequence[float]) -> tuple[str, bool]:
    """Return a difference of fractions as text in points, with the ends of its interval, and whether 0 is excluded.

    An end that rounds to zero keeps its sign, which shows on which side of 0 it lies.

    Args:
        mean: the difference.
        ends: ends of the interval; None if there is no interval.
        others: ends of further intervals of the difference, which must exclude 0 as well.

    Example:
        >>> in_points(0.015, (0.003, 0.027)), in_points(0.25, None)
        (('+1.5 (+0.3 to +2.7)', True), ('+25.0', False))
    """
    said = f"{100 * mean:+z.1f}"
    if ends is None:
        return said, False
    low, high = ends
    clear = all(least > 0 or most < 0 for least, most in (ends, *others))
    return f"{said} ({100 * low:+.1f} to {100 * high:+.1f})", clear


def spearman(
    x: np.ndarray,
    y: np.ndarray,
    groups: Sequence[Any] | None = None,
    *,
    resamples: int = 4000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return Spearman's rank correlation and its interval by `bootstrap`; each resample is ranked anew.

    Args:
        x: ``(n,)``, three points or more.
        y: ``(n,)``.
        groups: ``(n,)`` group names; points of one group, such as students of one teacher, are drawn together. By
            default each point is drawn individually.
        resamples: number of bootstrap resamples; those in which x or y is constant are left out.
        seed: random seed of the resamples.

    Returns:
        The correlation, and the lower and upper end of its interval; NaN if x or y is constant.

    Example:
        >>> spearman(np.arange(6.0), np.arange(6.0) ** 3)
        (1.0, 1.0, 1.0)
    """
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise CmkdError(f"expected two lists of at least three points, got shapes {x.shape} and {y.shape}")
    # contribution of each point to the rank of another: 1 if it is below, 0.5 if it is equal
    below = [(v[:, None] < v) + 0.5 * (v[:, None] == v) for v in (x, y)]

    def correlation(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        share = weights / weights.sum(1, keepdims=True)
        ranks = [share @ part for part in below]
        a, b = (r - (share * r).sum(1, keepdims=True) for r in ranks)
        both, first, second = ((share * product).sum(1) for product in (a * b, a * a, b * b))
        spread = np.sqrt(first * second)
        return {"rho": np.divide(both, spread, out=np.full(len(weights), np.nan), where=spread > 1e-12)}

    names = np.arange(len(x)) if groups is None else np.asarray(groups)
    rho, low, high = bootstrap(correlation, names, resamples=resamples, seed=seed)["rho"]
    return float(rho), float(low), float(high)
