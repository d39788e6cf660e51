"""The observation, tested: do networks whose features have more dimensional structure tell classes apart better?

Networks are trained with cross-entropy alone on ever poorer views of real data, and at each step the structure of their
features and their discriminability are measured on validation pairs. ``python benchmarks/observation.py --data FOLDER``
trains what has no result yet, then writes ``results/observation.json``, ``docs/observation.md`` and its figures.
``--quick`` is a size for tests; ``--write-only`` makes the document of the results that are there.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lean
import torch
from lean import POOR, RICH, Setting
from steps import RESULTS, RUNS, Step, collect, work

from cmkd import structure

SEEDS = (0, 1, 2)
SEVERITIES = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
SAMPLE = 1000
"""Validation pairs that are measured."""
LADDERS = {
    "digits": Setting("digits", severity=0.0, epochs=15, batch=64),
    "fashion_mnist": Setting("fashion_mnist(train_pairs=16000)", severity=0.0, pairs=2000),
    "mnist": Setting("mnist(train_pairs=4000)", severity=0.0, pairs=2000),
}
REAL = {"mars": Setting("mars", pairs=2000, teacher_width=16, student_width=16, epochs=8)}
"""Two sensors instead of a ladder: one network on each."""
QUICK = {"digits": Setting("digits", severity=0.0, pairs=200, epochs=1, batch=64, student_width=4)}


def steps(quick: bool) -> list[Step]:
    """List every network, seed by seed, so that a study that is cut short is balanced."""
    found: list[Step] = []
    for seed in SEEDS[: 1 if quick else None]:
        for name, setting in (QUICK if quick else LADDERS).items():
            for severity in SEVERITIES[::2] if quick else SEVERITIES:
                own = setting.described() | {"severity": severity}
                found.append({"name": name, "setting": own, "role": POOR, "seed": seed})
        for name, setting in ({} if quick else REAL).items():
            own = setting.described()
            found += [{"name": name, "setting": own, "role": role, "seed": seed} for role in (RICH, POOR)]
    return found


class Networks:
    """Does steps; keeps the last data set."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, step: Step) -> Mapping[str, Any]:
        """Train one network and measure each of its stages."""
        values = dict(step["setting"])
        values["data"] = lean.data_place(values["data"], self.folder)
        setting, role = Setting(**values), step["role"]
        data = lean.arrays(setting)
        trained = lean.train(setting, data, step["seed"], role=role)
        sample = slice(0, SAMPLE)
        target = data.target["validation"][sample]
        output = lean.outputs(trained, data.inputs[role]["validation"][sample])
        stages = {f"map {place + 1}": features for place, features in enumerate(output.feature_maps)}
        stages["embedding"] = output.embedding
        measured = {name: _finite(structure.describe(features, target)) for name, features in stages.items()}
        found = lean.accuracy(trained, data, role, "validation")
        return {"validation": found, "stages": measured, "says": f"{100 * found:.1f} %"}


def _finite(measured: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in measured.items()}


def run(folder: Path, data: Path | None, *, quick: bool = False, minutes: float = 0.0) -> bool:
    """Do what is left of the study; return whether it is complete."""
    until = time.monotonic() + 60 * minutes if minutes else 0.0
    return work(folder, steps(quick), Networks(data), until=until)


def planned(folder: Path, *, quick: bool = False) -> list[Step]:  # as in ablation.py
    """Return the steps of the study."""
    return steps(quick)


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with the published files, by data set")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs")
    parser.add_argument("--runs", type=Path, default=RUNS / "observation")
    parser.add_argument("--quick", action="store_true", help="minutes of training become seconds, and mean nothing")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no training after so long; 0 for all")
    parser.add_argument("--write-only", action="store_true", help="make the document of the stored results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = given.out if given.quick else RESULTS
    if not given.write_only:
        run(given.runs, given.data, quick=given.quick, minutes=given.minutes)
        collect(given.runs, results / "observation.json", planned(given.runs, quick=given.quick))
    from observation_document import write

    write(results / "observation.json", results / "ablation.json", given.out)


if __name__ == "__main__":
    main()
