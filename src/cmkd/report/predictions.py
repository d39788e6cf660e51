"""Summarize predictions on the test pairs: confusions, accuracy by class and by group, and single pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.documents import TEST
from cmkd.evaluation.results import read_predictions

LARGEST = 40
"""Largest number of classes for which a confusion matrix is drawn; beyond it, only frequent confusions are listed."""
MOST = 20
"""Largest number of groups that a page lists, those with the lowest accuracy."""
LISTED = 5
"""Largest number of frequent confusions that are listed."""
Tables = Mapping[str, Sequence[pd.DataFrame]]
"""Model (``teacher`` first) -> tables of predictions, one per seed."""


def read_tables(folder: Path, results: Mapping[str, Any]) -> dict[str, list[pd.DataFrame]]:
    """Read the test predictions of every model of a run; models without predictions are left out."""
    paths = {"teacher": [folder / "teacher" / TEST]}
    for student in results["students"]:
        paths.setdefault(student["method"], []).append((folder / student["checkpoint"]).parent / TEST)
    classes = len(results["data"]["classes"])
    found = {name: [read_predictions(path, classes) for path in each if path.is_file()] for name, each in paths.items()}
    return {name: tables for name, tables in found.items() if tables}


def confusions(tables: Tables, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the `confusion` of each model, over all its seeds."""
    made = {}
    for name, each in tables.items():
        counts = np.zeros((len(classes),) * 2, dtype=np.int64)
        for table in each:
            np.add.at(counts, (table["target"].to_numpy(), table["predicted"].to_numpy()), 1)
        made[name] = confusion(counts, classes)
    return made


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Return what the macro ``confusion`` of ``parts.html`` shows.

    Args:
        counts: numbers of pairs ``(classes, classes)``, a row for each true class.
        classes: names of the classes.

    Example:
        >>> found = confusion(np.array([[3, 1], [0, 2]]), ["tanker", "tug"])
        >>> found["rows"][0]["cells"], found["most"]
        ([{'percent': 75, 'count': 3}, {'percent': 25, 'count': 1}], ['tanker taken for tug (25 % of tanker, 1 time)'])
    """
    percent = np.rint(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(int)
    percent = np.where(counts < counts.sum(1, keepdims=True), np.minimum(percent, 99), percent)
    wrong = counts * (1 - np.eye(len(classes), dtype=np.int64))
    most = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:LISTED]:
        true, said = divmod(int(place), len(classes))
        if times := int(wrong[true, said]):
            share = f"{percent[true, said] or 'below 1'} % of {classes[true]}, {times} time{'s' if times > 1 else ''}"
            most.append(f"{classes[true]} taken for {classes[said]} ({share})")
    rows = [
        {
            "name": name,
            "place": k,
            "cells": [{"percent": int(p), "count": int(n)} for p, n in zip(percent[k], counts[k], strict=True)],
        }
        for k, name in enumerate(classes)
    ]
    return {"classes": classes, "rows": rows if len(classes) <= LARGEST else [], "most": most}


def by_class(tables: Tables, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each class its ``name``, the number ``n`` of test pairs, and each model's mean accuracy over seeds."""
    found = _accuracies(tables, "target")
    return [row | {"name": classes[row["name"]]} for row in found]


def by_group(tables: Tables) -> list[dict[str, Any]]:
    """Return the same as `by_class` for each named group, worst first; empty if every group has a single pair."""
    grouped = {name: [table[table["group"] != ""] for table in each] for name, each in tables.items()}
    found = _accuracies(grouped, "group")
    if all(row["n"] == 1 for row in found):
        return []
    return sorted(found, key=lambda row: np.nanmean([a for a in row["accuracy"].values() if a is not None]))


def _accuracies(tables: Tables, column: str) -> list[dict[str, Any]]:
    by_model: dict[str, dict[Any, float]] = {}
    sizes: dict[Any, int] = {}
    for name, each in tables.items():
        right = [(table["predicted"] == table["target"]).groupby(table[column]).mean() for table in each]
        by_model[name] = pd.concat(right, axis=1).mean(axis=1).to_dict()
        sizes = each[0].groupby(column).size().to_dict()  # the last is a student's: a teacher may see fewer pairs
    return [
        {"name": key, "n": int(size), "accuracy": {name: means.get(key) for name, means in by_model.items()}}
        for key, size in sizes.items()
    ]


def answers(tables: Tables, ids: Sequence[str], classes: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Return for each pair and model how many seeds are ``right``, ``of`` how many, and the wrong classes ``said``.

    Args:
        tables: predictions by model.
        ids: ids of the pairs.
        classes: names of the classes.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in ids]
    for name, each in tables.items():
        indexed = [dict(zip(table["id"], table[["target", "predicted"]].to_numpy(), strict=True)) for table in each]
        for place, key in enumerate(ids):
            rows = [table[key] for table in indexed if key in table]
            if rows:
                wrong = [classes[predicted] for target, predicted in rows if predicted != target]
                said = ", ".join(dict.fromkeys(wrong))
                found[place].append({"model": name, "right": len(rows) - len(wrong), "of": len(rows), "said": said})
    return found
