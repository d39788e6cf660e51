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
    "With a tenth of the labels for teacher and student, the difference of a form to `0.1*kd` of the same teacher and "
    "seed: the mean over data sets, with Student's 95 % interval where they are three or more. The factor stands for "
    "the loss that these students were trained with. A form would be adopted by its validation; test only reports. "
    "What the forms are: [`ds`](../src/cmkd/methods/ds.py) and its options, and "
    "[those tried beside it](../benchmarks/ds_ideas.py)."
)
LABELS = (
    "Each term of the loss is a mean over all pairs; in the cross-entropy, those without a label count as zero. With "
    "three hundredths of the labels, `0.03*kd` is the other way, a cross-entropy that is a mean over labeled pairs "
    "alone, and `0.18*kd` is half way between the two. The difference to the default, for the same teacher and seed."
)
OTHER_WEIGHTS = (
    "The teacher was trained on every second class, with all labels, and the student learns the other classes with a "
    "tenth, so methods that compare class probabilities cannot take part. Each method has three weights, and `ds` "
    "three forms. Of these, the gain over `none` on validation chooses one; test only reports."
)
OTHER_CLASSES = (
    "The same with the weights chosen there, for teachers that had no part in the choice: the difference of the two "
    "forms of `ds` that were best on validation to the others. Three of the data sets had a part, with other teachers; "
    "*new* leaves them out. `crd`, the last rival there, was left out."
)
OTHER_CONFIRMED = (
    "The form of `ds` that was adopted after the last table, with teachers that were trained afterwards. Its "
    "differences on test to the four methods with a teacher decide, over all data sets [that were "
    "planned](../benchmarks/suites/other_confirmed.yaml); four image sets joined the plan when the results on the "
    "first seven were known. Six data sets are of the last table; *new* leaves them out."
)
SUITES = Path(__file__).parents[1] / "benchmarks" / "suites"
PAIRS = (
    "In a method's terms, pairs that lack a modality count as zero. With a tenth of the pairs complete and every pair "
    "labeled, `10*kd` is the other way, a mean over complete pairs alone. The teacher has seen a tenth of the labels "
    "that the student sees."
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
    said = ", ".join(f"{p_values[rival]:.2g} to {code(rival)}" for rival in rivals if rival in p_values)
    there, planned = rows["data"].nunique(), len(Suite.load(SUITES / "other_confirmed.yaml").data)
    start = f"So far, with {there} of {planned} data sets, a lead" if there < planned else "A lead"
    verdict = "is shown" if all(above.values()) else "over all of them is not shown"
    return f"{start} {verdict}: p on test, corrected by Holm, is {said}."


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
