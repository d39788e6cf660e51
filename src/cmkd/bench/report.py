"""The Markdown and HTML pages of a suite, made only from its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cmkd.bench.figures import alike, ranks_figure
from cmkd.bench.rows import SPLITS
from cmkd.bench.table import wilcoxon_smallest
from cmkd.datasets.open import without_folder
from cmkd.evaluation import in_points
from cmkd.markdown import code, escape, table
from cmkd.report import figures
from cmkd.report.html import render

NOTES = (
    "Accuracies are in %, differences in points. A difference is between students of the same teacher and seed. They "
    "start from the same weights, and see the pairs in the same order where they use the same ones.",
    "validation, test: the mean difference with Student's 95 % interval over the teachers, each with the mean of its "
    "students. With one teacher, the interval is over its students and holds for that teacher alone.",
    "over groups, test: the 95 % percentile bootstrap interval, which resamples teachers, students and test groups "
    "(people, scenes, vessels), or single pairs if there are no groups. If there is a single group, its pairs are "
    "resampled, and the interval holds for that group alone. With fewer than ten groups and several students, the "
    "interval is a t interval over teachers and groups.",
    "Bold: the interval excludes 0; on test, both intervals do.",
    "between, within teachers: the standard deviation of the difference between teachers, and between students of the "
    "same teacher.",
    "detectable: the smallest difference on test that as many teachers or groups show with a probability of 0.8.",
    "closed: the fraction of the gap between the student alone and the teacher that the method closes, in %, if this "
    "gap is clearly above 0. The teacher's accuracy is treated as exact.",
    "not converged: students that were still improving at the last step, or whose teachers were.",
    "All choices are made on validation.",
)
"""How to read the tables, one point each."""


class Strong(str):
    """Text of a table cell that is shown in bold."""


class Part(NamedTuple):
    """A section of the page in plain text, without Markdown or HTML.

    Attributes:
        title: heading; empty for none.
        text: paragraph below the heading.
        header: header of the table, one cell per column.
        lines: rows of the table.
        left: number of left-aligned columns.
        figure: an SVG element, for the HTML page.
        caption: caption of the figure.
    """

    title: str = ""
    text: str = ""
    header: Sequence[str] = ()
    lines: Sequence[Sequence[str]] = ()
    left: int = 1
    figure: str = ""
    caption: str = ""


def markdown(name: str, results: Mapping[str, Any]) -> str:
    """Return the page of a suite as Markdown.

    Args:
        name: name of the suite.
        results: result of `cmkd.bench.bench`.
    """
    written = [
        f"# {escape(name)}",
        f"{code(results['command'])}, commit {results['commit'] or 'unknown'}.",
        "\n".join(f"- {escape(note)}" for note in NOTES),
    ]
    if unfinished := _unfinished(results):
        written.append(f"**{unfinished}**")
    for part in parts(results):
        written += [f"## {escape(part.title)}"] if part.title else []
        written += [escape(part.text)] if part.text else []
        if part.lines:
            cells = [[_marked(cell) for cell in line] for line in part.lines]
            written.append(table(part.header, cells, left=part.left))
    return "\n\n".join(written) + "\n"


def html(name: str, results: Mapping[str, Any]) -> str:
    """Return the page of a suite as one HTML file; arguments as for `markdown`."""
    made = [
        {**part._asdict(), "lines": [[(c, isinstance(c, Strong)) for c in li] for li in part.lines]}
        for part in parts(results)
    ]
    return render("suite.html", name=name, results=results, notes=NOTES, unfinished=_unfinished(results), parts=made)


def parts(results: Mapping[str, Any]) -> list[Part]:
    """Return the sections of both pages: ranks, accuracies, comparisons with each rival, then failed runs."""
    rivals, found = results["suite"]["rivals"], list[Part]()
    if results["overall"]:
        found.append(_overall("Over all data sets and settings", results["overall"], rivals))
    if len(results["by_setting"]) > 1:
        found += [_overall(name, own, rivals) for name, own in results["by_setting"].items() if own]
    found.append(_models(results["models"]))
    for rival in rivals:
        rows = [row for row in results["comparisons"] if row["rival"] == rival]
        found += [_comparisons(rival, rows)] if rows else []
    if results["failures"]:
        found.append(Part("Failed", "", ("run", "reason"), list(results["failures"].items()), 2))
    return found


def _unfinished(results: Mapping[str, Any]) -> str:
    done, planned = results["runs"]["complete"], results["runs"]["all"]
    return f"Not finished: {done} of {planned} runs are complete." if done < planned else ""


def _models(rows: Sequence[Mapping[str, Any]]) -> Part:
    header = ["data", "setting", "teacher", "none", "others, test", "not converged"]
    lines = [
        [
            without_folder(row["data"]),
            row["setting"],
            _both(row["teacher"]),
            _both(row["means"].get("none", {})),
            ", ".join(f"{m} {_percent(v['test'])}" for m, v in row["means"].items() if m != "none"),
            f"{row['rising']} of {row['n']}" if row["rising"] else "",
        ]
        for row in rows
    ]
    return Part("Accuracies", "Teacher and student alone: validation / test.", header, lines, 2)


def _comparisons(rival: str, rows: Sequence[Mapping[str, Any]]) -> Part:
    header = ["data", "setting", "method", "n", *SPLITS]
    header += ["over groups, test", "between, within teachers", "detectable", "closed"]
    lines = []
    for row in rows:
        test, levels, closed = row["test"], row["levels"], row["closed"]
        cells = [without_folder(row["data"]), row["setting"], row["method"], str(row["n"])]
        ends = row["over_groups"]["interval"]
        cells += [_difference(row["validation"]), _difference(test, ends), _range(ends, "+.1f")]
        cells += ["" if levels is None else ", ".join(f"{100 * value:.1f}" for value in levels)]
        cells += ["" if test["detectable"] is None else f"{100 * test['detectable']:.1f}"]
        share = "" if closed is None else f"{100 * closed['mean']:.0f} ({_range(closed['interval'], '.0f')})"
        lines.append([*cells, share])
    return Part(f"Against {rival}", "", header, lines, 3)


def _overall(title: str, found: Mapping[str, Any], rivals: Sequence[str]) -> Part:
    count, others = found["data_sets"], len(found["methods"]) - 1
    smallest = wilcoxon_smallest(count, others)
    named = ", p" if smallest < 0.05 else ""
    header = ["method", "mean rank", *(f"median difference to {rival}{named}" for rival in rivals)]
    lines = []
    for row in found["methods"]:
        cells = [row["method"], f"{row['rank']:.2f}"]
        for rival in rivals:
            against = row["against"].get(rival)
            p = "" if against is None or against["p_value"] is None else f", p {_p(against['p_value'])}"
            cells.append("" if against is None else f"{100 * against['difference']:+z.1f}{p}")
        lines.append(cells)
    text = (
        f"Test accuracy on {count} data set{'s' * (count != 1)}. The accuracy on a data set is the mean over its "
        "settings in which every method was trained, and over the teachers and seeds that all methods have there."
    )
    out = {"Left out because a method is missing": found["lacking"], "Some students are left out on": found["fewer"]}
    for start, places in out.items():
        if places:
            text += f" {start}: {', '.join(f'{without_folder(d)} ({s})' for d, s in places)}."
    if rivals and others:
        few = (
            f" {count} {'is' if count == 1 else 'are'} too few for Wilcoxon's test: corrected by Holm, p cannot be "
            f"below {min(smallest, 1.0):.2g}."
        )
        text += (
            " p is from Wilcoxon's signed-rank test over data sets, corrected by Holm over methods." if named else few
        )
    critical = found["critical_difference"]
    if critical is None:
        return Part(title, text, header, lines)
    names, ranks = [row["method"] for row in found["methods"]], [row["rank"] for row in found["methods"]]
    sets = "; ".join(", ".join(names[first : last + 1]) for first, last in alike(ranks, critical)) or "none"
    text += (
        f" Friedman's test of equal ranks: p {_p(found['friedman'])}. Ranks that differ by less than "
        f"{critical:.2f} do not differ significantly (Nemenyi, 5 %): {sets}."
    )
    caption = "Mean ranks; a bar joins methods that do not differ significantly."
    return Part(title, text, header, lines, 1, figures.inline(ranks_figure(found), caption), caption)


def _marked(cell: str) -> str:
    return f"**{escape(cell)}**" if isinstance(cell, Strong) else escape(cell)


def _p(value: float) -> str:
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _both(of: Mapping[str, float | None]) -> str:
    shown = [_percent(of.get(split)) for split in SPLITS]
    return " / ".join(shown) if any(shown) else ""


def _difference(described: Mapping[str, Any], *others: Sequence[float]) -> str:
    text, clear = in_points(described["mean"], described["interval"], *others)
    return Strong(text) if clear else text


def _range(ends: Sequence[float], form: str) -> str:
    return " to ".join(format(100 * end, form) for end in ends)
