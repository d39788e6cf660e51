r"""Train your own networks on your own data set, load the best student, and use it.

Run this file from its folder, or do the same on the command line, in the same folder:

    cmkd run --data own_models_and_data:Pairs --methods none,kd --seeds 1 --epochs 5 --out runs/own \
        --teacher.modality optical --teacher.model own_models_and_data:OpticalNet \
        --student.modality radar --student.model own_models_and_data:RadarNet
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import cmkd


class OpticalNet(nn.Module):
    """Teacher: any module that maps float32 inputs to logits. cmkd standardizes the inputs first."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of images ``(batch, 1, height, width)``."""
        logits: Tensor = self.head(self.second(self.first(x)).mean((2, 3)))
        return logits


class RadarNet(nn.Module):
    """Student: a smaller network with another architecture."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of images ``(batch, 1, height, width)``."""
        logits: Tensor = self.head(self.body(x))
        return logits


class Pairs(torch.utils.data.Dataset[dict[str, object]]):
    """Pairs as dictionaries: an array per modality, a label, and optionally an id, a split and a group."""

    def __init__(self) -> None:
        images, self.labels = load_digits(n_class=4, return_X_y=True)
        self.optical = images.reshape(-1, 1, 8, 8).astype(np.float32)
        self.radar = self.optical * np.random.default_rng(0).gamma(2.0, 0.5, self.optical.shape).astype(np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"optical": self.optical[index], "radar": self.radar[index], "label": int(self.labels[index])}


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/own")
    config = cmkd.RunConfig(
        data=Pairs(),
        out=out,
        methods="none,fitnet",
        seeds=1,
        epochs=3,
        teacher=cmkd.TeacherConfig("optical", cmkd.wrap(OpticalNet(), feature_maps=["first", "second"])),
        student=cmkd.StudentConfig(
            "radar", cmkd.wrap(RadarNet(), classifier="head", feature_maps=["body.0", "body.1"])
        ),
        trainer=cmkd.TrainerConfig(logger="none", progress="none"),
    )
    results = cmkd.Experiment(config).run()
    best = max(results["students"], key=lambda student: student["validation_accuracy"])

    student, about = cmkd.load_model(out / best["checkpoint"], module=RadarNet())  # files never name code to import
    radar = torch.from_numpy(Pairs().radar[:5])
    with torch.no_grad():
        predicted = student(radar).logits.argmax(1).tolist()
    print(f"{best['method']}: test accuracy {best['test_accuracy']:.3f}; the first five are {predicted}")
