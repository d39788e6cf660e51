"""Write docs/results.md and its figures from the committed results of suites: ``python docs/results.py``.

Nothing is trained. Each suite's results are a file ``benchmarks/results/NAME.json`` that ``cmkd bench`` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmkd.bench.figures import gains_figure, ranks_figure
from cmkd.documents import read_json
from cmkd.evaluation import interval
from cmkd.io import write_bytes, write_text
from cmkd.markdown import table
from cmkd.report.figures import draw

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "benchmarks" / "results" / "study.json"
FEW, ALL = "a tenth", "all labels"
DRAWN = ("self_training", "kd", "dist", "ds")

HEAD = """# What a teacher gives

Written by `python docs/results.py` from the results of `cmkd bench benchmarks/suites/study.yaml --out DIR`, which
trains each network until validation has stopped rising. Every student has a teacher of its own; a difference is between
students of one teacher and one seed. Points are those of test accuracy. *Clearly*: Student's 95 % interval over
students and the one over students and test groups both exclude 0, as one in twenty does by chance.
[All figures](../benchmarks/results/study.md).
"""


ELSEWHERE = """## Measured elsewhere

- [Convergence](../benchmarks/results/convergence.md): each network against four times its own steps.
- [Performance](performance.md): what costs time, and how the default weights were chosen.
- [Calibration](../benchmarks/results/calibration.md), [random forests and logistic
  regression](../benchmarks/results/simple_baselines.md) on each modality alone.
- [Data cards](data_cards.md) say what is known to be unsound about each data set. One that we found: the last recording
  of person 4 in MARS is movement 10, not 9; with the published label no model can pass 90.3 %.
"""


def over_sets(rows: Sequence[Mapping[str, Any]]) -> tuple[float, list[float] | None, int, int]:
    """Return the mean difference over data sets, its 95 % interval, and the sets that are clearly above and below."""
    means = [row["test"]["mean"] for row in rows]
    ends = [(row["test"]["interval"], row["resampled"]) for row in rows if row["test"]["interval"]]
    above = sum(a[0] > 0 and b[0] > 0 for a, b in ends)
    below = sum(a[1] < 0 and b[1] < 0 for a, b in ends)
    return sum(means) / len(means), list(interval(means)) if len(means) > 1 else None, above, below


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether a claim that the difference is above 0 holds."""
    _, ends, above, below = over_sets(rows)
    if above and below:
        return "depends on the data"
    if ends is not None and ends[0] > 0:
        return "holds"
    if ends is not None and ends[1] < 0:
        return "does not hold"
    return "holds on some data" if above else "does not hold on some data" if below else "not shown"


def claims(found: Mapping[str, Any]) -> str:
    """Return the table of claims."""
    asked = [
        ("with few labels for both, `ds` is better than the student alone", FEW, "ds", "none"),
        ("with few labels for both, `kd` is better than the student alone", FEW, "kd", "none"),
        (
            "with few labels, self-training on the same pairs is better than the student alone",
            FEW,
            "self_training",
            "none",
        ),
        ("with few labels, `ds` is better than `kd`", FEW, "ds", "kd"),
        ("with few labels, `ds` is better than `dist`", FEW, "ds", "dist"),
        ("with all labels, `ds` is better than the student alone", ALL, "ds", "none"),
        ("with all labels, `kd` is better than the student alone", ALL, "kd", "none"),
        ("with all labels, `ds` is better than `kd`", ALL, "ds", "kd"),
    ]
    lines = []
    for claim, setting, method, rival in asked:
        key = (setting, method, rival)
        rows = [row for row in found["comparisons"] if (row["setting"], row["method"], row["rival"]) == key]
        if not rows:
            lines.append([claim, "", "", "not run yet"])
            continue
        mean, ends, above, below = over_sets(rows)
        text = f"{100 * mean:+.1f}" + (f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else "")
        sets = f"{len(rows)} sets: {above} clearly above 0, {below} below"
        lines.append([claim, text, sets, verdict(rows)])
    return table(["claim", "mean over data sets, 95 %", "data sets", "verdict"], lines, left=4)


def regained(found: Mapping[str, Any]) -> str:
    """Return the table of what a teacher gives back of the labels that are missing."""
    means = {(row["data"], row["setting"]): row for row in found["models"]}
    lines = []
    for data in dict.fromkeys(row["data"] for row in found["models"]):
        few, every = means.get((data, FEW)), means.get((data, ALL))
        if few is None:
            continue
        most = None if every is None else every["means"].get("none")
        cells = [few["means"].get(method) for method in ("none", *DRAWN)]
        name = data.partition(":")[0]
        lines.append([name, *("" if v is None else f"{100 * v:.1f}" for v in (few["teacher"], *cells, most))])
    return table(["data", "teacher", "alone", *DRAWN, "alone, all labels"], lines, left=1)


def decision(found: Mapping[str, Any]) -> str:
    """Return which methods no rival in the suite is clearly better than, by setting, best mean rank first."""
    lines = []
    for setting, ranked in found["by_setting"].items():
        if not ranked:
            continue
        best = ranked["methods"][0]
        limit = ranked["critical_difference"]
        if ranked["friedman"] is None or ranked["friedman"] >= 0.05:
            lines.append([setting, str(ranked["settings"]), "none can be told from another", ""])
            continue
        close = [r["method"] for r in ranked["methods"] if r["rank"] - best["rank"] < limit]
        worse = [r["method"] for r in ranked["methods"] if r["method"] not in close]
        lines.append([setting, str(ranked["settings"]), ", ".join(close), ", ".join(worse)])
    return table(["labels", "data sets", "best mean rank, and those it cannot be told from", "others"], lines, left=4)


def missing(found: Mapping[str, Any]) -> str:
    """Say what is not there yet."""
    done, planned = found["runs"]["complete"], found["runs"]["all"]
    rising = sum(row["rising"] for row in found["models"])
    said = [f"{planned - done} of {planned} runs have not finished"] if done < planned else []
    said += [f"{rising} students were still improving when they reached the largest number of steps"] if rising else []
    said += ["the observation (structure goes with discriminability) has not been measured on converged networks"]
    said += ["label noise, more unlabeled pairs and unlike architectures have no suite yet"]
    return "\n".join(f"- {line}." for line in said)


def main() -> None:
    """Write the page."""
    found, images = read_json(SUITE), ROOT / "docs" / "images"
    parts = [HEAD, "## Claims", claims(found), "## What a teacher gives back of the labels", regained(found)]
    settings = [name for name in (FEW, ALL) if any(row["setting"] == name for row in found["comparisons"])]
    rows = [row for row in found["comparisons"] if row["rival"] == "none"]
    write_bytes(images / "results-gains.svg", draw(gains_figure(rows, settings, DRAWN), "svg"))
    parts.append("![Gain over the student alone by data set](images/results-gains.svg)")
    parts += ["## Which method when", decision(found)]
    if found["overall"] and found["overall"]["critical_difference"]:
        write_bytes(images / "results-ranks.svg", draw(ranks_figure(found["overall"]), "svg"))
        parts.append("Mean ranks over all data sets and settings; a bar joins what cannot be told apart:")
        parts.append("![Mean ranks of the methods](images/results-ranks.svg)")
    parts += ["## Not shown", missing(found), ELSEWHERE]
    write_text(ROOT / "docs" / "results.md", "\n\n".join(part.strip() for part in parts) + "\n")
    print(ROOT / "docs" / "results.md")


if __name__ == "__main__":
    main()
