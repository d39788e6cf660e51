"""Forms of a method against what they are forms of: dimensional structure against `kd`, more weight against less."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from claims import against, over_sets

from cmkd.evaluation import in_points
from cmkd.expression import parse_sum
from cmkd.markdown import code, table

FORMS = (
    "With few labels for teacher and student, the difference of a form to `kd` of the same teacher and seed: the mean "
    "over data sets, with Student's 95 % interval where they are three or more. A form would be adopted by its "
    "validation; test only reports. What the forms are: [`ds`](../src/cmkd/methods/ds.py) and its options, and "
    "[those tried beside it](../benchmarks/ds_ideas.py)."
)
WEIGHTS = (
    "The cross-entropy is a mean over the labeled pairs, and a method's terms are means over all pairs. With a tenth "
    "of the labels, a labeled pair thus weighs ten times what a pair weighs in the terms. The difference to the same "
    "method with its default weight, for the same teacher and seed, as above; and `ds` to `kd`, both so weighed."
)
EQUAL = (
    ("ds(kd_weight=3,independence_weight=9,uniformity_weight=0.3)", "kd(weight=3)"),
    ("ds(kd_weight=10,independence_weight=30,uniformity_weight=1)", "kd(weight=10)"),
    ("10*ds", "10*kd"),
)
"""Pairs of methods whose default weights are multiplied alike."""


def forms(rows: pd.DataFrame) -> str:
    """Return the section of the page of results on forms of `ds`.

    Args:
        rows: students of the suite as `cmkd.bench.rows.collect` gives them.
    """
    shown = differences(rows, [(method, "kd") for method in dict.fromkeys(rows["method"]) if method != "none"])
    return f"## Forms of dimensional structure\n\n{FORMS}\n\n{shown}"


def weights(rows: pd.DataFrame) -> str:
    """Return the section on the weight of a teacher where labels are few; empty without rows.

    Args:
        rows: students with methods in their defaults and with other options.
    """
    if not len(rows):
        return ""
    calls = {method: parse_sum(method)[0] for method in dict.fromkeys(rows["method"])}
    changed = [(method, call.name) for method, call in calls.items() if method != call.name and call.name in calls]
    return (
        f"## More weight for the teacher where labels are few\n\n{WEIGHTS}\n\n{differences(rows, [*changed, *EQUAL])}"
    )


def differences(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a table of the differences between methods and a rival of each, the best on validation first."""
    comparisons, lines = against(rows, *dict.fromkeys(rival for _, rival in pairs)), []
    for method, rival in pairs:
        own = [row for row in comparisons if (row["method"], row["rival"]) == (method, rival)]
        if own:
            scores = [over_sets(own, score) for score in ("validation", "test")]
            shown = [in_points(mean, ends)[0] for mean, ends, _ in scores]
            counts = [str(len({row["data"] for row in own})), str(sum(row["n"] for row in own))]
            lines.append((scores[0][0], [code(method), code(rival), *counts, *shown]))
    lines.sort(key=lambda line: -line[0])
    header = ["form", "against", "data sets", "students", "validation", "test"]
    return table(header, [cells for _, cells in lines], left=2)
