"""Measures how hard each sensor of the marine simulator is, over the gap dial.

A small residual CNN is trained from scratch on each modality alone, on the same pairs and split by vessel; the epoch is
chosen on the validation split and the test accuracy is reported. Writes ``benchmarks/results/marine_gap.md``.

    python benchmarks/marine_gap.py --pairs 4000 --epochs 20 --seeds 2
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.data.marine.dataset import write_pack
from cmkd.data.marine.scene import VERSION
from cmkd.data.marine.simulate import Recipe
from cmkd.data.pack import Pack

GAPS = (0.0, 0.25, 0.5, 0.75, 1.0)
RESULT = Path(__file__).parent / "results" / "marine_gap.md"


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width_out), nn.BatchNorm2d(width_out)])
        self.shortcut = nn.Conv2d(width_in, width_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.shortcut(x))


def network(channels: int, width: int) -> nn.Module:
    """Return a CNN of three residual blocks, about 0.1 M parameters at width 16."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), Block(width, width, 1),
        Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(4 * width, 8),
    )  # fmt: skip


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left to right and shift by up to 4 pixels: neither changes the class in either sensor."""
    if torch.rand((), generator=generator) < 0.5:
        x = x.flip(3)
    dx, dy = torch.randint(-4, 5, (2,), generator=generator).tolist()
    return torch.roll(x, (dx, dy), (2, 3))


def accuracy(pack: Pack, modality: str, *, epochs: int, seed: int, device: str) -> float:
    """Train on `modality` alone and return the test accuracy at the epoch that is best on validation."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    card, data = pack.modality(modality), {}
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (card.mean, card.std))
    for split in ("train", "validation", "test"):
        batch = pack.batch(pack.rows(split), [modality])
        data[split] = ((batch.inputs[modality].float() - mean) / std).to(device), batch.target.to(device)
    model = network(card.channels, 16).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    x, y = data["train"]
    steps = epochs * (len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    best, chosen = -1.0, 0.0
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) // 64 * 64, 64):
            rows = order[start : start + 64].to(device)
            loss = F.cross_entropy(model(augmented(x[rows], generator)), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        if epoch >= epochs // 2:
            scores = {s: _score(model, *data[s]) for s in ("validation", "test")}
            if scores["validation"] > best:
                best, chosen = scores["validation"], scores["test"]
    return chosen


@torch.no_grad()
def _score(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(256), y.split(256), strict=True))
    return right / len(y)


def main() -> None:
    """Run and write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=4000)
    options.add_argument("--epochs", type=int, default=20)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--gaps", type=float, nargs="+", default=list(GAPS))
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--out", type=Path, default=RESULT)
    given = options.parse_args()
    start, rows = time.time(), []
    for gap in given.gaps:
        with tempfile.TemporaryDirectory() as folder:
            pack = write_pack(Recipe(given.pairs, 0, 64, gap), Path(folder) / "pack")
            both = [("optical", "radar") if gap == given.gaps[0] else ("radar",)][0]
            for modality in both:
                scores = [
                    100 * accuracy(pack, modality, epochs=given.epochs, seed=s, device=given.device)
                    for s in range(given.seeds)
                ]
                rows.append((modality, gap, np.mean(scores), np.std(scores, ddof=1) if len(scores) > 1 else 0.0))
                print(f"{modality} gap {gap}: {np.mean(scores):.1f} ({scores})", flush=True)
            test = len(pack.rows("test"))
    optical = rows[0][2]
    lines = [
        "# The marine gap dial", "",
        f"Test accuracy in % of a small CNN trained from scratch on one sensor. {given.pairs} pairs, {test} of them "
        f"test, split by vessel; {given.epochs} epochs, n = {given.seeds} seeds, mean and sample "
        "standard deviation over seeds of the training (the pairs are the same). The binomial "
        "standard error of one accuracy on these test pairs is "
        f"{100 * np.sqrt(0.25 / test):.1f} points at most. Optical images do not depend on the gap.", "",
        f"Simulator version {VERSION}, {platform.machine()}, {given.device}, torch {torch.__version__}, "
        f"{time.time() - start:.0f} s. Command: `python benchmarks/marine_gap.py --pairs {given.pairs} --epochs "
        f"{given.epochs} --seeds {given.seeds}`.", "",
        "| sensor | gap | accuracy | sd | below optical |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for modality, gap, mean, spread in rows:
        shown = "any" if modality == "optical" else f"{gap:g}"
        deviation = "n = 1" if np.isnan(spread) else f"{spread:.1f}"
        lines.append(f"| {modality} | {shown} | {mean:.1f} | {deviation} | {optical - mean:.1f} |")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
