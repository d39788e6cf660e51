"""Read what a run's page needs beside results and predictions: the recommended student's data, and test pairs."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cmkd.documents import read_json, record
from cmkd.errors import CmkdError, not_let
from cmkd.evaluation.results import AGAIN, superseded
from cmkd.registry import is_reference
from cmkd.report import figures
from cmkd.report.predictions import Tables, answers
from cmkd.types import Modality


@dataclass(frozen=True, kw_only=True)
class _OnTest:
    """Schema of the results on the test pairs in ``student.json``."""

    pairs: int
    calibration_error_before: float
    calibration_error: float
    accepted: float
    accuracy_of_accepted: float | None = None


@dataclass(frozen=True)
class _Bin:
    """Schema of a bin of a reliability diagram; fractions of 1."""

    confidence: float
    accuracy: float
    fraction: float


@dataclass(frozen=True)
class _Reliability:
    """Schema of the reliability of the recommended student, without and with temperature scaling."""

    bins: int
    uncalibrated: tuple[_Bin, ...]
    calibrated: tuple[_Bin, ...]


@dataclass(frozen=True)
class _Published:
    """Schema of the part of ``student.json`` that the page reads."""

    test: _OnTest
    data: Mapping[str, Any]
    reliability: _Reliability | None = None
    method: str | None = None
    seed: int | None = None
    model: str = ""
    own: Mapping[str, Any] | None = None


def published(folder: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return calibration and data card of the recommended student; empty if it is not yet written.

    If the run was continued and now recommends another student, only the data card is returned.
    """
    path = folder / "student.json"
    if not path.is_file():
        return {}
    said = record(_Published, read_json(path, fix=AGAIN), f"'{path}'", fix=AGAIN)
    found: dict[str, Any] = {"card": said.data}
    if superseded(asdict(said), results):
        return found
    found["test"] = said.test
    if said.own is not None:  # a network given as a Python object has no such name
        found["module"] = said.model if is_reference(said.model) else "package.module:Name"
    if curves := said.reliability:
        models = [
            {"name": name, "bins": curves.bins, "reliability": [asdict(one) for one in each]}
            for name, each in (("uncalibrated", curves.uncalibrated), ("calibrated", curves.calibrated))
        ]
        label = "Reliability diagram: accuracy by confidence, before and after calibration"
        found["reliability"] = figures.inline(figures.reliability_figure(models), label)
        found["bins"] = curves.calibrated
    return found


@dataclass(frozen=True)
class _Samples:
    """Schema of ``test_samples.json``."""

    labels: tuple[str, ...]
    modalities: Mapping[str, Modality]
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.labels):
            raise CmkdError(f"it has {len(self.ids)} ids and {len(self.labels)} labels")


def sample_pairs(folder: Path, tables: Tables, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return pictures of test pairs with each model's predictions; empty for a run of an older version."""
    path, drawn = folder / "test_samples.json", folder / "test_samples.npz"
    if not drawn.is_file():
        return []
    about = record(_Samples, read_json(path, fix=AGAIN), f"'{path}'", fix=AGAIN)
    try:
        with np.load(drawn, allow_pickle=False) as arrays:
            shown = {name: arrays[name] for name in about.modalities}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        damaged = CmkdError(f"'{drawn}' is damaged ({str(error)[:100]}): {AGAIN}")
        raise (not_let(f"'{drawn}'", error) or damaged) from error
    for name, modality in about.modalities.items():
        if shown[name].shape != (len(about.labels), *modality.shape) or shown[name].dtype != modality.dtype:
            raise CmkdError(f"'{drawn}' does not match '{path}' ({name}): {AGAIN}")
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
