"""Which part of dimensional structure helps, where: chosen on validation pairs, confirmed once on the test pairs.

``python benchmarks/ablation.py --data FOLDER`` trains what has no result yet, then writes ``results/ablation.json``
and ``docs/ablation.md``. ``--quick`` is a size for tests; ``--write-only`` makes the document of what is there.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import lean
import numpy as np
import torch
from lean import POOR, RICH, Setting
from steps import RESULTS, RUNS, Step, collect, load, work
from trials import CHOICE, CONFIRM, MORE, PARTS, QUICK, SETTINGS, expression, families

from cmkd import structure
from cmkd.types import UNLABELED

SAMPLE = 1000
"""Validation pairs that the comparison with the teacher reads."""


def step(name: str, method: str, seed: int, split: str, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Describe one training."""
    return {"name": name, "setting": settings[name].described(), "method": method, "seed": seed, "split": split}


def choosing(name: str, settings: Mapping[str, Setting], seeds: tuple[int, ...]) -> list[Step]:
    """List the trainings that choose the weights of each method."""
    methods = ("none", *itertools.chain(*families(name).values()))
    return [step(name, method, seed, "validation", settings) for seed in seeds for method in methods]


def parts(name: str, settings: Mapping[str, Setting], seeds: tuple[int, ...]) -> list[Step]:
    """List the trainings of the table of parts."""
    return [
        step(name, expression(changes), seed, "validation", settings) for seed in seeds for changes in PARTS.values()
    ]


def chosen(results: list[dict[str, Any]], name: str, setting: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the best of each method by mean validation accuracy, then by log-loss; None before all are there.

    `dist` is left out where it was not begun.
    """
    best: dict[str, str] = {"none": "none"}
    for family, methods in families(name).items():
        if family == "dist" and not any(of(results, name, setting, method, "validation") for method in methods):
            continue
        means = {}
        for method in methods:
            found = of(results, name, setting, method, "validation")
            values = [(found[s]["validation"], -found[s]["validation_log_loss"]) for s in CHOICE if s in found]
            if len(values) < 2:
                return None
            means[method] = tuple(np.mean(values, axis=0))
        best[family] = max(means, key=lambda method: means[method])
    return best


def of(
    results: list[dict[str, Any]], name: str, setting: Mapping[str, Any], method: str, split: str
) -> dict[int, dict[str, Any]]:
    """Return the results of a method by seed."""
    wanted = (name, setting, method, split)
    return {
        r["step"]["seed"]: r
        for r in results
        if (r["step"]["name"], r["step"]["setting"], r["step"]["method"], r["step"]["split"]) == wanted
    }


def confirming(results: list[dict[str, Any]], name: str, settings: Mapping[str, Setting]) -> list[Step]:
    """List the trainings that the test pairs judge."""
    best = chosen(results, name, settings[name].described())
    if best is None:
        return []
    seeds = CONFIRM + (() if name.startswith("fashion_mnist") else MORE)
    return [step(name, method, seed, "test", settings) for seed in seeds for method in best.values()]


class Trainings:
    """Does steps; keeps the last data set and teachers, which many steps share."""

    def __init__(self, folder: Path | None) -> None:
        self.arrays = lru_cache(2)(lambda setting: lean.arrays(self._placed(setting)))
        self.teacher = lru_cache(6)(lambda setting, seed: lean.teacher(setting, self.arrays(setting), seed))
        self.folder = folder

    def _placed(self, setting: Setting) -> Setting:
        return replace(setting, data=lean.data_place(setting.data, self.folder))

    def __call__(self, todo: Step) -> dict[str, Any]:
        """Train and measure one student, on the test pairs only if the step is to confirm."""
        setting, method = Setting(**todo["setting"]), todo["method"]
        data, guide = self.arrays(setting), self.teacher(setting, todo["seed"])
        student = lean.train(setting, data, todo["seed"], method=method, guide=guide)
        theirs = lean.outputs(guide.model, data.inputs[RICH]["validation"])
        ours = lean.outputs(student, data.inputs[POOR]["validation"])
        target = data.target["validation"]
        known = target != UNLABELED
        result = {
            "validation": float((ours.logits.argmax(1) == target)[known].double().mean()),
            "validation_log_loss": float(torch.nn.functional.cross_entropy(ours.logits[known], target[known])),
            "teacher": guide.accuracy[todo["split"]],
            "structure": {} if setting.other_classes else _structure(ours, theirs, target),
        }
        if todo["split"] == "test":
            result["test"] = lean.accuracy(student, data, POOR, "test")
        return {**result, "says": f"{100 * result.get('test', result['validation']):.2f} %"}


def _structure(ours: Any, theirs: Any, target: torch.Tensor) -> dict[str, float]:  # noqa: ANN401  # two Outputs
    """Measure the student's embedding, and its likeness to the teacher's, on the first validation pairs."""
    n = slice(0, SAMPLE)
    found = structure.compare(
        ours.embedding[n],
        theirs.embedding[n],
        student_logits=ours.logits[n],
        teacher_logits=theirs.logits[n],
        target=target[n],
    )
    for whose, output in (("student", ours), ("teacher", theirs)):
        moments = structure.Moments.of(output.embedding[n])
        found[f"{whose}_effective_rank"] = structure.effective_rank(moments)
        found[f"{whose}_correlation_mean_abs"] = structure.correlation_mean_abs(moments)
        unit = structure.unit_vectors(output.embedding[n].double(), center=True)
        found[f"{whose}_uniformity_centered"] = structure.uniformity(unit)
    return found


def plan(settings: Mapping[str, Setting], quick: bool) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield what is done in which order: name, ``choose`` or ``parts``, seeds; each choice is confirmed at once."""
    if quick:
        yield from ((name, "choose", CHOICE[:2]) for name in settings)
        yield "digits", "parts", CHOICE[:1]
        return
    for name in settings:
        yield name, "choose", CHOICE[:3] if name.startswith("fashion_mnist,") else CHOICE
    for name in ("digits", "mars", "fashion_mnist"):
        yield name, "parts", CHOICE[:3] if name == "fashion_mnist" else CHOICE


def planned(folder: Path, *, quick: bool = False) -> list[Step]:
    """Return the steps of the study; those that confirm are known once what they confirm is chosen."""
    settings, found = QUICK if quick else SETTINGS, list(load(folder).values())
    steps: list[Step] = []
    for name, what, seeds in plan(settings, quick):
        if what == "choose":
            steps += choosing(name, settings, seeds) + confirming(found, name, settings)
        else:
            steps += parts(name, settings, seeds)
    return steps


def run(
    folder: Path, data: Path | None, *, quick: bool = False, minutes: float = 0.0, only: Collection[str] = ()
) -> bool:
    """Do what is left of the study, or of some of its settings; return whether that is complete."""
    settings, do = QUICK if quick else SETTINGS, Trainings(data)
    until = time.monotonic() + 60 * minutes if minutes else 0.0
    for name, what, seeds in plan(settings, quick):
        if only and name not in only:
            continue
        wanted = choosing(name, settings, seeds) if what == "choose" else parts(name, settings, seeds)
        if not work(folder, wanted, do, until=until):
            return False
        if what == "choose":
            confirm = confirming(list(load(folder).values()), name, settings)
            if not work(folder, confirm[: 3 if quick else None], do, until=until):
                return False
    return True


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with the published files, by data set")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs")
    parser.add_argument("--runs", type=Path, default=RUNS / "ablation")
    parser.add_argument("--quick", action="store_true", help="minutes of training become seconds, and mean nothing")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no training after so long; 0 for all")
    parser.add_argument("--write-only", action="store_true", help="make the document of the stored results")
    parser.add_argument("--only", nargs="*", default=(), help="names of settings")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.write_only:
        run(given.runs, given.data, quick=given.quick, minutes=given.minutes, only=given.only)
        results = given.out if given.quick else RESULTS
        collect(given.runs, results / "ablation.json", planned(given.runs, quick=given.quick))
    from ablation_document import write

    write((given.out if given.quick else RESULTS) / "ablation.json", given.out)


if __name__ == "__main__":
    main()
