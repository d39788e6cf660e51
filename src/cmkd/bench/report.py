"""The words of a suite: a Markdown page made from its results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmkd.bench.rows import SPLITS
from cmkd.markdown import code, escape, table

INTRODUCTION = (
    "Accuracy in points. Students of the same teacher and seed are compared: they start from the same weights and see "
    "the pairs in the same order. The interval is Student's 95 % interval over the n differences; it takes them as "
    "independent, also those of one teacher. *Over groups* is the 95 % percentile interval where students and test "
    "groups (people, scenes, vessels; single pairs where there are none) are drawn anew. Bold: both exclude 0. *Seen*: "
    "the difference on test that n students show with a probability of 0.8. *Closed*: how much of the gap between "
    "student alone and teacher the method closes, in %, where that gap can be told from 0. What is chosen is chosen on "
    "validation."
)


def page(name: str, results: Mapping[str, Any]) -> str:
    """Return the page of a suite as Markdown.

    Args:
        name: of the suite.
        results: what `cmkd.bench.bench` returns.
    """
    parts = [f"# {escape(name)}", f"{code(results['command'])}, commit {results['commit'] or 'unknown'}.", INTRODUCTION]
    done, planned = results["runs"]["complete"], results["runs"]["all"]
    if done < planned:
        parts.append(f"**Not finished: {done} of {planned} runs are complete.**")
    parts.append(_models(results["models"]))
    for rival in results["suite"]["rivals"]:
        rows = [row for row in results["comparisons"] if row["rival"] == rival]
        if rows:
            parts += [f"## Against {escape(rival)}", _comparisons(rows)]
    rivals = results["suite"]["rivals"]
    if results["overall"]:
        parts += ["## Over all data sets and settings", _overall(results["overall"], rivals)]
    if len(results["by_setting"]) > 1:
        for name, found in results["by_setting"].items():
            if found:
                parts += [f"### {escape(name)}", _overall(found, rivals)]
    if results["failures"]:
        lines = [f"- {escape(title)}: {escape(reason)}" for title, reason in results["failures"].items()]
        parts += ["## Failed", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _models(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["data", "setting", "teacher, test", "none, test", "others, test", "not converged"]
    lines = [
        [
            *(
                escape(row["data"]),
                escape(row["setting"]),
                _percent(row["teacher"]),
                _percent(row["means"].get("none")),
            ),
            ", ".join(f"{m} {_percent(v)}" for m, v in row["means"].items() if m != "none"),
            f"{row['rising']} of {row['n']}" if row["rising"] else "",
        ]
        for row in rows
    ]
    return table(header, lines, left=2)


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> str:
    header = [
        "data",
        "setting",
        "method",
        "n",
        *SPLITS,
        "over groups, test",
        "between, within teachers",
        "seen",
        "closed",
    ]
    lines = []
    for row in rows:
        test, levels, closed = row["test"], row["levels"], row["closed"]
        cells = [escape(row["data"]), escape(row["setting"]), row["method"], str(row["n"])]
        cells += [_difference(row["validation"]), _difference(test, row["resampled"]), _range(row["resampled"], "+.1f")]
        cells += ["" if levels is None else ", ".join(f"{100 * value:.1f}" for value in levels)]
        cells += ["" if test["seen"] is None else f"{100 * test['seen']:.1f}"]
        share = "" if closed is None else f"{100 * closed['mean']:.0f} ({_range(closed['interval'], '.0f')})"
        lines.append([*cells, share])
    return table(header, lines, left=3)


def _overall(found: Mapping[str, Any], rivals: Sequence[str]) -> str:
    header = ["method", "mean rank", *(f"median difference to {rival}, p" for rival in rivals)]
    lines = []
    for row in found["methods"]:
        cells = [row["method"], f"{row['rank']:.2f}"]
        for rival in rivals:
            against = row["against"].get(rival)
            p = "" if against is None or against["p_value"] is None else f", p = {against['p_value']:.3f}"
            cells.append("" if against is None else f"{100 * against['difference']:+.1f}{p}")
        lines.append(cells)
    text = f"Test accuracy, {found['settings']} settings; Wilcoxon's signed-rank test, corrected by Holm."
    if found["critical_difference"] is not None:
        text += (
            f" Friedman's test that all ranks are alike: p = {found['friedman']:.3f}. Ranks that differ by less than "
            f"{found['critical_difference']:.2f} cannot be told apart (Nemenyi, 5 %)."
        )
    return f"{text}\n\n{table(header, lines)}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _difference(described: Mapping[str, Any], *others: Sequence[float]) -> str:
    """Return a difference with its interval, bold where that and the others exclude 0."""
    mean = f"{100 * described['mean']:+.1f}"
    if described["interval"] is None:
        return mean
    text = f"{mean} ({_range(described['interval'], '+.1f')})"
    clear = all(low > 0 or high < 0 for low, high in (described["interval"], *others))
    return f"**{text}**" if clear else text


def _range(ends: Sequence[float], form: str) -> str:
    return " to ".join(format(100 * end, form) for end in ends)
