"""Measure a training step in bfloat16 (``--trainer.precision bf16-mixed``) relative to float32, on a CPU.

    python benchmarks/speed/precision.py

Both precisions take turns in one process, on the same batch of images, with the student alone. How much time bfloat16
saves depends on the instructions that the processor has for it, which the text above the table names.
"""

from __future__ import annotations

from timing import RESULTS, Section, in_turns, pair_of_models, ratios, seconds, write

# isort: split
import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from step import make_step, random_batch

SIDES = (8, 28, 32, 64)


def measure(side: int, *, batch: int, rounds: int) -> dict[str, Any]:
    """Return the row of images of `side` x `side` pixels."""
    given, precisions = random_batch(batch, side, "cpu"), (torch.float32, torch.bfloat16)
    steps = {kind: make_step("none", given, side, precision=kind, cached=False) for kind in precisions}
    took = in_turns({kind: partial(seconds, step) for kind, step in steps.items() if step is not None}, rounds)
    whole, half = (took[kind] for kind in precisions)
    times = {"ms, float32": 1e3 * median(whole), "ms, bfloat16": 1e3 * median(half)}
    return {"pixels": f"{side} x {side}", **times, "bfloat16 / float32": ratios(half, whole)}


def instructions() -> str:
    """Return the names of the processor's instruction sets for bfloat16, as Linux lists them."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return ", ".join(sorted(set(re.findall(r"\b\w+_bf16\b", flags)))) or "none"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sides", nargs="+", type=int, default=SIDES)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", type=Path, default=RESULTS / "precision.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [measure(side, batch=given.batch, rounds=given.rounds) for side in given.sides]
    weights = sum(parameter.numel() for parameter in pair_of_models(given.sides[0])[1].parameters())
    text = (
        f"Forward and backward pass of a batch of {given.batch} images: thin ResNet with {weights:,} parameters, "
        f"alone; CPU time of one thread. The processor's instruction sets for bfloat16: {instructions()}. Times are "
        f"medians of {given.rounds} rounds in which both precisions take turns; the ratio is given with its quartiles."
    )
    print(write(given.out, "A step in bfloat16", [Section(text, rows)]))


if __name__ == "__main__":
    main()
