"""Which part of dimensional structure helps, where: chosen on validation pairs, confirmed once on the test pairs.

``python benchmarks/ablation.py --data FOLDER`` trains what has no result yet, then writes ``results/ablation.json``
and ``docs/ablation.md``. ``--quick`` is a size for tests; ``--write-only`` makes the document of what is there.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import lean
import numpy as np
import torch
from lean import POOR, RICH, Setting
from steps import RESULTS, RUNS, Step, collect, load, work

from cmkd import structure

CHOICE, CONFIRM, MORE = (0, 1, 2), (10, 11, 12, 13, 14), (15, 16, 17, 18, 19)
"""Seeds: those that choose on validation never touch the test pairs; `MORE` of them confirm where training is quick."""
SAMPLE = 1000
"""Validation pairs that the comparison with the teacher reads."""

FASHION = "fashion_mnist(train_pairs=16000)"
SETTINGS = {
    "digits": Setting("digits", severity=0.5, epochs=15, batch=64),
    "fashion_mnist": Setting(FASHION, severity=0.6, pairs=4000),
    "mars": Setting("mars", pairs=2000, teacher_width=16, student_width=16, epochs=8),
    "digits, few labels": Setting("digits", severity=0.5, labelled=60, epochs=15, batch=64),
    "digits, wide gap": Setting("digits", severity=0.9, epochs=15, batch=64),
    "digits, unlike widths": Setting("digits", severity=0.5, epochs=15, batch=64, teacher_width=32, student_width=8),
    "digits, large batch": Setting("digits", severity=0.5, epochs=40, batch=512),
    "fashion_mnist, few labels": Setting(FASHION, severity=0.6, pairs=4000, labelled=200),
    "fashion_mnist, wide gap": Setting(FASHION, severity=1.0, pairs=4000),
    "fashion_mnist, unlike widths": Setting(FASHION, severity=0.6, pairs=4000, teacher_width=32, student_width=8),
}
QUICK = {"digits": Setting("digits", severity=0.5, pairs=200, epochs=1, batch=64, teacher_width=4, student_width=4)}

KD = tuple(
    f"kd(temperature={t},weight={w})" for w, t in ((2, 4), (4, 4), (8, 4), (16, 4), (4, 2), (8, 2), (16, 2), (8, 8))
)
DS = tuple(
    f"ds(independence_weight={i},kd_weight={k},uniformity_weight={u})"
    for k, i, u in ((4, 10, 0.1), (8, 10, 0.1), (8, 10, 0), (8, 3, 0), (16, 10, 0), (16, 30, 0.1))
) + tuple(
    f"ds(independence_weight={i},kd_weight=8,temperature=2,uniformity_weight={u})" for i, u in ((10, 0.1), (3, 0))
)
"""As many for ds as for kd: the same budget of tuning. Temperature 2 came in after a first look at the validation pairs
had shown it good for kd, in both alike."""
GRIDS = {"mars": ((1, 3, 5, 6), (0, 3, 6, 7))}
"""Where training is slow, which of them are tried; all elsewhere."""


def grid(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is tried of kd and of ds, as many of each.

    Example:
        >>> [len(methods) for methods in grid("mars")], [len(methods) for methods in grid("digits")]
        ([4, 4], [8, 8])
    """
    kd, ds = GRIDS.get(name, (range(len(KD)), range(len(DS))))
    return tuple(KD[i] for i in kd), tuple(DS[i] for i in ds)


_BASE = {"kd_weight": 8, "independence_weight": 10, "uniformity_weight": 0.1}
PARTS: Mapping[str, Mapping[str, object]] = {
    "ds as the base": {},
    "no independence": {"independence_weight": 0},
    "no uniformity": {"uniformity_weight": 0},
    "no KD": {"kd_weight": 0},
    "no KD, no uniformity": {"kd_weight": 0, "uniformity_weight": 0},
    "no KD, no independence": {"kd_weight": 0, "independence_weight": 0},
    "no teacher at all": {
        "kd_weight": 0, "independence_reference": "self", "uniformity_reference": "self",
    },
    "independence of the student alone": {"independence_reference": "self"},
    "independence by the teacher's correlations": {"independence_reference": "structure"},
    "off-diagonal weight / 10": {"off_diagonal_weight": 0.0005},
    "off-diagonal weight x 10": {"off_diagonal_weight": 0.05},
    "uniformity of the student alone": {"uniformity_reference": "self"},
    "uniformity of the student alone, not centred": {"uniformity_reference": "self", "centre": False},
    "uniformity weight x 10": {"uniformity_weight": 1},
    "uniformity of all stages": {"stages": [0, 1, 2]},
    "uniformity of positions": {"points": "positions"},
}  # fmt: skip
"""What each row of the table of parts changes in the base."""


def expression(changes: Mapping[str, object]) -> str:
    """Write the base with changes as the command line does.

    Example:
        >>> expression({"uniformity_weight": 0})
        'ds(independence_weight=10,kd_weight=8,uniformity_weight=0)'
    """
    options = dict(sorted({**_BASE, **changes}.items()))
    return f"ds({','.join(f'{name}={value}' for name, value in options.items())})".replace(" ", "")


def step(name: str, method: str, seed: int, split: str, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Describe one training."""
    return {"name": name, "setting": asdict(settings[name]), "method": method, "seed": seed, "split": split}


def choosing(name: str, settings: Mapping[str, Setting], seeds: tuple[int, ...]) -> list[Step]:
    """List the trainings that choose the weights of kd and of ds."""
    return [
        step(name, method, seed, "validation", settings)
        for seed in seeds
        for method in ("none", *itertools.chain(*grid(name)))
    ]


def parts(name: str, settings: Mapping[str, Setting], seeds: tuple[int, ...]) -> list[Step]:
    """List the trainings of the table of parts."""
    return [
        step(name, expression(changes), seed, "validation", settings) for seed in seeds for changes in PARTS.values()
    ]


def chosen(results: list[dict[str, Any]], name: str, setting: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the best kd and the best ds by mean validation accuracy, then by log-loss; None before all are there."""
    best: dict[str, str] = {"none": "none"}
    for family, methods in zip(("kd", "ds"), grid(name), strict=True):
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
    best = chosen(results, name, asdict(settings[name]))
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
        return Setting(**{**asdict(setting), "data": lean.data_place(setting.data, self.folder)})

    def __call__(self, todo: Step) -> dict[str, Any]:
        """Train and measure one student, on the test pairs only if the step is to confirm."""
        setting, method = Setting(**todo["setting"]), todo["method"]
        data, guide = self.arrays(setting), self.teacher(setting, todo["seed"])
        student = lean.train(setting, data, todo["seed"], method=method, guide=guide)
        theirs = lean.outputs(guide.model, data.inputs[RICH]["validation"])
        ours = lean.outputs(student, data.inputs[POOR]["validation"])
        target = data.target["validation"]
        result = {
            "validation": float((ours.logits.argmax(1) == target).double().mean()),
            "validation_log_loss": float(torch.nn.functional.cross_entropy(ours.logits, target)),
            "teacher": guide.accuracy[todo["split"]],
            "structure": _structure(ours, theirs, target),
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
        unit = structure.unit_vectors(output.embedding[n].double(), centre=True)
        found[f"{whose}_uniformity_centred"] = structure.uniformity(unit)
    return found


def plan(settings: Mapping[str, Setting], quick: bool) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield what is done in which order: name, ``choose`` or ``parts``, seeds; each choice is confirmed at once."""
    if quick:
        yield from (("digits", "choose", CHOICE[:2]), ("digits", "parts", CHOICE[:1]))
        return
    yield "digits", "choose", CHOICE
    yield "fashion_mnist", "choose", CHOICE[:2]
    yield "mars", "choose", CHOICE[:2]
    yield "digits", "parts", CHOICE
    for data in ("digits", "fashion_mnist"):
        for name in settings:
            if name.startswith(f"{data},"):
                yield name, "choose", CHOICE[:2]
    yield "fashion_mnist", "parts", CHOICE[:2]


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
        collect(given.runs, (given.out if given.quick else RESULTS) / "ablation.json")
    from ablation_document import write

    write((given.out if given.quick else RESULTS) / "ablation.json", given.out)


if __name__ == "__main__":
    main()
