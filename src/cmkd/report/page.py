"""Write ``report.html`` from what a run left in its folder; the models and the data are not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, select_autoescape

from cmkd.errors import CmkdError
from cmkd.io import read_json, write_text
from cmkd.report import figures
from cmkd.types import Modality


def write_report(folder: Path) -> Path:
    """Write the page of a run, complete or not, and return its path.

    Args:
        folder: of a run; it holds ``results.json``.

    Raises:
        CmkdError: the folder is no run.
    """
    if not (folder / "results.json").is_file():
        raise CmkdError(f"'{folder}' holds no results.json; give the --out folder of a run")
    results = read_json(folder / "results.json")
    environment = Environment(loader=PackageLoader("cmkd.report"), autoescape=select_autoescape(), trim_blocks=True)
    environment.filters["percent"] = lambda value: "" if value is None else f"{100 * value:.1f}"
    environment.filters["signed"] = lambda value: "" if value is None else f"{100 * value:+.1f}"
    page = environment.get_template("run.html").render(
        results=results,
        verdicts=verdicts(results),
        figures=_figures(folder, results),
        config=_text(folder / "config.yaml"),
        teacher_share=_shares(results),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def verdicts(results: dict[str, Any]) -> list[str]:
    """Say in a sentence for each method whether it helped, and how surely."""
    sentences = []
    for row in results["summary"]:
        if "gain" not in row:
            continue
        said = f"{row['method']} changed the student's test accuracy by {100 * row['gain']:+.1f} points"
        bounds = row.get("gain_interval")
        if bounds is None:
            sentences.append(f"{said}, on one seed: run more seeds to know how surely.")
            continue
        sure = "above" if bounds[0] > 0 else "below" if bounds[1] < 0 else None
        certainty = f"surely {sure} the student alone" if sure else "which is within what chance between seeds explains"
        between = f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"
        sentences.append(f"{said} (95 % interval {between}, n = {row['n']} seeds), {certainty}.")
    return sentences


def _shares(results: dict[str, Any]) -> dict[str, float]:
    """Return which part of the gap between the student alone and the teacher each method closes."""
    alone = next((row["mean"] for row in results["summary"] if row["method"] == "none"), None)
    teacher = results["teacher"]["test_accuracy"]
    if alone is None or teacher is None or (gap := teacher - alone) <= 0.005:
        return {}
    return {row["method"]: row["gain"] / gap for row in results["summary"] if "gain" in row}


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
    histories = {"teacher": [folder / "teacher" / "history.csv"]}
    for method, each in students.items():
        histories[method] = [(folder / s["checkpoint"]).parent / "history.csv" for s in each]
    found = {name: [pd.read_csv(p) for p in paths if p.is_file()] for name, paths in histories.items()}
    made["curves"] = figures.embed(figures.curves_figure({n: tables for n, tables in found.items() if tables}))
    made["confusion"] = _confusions(folder, results, students)
    return made


def _confusions(folder: Path, results: dict[str, Any], students: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    sources = {f"teacher, {results['data']['rich']}": [folder / "teacher" / "test.parquet"]}
    for method, each in students.items():
        sources[f"{method}, {results['data']['poor']}"] = [
            (folder / s["checkpoint"]).parent / "test.parquet" for s in each
        ]
    made = {}
    for title, paths in sources.items():
        tables = [pd.read_parquet(path) for path in paths if path.is_file()]
        if tables:
            both = pd.concat(tables)
            drawn = figures.confusion_figure(
                both["target"].to_numpy(), both["predicted"].to_numpy(), results["data"]["classes"]
            )
            made[title] = figures.embed(drawn)
    return made


def _samples(folder: Path) -> str:
    about = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    modalities = {name: Modality.from_dict(described) for name, described in about["modalities"].items()}
    with np.load(folder / "samples.npz", allow_pickle=False) as arrays:
        shown = {name: arrays[name] for name in modalities}
        return figures.embed(figures.samples_figure(shown, modalities, about["labels"]), "png")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else yaml.safe_dump({})
