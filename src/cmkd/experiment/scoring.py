"""Score a model on validation and test pairs; ``result.json`` is written last, as it marks the model as finished."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmkd.analysis.measure import EMBEDDING, measured, stage_features
from cmkd.cost import add_cost
from cmkd.data import Pack
from cmkd.documents import RESULT
from cmkd.errors import CmkdError
from cmkd.evaluation import prediction_table, scores
from cmkd.experiment.resolve import ResolvedRun
from cmkd.experiment.teaching import run_device
from cmkd.inference import latency, operations, predict
from cmkd.io import atomic, write_json
from cmkd.models import Model
from cmkd.provenance import commit
from cmkd.structure import ESSENTIAL, essentials
from cmkd.training.teacher_outputs import OutputsFile

MEASURED_PAIRS = 1000
"""Largest number of validation pairs on which the structure of embeddings is measured."""


def score_outputs(run: ResolvedRun, folder: Path, path: Path, about: dict[str, Any]) -> None:
    """Score a file of teacher outputs on the splits that it covers.

    Args:
        run: the resolved run.
        folder: folder that receives ``result.json``.
        path: the file of outputs.
        about: further entries of the results.
    """
    outputs, result = OutputsFile.read(path, run.pack), about | {"checkpoint": None, "outputs": str(path)}
    for split in ("validation", "test"):
        rows = run.pack.rows(split, modalities=(run.rich,), labeled=True)
        logits, labels = outputs.at(rows), run.pack.index["label"].to_numpy()[rows]
        measured = {"accuracy": None} if logits is None else scores(logits, labels)
        result |= {f"{split}_{name}": value for name, value in measured.items()} | {f"{split}_pairs": len(rows)}
    write_json(folder / RESULT, result)


def score_model(run: ResolvedRun, folder: Path, model: Model, path: Path, about: dict[str, Any]) -> None:
    """Score a model on validation and test pairs; a model of a tuning trial on the validation pairs alone.

    A student with several modalities is scored with its first modality alone, like other students, and under
    ``subsets`` with each subset of its modalities, on the pairs that have the whole subset. A teacher with several
    modalities is scored with all of them.

    Args:
        run: the resolved run.
        folder: folder that receives ``result.json``, the predictions of each split, and the latency in ``cost.json``.
        model: the model.
        path: checkpoint of the model.
        about: further entries of the results; ``seed`` is required.
    """
    home, place = run.config.out.resolve(), path.resolve()
    checkpoint = str(place.relative_to(home) if place.is_relative_to(home) else place)
    parameters = sum(values.numel() for values in model.parameters())
    cost = {"parameters": parameters, "multiply_adds": operations(model, run.pack)}
    result = about | {"commit": commit(), "checkpoint": checkpoint} | cost
    if model.spec.class_names != run.pack.classes:  # its predictions cannot be compared with the data's classes
        unknown = dict.fromkeys(("validation_accuracy", "test_accuracy"))
        write_json(folder / RESULT, result | {"classes": list(model.spec.class_names)} | unknown)
        return
    device = run_device(run.config.trainer.accelerator)
    splits = ("validation",) if about["seed"] == run.config.trial_seed else ("validation", "test")
    alone, subsets = model.subsets[0], dict[str, dict[str, Any]]()
    for split, names in product(splits, model.subsets):
        rows = run.pack.rows(split, modalities=names, labeled=True)
        logits = predict(model, run.pack, rows, modalities=names, device=device)
        if spoiled := int((~np.isfinite(logits)).any(1).sum()):
            raise CmkdError(
                f"the outputs of '{path}' are not finite on {spoiled} of {len(rows)} {split} pairs; check that their "
                "values resemble those of the training pairs, or lower --optimizer.learning_rate"
            )
        measured = scores(logits, run.pack.index["label"].to_numpy()[rows]) | {"pairs": len(rows)}
        subsets.setdefault("+".join(names), {}).update({f"{split}_{name}": value for name, value in measured.items()})
        if names == alone:
            with atomic(folder / f"{split}.parquet") as temporary:
                prediction_table(run.pack, rows, logits).to_parquet(temporary, index=False)
    if "test" in splits:  # for a trial, only validation counts
        add_cost(folder, latency_seconds=latency(model, run.pack, device=device))
        result |= {"structure": _structure(model, run.pack, device)}
    result |= subsets["+".join(alone)] | ({"subsets": subsets} if len(subsets) > 1 else {})
    write_json(folder / RESULT, result)


def _structure(model: Model, pack: Pack, device: str) -> dict[str, float | None]:
    """Return the `ESSENTIAL` metrics of a model's embeddings of validation pairs; None if a metric is not finite."""
    rows = pack.rows("validation", modalities=model.subsets[0], labeled=True)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MEASURED_PAIRS])
    embeddings = stage_features(model, pack, rows, device=device)[EMBEDDING]
    target = torch.from_numpy(pack.index["label"].to_numpy(dtype=np.int64)[rows])
    metrics: dict[str, float | None] = measured(essentials, ESSENTIAL, torch.from_numpy(embeddings), target)["metrics"]
    return metrics
