"""Cross-modal knowledge distillation: train with two sensors, use the poor one alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cmkd import _torchvision

if TYPE_CHECKING:
    from cmkd.config import (
        AugmentationConfig,
        ModelConfig,
        OptimizerConfig,
        RunConfig,
        StudentConfig,
        TeacherConfig,
        TrainerConfig,
    )
    from cmkd.data import Pack
    from cmkd.datasets import open_data
    from cmkd.deploy.hub import HubStudent
    from cmkd.deploy.student import load_student
    from cmkd.errors import CmkdError
    from cmkd.estimator import DistilledClassifier
    from cmkd.experiment import Experiment
    from cmkd.models import wrap
    from cmkd.models.checkpoint import load_model
    from cmkd.types import Batch, Modality, Output, Spec

_torchvision.install()

__version__ = "0.1.0"

__all__ = [
    "AugmentationConfig",
    "Batch",
    "CmkdError",
    "DistilledClassifier",
    "Experiment",
    "HubStudent",
    "Modality",
    "ModelConfig",
    "OptimizerConfig",
    "Output",
    "Pack",
    "RunConfig",
    "Spec",
    "StudentConfig",
    "TeacherConfig",
    "TrainerConfig",
    "load_model",
    "load_student",
    "open_data",
    "wrap",
]

# torch alone takes seconds to import, so every name is imported on first use
_HOMES = {
    "AugmentationConfig": "config",
    "Batch": "types",
    "CmkdError": "errors",
    "DistilledClassifier": "estimator",
    "Experiment": "experiment",
    "HubStudent": "deploy.hub",
    "Modality": "types",
    "ModelConfig": "config",
    "OptimizerConfig": "config",
    "Output": "types",
    "Pack": "data",
    "RunConfig": "config",
    "Spec": "types",
    "StudentConfig": "config",
    "TeacherConfig": "config",
    "TrainerConfig": "config",
    "load_model": "models.checkpoint",
    "load_student": "deploy.student",
    "open_data": "datasets",
    "wrap": "models",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cmkd' has no attribute '{name}'")
    return getattr(import_module(f"cmkd.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
