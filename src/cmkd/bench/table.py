"""What a suite found: its rows, comparisons of methods in each setting and over all, and the page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

from cmkd.bench.suite import PlannedRun, Suite
from cmkd.evaluation import interval
from cmkd.evaluation.results import read_results

SPLITS = ("validation", "test")
POWER = 0.8
KEYS = ["data", "setting"]


def collect(runs: Sequence[PlannedRun]) -> pd.DataFrame:
    """Return a row for each trained student.

    Columns: data, setting, teacher, method, seed, validation and test (accuracies), teacher_validation, teacher_test,
    steps, converged and sees_all_labels (a control that sees the labels which are hidden from the others).
    """
    rows = []
    for planned in runs:
        path = planned.config.out / "results.json"
        if not path.exists():
            continue
        found = read_results(path)
        asked = range(planned.config.seed, planned.config.seed + planned.config.seeds)
        for student in found["students"]:
            if student["method"] in planned.config.expressions and student["seed"] in asked:
                rows.append(
                    {
                        **{"data": planned.data, "setting": planned.setting, "teacher": planned.teacher},
                        **{"method": student["method"], "seed": student["seed"]},
                        **{split: student[f"{split}_accuracy"] for split in SPLITS},
                        **{f"teacher_{split}": found["teacher"][f"{split}_accuracy"] for split in SPLITS},
                        **{"steps": student["steps"], "converged": student["converged"]},
                        "sees_all_labels": bool(student.get("sees_all_labels")),
                    }
                )
    return pd.DataFrame(rows)


def models(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for each data set and setting, the mean test accuracies: ``teacher``, and ``means`` of the methods.

    ``rising`` of ``n`` students had not converged: validation was still rising at their last step.
    """
    return [
        {
            "data": data,
            "setting": setting,
            "teacher": None if part["teacher_test"].isna().all() else float(part["teacher_test"].mean()),
            "means": part.groupby("method", sort=False)["test"].mean().to_dict(),
            "rising": int((~part["converged"].astype(bool)).sum()),
            "n": len(part),
        }
        for (data, setting), part in rows.groupby(KEYS, sort=False)
    ]


def compare(rows: pd.DataFrame, suite: Suite) -> list[dict[str, Any]]:
    """Compare each method with each rival in every setting; students of the same teacher and seed are paired.

    Two such students start from the same weights and see the pairs in the same order.

    Returns:
        For each data set, setting, method and rival ``n`` and, for each split, ``mean`` of the differences, Student's
        95 % ``interval`` over the students, ``teachers`` (the mean difference with each teacher) and ``seen``: the
        smallest difference that as many students would have shown with a probability of 0.8.
    """
    found = []
    for (data, setting), part in rows.groupby(KEYS, sort=False):
        wide = part.set_index(["teacher", "seed", "method"])
        for rival in suite.rivals:
            for method in (m for m in suite.expressions if m not in ("none", rival)):
                row: dict[str, Any] = {"data": data, "setting": setting, "method": method, "rival": rival}
                for split in SPLITS:
                    accuracies = wide[split].unstack("method")
                    if not {method, rival} <= set(accuracies.columns):
                        continue
                    differences = (accuracies[method] - accuracies[rival]).dropna()
                    row |= {"n": len(differences), split: _described(differences)}
                if row.get("n"):
                    found.append(row)
    return found


def _described(differences: pd.Series[float]) -> dict[str, Any]:
    values = differences.to_numpy()
    several = len(values) > 1
    return {
        "mean": float(values.mean()),
        "interval": list(interval(values.tolist())) if several else None,
        "teachers": [float(mean) for mean in differences.groupby("teacher").mean()],
        "seen": visible_difference(float(values.std(ddof=1)), len(values)) if several else None,
    }


def visible_difference(spread: float, n: int, *, power: float = POWER) -> float:
    """Return the smallest mean difference that a paired t test at 5 % finds with a probability of `power`.

    Args:
        spread: standard deviation of the differences.
        n: number of pairs, at least 2.
        power: the probability.

    Example:
        >>> round(visible_difference(1.0, 16), 2)
        0.75
    """
    limit = stats.t.ppf(0.975, n - 1)
    shift = optimize.brentq(lambda d: stats.nct.sf(limit, n - 1, d) - power, 0.0, 100.0)
    return float(shift * spread / n**0.5)


def overall(rows: pd.DataFrame, suite: Suite) -> list[dict[str, Any]]:
    """Compare methods over the settings that have every method, by mean rank and by Wilcoxon's test on mean accuracies.

    Controls that see all labels take no part.

    Returns:
        For each method ``settings`` (their number), ``rank`` (1 is best; the mean over settings, by test accuracy), and
        for each rival the median ``difference`` over settings and the ``p_value`` of Wilcoxon's signed-rank test,
        corrected by Holm over the methods; None below six settings, where it can reach no 5 %.
    """
    means = rows[~rows["sees_all_labels"]].groupby([*KEYS, "method"])["test"].mean().unstack("method").dropna()
    methods = [method for method in suite.expressions if method in means.columns]
    if not len(means):
        return []
    ranks = means[methods].rank(axis=1, ascending=False).mean()
    found: list[dict[str, Any]] = [
        {"method": m, "settings": len(means), "rank": float(ranks[m]), "against": {}} for m in methods
    ]
    for rival in (r for r in suite.rivals if r in methods):
        others = [row for row in found if row["method"] != rival]
        differences: dict[str, Any] = {
            row["method"]: (means[row["method"]] - means[rival]).to_numpy() for row in others
        }
        raw = {m: _wilcoxon(values) for m, values in differences.items()}
        corrected = holm(raw) if all(p is not None for p in raw.values()) else raw
        for row in others:
            m = row["method"]
            row["against"][rival] = {"difference": float(np.median(differences[m])), "p_value": corrected[m]}
    return sorted(found, key=lambda row: float(row["rank"]))


def _wilcoxon(differences: np.ndarray) -> float | None:
    if len(differences) < 6:
        return None
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


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
