"""Statistics of a suite: comparisons of methods in each setting and over all settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from cmkd.bench.resampling import Resamples, decoded, levels, percentiles, sign_p_value
from cmkd.bench.rows import SPLITS, check_test_pairs, rising
from cmkd.bench.suite import Suite
from cmkd.datasets.open import without_options
from cmkd.evaluation import interval, paired_interval, paired_p_value
from cmkd.evaluation.intervals import FEW_GROUPS, paired_error

POWER = 0.8
Differences = TypeVar("Differences", "pd.Series[float]", pd.DataFrame)
DIGITS = 6
"""Decimals to which means and their differences are rounded before comparisons, so that equal values are ties."""
KEYS = ["data", "setting"]
BY_NORMAL = float(stats.norm.ppf(0.975) + stats.norm.ppf(POWER))
"""Difference in standard errors that a normal test at 5 % detects with a probability of `POWER`."""


def statistics(rows: pd.DataFrame, suite: Suite) -> dict[str, Any]:
    """Return ``models``, ``comparisons``, ``overall`` and ``by_setting`` (``overall`` for each setting alone)."""
    if not len(rows):
        return {"models": [], "comparisons": [], "overall": None, "by_setting": {}}
    return {
        "models": models(rows),
        "comparisons": compare(rows, suite),
        "overall": overall(rows, suite),
        "by_setting": {str(name): overall(part, suite) for name, part in rows.groupby("setting", sort=False)},
    }


def models(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return mean accuracies by split for each data set and setting: ``teacher``, and ``means`` of the methods.

    ``rising`` of the ``n`` students, or their teachers, had not converged (`cmkd.bench.rows.rising`).
    """
    return [
        {
            "data": data,
            "setting": setting,
            "teacher": {split: _mean(part.groupby("teacher")[f"teacher_{split}"].first()) for split in SPLITS},
            "means": {
                str(method): {split: _mean(own[split]) for split in SPLITS}
                for method, own in part.groupby("method", sort=False)
            },
            "rising": rising(part),
            "n": len(part),
        }
        for (data, setting), part in rows.groupby(KEYS, sort=False)
    ]


def _mean(values: pd.Series[float]) -> float | None:
    return None if values.isna().all() else float(values.mean())


def compare(rows: pd.DataFrame, suite: Suite) -> list[dict[str, Any]]:
    """Compare each method with each rival in every setting; students of the same teacher and seed are paired.

    Two paired students start from the same weights, and see the pairs in the same order if they use the same pairs.

    Returns:
        For each data set, setting, method and rival, the number ``n`` of paired students and the following entries.
        For each split: ``teachers`` (mean difference for each teacher), their ``mean``, and Student's 95 % ``interval``
        and the ``p_value`` of the t test over teachers, since students of one teacher are not independent. With a
        single teacher, both are over its students and hold for that teacher alone. ``detectable`` is the difference
        that as many teachers would detect with a probability of 0.8; on test, it is that of as many test groups if that
        is larger. ``over_groups`` holds the 95 % ``interval`` of the test difference over teachers, their students and
        test groups at once, with its ``p_value``. They come from resampling (`cmkd.bench.resampling`), or, with several
        students and fewer than ten groups, from `cmkd.evaluation.paired_interval`, because resamples of so few groups
        vary too little. ``levels`` are the standard deviations of the difference between teachers and within a teacher.
        ``closed``, for the rival ``none``, is the fraction of the gap between student alone and teacher that the method
        closes, with its interval; None if the gap is not significantly above 0.

    Raises:
        CmkdError: students were tested on different pairs (see `cmkd.bench.rows.check_test_pairs`).
    """
    check_test_pairs(rows)
    found = []
    for (data, setting), part in rows.groupby(KEYS, sort=False):
        of = {method: own.set_index(["teacher", "seed"]) for method, own in part.groupby("method")}
        groups = str(part["groups"].iloc[0])
        for rival in suite.rivals:
            for method in (m for m in suite.expressions if m not in ("none", rival)):
                if {method, rival} <= of.keys() and len(paired := of[method].index.intersection(of[rival].index)):
                    row = {"data": data, "setting": setting, "method": method, "rival": rival, "n": len(paired)}
                    found.append(row | _compared(of[method].loc[paired], of[rival].loc[paired], groups))
    return found


# Cached, because a method is compared with several rivals, and a suite repeats the comparisons after each run.
@lru_cache(maxsize=4)  # at most 65 MB each
def _drawn(teachers: tuple[int, ...], groups: int) -> Resamples:
    """Return the resamples for students of these teachers; equal arguments give equal resamples."""
    return Resamples.draw(np.array(teachers), groups)


@lru_cache(maxsize=4096)
def _accuracy(right: tuple[str, ...], teachers: tuple[int, ...], groups: str) -> NDArray[np.float64]:
    """Return the mean test accuracy of some students of one method in each resample."""
    sizes = decoded(groups)
    return _drawn(teachers, len(sizes)).accuracy(np.stack([decoded(text) for text in right]), sizes)


def _compared(ours: pd.DataFrame, theirs: pd.DataFrame, groups: str) -> dict[str, Any]:
    """Compare students of two methods, paired row by row; `groups` encodes the number of pairs in each test group."""
    found: dict[str, Any] = {split: _described(ours[split] - theirs[split]) for split in SPLITS}
    teachers = tuple(ours.index.get_level_values("teacher"))
    sizes = decoded(groups)
    drawn = _drawn(teachers, len(sizes))
    here, there = (_accuracy(tuple(own["right"]), teachers, groups) for own in (ours, theirs))
    few = _of_few_groups(ours["right"], theirs["right"], sizes)
    if found["test"]["detectable"] is not None:  # a difference is significant if both intervals exclude 0
        error = None if few is None else paired_error(few, sizes)
        shift = BY_NORMAL if error is None else _visible_shift(error[2], POWER)
        by_groups = shift * (float((here - there)[1:].std()) if error is None else error[1])
        found["test"]["detectable"] = max(found["test"]["detectable"], by_groups)
    found |= {
        "over_groups": _over_groups(few, sizes, (here - there)[1:]),
        "levels": levels((ours["test"] - theirs["test"]).to_numpy(dtype=float), np.array(teachers)),
        "closed": None,
    }
    gap = drawn.students @ theirs["teacher_test"].to_numpy(dtype=float) / drawn.students.sum(1) - there
    # if the teacher's accuracy is unknown, the gap is NaN, and the condition is false
    if (theirs["method"] == "none").all() and gap[0] > 0 and percentiles(gap[1:])[0] > 0:
        some = gap > 0  # a few resamples may have no gap to close
        share = (here - there)[some] / gap[some]
        found["closed"] = {"mean": float(share[0]), "interval": percentiles(share[1:])}
    return found


def _of_few_groups(
    ours: pd.Series[str], theirs: pd.Series[str], sizes: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the differences in correct answers per group, a row for each of the `_units`; None with many groups."""
    if len(sizes) >= FEW_GROUPS:
        return None
    more = pd.DataFrame([decoded(a) - decoded(b) for a, b in zip(ours, theirs, strict=True)], index=ours.index)
    return _units(more).to_numpy(dtype=np.float64)


def _over_groups(
    few: NDArray[np.float64] | None, sizes: NDArray[np.int64], resampled: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the interval of a difference over teachers and test groups, and its p-value."""
    if few is not None and (ends := paired_interval(few, sizes)):
        return {"interval": list(ends), "p_value": paired_p_value(few, sizes)}
    return {"interval": percentiles(resampled), "p_value": sign_p_value(resampled)}


def _units(differences: Differences) -> Differences:
    """Return the independent differences: the mean of each teacher, or, with one teacher, those of its students."""
    teachers = differences.groupby("teacher").mean()
    return teachers if len(teachers) > 1 else differences


def _described(differences: pd.Series[float]) -> dict[str, Any]:
    values = _units(differences).to_numpy()
    ends = interval(values.tolist())
    return {
        "mean": float(values.mean()),
        "interval": None if ends is None else list(ends),
        "p_value": None if ends is None else float(stats.ttest_1samp(values, 0.0).pvalue),
        "teachers": differences.groupby("teacher").mean().tolist(),
        "detectable": None if ends is None else visible_difference(float(values.std(ddof=1)), len(values)),
    }


def visible_difference(spread: float, n: int, *, power: float = POWER) -> float:
    """Return the smallest mean difference that a paired t test at 5 % detects with a probability of `power`.

    Args:
        spread: standard deviation of the differences.
        n: number of pairs, at least 2.
        power: probability of detecting the difference.

    Example:
        >>> round(visible_difference(1.0, 16), 2)
        0.75
    """
    return float(_visible_shift(n - 1, power) * spread / n**0.5)


@lru_cache
def _visible_shift(freedom: float, power: float) -> float:
    """Return `visible_difference` in standard errors of the mean, for `freedom` degrees of freedom."""
    limit = stats.t.ppf(0.975, freedom)
    return float(optimize.brentq(lambda d: stats.nct.sf(limit, freedom, d) - power, 0.0, 100.0))


def overall(rows: pd.DataFrame, suite: Suite) -> dict[str, Any] | None:
    """Compare methods over data sets, by mean rank and by Wilcoxon's test on mean accuracies.

    Only students whose teacher and seed every method has are used. A data set counts once, with the mean over its
    settings and its variants by options: these share test pairs, so they are not independent. Controls that see all
    labels are left out.

    Returns:
        None if no such students exist; else a dictionary. ``data_sets``: number of data sets. ``lacking``: data sets
        and settings without such students. ``fewer``: those in which some students are not used. ``friedman``: p-value
        of Friedman's test that all ranks are equal. ``critical_difference``: Nemenyi's critical difference of mean
        ranks at 5 % (Demsar 2006, JMLR 7). Both are None with fewer than three methods or two data sets. ``methods``:
        for each method, best first, its ``rank`` by test accuracy (1 is best; mean over data sets), and ``against``,
        with for each rival the median ``difference`` over data sets and the ``p_value`` of Wilcoxon's signed-rank test,
        corrected by Holm over the methods. The p-value is None if there are too few data sets to reach 5 % after the
        correction, even if all of them agreed.
    """
    each = rows[~rows["sees_all_labels"]].pivot(index=[*KEYS, "teacher", "seed"], columns="method", values="test")
    students = each.dropna()
    every = students.groupby(KEYS).mean()
    left = dict.fromkeys((data, setting) for data, setting, *_ in each.index.difference(students.index, sort=False))
    methods = [method for method in suite.expressions if method in every.columns]
    if not len(every):
        return None
    means = every.groupby(every.index.get_level_values("data").map(without_options)).mean()
    compared = means[methods].round(DIGITS)
    ranks = compared.rank(axis=1, ascending=False).mean()
    found: list[dict[str, Any]] = [{"method": m, "rank": float(ranks[m]), "against": {}} for m in methods]
    for rival in (r for r in suite.rivals if r in methods):
        others = [row for row in found if row["method"] != rival]
        differences: dict[str, Any] = {
            row["method"]: (means[row["method"]] - means[rival]).round(DIGITS).to_numpy() for row in others
        }
        tested = wilcoxon_smallest(len(means), len(others)) < 0.05
        p_values = holm({m: _wilcoxon(values) for m, values in differences.items()}) if tested else {}
        for row in others:
            m = row["method"]
            row["against"][rival] = {"difference": float(np.median(differences[m])), "p_value": p_values.get(m)}
    enough = len(methods) > 2 and len(means) > 1
    return {
        "data_sets": len(means),
        "lacking": [list(place) for place in left if place not in every.index],
        "fewer": [list(place) for place in left if place in every.index],
        "friedman": _friedman(compared) if enough else None,
        "critical_difference": critical_difference(len(methods), len(means)) if enough else None,
        "methods": sorted(found, key=lambda row: float(row["rank"])),
    }


def wilcoxon_smallest(data_sets: int, methods: int) -> float:
    """Return the smallest p-value that Wilcoxon's test over data sets can reach, corrected by Holm over methods.

    Example:
        >>> wilcoxon_smallest(6, 1), wilcoxon_smallest(8, 13)
        (0.03125, 0.1015625)
    """
    return methods * 2.0 ** (1 - data_sets)


def critical_difference(methods: int, data_sets: int) -> float:
    """Return the smallest difference of mean ranks that is significant at 5 % in Nemenyi's test.

    Args:
        methods: number of ranked methods.
        data_sets: number of data sets over which the ranks are averaged.

    Source:
        Demsar 2006, JMLR 7, section 3.2.2.

    Example:
        >>> round(critical_difference(4, 14), 2)  # the example of the paper
        1.25
    """
    quantile = float(stats.studentized_range.ppf(0.95, methods, np.inf)) / 2**0.5
    return float(quantile * (methods * (methods + 1) / (6 * data_sets)) ** 0.5)


def _friedman(means: pd.DataFrame) -> float:
    tied = bool((means.nunique(axis=1) == 1).all())  # the statistic is 0 / 0
    return 1.0 if tied else float(stats.friedmanchisquare(*means.to_numpy().T).pvalue)


def _wilcoxon(differences: np.ndarray) -> float:
    unequal = differences[differences != 0]  # older releases of scipy keep zeros for the exact p
    return float(stats.wilcoxon(unequal).pvalue) if len(unequal) else 1.0


def holm(p_values: Mapping[str, Any]) -> dict[str, float]:
    """Correct p-values for their number by Holm's step-down method (Holm 1979).

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    largest, found = 0.0, {}
    for place, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * value))
        found[name] = largest
    return found
