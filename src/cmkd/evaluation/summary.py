"""The summary table of a run: test accuracies by method, with gains over the student alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmkd.evaluation.intervals import interval, paired_interval
from cmkd.evaluation.results import Answers

ONE_GROUP = "test pairs of one group: too few to say which is better"
"""Note for a gain whose test pairs all belong to one group."""


def summarize(
    students: list[dict[str, Any]],
    teacher: float | None = None,
    answers: Mapping[tuple[str, int], Answers] | None = None,
) -> list[dict[str, Any]]:
    """Summarize test accuracies by method.

    Args:
        students: dictionaries with ``method``, ``seed`` and ``test_accuracy``, and ``sees_all_labels`` for a control
            that sees the labels hidden from the others.
        teacher: test accuracy of the teacher, if known.
        answers: correct answers of students by method and seed, from `cmkd.evaluation.results.students_answers`.

    Returns:
        For each method, ``method`` and the ``n``, ``mean`` and ``sd`` of its accuracies. If it shares seeds with
        students of ``none``, also the mean ``gain`` over them, the number of shared seeds ``gain_n``, and the 95 %
        interval ``gain_interval``, or None. Students of the same seed start from the same weights, and see the pairs in
        the same order if they use the same pairs (``none`` uses labeled pairs only). The interval is
        `paired_interval` over seeds and test pairs, or, without the answers, Student's over the seeds alone;
        ``gain_covers`` says which (``seeds``, ``test pairs``). If all test pairs belong to one group, there is no
        interval, and the row has ``one_group``. If the teacher is better than these students of ``none`` by more than
        half a point, the row also has ``gap_closed``, the gain as a fraction of that gap. A control that sees all
        labels has ``sees_all_labels`` and no gain.
    """
    by_method: dict[str, dict[int, float]] = {}
    for student in students:
        by_method.setdefault(student["method"], {})[student["seed"]] = student["test_accuracy"]
    controls = {student["method"] for student in students if student.get("sees_all_labels")}
    alone, rows = by_method.get("none", {}), []
    for method, values in by_method.items():
        accuracies = list(values.values())
        row: dict[str, Any] = {"method": method, "n": len(accuracies), "mean": float(np.mean(accuracies))}
        row["sd"] = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
        shared = [seed for seed in values if seed in alone]
        gains = [values[seed] - alone[seed] for seed in shared]
        if method in controls:
            row["sees_all_labels"] = True
        elif gains and method != "none":
            row |= {"gain": float(np.mean(gains)), "gain_n": len(gains)}
            pairs = [(answers or {}).get((name, seed)) for name in (method, "none") for seed in shared]
            known = [one for one in pairs if one is not None]
            # group sizes differ only if a file was edited
            paired = len(known) == len(pairs) and all(np.array_equal(one[1], known[0][1]) for one in known)
            if known and len(known[0][1]) == 1:
                row["one_group"], ends = True, None
            elif paired:
                right, sizes = np.stack([one[0] for one in known]), known[0][1]
                ends = paired_interval(right[: len(shared)] - right[len(shared) :], sizes)
            else:
                ends = interval(gains)
            row["gain_interval"] = None if ends is None else list(ends)  # a list, as read back from JSON
            row["gain_covers"] = ["seeds", "test pairs"] if paired else ["seeds"]
            gap = 0.0 if teacher is None else teacher - float(np.mean([alone[seed] for seed in shared]))
            if gap > 0.005:
                row["gap_closed"] = row["gain"] / gap
        rows.append(row)
    return rows


def covered(row: Mapping[str, Any]) -> str:
    """Describe what the interval of a gain covers.

    Example:
        >>> covered({"gain_n": 3, "gain_covers": ["seeds", "test pairs"]})
        '3 seeds and the test pairs'
    """
    pairs = " and the test pairs" if "test pairs" in row.get("gain_covers", ()) else ""
    return f"{row['gain_n']} seeds{pairs}"


def by_subset(students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the test accuracies of students with several modalities, by method and subset of modalities.

    Args:
        students: dictionaries as for `summarize`; students with several modalities also have ``subsets``.

    Returns:
        For each method ``method``, ``n``, and ``mean``: name of the subset -> mean accuracy with this subset.

    Example:
        >>> rows = [{"method": "kd", "subsets": {"radar": {"test_accuracy": a}}} for a in (0.5, 0.75)]
        >>> by_subset([*rows, {"method": "none"}])
        [{'method': 'kd', 'n': 2, 'mean': {'radar': 0.625}}]
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for student in students:
        if "subsets" in student:
            found.setdefault(student["method"], []).append(student["subsets"])
    return [
        {
            "method": method,
            "n": len(each),
            "mean": {name: float(np.mean([one[name]["test_accuracy"] for one in each])) for name in each[0]},
        }
        for method, each in found.items()
    ]
