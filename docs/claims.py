"""Claims about methods, and their verdicts from the rows of suites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from cmkd.bench.suite import Suite
from cmkd.bench.table import DIGITS, compare, holm, overall
from cmkd.datasets.open import without_options
from cmkd.evaluation import in_points, interval
from cmkd.markdown import table


class Claim(NamedTuple):
    """A statement that a method is better than another.

    Attributes:
        text: the statement.
        source: who makes the claim.
        method: method that is claimed to be better.
        rival: method that is claimed to be worse.
        few: whether labels are few; None for both cases.
    """

    text: str
    source: str
    method: str
    rival: str
    few: bool | None = None


PAPER = "Si et al. 2023"
FEWEST_SETS = 3
"""Smallest number of data sets for an interval over them; an interval over two may be narrow by chance."""
CLAIMS = (
    Claim("with few labels for both, a teacher helps", "README", "kd", "none", few=True),
    Claim("with few labels, self-training on the same pairs helps", "ours", "self_training", "none", few=True),
    Claim("with few labels, a teacher gives more than self-training", "README", "kd", "self_training", few=True),
    Claim("with all labels, a teacher helps", "README: little or nothing", "kd", "none", few=False),
    Claim("with few labels, `ds`, which includes `kd`, helps", PAPER, "ds", "none", few=True),
    Claim("with all labels, `ds` helps", PAPER, "ds", "none", few=False),
    Claim("structure adds to the teacher's logits", PAPER, "ds", "kd"),
    Claim("with few labels, structure adds to the teacher's logits", PAPER, "ds", "kd", few=True),
    Claim("`ds` gives more than the teacher's features", PAPER, "ds", "fitnet"),
    Claim("the teacher's logits alone give more than its features", "ours", "kd", "fitnet"),
    Claim("with few labels, `ds` gives more than correlation of logits", "ours", "ds", "dist", few=True),
)


def clear(row: Mapping[str, Any]) -> int:
    """Return 1 if a comparison's method is clearly better than its rival, -1 if it is clearly worse, else 0."""
    said = in_points(row["test"]["mean"], row["test"]["interval"], row["over_groups"]["interval"])
    return int(np.sign(row["test"]["mean"])) if said[1] else 0


def against(rows: pd.DataFrame, *rivals: str) -> list[dict[str, Any]]:
    """Compare all methods of the rows with those of the rivals that the rows contain."""
    methods = list(dict.fromkeys(rows["method"]))
    there = tuple(rival for rival in rivals if rival in methods)
    return compare(rows, Suite(("all",), ",".join(methods), rivals=there)) if there else []


def corrected(comparisons: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return each comparison's sign from `clear`; 0 where it is not clear after Holm's correction of both p-values."""
    pairs = [(row["test"]["p_value"], row["over_groups"]["p_value"]) for row in comparisons]
    left = holm({str(k): 1.0 if None in both else max(both) for k, both in enumerate(pairs)})
    return [clear(row) if left[str(k)] < 0.05 else 0 for k, row in enumerate(comparisons)]


def verdict(mean: float, p_value: float, signs: Sequence[int]) -> str:
    """Say whether a claim that a difference is above 0 holds.

    Args:
        mean: mean difference over data sets.
        p_value: p-value of Student's test over data sets, corrected for the number of claims; 1 for fewer than
            `FEWEST_SETS`.
        signs: signs of the comparisons, from `corrected`.

    Example:
        >>> verdict(0.02, 0.01, [1, 0]), verdict(0.01, 0.2, [1, -1]), verdict(0.0, 1.0, [0, 0])
        ('holds', 'depends on the data', 'not shown')
    """
    above, below = signs.count(1), signs.count(-1)
    if above and below:
        return "depends on the data"
    if p_value < 0.05:
        return "holds" if mean > 0 and not below else "does not hold"
    return "holds on some data" if above else "does not hold on some data" if below else "not shown"


def by_set(comparisons: Sequence[Mapping[str, Any]], score: str = "test") -> list[float]:
    """Return the mean difference of each data set; a data set with several settings or options counts once."""
    means = pd.Series([row[score]["mean"] for row in comparisons])
    names = [without_options(row["data"]) for row in comparisons]
    return means.groupby(names).mean().round(DIGITS).tolist()


def over_sets(differences: Sequence[float]) -> str:
    """Return the mean difference over data sets, in points, with its 95 % interval if there are enough."""
    ends = interval(differences) if len(differences) >= FEWEST_SETS else None
    return in_points(float(np.mean(differences)), ends)[0]


def tested(differences: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the p-value of Student's test that each mean over data sets is 0, corrected by Holm for their number.

    Means over fewer than `FEWEST_SETS` data sets, or of equal differences, are left out.
    """
    enough = {name: own for name, own in differences.items() if len(own) >= FEWEST_SETS and np.ptp(own)}
    return holm({name: stats.ttest_1samp(own, 0.0).pvalue for name, own in enough.items()})


def counted(signs: Sequence[int]) -> str:
    """Return the numbers of comparisons that are clearly above and clearly below, and of all."""
    return f"{signs.count(1)}, {signs.count(-1)} of {len(signs)}"


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of data sets and settings with several methods."""
    return rows[rows["method"].groupby([rows["data"], rows["setting"]]).transform("nunique") > 1]


def ranked(rows: pd.DataFrame) -> Mapping[str, Any] | None:
    """Rank the methods that were trained in every setting of the rows (`cmkd.bench.table.overall`)."""
    rows = compared(rows)
    cells = rows.groupby(["data", "setting", "method"])["test"].mean().unstack("method").dropna(axis=1)
    return overall(rows[rows["method"].isin(cells.columns)], Suite(("all",), ",".join(cells.columns)))


def by_regime(rows: pd.DataFrame, method: str) -> str:
    """Return the table of a method's mean rank and its differences to `kd` and to the best rival on validation."""
    here = compared(rows[~rows["sees_all_labels"].astype(bool)])
    lines = []
    few = here[here["setting"] != "100 %"]
    each = [(f"{setting} of the labels", part) for setting, part in few.groupby("setting")]
    for name, part in (
        ("few labels", few),
        *each,
        ("all labels", here[here["setting"] == "100 %"]),
        ("over all", here),
    ):
        cells = part.groupby(["data", "setting", "method"])["validation"].mean().unstack("method").dropna(axis=1)
        rivals = [rival for rival in cells.columns if rival not in ("none", method)]
        if method not in cells.columns or not rivals:
            continue
        best = str(cells[rivals].mean().idxmax())
        ranking = ranked(part)
        ranks = {row["method"]: row["rank"] for row in ranking["methods"]} if ranking else {}
        sets = cells.index.get_level_values("data").map(without_options).nunique()
        start = [name, str(sets), f"{ranks[method]:.1f} of {len(ranks)}"]
        for rival in dict.fromkeys((best, *({"kd"} & set(rivals)))):
            own = [row for row in against(part, rival) if row["method"] == method]
            shown = [over_sets(by_set(own, score)) for score in ("validation", "test")]
            lines.append([*start, f"`{rival}`", *shown, counted(corrected(own))])
            start = ["", "", ""]
    header = ["labels", "data sets", "mean rank on test", "rival", "validation", "test", "clearly above, below"]
    text = (
        f"The rank is among the methods that were trained on every data set and label fraction of a row, including "
        f"`none`. The next columns give the difference of `{method}` to the rival that is best on validation, and to "
        "`kd`: the mean over data sets with its 95 % CI, and the number of clear differences after Holm's correction."
    )
    return f"## Where `{method}` stands\n\n{text}\n\n{table(header, lines, left=1)}" if lines else ""


def claims(rows: pd.DataFrame) -> str:
    """Return the table of claims."""
    found = against(rows, *dict.fromkeys(claim.rival for claim in CLAIMS)) if len(rows) else []
    own = {
        claim: [
            row
            for row in found
            if (row["method"], row["rival"]) == (claim.method, claim.rival)
            and (claim.few is None or (row["setting"] != "100 %") == claim.few)
        ]
        for claim in CLAIMS
    }
    means = {claim: by_set(rows) for claim, rows in own.items() if rows}
    p_values, lines = tested({claim.text: each for claim, each in means.items()}), list[list[str]]()
    for claim in CLAIMS:
        start = [claim.text, claim.source, f"`{claim.method}` to `{claim.rival}`"]
        if claim not in means:
            lines.append([*start, "", "", "", "no results yet"])
            continue
        each, signs = means[claim], corrected(own[claim])
        said = verdict(float(np.mean(each)), p_values.get(claim.text, 1.0), signs)
        lines.append([*start, over_sets(each), f"{sum(m > 0 for m in each)} of {len(each)}", counted(signs), said])
    header = ["claim", "by", "difference of", "mean over data sets (95 % CI)", "data sets above"]
    header += ["clearly above, below", "verdict"]
    return "## Claims\n\n" + table(header, lines, left=3)
