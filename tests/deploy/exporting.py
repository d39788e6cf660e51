"""Small untrained models, saved as by a run, and pairs for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmkd import models
from cmkd.data.pack import CardInfo, Pack, PackWriter
from cmkd.deploy.calibration import Calibration
from cmkd.models.checkpoint import save_model
from cmkd.types import Kind, Modality, Scaling

CLASSES = ("ferry", "tanker", "tug")
CALIBRATION = Calibration(1.7, (0.4, None, 0.5), 0.9, 30)
SHAPES: dict[Kind, tuple[int, ...]] = {
    "image": (3, 12, 10),
    "vector": (5,),
    "series": (9, 3),
    "points": (6, 4),
    "point_series": (3, 6, 4),
}


class Own(nn.Module):
    """A user's own network."""

    def __init__(self, modality: Modality, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(modality.channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))
        self.layers(torch.zeros(1, *modality.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Deceptive(Own):
    """Network that computes different logits while it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits + torch.arange(3.0) if torch.compiler.is_exporting() else logits


class Branching(Own):
    """Network that branches on the values of its input, which no exported graph can do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


def values(modality: Modality, count: int) -> NDArray[np.generic]:
    """Return positive, heavy-tailed samples; some points are padding."""
    generator = np.random.default_rng(count)
    made = generator.gamma(2.0, 20.0, (count, *modality.shape))
    if modality.kind in ("points", "point_series"):
        made[generator.random(made.shape[:-1]) < 0.3] = 0
        made[0] = 0
    most = np.iinfo(modality.dtype).max if modality.dtype[0] in "iu" else np.inf
    return made.clip(max=most).astype(modality.dtype)


def saved(
    folder: Path,
    kind: Kind,
    encoder: object = "auto",
    *,
    scaling: Scaling = "linear",
    dtype: str = "float32",
    size: int | None = None,
    nodata: int | None = None,
) -> Path:
    """Save an untrained model with random weights and running statistics as a run does, and return its file."""
    torch.manual_seed(0)
    shape = SHAPES[kind]
    channels = shape[0] if kind == "image" else shape[-1]
    modality = Modality("radar", kind, shape, dtype, (40.0,) * channels, (28.0,) * channels, nodata)
    stored = np.moveaxis(values(modality, 64), 1 if kind == "image" else -1, -1).reshape(-1, channels)
    made = models.build(
        encoder, modality, classes=3, scaling=scaling, size=size, values=stored.astype(np.float32)
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(3):
            made.train()(torch.from_numpy(values(modality, 32)))
    path = folder / "model.safetensors"
    extra = {"calibration": CALIBRATION.to_dict(), "data": {"name": "harbor", "license": "CC0-1.0"}}
    save_model(path, made.eval(), name=str(encoder), classes=CLASSES, extra=extra)
    return path


def pack(folder: Path, kind: Kind, *, dtype: str = "float32", classes: tuple[str, ...] = CLASSES) -> Pack:
    """Write a pack for the models of `saved`, with labels that do not depend on the samples."""
    modality = Modality("radar", kind, SHAPES[kind], dtype)
    with PackWriter(folder, CardInfo("harbor"), classes=classes, modalities=[modality]) as writer:
        splits = [("train", "validation")[k % 2] for k in range(120)]
        ids, labels = [str(k) for k in range(120)], [k % 3 for k in range(120)]
        writer.add(ids, labels, splits, None, {"radar": values(modality, 120)})
    return Pack.open(folder)
