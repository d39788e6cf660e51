"""Rebuild every figure and table of ``docs/observation.md`` and ``docs/ablation.md``: ``python benchmarks/studies.py``.

Trainings that have a result in ``runs/studies`` are not repeated, so a run that was stopped continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ablation
import ablation_document
import observation
import observation_document
import torch
from steps import RESULTS, RUNS, collect


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with the published files, by data set")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--quick", action="store_true", help="minutes of training become seconds, and mean nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = given.out if given.quick else RESULTS
    for study in (observation, ablation):
        name = study.__name__
        study.run(given.runs / name, given.data, quick=given.quick)
        collect(given.runs / name, results / f"{name}.json", study.planned(given.runs / name, quick=given.quick))
    observation_document.write(results / "observation.json", results / "ablation.json", given.out)
    ablation_document.write(results / "ablation.json", given.out)
    print(f"{given.out / 'observation.md'}\n{given.out / 'ablation.md'}")


if __name__ == "__main__":
    main()
