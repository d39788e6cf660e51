"""The table of a run: test accuracies by method, with gains over the student alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmkd.evaluation.intervals import interval, paired_interval
from cmkd.evaluation.results import Answers

ONE_GROUP = "test pairs of one group: too few to say which is better"
"""What is said of a gain whose test pairs are all of one group."""


def summarize(
    students: list[dict[str, Any]],
    teacher: float | None = None,
    answers: Mapping[tuple[str, int], Answers] | None = None,
) -> list[dict[str, Any]]:
    """Summarize test accuracies by method.

    Args:
        students: dictionaries with ``method``, ``seed`` and ``test_accuracy``, and ``sees_all_labels`` for a control
            that sees the labels which are hidden from the others.
        teacher: test accuracy of the teacher, where it is known.
        answers: of students by method and seed, as `cmkd.evaluation.results.students_answers` returns them.

    Returns:
        For each method ``method``, ``n``, ``mean`` and ``sd`` of the accuracies. Where students of ``none`` share seeds
        with it, also the mean ``gain`` over them, the number of shared seeds ``gain_n`` and its 95 % interval
        ``gain_interval``, or None; two such students start from the same weights, and see the pairs in the same order
        where they use the same ones (pairs without a label serve methods with a teacher alone). The interval is
        `paired_interval` over what ``gain_covers`` names, ``seeds`` and ``test pairs``; without the answers it is
        Student's over ``seeds`` alone. Where all test pairs are of one group, there is none, and the row has
        ``one_group``.
        Where the teacher is better than these students of ``none`` by half a point, also ``gap_closed``, the gain as a
        fraction of that distance. A control that sees all labels has ``sees_all_labels`` and no gain.
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
            # other sizes are those of an edited file
            paired = len(known) == len(pairs) and all(np.array_equal(one[1], known[0][1]) for one in known)
            if known and len(known[0][1]) == 1:
                row["one_group"], ends = True, None
            elif paired:
                right, sizes = np.stack([one[0] for one in known]), known[0][1]
                ends = paired_interval(right[: len(shared)] - right[len(shared) :], sizes)
            else:
                ends = interval(gains)
            row["gain_interval"] = None if ends is None else list(ends)  # as it is read back
            row["gain_covers"] = ["seeds", "test pairs"] if paired else ["seeds"]
            gap = 0.0 if teacher is None else teacher - float(np.mean([alone[seed] for seed in shared]))
            if gap > 0.005:
                row["gap_closed"] = row["gain"] / gap
        rows.append(row)
    return rows


def covered(row: Mapping[str, Any]) -> str:
    """Say what the interval of a gain covers.

    Example:
        >>> covered({"gain_n": 3, "gain_covers": ["seeds", "test pairs"]})
        '3 seeds and the test pairs'
    """
    pairs = " and the test pairs" if "test pairs" in row.get("gain_covers", ()) else ""
    return f"{row['gain_n']} seeds{pairs}"


def by_subset(students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the test accuracies of students that see several modalities, by method and subset.

    Args:
        students: as for `summarize`; those that see several have ``subsets``.

    Returns:
        For each method ``method``, ``n``, and ``mean``: the subset's name -> the mean accuracy with it.

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
