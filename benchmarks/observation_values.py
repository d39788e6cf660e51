"""What the observation's document reads of the stored results: values, and their rank correlations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cmkd.report.structure import spearman

Array = NDArray[np.float64]
Results = Sequence[Mapping[str, Any]]


def value(result: Mapping[str, Any], stage: str, metric: str) -> float | None:
    """Return a metric of a network's stage; ``map`` is its deepest map."""
    stages = result["stages"]
    name = stage if stage in stages else [s for s in stages if s.startswith("map")][-1]
    found: float | None = stages[name].get(metric)
    return found


def columns(results: Results, stage: str, metric: str, probe: str) -> tuple[Array, Array, list[Mapping[str, Any]]]:
    """Return a structure metric and a measure of discriminability of the networks that have both, and their steps."""
    pairs = [(value(r, stage, metric), value(r, "embedding", probe), r["step"]) for r in results]
    kept = [(x, y, step) for x, y, step in pairs if x is not None and y is not None]
    return np.array([k[0] for k in kept]), np.array([k[1] for k in kept]), [k[2] for k in kept]


def rho(x: Array, y: Array) -> tuple[float, float, float]:
    """Return Spearman's rho and its interval; NaN below four networks."""
    return spearman(x, y) if len(x) >= 4 else (np.nan, np.nan, np.nan)


def within(x: Array, y: Array, groups: Sequence[object], transform: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Transform the values of each group by itself."""
    ours, theirs = np.array(x, dtype=float), np.array(y, dtype=float)
    for group in set(groups):
        own = np.array([g == group for g in groups])
        ours[own], theirs[own] = transform(ours[own]), transform(theirs[own])
    return ours, theirs


def relative_ranks(values: Array) -> Array:
    """Return ranks as parts of their number."""
    return np.asarray(rankdata(values) / len(values))


def centered(values: Array) -> Array:
    """Return what differs from the mean."""
    return values - values.mean()


def views(results: Results, stage: str, metric: str, probe: str) -> list[tuple[float, float, float]]:
    """Return rho over ranks within data sets, and over what is left at a fixed data set and severity."""
    x, y, steps = columns(results, stage, metric, probe)
    ladders = [step["name"] for step in steps]
    rungs = [(step["name"], step["setting"]["severity"]) for step in steps]
    several = np.array([rungs.count(rung) > 1 for rung in rungs], dtype=bool)  # one network has nothing to differ from
    kept = [rung for rung, enough in zip(rungs, several, strict=True) if enough]
    at_rung = within(x[several], y[several], kept, centered)
    return [rho(*within(x, y, ladders, relative_ranks)), rho(*at_rung)]


def mean(results: Results, stage: str, metric: str) -> float:
    """Return the mean over networks; NaN where there is none."""
    values = [v for r in results if (v := value(r, stage, metric)) is not None]
    return float(np.mean(values)) if values else float("nan")
