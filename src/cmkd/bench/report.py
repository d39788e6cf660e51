"""The words of a suite: a Markdown page made from its results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmkd.bench.table import SPLITS
from cmkd.markdown import code, escape, table

INTRODUCTION = (
    "Accuracy in points. Students of the same teacher and seed are compared: they start from the same weights and see "
    "the pairs in the same order. The interval is Student's 95 % interval over the n differences, bold where it "
    "excludes 0; it takes them as independent, also those of one teacher, and the mean with each teacher is beside it. "
    "*Seen*: the difference on test that n students show with a probability of 0.8. What is chosen is chosen on "
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
    if results["overall"]:
        parts += ["## Over all settings", _overall(results["overall"], results["suite"]["rivals"])]
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
    header = ["data", "setting", "method", "n", *SPLITS, "with each teacher, test", "seen"]
    lines = []
    for row in rows:
        test = row["test"]
        teachers = ", ".join(f"{100 * mean:+.1f}" for mean in test["teachers"]) if len(test["teachers"]) > 1 else ""
        seen = "" if test["seen"] is None else f"{100 * test['seen']:.1f}"
        cells = [escape(row["data"]), escape(row["setting"]), row["method"], str(row["n"])]
        lines.append([*cells, *(_difference(row[split]) for split in SPLITS), teachers, seen])
    return table(header, lines, left=3)


def _overall(rows: Sequence[Mapping[str, Any]], rivals: Sequence[str]) -> str:
    header = ["method", "mean rank", *(f"median difference to {rival}, p" for rival in rivals)]
    lines = []
    for row in rows:
        cells = [row["method"], f"{row['rank']:.2f}"]
        for rival in rivals:
            found = row["against"].get(rival)
            p = "" if found is None or found["p_value"] is None else f", p = {found['p_value']:.3f}"
            cells.append("" if found is None else f"{100 * found['difference']:+.1f}{p}")
        lines.append(cells)
    text = f"Test accuracy, {rows[0]['settings']} settings; Wilcoxon's signed-rank test, corrected by Holm."
    return f"{text}\n\n{table(header, lines)}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _difference(described: Mapping[str, Any]) -> str:
    mean = f"{100 * described['mean']:+.1f}"
    if described["interval"] is None:
        return mean
    low, high = described["interval"]
    text = f"{mean} ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"**{text}**" if low > 0 or high < 0 else text
