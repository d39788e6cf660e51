"""Tables of variants of a method against the original: forms of dimensional structure, and other weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from claims import against, by_set, over_sets, tested

from cmkd.bench.suite import Suite
from cmkd.expression import parse_sum
from cmkd.markdown import code, table
from cmkd.methods import METHODS

FORMS = (
    "Teacher and student have a tenth of the labels. The table shows the difference of each form to `0.1*kd` of the "
    "same teacher and seed: the mean over data sets, with Student's 95 % interval for three or more. The factor 0.1 "
    "reproduces the loss with which these students were trained. Validation would decide which form is adopted; test "
    "is only reported. The forms are [`ds`](../src/cmkd/methods/ds.py) with its options, and [variants outside the "
    "library](../benchmarks/ds_ideas.py)."
)
LABELS = (
    "Each term of the loss is a mean over all pairs; in the cross-entropy, pairs without a label count as zero. With "
    "3 % of the labels, `0.03*kd` is equivalent to the alternative, a cross-entropy averaged over labeled pairs only, "
    "and `0.18*kd` lies between the two. The table shows the difference to the default for the same teacher and seed."
)
OTHER_WEIGHTS = (
    "The teacher was trained on every second class with all labels, and the student learns the other classes with a "
    "tenth of their labels. Methods that compare class probabilities cannot be used. Each method was trained with "
    "three weights, and `ds` in three forms. The gain over `none` on validation chooses one of them; test is only "
    "reported."
)
OTHER_CLASSES = (
    "This suite repeats the previous one with the chosen weights and with teachers that were not used for the choice. "
    "The table shows the difference of the two forms of `ds` that were best on validation to the other methods. Three "
    "of the data sets were used for the choice, with other teachers; *new* leaves them out. `crd`, which was last "
    "there, was not trained."
)
OTHER_CONFIRMED = (
    "This table tests the form of `ds` that was adopted after the previous table, with teachers that were trained "
    "afterwards. The decision rests on its differences on test to the four other methods with a teacher, over all "
    "[planned data sets](../benchmarks/suites/other_confirmed.yaml). Four image sets joined the plan when the results "
    "on the first seven were known. Six data sets also occur in the previous table; *new* leaves them out."
)
SUITES = Path(__file__).parents[1] / "benchmarks" / "suites"
PAIRS = (
    "In a method's terms, pairs that lack a modality count as zero. If a tenth of the pairs is complete and every pair "
    "is labeled, `10*kd` is equivalent to the alternative, a mean over complete pairs only. The teacher was trained on "
    "the complete pairs, so it saw a tenth of the labels that the student sees."
)


def forms(rows: pd.DataFrame) -> str:
    """Return the section of the page of results on forms of `ds`.

    Args:
        rows: students of the suite, from `cmkd.bench.rows.collect`.
    """
    shown = differences(rows, [(method, "0.1*kd") for method in dict.fromkeys(rows["method"]) if method != "none"])
    return f"## Forms of dimensional structure\n\n{FORMS}\n\n{shown}"


def label_weight(rows: pd.DataFrame) -> str:
    """Return the section on the weight of labels when they are few."""
    return f"## How much a label weighs\n\n{LABELS}\n\n{_weighted(rows, ('ds', 'kd'))}"


def pair_weight(rows: pd.DataFrame) -> str:
    """Return the section on the weight of complete pairs when they are few."""
    return f"## How much a pair weighs\n\n{PAIRS}\n\n{_weighted(rows, ('kd', 'none'), ('ds', 'none'))}"


def other_weights(rows: pd.DataFrame) -> str:
    """Return the section on how weights were chosen for a teacher of other classes."""
    shown = differences(rows, [(method, "none") for method in dict.fromkeys(rows["method"]) if method != "none"])
    return f"## Weights with a teacher of other classes\n\n{OTHER_WEIGHTS}\n\n{shown}"


def other_classes(rows: pd.DataFrame) -> str:
    """Return the section on `ds` and its rivals with a teacher of other classes."""
    shown = _against_rivals(of_new_teachers(rows), known=Suite.load(SUITES / "other_weights.yaml").data)
    return f"## Structure with a teacher of other classes\n\n{OTHER_CLASSES}\n\n{shown}"


def of_new_teachers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``other_classes`` whose teachers were not used to choose weights in ``other_weights``."""
    chose = Suite.load(SUITES / "other_weights.yaml")
    return rows[~rows["data"].isin(chose.data) | (rows["teacher"] >= chose.teachers)]


def other_confirmed(rows: pd.DataFrame) -> str:
    """Return the section on the form of `ds` that was adopted, with new teachers of other classes."""
    adopted_by = Suite.load(SUITES / "other_classes.yaml").data
    shown = f"{_against_rivals(rows, known=adopted_by)}\n\n{_lead(rows)}"
    return f"## Structure with new teachers of other classes\n\n{OTHER_CONFIRMED}\n\n{shown}"


def _lead(rows: pd.DataFrame) -> str:
    """Say whether the form of `ds` is above every method with a teacher, on test over data sets."""
    calls = {method: parse_sum(method)[0].name for method in dict.fromkeys(rows["method"])}
    rivals = [method for method, name in calls.items() if name != "ds" and METHODS.find(name).kind != "control"]
    ours = [row for row in against(rows, *rivals) if calls[row["method"]] == "ds"]
    means = {rival: by_set([row for row in ours if row["rival"] == rival]) for rival in rivals}
    p_values = tested(means)
    above = {rival: float(np.mean(means[rival])) > 0 and p_values.get(rival, 1.0) < 0.05 for rival in rivals}
    said = ", ".join(f"{p_values[rival]:.2g} against {code(rival)}" for rival in rivals if rival in p_values)
    there, planned = rows["data"].nunique(), len(Suite.load(SUITES / "other_confirmed.yaml").data)
    start = f"So far, with {there} of {planned} data sets, a lead" if there < planned else "A lead"
    verdict = "is shown" if all(above.values()) else "over all of them is not shown"
    return f"{start} {verdict}. On test, p corrected by Holm is {said}."


def _against_rivals(rows: pd.DataFrame, known: Collection[str]) -> str:
    """Return the differences of each form of `ds` to all other methods."""
    methods = list(dict.fromkeys(rows["method"]))
    ours = [method for method in methods if parse_sum(method)[0].name == "ds"]
    return differences(rows, [(own, other) for own in ours for other in methods if other not in ours], known)


def _weighted(rows: pd.DataFrame, *others: tuple[str, str]) -> str:
    """Return the differences of methods multiplied by factors to their defaults, and those of `others`."""
    calls = {method: parse_sum(method)[0] for method in dict.fromkeys(rows["method"])}
    changed = [(method, call.name) for method, call in calls.items() if method != call.name]
    return differences(rows, [*changed, *others])


def differences(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], known: Collection[str] = ()) -> str:
    """Return a table of the differences between methods and a rival of each, the best on validation first.

    Args:
        rows: rows of students.
        pairs: methods and their rivals.
        known: data sets that were used to choose the methods; if there are any, a last column leaves them out.
    """
    comparisons, lines = against(rows, *dict.fromkeys(rival for _, rival in pairs)), []
    for method, rival in pairs:
        own = [row for row in comparisons if (row["method"], row["rival"]) == (method, rival)]
        if own:
            scores = [by_set(own, score) for score in ("validation", "test")]
            counts = [str(len(scores[0])), str(sum(row["n"] for row in own))]
            cells = [code(method), code(rival), *counts, *map(over_sets, scores)]
            if known:
                cells.append(over_sets(by_set([row for row in own if row["data"] not in known])))
            lines.append((float(np.mean(scores[0])), cells))
    lines.sort(key=lambda line: -line[0])
    header = ["form", "against", "data sets", "students", "validation", "test", *["test, new"] * bool(known)]
    return table(header, [cells for _, cells in lines], left=2)
