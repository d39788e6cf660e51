"""The paper's observation on converged networks: does the structure of a student's features correlate with accuracy?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cmkd.datasets.open import without_folder
from cmkd.evaluation import spearman
from cmkd.markdown import escape, table
from cmkd.report.guide import MEASURES
from cmkd.report.stages import FEWEST_MODELS
from cmkd.structure import ESSENTIAL

RUN = ["data", "setting", "teacher"]


def relation(rows: pd.DataFrame, name: str, *, within: bool) -> str:
    """Return Spearman's correlation of a measure with accuracy, with a 95 % interval if there are enough runs.

    Args:
        rows: students of one data set for which the measure is known.
        name: name of the measure.
        within: rank within each setting, instead of over all students.
    """
    settings = rows.groupby("setting" if within else lambda _: 0)
    # subtract half a rank: otherwise the mean depends on the number of students, which correlates the settings
    share = (settings[[name, "test"]].rank() - 0.5).div(settings["test"].transform("size"), axis=0)
    x, y = (share[column].to_numpy(dtype=np.float64) for column in (name, "test"))
    run = rows.groupby(RUN).ngroup()
    whole, low, high = spearman(x, y, list(run))
    if run.nunique() < FEWEST_MODELS:
        return f"{whole:+z.2f}"
    said = f"{whole:+z.2f} ({low:+.2f} to {high:+.2f})"
    return f"**{said}**" if low > 0 or high < 0 else said


def observation(rows: pd.DataFrame) -> str:
    """Return the section of the page of results; empty where no student was measured."""
    there = rows.reindex(columns=[*rows.columns, *(name for name in ESSENTIAL if name not in rows)])
    there = there.dropna(subset=list(ESSENTIAL), how="all").astype(dict.fromkeys(ESSENTIAL, float))
    lines = []
    for data, own in there.groupby("data", sort=False):
        for name in ESSENTIAL:
            known = own.dropna(subset=[name])
            if len(known) < FEWEST_MODELS:
                continue
            several = known["setting"].nunique() > 1
            cells = [relation(known, name, within=True), relation(known, name, within=False) if several else ""]
            lines.append([escape(without_folder(str(data))), MEASURES[name].name, str(len(known)), *cells])
    if not lines:
        return ""
    text = (
        "Spearman's correlation between a measure of a student's embeddings of validation pairs and its accuracy on "
        "test. According to the paper, it is negative for the mean |r| between channels and for the uniformity (lower "
        "is more uniform). *Within* ranks students within each label fraction, so that only method, teacher and seed "
        "differ. *Across* ranks all students, which differ most in the number of labels. With at least "
        f"{FEWEST_MODELS} runs, the 95 % interval is from a bootstrap over runs, whose students share a teacher; the "
        "methods are taken as given. Bold: the interval excludes 0."
    )
    header = ["data", "measure", "students", "within", "across"]
    return f"## Does structure go with accuracy?\n\n{text}\n\n{table(header, lines, left=2)}"
