"""Measure the structure of trained models' features at every stage on a split; results are strict JSON."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cmkd
from cmkd import structure
from cmkd.analysis.subjects import Subject, teacher_of
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError, unknown_name
from cmkd.evaluation import group_numbers
from cmkd.inference import outputs
from cmkd.models import Model
from cmkd.models.checkpoint import load_model
from cmkd.progress import Progress, silent

FORMAT = "cmkd-structure-1"
EMBEDDING, LOGITS = "embedding", "logits"
Features = Mapping[str, NDArray[np.float32]]

_NEEDS_CLASSES = "needs two labeled classes or more"
_NEEDS_FOLDS = f"{_NEEDS_CLASSES}, each with pairs of 5 groups; a pair without a group counts as one"
_REASONS = {
    "spectral_decay": "fewer than two eigenvalues are left to fit a line through",
    "nearest_neighbor_entropy": "needs two channels",
    "fisher_ratio": "the classes do not vary within, or there are fewer than two",
    "nc1": "the class means coincide, or there are fewer than two classes",
    "tolerance": _NEEDS_CLASSES,
    "silhouette": f"{_NEEDS_CLASSES}, and fewer classes than samples",
    "knn_accuracy": _NEEDS_FOLDS,
    "linear_probe_accuracy": _NEEDS_FOLDS,
    "cross_correlation_diagonal": "needs student and teacher of one width",
    "alignment": "needs student and teacher of one width",
    "prediction_agreement": "needs a teacher of the same classes",
    "non_target_divergence": "needs a teacher of the same classes, three of them, and pairs with a label",
}


@dataclass
class Analysis:
    """Results of `analyze`.

    Args:
        summary: content of ``structure.json``.
        features: label of a model -> stage -> features ``(pairs, channels)``.
        target: ``(pairs,)`` classes, -1 for unlabeled pairs.
        classes: names of the classes.
        ids: ids of the pairs.
        groups: ``(pairs,)`` group numbers; pairs of one group are not independent.
    """

    summary: dict[str, Any]
    features: dict[str, Features]
    target: NDArray[np.int64]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: NDArray[np.int64]

    def predicted(self, label: str) -> NDArray[np.int64] | None:
        """Return the classes ``(pairs,)`` that a model predicts; None for a model with other classes."""
        (model,) = (model for model in self.summary["models"] if model["label"] == label)
        return self.features[label][LOGITS].argmax(1) if model["same_classes"] else None


def stage_features(
    model: Model, pack: Pack, rows: NDArray[np.int64], *, batch_size: int = 256, device: str = "cpu"
) -> Features:
    """Return the features of every stage of a model in eval mode.

    Feature maps are averaged over positions batch by batch, so memory is limited to one batch of maps plus
    ``(pairs, channels)`` for each stage.

    Args:
        model: the model to measure.
        pack: the pairs.
        rows: positions in the pack, ``(pairs,)`` int64.
        batch_size: pairs per batch.
        device: device that runs the model.

    Returns:
        ``map 1`` (shallow) ..., ``embedding``, ``logits`` -> float32 features ``(pairs, channels)``.
    """
    parts: list[list[Tensor]] = []
    for output in outputs(model, pack, rows, batch_size=batch_size, device=device):
        stages = [*(m.float().mean((2, 3)) for m in output.feature_maps), output.embedding, output.logits]
        parts.append([stage.float().cpu() for stage in stages])
    names = [*(f"map {i + 1}" for i in range(len(model.spec.map_shapes))), EMBEDDING, LOGITS]
    return {stage: torch.cat(found).numpy() for stage, found in zip(names, zip(*parts, strict=True), strict=True)}


def measured(
    function: Callable[..., Mapping[str, float]], names: Sequence[str], *arguments: object, **options: object
) -> dict[str, Any]:
    """Call `structure.describe` or `structure.compare`, and return ``metrics`` for strict JSON.

    A metric that is not finite or was not measured is None, and ``reasons`` explains why.

    Example:
        >>> found = measured(structure.describe, structure.DESCRIBED, torch.ones(4, 2))
        >>> found["metrics"]["spectral_decay"], found["reasons"]["spectral_decay"]
        (None, 'fewer than two eigenvalues are left to fit a line through')
        >>> spoiled = torch.full((4, 2), torch.nan)
        >>> measured(structure.describe, structure.DESCRIBED, spoiled)["reasons"]["effective_rank"]
        '4 of 4 samples hold NaN or infinity: check the model that made them'
    """
    why = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence of the linear probe; its accuracy is reported
            found = dict(function(*arguments, **options))
    except CmkdError as error:
        found, why = {}, str(error)
    metrics: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name in (*found, *(name for name in names if name not in found)):
        value = found.get(name, math.nan)
        metrics[name] = value if math.isfinite(value) else None
        if metrics[name] is None:
            reasons[name] = why or _REASONS.get(name, "not a finite number for these features")
    return {"metrics": metrics, "reasons": reasons}


def analyze(
    subjects: Sequence[Subject],
    pack: Pack,
    *,
    split: str = "validation",
    pairs: int = 2000,
    seed: int = 0,
    device: str = "cpu",
    modules: Sequence[object] = (),
    progress: Progress = silent,
) -> Analysis:
    """Measure every stage of models on the same pairs.

    Args:
        subjects: the models, as `cmkd.analysis.find` returns them.
        pack: the data they were trained on, or other data of the same classes and modalities.
        split: the split whose pairs are measured.
        pairs: largest number of pairs; more are sampled at random.
        seed: random seed of the sample.
        device: device that runs the models.
        modules: the user's own modules for checkpoints that need one, each as for `cmkd.load_model`; the first one that
            loads is used.
        progress: callback with the number of measured models.

    Raises:
        CmkdError: a model has other classes (except a teacher from outside its run), or a modality that the data do not
            have or have with another kind, shape or dtype; or there are fewer than two pairs.
    """
    if pairs < 2:
        raise CmkdError(f"--pairs is {pairs}; it must be at least 2")
    models = {subject.label: _checked(subject, pack, modules) for subject in subjects}
    modalities = sorted({name for model in models.values() for name in model.subsets[0]})
    rows = pack.rows(split, modalities=modalities)
    if len(rows) < 2:
        raise CmkdError(
            f"{len(rows)} {split} pairs have {' and '.join(modalities)}; at least two are needed: try another --split"
        )
    if len(rows) > pairs:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:pairs])
    target = pack.index["label"].to_numpy(dtype=np.int64)[rows]
    features = {label: stage_features(model, pack, rows, device=device) for label, model in models.items()}
    index = pack.index.iloc[rows]
    groups = group_numbers(index)
    described = list[dict[str, Any]]()
    for subject in subjects:
        progress(len(described), len(subjects))
        described.append(
            _describe(subject, subjects, models, features, torch.from_numpy(target), torch.tensor(groups), pack.classes)
        )
    progress(len(described), len(subjects))
    summary = {
        "format": FORMAT,
        "cmkd": cmkd.__version__,
        "data": {
            "name": pack.card.name, "version": pack.card.version, "classes": list(pack.classes), "split": split,
            "pairs": len(rows), "labeled": int((target >= 0).sum()), "feature_maps": "averaged over positions",
        },
        "models": described,
    }  # fmt: skip
    return Analysis(summary, features, target, pack.classes, tuple(map(str, index["id"])), groups)


def _checked(subject: Subject, pack: Pack, modules: Sequence[object]) -> Model:
    model, about = _loaded(subject.path, modules)
    model.spec = replace(model.spec, class_names=tuple(about["classes"]))
    if model.spec.class_names != pack.classes and not subject.from_elsewhere:
        raise CmkdError(
            f"'{subject.path}' was trained on the classes {_list(about['classes'])}, but the data have "
            f"{_list(pack.classes)}; give the data it was trained on"
        )
    for modality in (m for m in model.modalities if m.name in model.subsets[0]):
        name = modality.name
        if name not in pack.modalities:
            raise CmkdError(f"'{subject.path}': {unknown_name('modality', name, pack.modalities)}")
        for what in ("kind", "shape", "dtype"):
            ours, theirs = getattr(modality, what), getattr(pack.modalities[name], what)
            if ours != theirs:
                raise CmkdError(f"'{subject.path}' expects '{name}' of {what} {ours}, but the data have {theirs}")
        modality.check_measured(pack.modalities[name], pack.card.name, f"for '{subject.path}'")
    return model


def _loaded(path: Path, modules: Sequence[object]) -> tuple[Model, dict[str, Any]]:
    """Load a model, with the first of the user's own modules that fits if it needs one."""
    for module in modules[:-1]:
        with contextlib.suppress(CmkdError):
            return load_model(path, module=module)
    return load_model(path, module=modules[-1] if modules else None)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, ... ({len(names)})"


def _describe(
    subject: Subject,
    subjects: Sequence[Subject],
    models: Mapping[str, Model],
    features: Mapping[str, Features],
    target: Tensor,
    groups: Tensor,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    own, teacher = features[subject.label], teacher_of(subject, subjects)
    stages = {name: _stage(torch.from_numpy(values), target, groups) for name, values in own.items()}
    kept = target >= 0
    right = (torch.from_numpy(own[LOGITS]).argmax(1) == target)[kept].double().mean()
    same_classes = models[subject.label].spec.class_names == classes
    found: dict[str, Any] = {
        "label": subject.label, "checkpoint": str(subject.path), "role": subject.role or None,
        "method": subject.method or None, "seed": subject.seed, "modality": "+".join(models[subject.label].subsets[0]),
        "accuracy": float(right) if same_classes and kept.any() else None, "same_classes": same_classes,
        "stages": stages, "teacher": teacher.label if teacher else None,
    }  # fmt: skip
    if teacher is not None:
        theirs, comparable = features[teacher.label], models[teacher.label].spec.class_names == classes
        shared = [name for name in own if name in theirs]
        count = len(groups.unique())
        found["likeness"] = {name: _likeness(own, theirs, name, target, count, comparable) for name in shared}
    return found


def _stage(values: Tensor, target: Tensor, groups: Tensor) -> dict[str, Any]:
    found = measured(structure.describe, structure.DESCRIBED, values, target, groups=groups)
    channels, seen, of = int(values.shape[1]), target[target >= 0], groups[target >= 0]
    sizes = {"channels": channels, "pairs": len(target), "labeled": len(seen), "classes": len(seen.unique())}
    sizes["groups"] = len(of.unique())
    return {"channels": channels, **found, "caveats": structure.caveats(found["metrics"], **sizes)}


def _likeness(
    own: Features, theirs: Features, stage: str, target: Tensor, groups: int, same_classes: bool
) -> dict[str, Any]:
    found = _compared(own, theirs, stage, target, same_classes)
    student, teacher = (_ratio(features[stage]) for features in (own, theirs))
    caveats = structure.likeness_caveats(
        found["metrics"], student_ratio=student, teacher_ratio=teacher, pairs=len(target), groups=groups
    )
    return {**found, "caveats": caveats}


def _ratio(values: NDArray[np.float32]) -> float:
    if not np.isfinite(values).all():
        return math.nan
    return structure.participation_ratio(structure.Moments.of(torch.from_numpy(values)))


def _compared(own: Features, theirs: Features, stage: str, target: Tensor, same_classes: bool) -> dict[str, Any]:
    student, teacher = torch.from_numpy(own[stage]), torch.from_numpy(theirs[stage])
    if stage == EMBEDDING and not same_classes:
        return measured(structure.compare, structure.COMPARED, student, teacher)
    if stage != EMBEDDING:
        return measured(structure.compare, structure.COMPARED[:3], student, teacher)
    logits = {"student_logits": torch.from_numpy(own[LOGITS]), "teacher_logits": torch.from_numpy(theirs[LOGITS])}
    return measured(structure.compare, structure.COMPARED, student, teacher, target=target, **logits)
