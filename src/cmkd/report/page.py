"""Write ``report.html`` from the files in a run's folder; it needs neither the models nor the data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from cmkd.documents import read_json, record
from cmkd.errors import CmkdError
from cmkd.evaluation import by_subset, summarize
from cmkd.evaluation.results import AGAIN, read_history, read_predictions, read_results
from cmkd.io import write_text
from cmkd.report import figures
from cmkd.report.html import render
from cmkd.types import Modality


def write_report(folder: Path) -> Path:
    """Write the page of a run, complete or not, and return its path.

    Args:
        folder: of a run; it holds ``results.json``.

    Raises:
        CmkdError: the folder is not a run.
    """
    if not (folder / "results.json").is_file():
        raise CmkdError(f"'{folder}' holds no results.json; give the --out folder of a run")
    results = read_results(folder / "results.json")
    summary = summarize(results["students"], results["teacher"]["test_accuracy"])
    page = render(
        "run.html",
        results=results,
        summary=summary,
        subsets=by_subset(results["students"]),
        verdicts=[verdict(row) for row in summary if "gain" in row],
        rising=not_converged(results),
        recommended=chosen_student(results) if results.get("recommended") else "",
        tuned=[chosen_options(row) for row in results.get("tuned", [])],
        seen=labels_seen(results["data"].get("labels", {})),
        figures=_figures(folder, results),
        config=_text(folder / "config.yaml"),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def verdict(row: Mapping[str, Any]) -> str:
    """Say in a sentence whether a method helped.

    Args:
        row: of `cmkd.evaluation.summarize`, with a gain.

    Example:
        >>> verdict({"method": "kd", "gain": 0.02, "gain_n": 3, "gain_interval": [0.011, 0.029]})
        'kd: +2.0 points over the student alone (95 % CI +1.1 to +2.9, n = 3 seeds), significantly better'
    """
    said = f"{row['method']}: {100 * row['gain']:+.1f} points over the student alone"
    if row["gain_interval"] is None:
        return f"{said} on one seed; run more seeds to get a confidence interval"
    low, high = row["gain_interval"]
    return f"{said} (95 % CI {100 * low:+.1f} to {100 * high:+.1f}, n = {row['gain_n']} seeds), {finding(low, high)}"


def finding(low: float, high: float) -> str:
    """Say what a confidence interval of a difference shows.

    Example:
        >>> finding(0.011, 0.029), finding(-0.2, 0.1)
        ('significantly better', 'not significant')
    """
    return "significantly better" if low > 0 else "significantly worse" if high < 0 else "not significant"


def labels_seen(labels: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how many labels teacher and students see; empty where all see every label of every training pair.

    Args:
        labels: the entry ``labels`` of the data in ``results.json``.

    Example:
        >>> few, every = {"visible": 4, "all": 20}, {"visible": 20, "all": 20}
        >>> labels_seen({"teacher": few, "student": few | {"unlabeled": 16}})
        'teacher sees 4 of 20 labels, students see 4 of 20 labels; 16 pairs without a label serve distillation alone'
        >>> labels_seen({"teacher": every, "student": every | {"unlabeled": 0}})
        ''
    """
    if not labels:  # a run of an older version
        return ""
    teacher, student, said = labels["teacher"], labels["student"], []
    if any(one["visible"] not in (None, one["all"]) for one in (teacher, student)):
        known = f"teacher sees {teacher['visible']} of {teacher['all']} labels"
        who = "teacher trained elsewhere" if teacher["visible"] is None else known
        said.append(f"{who}, students see {student['visible']} of {student['all']} labels")
    if unlabeled := student.get("unlabeled"):
        said.append(f"{unlabeled} pairs without a label serve distillation alone")
    return "; ".join(said)


def not_converged(results: Mapping[str, Any]) -> str:
    """Say which models were still improving when they reached the largest number of steps; empty for none.

    Args:
        results: what ``results.json`` holds.

    Example:
        >>> rows = [{"method": "kd", "converged": c} for c in (True, False)]
        >>> not_converged({"teacher": {"converged": True}, "students": rows})
        'not converged: validation was still rising for kd (1 of 2); train longer with --preset full or more --epochs'
    """
    found: dict[str, list[bool]] = {}
    for row in ({**results["teacher"], "method": "teacher"}, *results["students"]):
        if "converged" in row:  # not in a run of an older version, or for a model that was trained elsewhere
            found.setdefault(row["method"], []).append(row["converged"])
    rising = [f"{name} ({c.count(False)} of {len(c)})" for name, c in found.items() if not all(c)]
    if not rising:
        return ""
    many = f"{', '.join(rising)}; train longer with --preset full or more --epochs"
    return f"not converged: validation was still rising for {many}"


def chosen_student(results: Mapping[str, Any]) -> str:
    """Say which student the run recommends.

    Args:
        results: what ``results.json`` holds.

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
        tuned: one of the entries ``tuned`` in ``results.json``.

    Example:
        >>> tuned = {"method": "kd", "expression": "kd(temperature=3.1,weight=6.2)", "trials": 2}
        >>> chosen_options(tuned | {"validation_accuracies": [0.7, 0.72]})
        'kd: kd(temperature=3.1,weight=6.2) was the best of 2 trials: 72.0 % on validation, untuned 70.0 %'
    """
    accuracies = tuned["validation_accuracies"]
    best = max(accuracy for accuracy in accuracies if accuracy is not None)
    said = f"{tuned['method']}: {tuned['expression']} was the best of {tuned['trials']} trials"
    return f"{said}: {100 * best:.1f} % on validation, untuned {100 * accuracies[0]:.1f} %"


def _figures(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    students: dict[str, list[dict[str, Any]]] = {}
    for student in results["students"]:
        students.setdefault(student["method"], []).append(student)
    made: dict[str, Any] = {}
    if (folder / "samples.npz").is_file():
        made["samples"] = _samples(folder)
    if students:
        accuracy = {method: [s["test_accuracy"] for s in each] for method, each in students.items()}
        made["accuracy"] = figures.embed(figures.accuracy_figure(results["teacher"]["test_accuracy"], accuracy))
    curves = ("validation_accuracy", "train_cross_entropy")
    histories = {"teacher": [folder / "teacher" / "history.csv"]}
    for method, each in students.items():
        histories[method] = [(folder / s["checkpoint"]).parent / "history.csv" for s in each]
    found = {name: [read_history(p, curves) for p in paths if p.is_file()] for name, paths in histories.items()}
    made["curves"] = figures.embed(figures.curves_figure({n: tables for n, tables in found.items() if tables}))
    made["confusion"] = _confusions(folder, results, students)
    return made


def _confusions(folder: Path, results: dict[str, Any], students: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    data, made = results["data"], {}
    classes = len(data["classes"])
    sources = {f"teacher, {data['rich']}": [folder / "teacher" / "test.parquet"]}
    for method, each in students.items():
        sources[f"{method}, {data['poor']}"] = [(folder / s["checkpoint"]).parent / "test.parquet" for s in each]
    for title, paths in sources.items():
        if tables := [read_predictions(path, classes) for path in paths if path.is_file()]:
            target, predicted = pd.concat(tables)[["target", "predicted"]].to_numpy().T
            made[title] = figures.embed(figures.confusion_figure(target, predicted, data["classes"]))
    return made


@dataclass(frozen=True)
class _Samples:
    """Schema of ``samples.json``."""

    labels: tuple[str, ...]
    modalities: Mapping[str, Modality]


def _samples(folder: Path) -> str:
    path, drawn = folder / "samples.json", folder / "samples.npz"
    about = record(_Samples, read_json(path, fix=AGAIN), f"'{path}'", fix=AGAIN)
    try:
        with np.load(drawn, allow_pickle=False) as arrays:
            shown = {name: arrays[name] for name in about.modalities}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise CmkdError(f"'{drawn}' is damaged ({str(error)[:100]}): {AGAIN}") from error
    for name, modality in about.modalities.items():
        if shown[name].shape != (len(about.labels), *modality.shape) or shown[name].dtype != modality.dtype:
            raise CmkdError(f"'{drawn}' does not fit '{path}' ({name}): {AGAIN}")
    return figures.embed(figures.samples_figure(shown, about.modalities, about.labels), "png")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
