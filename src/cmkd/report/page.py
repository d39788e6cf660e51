"""Write ``report.html`` from the files in a run's folder; it needs neither the models nor the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.cost import read_cost
from cmkd.documents import HISTORY, RESULTS
from cmkd.errors import CmkdError
from cmkd.evaluation import bootstrap, by_subset, covered, fraction_interval, group_numbers, summarize
from cmkd.evaluation.intervals import FEW_GROUPS, unless_certain
from cmkd.evaluation.results import read_history, read_results, students_answers
from cmkd.evaluation.summary import ONE_GROUP
from cmkd.io import write_text
from cmkd.report import figures
from cmkd.report.guide import MEASURES
from cmkd.report.html import render
from cmkd.report.predictions import MOST, Tables, by_class, by_group, confusions, read_tables
from cmkd.report.run_files import published, sample_pairs
from cmkd.structure import ESSENTIAL

CURVES = (
    ("validation_accuracy", 100.0, "validation accuracy (%)"),
    ("train_cross_entropy", 1.0, "training cross-entropy (nats)"),
)
"""Columns of a training history that the page draws, each with the factor to its unit, and its name with unit."""


def write_report(folder: Path) -> Path:
    """Write the page of a run, complete or not, and return its path.

    Args:
        folder: folder of the run; it holds ``results.json``.

    Raises:
        CmkdError: if the folder is not a run.
    """
    if not (folder / RESULTS).is_file():
        raise CmkdError(f"'{folder}' holds no results.json; give the --out folder of a run")
    results = read_results(folder / RESULTS)
    same = results["data"].get("same_test_pairs", True)  # else teacher and students cannot be compared exactly
    answers = students_answers(folder, results["students"], len(results["data"]["classes"]))
    summary = summarize(results["students"], results["teacher"].get("test_accuracy") if same else None, answers)
    tables, students = read_tables(folder, results), by_method(results)
    page = render(
        "run.html",
        results=results,
        folder=folder,
        summary=summary,
        subsets=by_subset(results["students"]),
        verdicts=[{"method": row["method"], "said": verdict(row)} for row in summary if "gain" in row],
        rising=not_converged(results),
        answer=_answer(results, tables),
        tuned=[chosen_options(row) for row in results.get("tuned", [])],
        seen=labels_seen(results["data"].get("labels", {})),
        published=published(folder, results),
        pairs=sample_pairs(folder, tables, results["data"]["classes"]),
        confusions=confusions(tables, results["data"]["classes"]),
        models=list(tables),
        by_class=by_class(tables, results["data"]["classes"]) if tables else [],
        by_group=by_group(tables),
        most=MOST,
        few=FEW_GROUPS,
        structure=_structure(results),
        measures=[MEASURES[name] for name in ESSENTIAL],
        costs=_costs(folder, results),
        colors={method: place % len(figures.COLORS) for place, method in enumerate(students)},
        figures=_figures(folder, results, students),
        config=_text(folder / "config.yaml"),
        citations=_text(folder / "citations.bib").strip(),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def by_method(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the students of each method, in the order of the run."""
    students: dict[str, list[dict[str, Any]]] = {}
    for student in results["students"]:
        students.setdefault(student["method"], []).append(student)
    return students


def verdict(row: Mapping[str, Any]) -> str:
    """Say in a sentence whether a method helped.

    Args:
        row: row of `cmkd.evaluation.summarize`, with a gain.

    Example:
        >>> verdict({"method": "kd", "gain": 0.02, "gain_n": 3, "gain_interval": [0.011, 0.029]})
        'kd: +2.0 points over the student alone (95 % CI +1.1 to +2.9 over 3 seeds), significantly better'
    """
    said = f"{row['method']}: {100 * row['gain']:+z.1f} points over the student alone"
    if row.get("one_group"):
        return f"{said}, on {ONE_GROUP}"
    if row["gain_interval"] is None:
        seeds = "one seed" if row["gain_n"] == 1 else f"each of {row['gain_n']} seeds"
        return f"{said} on {seeds}; run more seeds to get a confidence interval"
    low, high = row["gain_interval"]
    return f"{said} (95 % CI {100 * low:+.1f} to {100 * high:+.1f} over {covered(row)}), {finding(low, high)}"


def finding(low: float, high: float) -> str:
    """Say in words what a confidence interval of a difference shows.

    Example:
        >>> finding(0.011, 0.029), finding(-0.2, 0.1)
        ('significantly better', 'not significant')
    """
    return "significantly better" if low > 0 else "significantly worse" if high < 0 else "not significant"


def labels_seen(labels: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how many labels teacher and students see; empty if all see every label of every training pair.

    Args:
        labels: the entry ``labels`` of the data in ``results.json``.

    Example:
        >>> few, every = {"visible": 4, "all": 20}, {"visible": 20, "all": 20}
        >>> labels_seen({"teacher": few, "student": few | {"unlabeled": 16}})
        'teacher sees 4 of 20 labels, students see 4 of 20 labels; 16 unlabeled pairs are used by all methods but none'
        >>> labels_seen({"teacher": every, "student": every | {"unlabeled": 0}})
        ''
        >>> labels_seen({"teacher": every | {"wrong": 6}, "student": every | {"wrong": 3}})
        '6 labels of the teacher and 3 of the students were made wrong on purpose'
    """
    if not labels:  # a run of an older version
        return ""
    teacher, student, said = labels["teacher"], labels["student"], []
    if any(one["visible"] not in (None, one["all"]) for one in (teacher, student)):
        known = f"teacher sees {teacher['visible']} of {teacher['all']} labels"
        who = "teacher trained elsewhere" if teacher["visible"] is None else known
        said.append(f"{who}, students see {student['visible']} of {student['all']} labels")
    if unlabeled := student.get("unlabeled"):
        said.append(f"{unlabeled} unlabeled pairs are used by all methods but none")
    wrong = student.get("wrong", 0)
    of_teacher = teacher.get("wrong", wrong)  # older versions recorded only the students' wrong labels
    if of_teacher not in (None, wrong):
        said.append(f"{of_teacher} labels of the teacher and {wrong} of the students were made wrong on purpose")
    elif wrong:
        said.append(f"{wrong} labels were made wrong on purpose")
    return "; ".join(said)


def not_converged(results: Mapping[str, Any]) -> str:
    """Say which models were still improving when they reached the largest number of steps; empty if none were.

    Args:
        results: contents of ``results.json``.

    Example:
        >>> rows = [{"method": "kd", "converged": c} for c in (True, False)]
        >>> print(not_converged({"teacher": {"converged": True}, "students": rows}))
        not converged: validation was still rising for kd (1 of 2); train longer with --preset full or more --epochs, in
        a new --out
    """
    found: dict[str, list[bool]] = {}
    for row in ({**results["teacher"], "method": "teacher"}, *results["students"]):
        if row.get("converged") is not None:  # unknown in older versions, and for outputs and files
            found.setdefault(row["method"], []).append(row["converged"])
    rising = [f"{name} ({c.count(False)} of {len(c)})" for name, c in found.items() if not all(c)]
    if not rising:
        return ""
    many = f"{', '.join(rising)}; train longer with --preset full or more --epochs, in a new --out"
    return f"not converged: validation was still rising for {many}"


def chosen_student(results: Mapping[str, Any]) -> str:
    """Say which student the run recommends.

    Args:
        results: contents of ``results.json``.

    Example:
        >>> row = {"method": "ds", "seed": 2, "validation_accuracy": 0.8, "test_accuracy": 0.79}
        >>> chosen_student({"recommended": row})
        'recommended student, chosen on validation: ds, seed 2 (80.0 % there, 79.0 % on test)'
    """
    row = results["recommended"]
    there = f"{100 * row['validation_accuracy']:.1f} % there, {100 * row['test_accuracy']:.1f} % on test"
    return f"recommended student, chosen on validation: {row['method']}, seed {row['seed']} ({there})"


def chosen_options(tuned: Mapping[str, Any]) -> str:
    """Say which options were chosen for a method, and what they gave on the validation pairs.

    Args:
        tuned: one entry of ``tuned`` in ``results.json``.

    Example:
        >>> tuned = {"method": "kd", "expression": "kd(temperature=3.1,weight=6.2)", "trials": 2}
        >>> chosen_options(tuned | {"validation_accuracies": [0.7, 0.72]})
        'kd: kd(temperature=3.1,weight=6.2) was the best of 2 trials: 72.0 % on validation, untuned 70.0 %'
    """
    accuracies = tuned["validation_accuracies"]
    best = max(accuracy for accuracy in accuracies if accuracy is not None)
    said = f"{tuned['method']}: {tuned['expression']} was the best of {tuned['trials']} trials"
    return f"{said}: {100 * best:.1f} % on validation, untuned {100 * accuracies[0]:.1f} %"


def _answer(results: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """Return the recommended student's numbers for the page, with an interval over test pairs or whole groups."""
    if not (chosen := results.get("recommended")):
        return {}
    seeds = [student["seed"] for student in results["students"] if student["method"] == chosen["method"]]
    found = tables.get(chosen["method"], [])
    table = found[seeds.index(chosen["seed"])] if len(found) == len(seeds) and chosen["seed"] in seeds else None
    answer = {key: chosen[key] for key in ("method", "seed", "test_accuracy", "validation_accuracy")}
    if table is not None:
        right = (table["target"] == table["predicted"]).to_numpy(dtype=float)
        numbers = group_numbers(table)
        groups = int(numbers.max()) + 1
        ends = fraction_interval(int(right.sum()), len(right))
        if 1 < groups < len(right):
            found_ends = bootstrap(lambda w: {"accuracy": w @ right / w.sum(1)}, numbers)["accuracy"]
            ends = tuple(unless_certain(found_ends, groups)[1:].tolist())
        answer |= {"pairs": len(right), "groups": groups, "interval": ends}
    return answer


def _structure(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the means of the structure measures by model; empty for a run of an older version."""
    rows = {"teacher": [results["teacher"]]} | by_method(results)
    found = {name: [row["structure"] for row in each if row.get("structure")] for name, each in rows.items()}
    return [
        {"model": name, "values": [_mean([one.get(measure) for one in each]) for measure in ESSENTIAL]}
        for name, each in found.items()
        if each
    ]


def _costs(folder: Path, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return steps, size and times by model; numbers that an older version did not record are None."""
    rows = {"teacher": [results["teacher"]]} | by_method(results)
    places = {name: [(folder / s["checkpoint"]).parent for s in each] for name, each in by_method(results).items()}
    times = {name: [*map(read_cost, each)] for name, each in ({"teacher": [folder / "teacher"]} | places).items()}
    return [
        {
            **{
                unit: _mean([time.get(unit) for time in times[name]])
                for unit in ("training_seconds", "latency_seconds")
            },
            "model": name,
            "steps": _mean([row.get("steps") for row in each]),
            "parameters": each[0].get("parameters"),
            "multiply_adds": each[0].get("multiply_adds"),
            "accuracy": _mean([row["test_accuracy"] for row in each]),
        }
        for name, each in rows.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _figures(folder: Path, results: dict[str, Any], students: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    made: dict[str, str] = {}
    if students:
        accuracy = {method: [s["test_accuracy"] for s in each] for method, each in students.items()}
        drawn = figures.accuracy_figure(results["teacher"]["test_accuracy"], accuracy)
        made["accuracy"] = figures.inline(drawn, "Test accuracy of every student by method")
    histories = {"teacher": [folder / "teacher" / HISTORY]}
    for method, each in students.items():
        histories[method] = [(folder / s["checkpoint"]).parent / HISTORY for s in each]
    columns = [column for column, *_ in CURVES]
    found = {name: [read_history(p, columns) for p in paths if p.is_file()] for name, paths in histories.items()}
    for column, factor, ylabel in CURVES:
        made[column] = figures.inline(figures.curves_figure(found, column, factor, ylabel), f"{ylabel} by epoch")
    return made


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
