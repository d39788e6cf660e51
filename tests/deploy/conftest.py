"""Small untrained students, calibrated and saved as by `cmkd run`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmkd import models
from cmkd.deploy.calibration import Calibration
from cmkd.models.checkpoint import save_model
from cmkd.types import Modality


def make_student(folder: Path, modality: Modality, classes: tuple[str, ...], model: str = "auto") -> Path:
    """Save a student with random weights, and return its file."""
    torch.manual_seed(0)
    made = models.build(model, modality, classes=len(classes)).eval()
    thresholds = tuple(0.4 for _ in classes)
    calibration = Calibration(1.5, thresholds, 0.9, 100).to_dict()
    path = folder / f"{modality.name}.safetensors"
    save_model(path, made, name=model, classes=classes, extra={"calibration": calibration})
    return path


@pytest.fixture(scope="session")
def radar_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of gray images of 8 x 8 bytes, and three classes."""
    modality = Modality("radar", "image", (1, 8, 8), "uint8", (120.0,), (60.0,))
    return make_student(
        tmp_path_factory.mktemp("radar"), modality, ("-tug", "ferry", "tanker"), "thin_resnet(width=4,stages=1)"
    )
