"""Draw what the two terms of DS measure, on toy features: ``python docs/theory.py`` writes docs/images/theory-*.png."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cmkd.correlation import cross_correlation
from cmkd.methods.ds import channel_independence
from cmkd.structure import uniformity, unit_vectors

IMAGES = Path(__file__).parent / "images"
SAMPLES, CHANNELS = 400, 6


def channels() -> dict[str, tuple[Tensor, Tensor]]:
    """Return features of a student and its teacher, ``(samples, channels)`` each, by case."""
    generator = torch.Generator().manual_seed(0)
    teacher, noise = (torch.randn(SAMPLES, CHANNELS, generator=generator) for _ in range(2))
    neighbors = teacher.roll(1, dims=1)
    return {
        "the teacher's channels, with noise": (teacher + 0.5 * noise, teacher),
        "each channel also says\nwhat its neighbor says": (teacher + neighbors, teacher),
        "unrelated to the teacher": (noise, teacher),
    }


def points() -> dict[str, Tensor]:
    """Return points on the circle ``(samples, 2)``, by their distribution."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, generator=generator)
    even = torch.arange(60) * (2.0 * math.pi / 60)
    groups = torch.arange(60) % 3 * (2.0 * math.pi / 3)
    angles = {"collapsed": 0.15 * noise, "three classes, apart": groups + 0.15 * noise, "uniform": even}
    return {name: torch.stack((angle.cos(), angle.sin()), 1) for name, angle in angles.items()}


def draw_independence(path: Path) -> None:
    """Draw the correlation of student and teacher channels, and the loss of each."""
    figure = Figure(figsize=(9, 3.3))
    for axis, (name, (student, teacher)) in zip(figure.subplots(1, 3), channels().items(), strict=True):
        axis.imshow(cross_correlation(teacher, student), cmap="RdBu_r", vmin=-1, vmax=1)
        tied = float(channel_independence(student, teacher, off_diagonal_weight=0.0))
        rest = float(channel_independence(student, teacher, off_diagonal_weight=1.0)) - tied
        axis.set_title(f"{name}\ndiagonal {tied:.2f}, rest {rest:.2f}", fontsize=9)
        axis.set(xticks=[], yticks=[], xlabel="student channel", ylabel="teacher channel")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def draw_uniformity(path: Path) -> None:
    """Draw points on the circle, and their uniformity."""
    figure = Figure(figsize=(9, 3.3))
    for axis, (name, found) in zip(figure.subplots(1, 3), points().items(), strict=True):
        axis.scatter(*found.T, s=14, alpha=0.6)
        axis.set_title(f"{name}\nL = {uniformity(unit_vectors(found)):.2f}", fontsize=9)
        axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[], yticks=[])
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main() -> None:
    """Write both pictures."""
    draw_independence(IMAGES / "theory-independence.png")
    draw_uniformity(IMAGES / "theory-uniformity.png")
    print(IMAGES)


if __name__ == "__main__":
    main()
