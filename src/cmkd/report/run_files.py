"""What a run kept for its page beside results and predictions: the recommended student's data, and test pairs."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cmkd.documents import read_json, record
from cmkd.errors import CmkdError
from cmkd.evaluation.results import AGAIN
from cmkd.report import figures
from cmkd.report.predictions import Tables, answers
from cmkd.types import Modality


@dataclass(frozen=True, kw_only=True)
class _OnTest:
    """Schema of what ``student.json`` says of the test pairs."""

    pairs: int
    calibration_error_before: float
    calibration_error: float
    accepted: float
    accuracy_of_accepted: float | None = None
    bins: int = 0
    reliability: tuple[Mapping[str, float], ...] = ()
    reliability_before: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class _Published:
    """Schema of what the page reads of ``student.json``."""

    test: _OnTest
    data: Mapping[str, Any]


def published(folder: Path) -> dict[str, Any]:
    """Return calibration and data card of the recommended student; nothing before it is written."""
    path = folder / "student.json"
    if not path.is_file():
        return {}
    said = record(_Published, read_json(path, fix=AGAIN), f"'{path}'", fix=AGAIN)
    curves = {"raw": said.test.reliability_before, "calibrated": said.test.reliability}
    models = [{"name": n, "bins": said.test.bins, "reliability": bins} for n, bins in curves.items() if bins]
    label = "Reliability diagram: accuracy by confidence, before and after calibration"
    drawn = figures.inline(figures.reliability_figure(models), label) if models else ""
    return {"test": said.test, "card": said.data, "reliability": drawn, "bins": said.test.reliability}


@dataclass(frozen=True)
class _Samples:
    """Schema of ``samples.json``."""

    labels: tuple[str, ...]
    modalities: Mapping[str, Modality]
    ids: tuple[str, ...]


def sample_pairs(folder: Path, tables: Tables, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return pictures of test pairs and what each model says of them; none in a run of an older version."""
    path, drawn = folder / "test_samples.json", folder / "test_samples.npz"
    if not drawn.is_file():
        return []
    about = record(_Samples, read_json(path, fix=AGAIN), f"'{path}'", fix=AGAIN)
    try:
        with np.load(drawn, allow_pickle=False) as arrays:
            shown = {name: arrays[name] for name in about.modalities}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise CmkdError(f"'{drawn}' is damaged ({str(error)[:100]}): {AGAIN}") from error
    for name, modality in about.modalities.items():
        if shown[name].shape != (len(about.labels), *modality.shape) or shown[name].dtype != modality.dtype:
            raise CmkdError(f"'{drawn}' does not fit '{path}' ({name}): {AGAIN}")
    said = answers(tables, about.ids, classes)
    return [
        {
            "label": label,
            "id": about.ids[place],
            "pictures": {name: figures.picture(shown[name][place], m) for name, m in about.modalities.items()},
            "answers": said[place],
        }
        for place, label in enumerate(about.labels)
    ]
