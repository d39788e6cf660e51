"""Confidence intervals of means, fractions, correlations and resampled statistics, and a test of two models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cmkd.errors import CmkdError

LEVEL = 0.95
"""Probability that an interval covers the true value."""
TAILS = (1 - LEVEL) / 2, (1 + LEVEL) / 2
"""Quantiles at the ends of a two-sided interval."""
RESAMPLES = 2000
"""Resamples of a bootstrap."""
FEW_GROUPS = 10
"""Fewer groups give intervals by `bootstrap` that are too narrow."""
ROUNDED = 1e-6
"""Largest difference between two accuracies that rounding may make, as stored ones are rounded."""
_WEIGHTS = 2**22
"""Largest number of weights that `bootstrap` holds at a time."""
Statistics = Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]]
"""From weights of the pairs ``(resamples, n)`` to the named values ``(resamples, ...)`` of each resample."""


def bootstrap(
    statistics: Statistics,
    groups: NDArray[Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    centered: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Return statistics with the ends of their percentile bootstrap intervals, whole groups drawn with replacement.

    Pairs of one group (a vessel, a person, a scene) are alike, so that pairs drawn one by one would give intervals
    that are too narrow (Field and Welsh 2007, "Bootstrapping clustered data"). With few groups, see `FEW_GROUPS`, the
    intervals are still somewhat too narrow. Pairs of a single group are drawn one by one: nothing else is left.
    Resamples in which a statistic has no value are left out.

    Args:
        statistics: of the weights, which say how often a resample holds each pair.
        groups: ``(n,)`` names; pairs of one name are drawn together.
        resamples: number of resamples.
        seed: of the draws.
        centered: shift the resampled values until their mean is the value on the pairs themselves, for statistics
            that repeated pairs bias, such as a rank.

    Returns:
        Each statistic ``(3, ...)``: its value on the pairs themselves, and the lower and upper end of its interval.

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
    """Return quantiles over the first axis without NaN; NaN where there is nothing else."""
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
    """Return the estimate of a fraction, with Wilson's interval where it is 0 or 1 in every resample of `bootstrap`.

    Resamples of pairs that are all right are all right as well, which does not make new pairs certain.

    Args:
        estimate: ``(3,)`` value, lower and upper end, as from `bootstrap`.
        trials: number of what was drawn: groups, or pairs where there are none.

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
    """Test whether two models are right equally often on the same pairs: the exact form of McNemar's test.

    Only pairs on which one model alone is right tell them apart. Under the hypothesis each model is right on half of
    them: a two-sided binomial test (McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages"; Dietterich 1998 for classifiers). It takes the pairs to be independent.

    Args:
        first: ``(n,)`` where the first model is right.
        second: ``(n,)`` where the second one is.

    Returns:
        ``first_only`` and ``second_only``, the numbers of pairs on which one alone is right, and ``p_value``.

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
        Its ends; None for fewer than two values, or differences of accuracies that are equal up to rounding: two of few
        hundred test pairs often are, by chance, and their spread says nothing.

    Example:
        >>> low, high = interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    array = np.asarray(values, dtype=float)
    if len(array) < 2 or np.ptp(array) < 3 * ROUNDED:  # two differences have four rounded accuracies
        return None
    half = float(stats.t.ppf(TAILS[1], len(array) - 1)) * float(array.std(ddof=1)) / len(array) ** 0.5
    return (float(array.mean()) - half, float(array.mean()) + half)


def paired_interval(differences: NDArray[Any], sizes: NDArray[np.integer]) -> tuple[float, float] | None:
    """Return an interval for a mean difference of accuracies, over seeds and test groups at once.

    The mean varies with the seeds and with the choice of the test groups, so the variances of both are added, with
    Satterthwaite's degrees of freedom (1946, "An approximate distribution of estimates of variance components"). What
    the seeds owe to the test pairs is counted twice, so the interval is a little too wide. Student's over the seeds
    alone is much too narrow where they differ on the same pairs.

    Args:
        differences: ``(seeds, groups)``, how many more pairs of each group the first model has right.
        sizes: ``(groups,)`` pairs.

    Returns:
        Its ends; None for a single seed or group, or where the models have the same pairs right.

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
    """Return the p-value of the two-sided test that belongs to `paired_interval`, with its arguments; None as there.

    Example:
        >>> round(paired_p_value(np.array([[1, 0, 0, 1], [1, 0, 1, 1]]), np.array([2, 2, 2, 2])), 3)
        0.082
    """
    if (found := paired_error(differences, sizes)) is None:
        return None
    mean, error, freedom = found
    return float(2 * stats.t.sf(abs(mean) / error, freedom))


def paired_error(differences: NDArray[Any], sizes: NDArray[np.integer]) -> tuple[float, float, float] | None:
    """Return a mean difference, its standard error and the degrees of freedom of the latter, as `paired_interval`.

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
    # of a ratio, since the number of pairs varies with the groups
    of_groups = groups / (groups - 1) * float(((differences.mean(0) - mean * sizes) ** 2).sum()) / pairs**2
    of_seeds = float(each.var(ddof=1)) / seeds
    if not of_groups + of_seeds:
        return None
    freedom = (of_seeds + of_groups) ** 2 / (of_seeds**2 / (seeds - 1) + of_groups**2 / (groups - 1))
    return mean, float((of_seeds + of_groups) ** 0.5), float(freedom)


def in_points(mean: float, ends: Sequence[float] | None, *others: Sequence[float]) -> tuple[str, bool]:
    """Write a difference of fractions in points, with the ends of its interval; and say whether 0 is excluded.

    An end that rounds to zero keeps its sign, which says on which side of 0 it lies.

    Args:
        mean: the difference.
        ends: of the interval, None where there is none.
        others: ends of more intervals of it, which must exclude 0 as well.

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
        groups: ``(n,)`` names; points of one name, such as students of one teacher, are drawn together. By default each
            point is drawn by itself.
        resamples: of the bootstrap; those in which x or y is constant are left out.
        seed: of the resamples.

    Returns:
        The correlation, and the interval's lower and upper end; NaN where x or y is constant.

    Example:
        >>> spearman(np.arange(6.0), np.arange(6.0) ** 3)
        (1.0, 1.0, 1.0)
    """
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise CmkdError(f"expected two lists of at least three points, got shapes {x.shape} and {y.shape}")
    # how much a point adds to the rank of another: all below it, half of those equal to it
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
