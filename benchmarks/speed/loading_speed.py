"""Measure how many pairs a second training reads from a pack: optical 3 x 64 x 64 and radar 1 x 64 x 64.

    python benchmarks/speed/loading_speed.py

The script writes a pack of random pairs, reads it once so that it is in the page cache, and then reads it in batches in
four ways that take turns: the training loader alone; the same without shuffling, as evaluation reads; with the float32
standardization that is a model's first layer; and with the default augmentation before it. The loader reads ahead in a
thread of its own, so with one thread for torch two cores are busy. The target is 20,000 pairs/s for the loader.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cmkd.config import AugmentationConfig
from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.io import write_text
from cmkd.models.base import Preprocess
from cmkd.provenance import commit
from cmkd.training.augment import augment
from cmkd.training.loader import PairLoader
from cmkd.types import Batch, Modality

RESULTS = Path(__file__).parents[1] / "results"
TARGET = 20_000
CHUNK = 1000


def write_pack(folder: Path, pairs: int, side: int) -> Pack:
    """Write `pairs` random pairs and return their pack."""
    generator = np.random.default_rng(0)
    modalities = [
        Modality("optical", "image", (3, side, side), "uint8"),
        Modality("radar", "image", (1, side, side), "uint8"),
    ]
    with PackWriter(
        folder, CardInfo("speed", co_registered=[("optical", "radar")]), classes=["a", "b"], modalities=modalities
    ) as writer:
        for start in range(0, pairs, CHUNK):
            count = min(CHUNK, pairs - start)
            arrays = {m.name: generator.integers(0, 256, (count, *m.shape), dtype=np.uint8) for m in modalities}
            ids = [str(start + number) for number in range(count)]
            writer.add(ids, np.arange(count) % 2, ["train"] * count, None, arrays)
    return Pack.open(folder)


def epoch(pack: Pack, batch_size: int, number: int, use: Callable[[Batch], object], *, shuffle: bool = True) -> float:
    """Return the pairs/s of one epoch."""
    loader = PairLoader(pack, pack.rows("train"), tuple(pack.modalities), batch_size=batch_size, shuffle=shuffle)
    loader.set_epoch(number)
    start, seen = time.perf_counter(), 0
    for batch in loader:
        use(batch)
        seen += len(batch)
    return seen / (time.perf_counter() - start)


def measure(pack: Pack, batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Return the pairs/s of each way and round; the first round is discarded."""
    layers = {name: Preprocess(modality) for name, modality in pack.modalities.items()}
    strengths, co_registered = AugmentationConfig().resolved(mirror=True, cropped=False), pack.card.co_registered

    def standardize(batch: Batch) -> object:
        return [layers[name](value) for name, value in batch.inputs.items()]

    def augmented(batch: Batch) -> object:
        return standardize(augment(batch, pack.modalities, strengths, seed=0, co_registered=co_registered))

    ways: dict[str, Callable[[int], float]] = {
        "loader": lambda n: epoch(pack, batch_size, n, len),
        "loader, in order": lambda n: epoch(pack, batch_size, n, len, shuffle=False),
        "loader, standardized": lambda n: epoch(pack, batch_size, n, standardize),
        "loader, augmented, standardized": lambda n: epoch(pack, batch_size, n, augmented),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, way in ways.items():
                speed = way(number)
                if number:
                    found[name].append(speed)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "loading_speed.md")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        pack = write_pack(Path(folder) / "pack", chosen.pairs, chosen.side)
        found = measure(pack, chosen.batch, chosen.rounds)
    command = f"python benchmarks/speed/loading_speed.py {' '.join(sys.argv[1:])}".strip()
    about = (
        f"`{command}`, commit {commit()}, torch {torch.__version__}, {chosen.threads} thread(s) and the loader's own, "
        f"{os.cpu_count()} CPU cores ({platform.machine()}), {chosen.pairs} pairs of 3 x {chosen.side} x {chosen.side} "
        f"and 1 x {chosen.side} x {chosen.side} bytes, batch {chosen.batch}, median of {chosen.rounds} epochs with "
        "quartiles. "
        f"Load average at the end: {os.getloadavg()[0]:.1f}."
    )
    lines = ["# Loading speed", "", about, "", "| way | pairs/s (quartiles) |", "|---|---:|"]
    for name, speeds in found.items():
        low, middle, high = statistics.quantiles(speeds, n=4)
        lines.append(f"| {name} | {middle:,.0f} ({low:,.0f} to {high:,.0f}) |")
    met = statistics.median(found["loader"]) > TARGET
    lines += ["", f"The target of {TARGET:,} pairs/s for the loader is {'met' if met else 'not met'}."]
    write_text(chosen.out, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
