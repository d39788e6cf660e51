"""Tables and summary sentences of an analysis: a teacher beside its students, measure by measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmkd.evaluation.intervals import FEW_GROUPS
from cmkd.report.guide import MEASURES

Model = Mapping[str, Any]
FEWEST_MODELS = 10
"""Smallest number of independent models whose correlation is shown (our choice): with n models its 95 % interval around
0 reaches ``tanh(1.96 / √(n - 3))`` (Bonett and Wright 2000), which is 0.63 with ten and 0.96 with four."""


def aligned(values: Sequence[float | None], *, smallest: float = 0.0) -> list[str]:
    """Format numbers of one unit with the same decimals: three significant digits for the largest; a dash for None.

    Args:
        values: the numbers.
        smallest: number that must not be rounded to 0, even if this takes more decimals.

    Example:
        >>> aligned([12.345, 0.5, None]), aligned([0.01234, -0.5]), aligned([2048.0])
        (['12.3', '0.5', '—'], ['0.012', '-0.500'], ['2,048'])
        >>> aligned([0.000123]), aligned([2.5, 0.004], smallest=0.004)
        (['0.000123'], ['2.500', '0.004'])
    """
    largest = max((abs(v) for v in values if v), default=1.0)
    decimals = max(0, 2 - math.floor(math.log10(largest)))
    if smallest:
        decimals = max(decimals, -math.floor(math.log10(smallest)))
    return ["—" if v is None else f"{v:,.{decimals}f}" for v in values]


def columns(models: Sequence[Model]) -> dict[str, list[Model]]:
    """Return the models of each column of a table: the seeds of one method together; teachers come first.

    Example:
        >>> one = {"role": "student", "method": "kd"}
        >>> list(columns([{"label": f"kd seed {s} (radar)", "seed": s, **one} for s in (0, 1)]))
        ['kd (radar)']
    """
    found: dict[str, list[Model]] = {}
    for model in sorted(models, key=lambda m: m["role"] != "teacher"):
        seed = f" seed {model['seed']}" if model["role"] == "student" else ""
        found.setdefault(model["label"].replace(f"{seed} (", " (") if seed else model["label"], []).append(model)
    return found


def stage_table(models: Sequence[Model], stage: str) -> list[dict[str, Any]]:
    """Return a row for each measure of a stage, with the mean over the seeds of each column.

    Args:
        models: models in the summary of an analysis.
        stage: name of the stage.

    Returns:
        ``metric``, its name; ``measure``, how to read it; ``cells``, each with its ``text``, a ``hint`` (the single
        seeds, or why there is no number) and whether it is ``doubtful``; and ``caveats``, each a sentence with the
        columns that it concerns.
    """
    groups, rows = columns([model for model in models if stage in model["stages"]]), []
    for metric, measure in MEASURES.items():
        found = {who: [_of(model, stage, metric) for model in own] for who, own in groups.items()}
        if not any(part for parts in found.values() for part in parts):
            continue
        values = {who: _values(parts, metric, measure.factor) for who, parts in found.items()}
        texts = aligned([float(np.mean(own)) if own else None for own in values.values()])
        hints = [_hint(values[who], found[who], metric) for who in groups]
        doubts = {who: doubt for who, parts in found.items() if (doubt := _doubt(parts, metric))}
        cells = [
            {"text": text, "hint": hint, "doubtful": who in doubts}
            for who, text, hint in zip(groups, texts, hints, strict=True)
        ]
        rows.append({"metric": metric, "measure": measure, "cells": cells, "caveats": _by_sentence(doubts, found)})
    return rows


def _of(model: Model, stage: str, metric: str) -> Mapping[str, Any]:
    """Return ``metrics``, ``reasons`` and ``caveats`` of a model's stage; empty if the metric is not among them."""
    part = model["stages"] if metric in model["stages"][stage]["metrics"] else model.get("likeness", {})
    found: Mapping[str, Any] = part.get(stage, {})
    return found if metric in found.get("metrics", {}) else {}


def _values(parts: Sequence[Mapping[str, Any]], metric: str, factor: float) -> list[float]:
    return [factor * part["metrics"][metric] for part in parts if part and part["metrics"][metric] is not None]


def _hint(values: Sequence[float], parts: Sequence[Mapping[str, Any]], metric: str) -> str:
    if not values:
        return next((part["reasons"][metric] for part in parts if part), "")
    return f"mean of {len(values)} seeds: {', '.join(aligned(values))}" if len(values) > 1 else ""


def _doubt(parts: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return the caveat of the first seed that has one; its numbers are of this seed, but the table shows the mean."""
    found = next((part["caveats"][metric] for part in parts if metric in part.get("caveats", {})), "")
    return f"{found} (one seed of {len(parts)})" if found and len(parts) > 1 else found


def _by_sentence(doubts: Mapping[str, str], everyone: Mapping[str, object]) -> list[str]:
    whose: dict[str, list[str]] = {}
    for who, sentence in doubts.items():
        whose.setdefault(sentence, []).append(who)
    return [s if len(w) == len(everyone) else f"{', '.join(w)}: {s}" for s, w in whose.items()]


def findings(summary: Mapping[str, Any]) -> list[str]:
    """Summarize an analysis in up to three sentences: accuracy, structure of the embedding, and limits.

    Args:
        summary: summary of the analysis, with its relations.
    """
    groups = columns(summary["models"])
    return [*_accuracy(summary, groups), *_structure(groups), _limits(summary)]


def _accuracy(summary: Mapping[str, Any], groups: Mapping[str, Sequence[Model]]) -> list[str]:
    known = {who: [m["accuracy"] for m in own if m["accuracy"] is not None] for who, own in groups.items()}
    means = {who: 100 * float(np.mean(own)) for who, own in known.items() if own}
    if not means:
        return ["No accuracy is available: no pair has a label, or the models were trained on other classes."]
    texts = dict(zip(means, aligned(list(means.values())), strict=True))
    students = {who: mean for who, mean in means.items() if groups[who][0]["role"] != "teacher"}
    teachers = [who for who in means if who not in students]
    parts = [f"{who} is right on {texts[who]} %" for who in teachers]
    if students:
        best = max(students, key=lambda who: students[who])
        seeds = f" (mean of {len(known[best])} seeds)" if len(known[best]) > 1 else ""
        others = f", the best of {len(students)} methods," if len(students) > 1 else ""
        parts.append(
            f"{best}{others} on {texts[best]} %{seeds}" if parts else f"{best} is right on {texts[best]} %{seeds}"
        )
    data = summary["data"]
    sentence = f"On {data['labeled']} labeled {data['split']} pairs, {' and '.join(parts)}."
    return [sentence]


def _structure(groups: Mapping[str, Sequence[Model]]) -> list[str]:
    """Compare the teacher's embedding with that of the most accurate students, by rank and correlation."""
    judged = {who: own for who, own in groups.items() if own[0]["accuracy"] is not None}
    teacher = next((who for who, own in judged.items() if own[0]["role"] == "teacher"), None)
    students = [who for who, own in judged.items() if own[0]["role"] != "teacher"]
    best = max(students, key=lambda who: np.mean([m["accuracy"] or 0.0 for m in judged[who]]), default=None)
    said = []
    for metric, phrase in (("effective_rank", "effective rank"), ("correlation_mean_abs", "mean |r|")):
        values = [
            _values([_of(model, "embedding", metric) for model in judged[who]], metric, 1.0)
            for who in (teacher, best)
            if who is not None
        ]
        if values and all(values):
            texts = aligned([float(np.mean(own)) for own in values])
            said.append(f"{phrase} {' against '.join(texts)}")
    names = " against ".join(who for who in (teacher, best) if who is not None)
    return [f"In the embedding of {names}: {', '.join(said)}."] if said else []


def _limits(summary: Mapping[str, Any]) -> str:
    moved = {
        metric
        for model in summary["models"]
        for part in (model["stages"], model.get("likeness", {}))
        for stage in part.values()
        for metric in stage["caveats"]
    }
    names = ", ".join(MEASURES[metric].name for metric in MEASURES if metric in moved)
    pairs = summary["data"]["pairs"]
    first = (
        f"{pairs} pairs are few for {names}: see the notes in the tables" if moved else f"{pairs} pairs suffice for all"
    )
    relations = summary["relations"]
    if any(relation["spearman"] is not None for relation in relations):
        second = "a relation to accuracy is shown"
    elif all(relation["independent"] < FEWEST_MODELS for relation in relations):
        second = "too few independent models to relate structure to accuracy"
    else:
        second = f"no relation of structure to accuracy can be shown: {relations[0]['reason']}"
    return f"{first}; {second}."


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `cmkd.analysis.compare` as text, with a flag if the interval excludes 0.

    With few groups the interval is too narrow, and no row gets the flag.

    Args:
        rows: rows of one or more comparisons.
    """
    found = []
    for row in rows:
        known, enough = row["metric"] in MEASURES, row["groups"] >= FEW_GROUPS
        factor = MEASURES[row["metric"]].factor if known else 100.0
        first, second = aligned([factor * row["first"], factor * row["second"]])
        ends = [factor * end for end in row["interval"] or ()]
        clear = enough and bool(ends) and (ends[0] > 0 or ends[1] < 0)
        nearest = min(map(abs, ends)) if clear else 0.0  # a flagged end must not be shown as 0
        difference, *texts = aligned([factor * row["difference"], *ends], smallest=nearest)
        found.append({
            **row, "title": MEASURES[row["metric"]].title if known else "accuracy (%)",
            "first": first, "second": second, "difference": difference,
            "interval": " to ".join(texts) or "—", "excludes_zero": clear,
        })  # fmt: skip
    return found
