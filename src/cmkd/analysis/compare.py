"""Compare two runs or two models: differences of structure on the same pairs, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd import structure
from cmkd.analysis.measure import Analysis
from cmkd.analysis.subjects import Subject
from cmkd.errors import CmkdError
from cmkd.evaluation import bootstrap

Array = NDArray[np.float64]
RESAMPLES = 200
"""Default number of resamples; each one needs an eigendecomposition for every model and stage."""
MOST_PAIRS = 5000
"""Largest number of pairs for which the uniformities are compared; their memory grows with its square."""
METRICS = (
    "correlation_mean_abs",
    "effective_rank",
    "participation_ratio",
    structure.uniformity.__name__,
    "uniformity_centered",
)
"""Structure metrics that can be computed with a resample given as weights of the pairs."""


def matched(subjects: Sequence[Subject], places: Sequence[Path]) -> dict[str, list[tuple[str, str]]]:
    """Match the models of two places: name -> pairs of labels, one for each seed.

    Two runs are matched by teacher, and by method and seed of the students; two checkpoints match each other.

    Args:
        subjects: models of both places, as `cmkd.analysis.find` returns them.
        places: two folders of runs, or two checkpoints.

    Raises:
        CmkdError: `places` are not two different runs or two different checkpoints, or no models match.
    """
    if len(places) != 2 or places[0].is_dir() != places[1].is_dir():
        raise CmkdError(f"--compare takes two runs or two .safetensors files, got {' and '.join(map(str, places))}")
    if places[0].resolve() == places[1].resolve():
        raise CmkdError(f"--compare was given '{places[0]}' twice: give two runs, or two .safetensors files")
    if not places[0].is_dir():
        return {"model": [(subjects[0].label, subjects[1].label)]}
    first, second = ({(s.role, s.method, s.seed): s for s in subjects if s.run == place} for place in places)
    found: dict[str, list[tuple[str, str]]] = {}
    for role, method, seed in first:
        same = (key for key in second if key == (role, method, seed) or role == key[0] == "teacher")
        other = second.get(next(same, (role, method, seed)))
        if other is not None:
            found.setdefault(method or role, []).append((first[role, method, seed].label, other.label))
    if not found:
        raise CmkdError(
            f"'{places[0]}' and '{places[1]}' share no method and seed to compare: "
            "give two .safetensors files to --compare"
        )
    return found


def compare(
    analysis: Analysis, pairs: Mapping[str, Sequence[tuple[str, str]]], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the second models' metrics minus the first ones', with 95 % bootstrap intervals over the pairs.

    Both models of a comparison are measured on the same resamples, drawn in whole groups, so the difficulty of the
    pairs cancels. Several seeds are averaged first. The intervals cover the choice of the pairs: they say nothing about
    other trainings, and for `uniformity_centered` they treat the center as known.

    Args:
        analysis: analysis of all the models.
        pairs: name -> labels of the first and the second model, for each seed, as `matched` returns them.
        resamples: number of resamples of the pairs.
        seed: random seed of the resamples.

    Returns:
        A row for each name, stage and metric: ``who``, ``seeds``, ``stage``, ``metric``, ``first``, ``second``,
        ``difference``, ``interval``, and ``groups``, the number of groups (a pair without a group counts as one). The
        pairs of a single group are resampled individually, and say nothing about other groups. The stage
        ``predictions`` has the ``accuracy`` over labeled pairs.
    """
    rows: list[dict[str, Any]] = []
    groups = len(np.unique(analysis.groups))
    for who, labels in pairs.items():
        stages = [s for s in analysis.features[labels[0][0]] if all(s in analysis.features[b] for _, b in labels)]
        sides = [[_Side(analysis, label) for label in side] for side in zip(*labels, strict=True)]
        for stage in ("predictions", *stages):

            def differences(
                weights: Array, sides: Sequence[Sequence[_Side]] = sides, stage: str = stage
            ) -> dict[str, Array]:
                first, second = (_averaged([one.values(stage, weights) for one in side]) for side in sides)
                shared = [name for name in first if name in second]
                return {name: np.stack([first[name], second[name], second[name] - first[name]], 1) for name in shared}

            found = bootstrap(differences, analysis.groups, resamples=resamples, seed=seed, centered=True)
            for metric, values in found.items():
                known = np.isfinite(values[:, 2]).all()
                rows.append({
                    "who": who, "seeds": len(labels), "stage": stage, "metric": metric,
                    "first": float(values[0, 0]), "second": float(values[0, 1]), "difference": float(values[0, 2]),
                    "interval": values[1:, 2].tolist() if known else None, "groups": groups,
                })  # fmt: skip
    return [row for row in rows if np.isfinite(float(row["difference"]))]


def _averaged(seeds: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.mean([one[name] for one in seeds], axis=0) for name in seeds[0] if all(name in s for s in seeds)}


class _Side:
    """Metrics of one model as functions of pair weights ``(resamples, n)``."""

    def __init__(self, analysis: Analysis, label: str) -> None:
        self.features = analysis.features[label]
        predicted = analysis.predicted(label)
        self.labeled = (analysis.target >= 0).astype(np.float64)
        self.right = None if predicted is None else (predicted == analysis.target) * self.labeled

    def values(self, stage: str, weights: Array) -> dict[str, Array]:
        if stage == "predictions":
            with np.errstate(invalid="ignore"):
                return {} if self.right is None else {"accuracy": weights @ self.right / (weights @ self.labeled)}
        x = torch.from_numpy(self.features[stage]).double()
        if not bool(x.isfinite().all()) or not bool(x.any()):
            return {}
        moments = [_moments(x, torch.from_numpy(one)) for one in weights]
        # a resample may contain only samples on which all features are 0
        known = [m if bool(m.products.any()) else None for m in moments]
        found = {
            name: np.array([np.nan if m is None else getattr(structure, name)(m) for m in known])
            for name in METRICS[:3]
        }
        if len(x) > MOST_PAIRS:
            return found
        return found | {name: _uniformity(x, name == METRICS[4], weights) for name in METRICS[3:]}


def _uniformity(x: torch.Tensor, center: bool, weights: Array) -> Array:
    """Return the uniformity over pairs of different samples; copies of one sample do not form a pair."""
    unit = structure.unit_vectors(x, center=center)
    potential = torch.exp(-2.0 * torch.cdist(unit, unit).square()).numpy()
    total = ((weights @ potential) * weights).sum(1) - weights**2 @ potential.diagonal()
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample of a single sample has no pair
        return np.asarray(np.log(total / (weights.sum(1) ** 2 - (weights**2).sum(1))))


def _moments(x: torch.Tensor, weights: torch.Tensor) -> structure.Moments:
    weighted = x * weights[:, None]
    return structure.Moments(weights.sum(), weighted.sum(0), weighted.T @ x)
