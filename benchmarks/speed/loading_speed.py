"""Measure how many pairs a second training reads from a pack: optical 3 x 64 x 64 and radar 1 x 64 x 64.

    python benchmarks/speed/loading_speed.py

The script writes a pack of random pairs, reads it once so that it is in the page cache, and then reads it in batches in
four ways, in turn: the training loader alone; the loader without shuffling, as in evaluation; the loader and the
float32 standardization, which is the first layer of a model; and the loader, the default augmentation and the
standardization. The loader reads ahead in a separate thread, so two cores are busy if torch has one thread. The target
is 20,000 pairs/s for the loader.
"""

from __future__ import annotations

from timing import RESULTS, Section, in_turns, random_pack, write

# isort: split
import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from cmkd.config import AugmentationConfig
from cmkd.data.pack.pack import Pack
from cmkd.models.base import Preprocess
from cmkd.training.augment import augment
from cmkd.training.loader import PairLoader
from cmkd.types import Batch

TARGET = 20_000


def epoch(pack: Pack, batch_size: int, use: Callable[[Batch], object], *, shuffle: bool = True) -> float:
    """Return the pairs/s of one epoch."""
    loader = PairLoader(pack, pack.rows("train"), tuple(pack.modalities), batch_size=batch_size, shuffle=shuffle)
    start, seen = time.perf_counter(), 0
    for batch in loader:
        use(batch)
        seen += len(batch)
    return seen / (time.perf_counter() - start)


def measure(pack: Pack, batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Return the pairs/s of each way of reading in each round."""
    layers = {name: Preprocess(modality) for name, modality in pack.modalities.items()}
    strengths, co_registered = AugmentationConfig().resolved(mirror=True, cropped=False), pack.card.co_registered

    def standardize(batch: Batch) -> object:
        return [layers[name](value) for name, value in batch.inputs.items()]

    def augmented(batch: Batch) -> object:
        return standardize(augment(batch, pack.modalities, strengths, seed=0, co_registered=co_registered))

    ways = {
        "loader": partial(epoch, pack, batch_size, len),
        "loader, in order": partial(epoch, pack, batch_size, len, shuffle=False),
        "loader, standardized": partial(epoch, pack, batch_size, standardize),
        "loader, augmented, standardized": partial(epoch, pack, batch_size, augmented),
    }
    with torch.no_grad():
        return in_turns(ways, rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "loading_speed.md")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(random_pack(Path(folder) / "pack", chosen.pairs, chosen.side), chosen.batch, chosen.rounds)
    text = (
        f"{chosen.threads} thread(s) and the loader's own; {chosen.pairs} pairs of 3 x {chosen.side} x {chosen.side} "
        f"and 1 x {chosen.side} x {chosen.side} bytes, batch {chosen.batch}; median of {chosen.rounds} epochs with "
        "quartiles."
    )
    met = statistics.median(found["loader"]) > TARGET
    after = f"The target of {TARGET:,} pairs/s for the loader is {'met' if met else 'not met'}."
    rows = [{"way": way, "pairs/s": speeds} for way, speeds in found.items()]
    print(write(chosen.out, "Loading speed", [Section(text, rows), Section(after)]))


if __name__ == "__main__":
    main()
