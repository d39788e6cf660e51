"""Forms of dimensional structure against `kd`, from the suite that compares them."""

from __future__ import annotations

import pandas as pd
from claims import against, over_sets

from cmkd.evaluation import in_points
from cmkd.markdown import escape, table

TEXT = (
    "With few labels for teacher and student, the difference of a form to `kd` of the same teacher and seed: the mean "
    "over data sets, with Student's 95 % interval where they are three or more. A form would be adopted by its "
    "validation; test only reports. What the forms are: [`ds`](../src/cmkd/methods/ds.py) and its options, and "
    "[those tried beside it](../benchmarks/ds_ideas.py)."
)


def forms(rows: pd.DataFrame) -> str:
    """Return the section of the page of results.

    Args:
        rows: students of the suite as `cmkd.bench.rows.collect` gives them.
    """
    comparisons, lines = against(rows, "kd"), []
    for method in dict.fromkeys(row["method"] for row in comparisons):
        own = [row for row in comparisons if row["method"] == method]
        scores = [over_sets(own, score) for score in ("validation", "test")]
        shown = [in_points(mean, ends)[0] for mean, ends, _ in scores]
        students = str(sum(row["n"] for row in own))
        lines.append((scores[0][0], [f"`{escape(method)}`", str(len({row["data"] for row in own})), students, *shown]))
    lines.sort(key=lambda line: -line[0])
    header = ["form", "data sets", "students", "validation", "test"]
    return f"## Forms of dimensional structure\n\n{TEXT}\n\n{table(header, [cells for _, cells in lines], left=1)}"
