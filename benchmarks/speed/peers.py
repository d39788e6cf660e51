"""Compare cmkd with torchdistill and with a textbook loop: images/s, CPU time per image, and accuracy.

    pip install --no-deps --target FOLDER torchdistill==1.1.5
    PYTHONPATH=FOLDER python benchmarks/speed/peers.py

All train the same student (thin ResNet) by `kd` from the same teacher (ResNet-18), on the same pairs, with the same
batch size, learning rate, schedule, clipping and random transforms. Each training runs in its own process, and the
sides take turns. Speed is measured over all epochs but the first, including validation and checkpoints.

- ``cmkd``: an `Experiment`, as in ``cmkd run``. The teacher's outputs are computed before the first epoch and then read
  from disk, also by later students, seeds and runs.
- ``cmkd, a whole run``: `none`, `kd` and `ds` with five seeds, one student after another. Its speed is the number of
  all their images over the time of the run after the teacher's training, including the teacher's outputs.
- ``cmkd, no cache``: like the first, with ``--teacher.views 0``: the teacher runs in each step.
- ``textbook`` and ``torchdistill``: ``peer_loops.py``. Without torchdistill, its side is left out.
"""

from __future__ import annotations

from timing import RESULTS, Section, child, in_turns, peak_memory, ratios, write

# isort: split
import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cmkd.config import OptimizerConfig, RunConfig, TeacherConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.datasets import open_data
from cmkd.experiment.runner import Experiment
from peer_loops import LOOPS, Recipe, Stopwatch

DATA = ("marine(pairs=2000,size=32)", "marine(pairs=2000,size=64)")
SIDES = ("cmkd", "cmkd, a whole run", "cmkd, no cache", "textbook", "torchdistill")
METHODS, SEEDS = ("none", "kd", "ds"), 5
TEACHER = "resnet18"
INSTALL = "pip install --no-deps --target FOLDER torchdistill==1.1.5, then PYTHONPATH=FOLDER"


class Epochs(Callback):
    """Notify a stopwatch of the first epoch, the second epoch and the end of a training."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the start of the first epoch; start the stopwatch at the second."""
        if trainer.current_epoch == 0:
            self.watch.ready()
        elif trainer.current_epoch == 1:
            self.watch.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the stopwatch."""
        self.watch.stop()


def run(
    given: argparse.Namespace,
    out: Path,
    methods: str,
    watch: Stopwatch | None,
    seeds: int = 1,
    **teacher: Any,  # noqa: ANN401
) -> float:
    """Run an experiment, as a user would; return the mean test accuracy of its students."""
    config = RunConfig(
        str(given.pack),
        out,
        methods=methods,
        seeds=seeds,
        jobs=1,
        seed=given.seed,
        epochs=given.epochs,
        teacher=TeacherConfig(model=TEACHER, **teacher),
        optimizer=OptimizerConfig(early_stop=False),
        trainer=TrainerConfig(
            given.batch, accelerator="cpu" if given.device == "cpu" else "gpu", threads=1, progress="none"
        ),
    )
    callbacks = [] if watch is None else [Epochs(watch)]
    students = Experiment(config, callbacks=callbacks).run()["students"]
    return float(fmean(student["test_accuracy"] for student in students))


def measure_side(given: argparse.Namespace) -> dict[str, float]:
    """Train one side of the comparison in this process, and return its figures."""
    recipe = Recipe(
        Pack.open(given.pack), given.teacher, given.epochs, given.batch, given.seed, given.device, given.workers
    )
    watch = Stopwatch(given.device)
    images = recipe.steps * recipe.batch * (recipe.epochs - 1)
    if given.side in LOOPS:
        accuracy = LOOPS[given.side](recipe, watch)
    elif given.side == "cmkd, a whole run":
        images = recipe.steps * recipe.batch * recipe.epochs * len(METHODS) * SEEDS
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CMKD_CACHE"] = folder
            watch.ready()
            watch.start()
            accuracy = run(given, Path(folder) / "run", ",".join(METHODS), None, SEEDS, checkpoint=given.teacher)
            watch.stop()
    else:
        views = 0 if given.side == "cmkd, no cache" else None
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CMKD_CACHE"] = folder  # empty, so that the teacher's outputs are computed here
            accuracy = run(given, Path(folder) / "run", "kd", watch, checkpoint=given.teacher, views=views)
    return {
        "speed": images / watch.elapsed, "cpu": 1e3 * watch.cpu / images, "before": watch.before, "all": watch.total,
        "accuracy": accuracy, "memory": peak_memory(),
    }  # fmt: skip


def prepare(data: str, given: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Open the data, which are simulated by default, and train the teacher that all sides share."""
    pack = open_data(data)
    taught = argparse.Namespace(**{**vars(given), "pack": pack.path, "epochs": given.teacher_epochs, "seed": 0})
    run(taught, folder / "teacher", "none", Stopwatch(given.device))
    return {"pack": pack.path, "teacher": folder / "teacher" / "teacher" / "best.safetensors"}


def compare(name: str, made: Mapping[str, Path], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each side of one data set.

    Args:
        name: name of the data set.
        made: paths of the pack and of the teacher's checkpoint.
        given: command-line options.
    """
    sides = [side for side in SIDES if side != "torchdistill" or importlib.util.find_spec("torchdistill")]
    options = dict(made) | {name: getattr(given, name) for name in ("epochs", "batch", "device", "workers")}
    flags = [text for key, value in options.items() for text in (f"--{key}", value)]
    seeds = dict.fromkeys(sides, -1)

    def train(side: str) -> dict[str, Any]:
        seeds[side] += 1
        return child(__file__, "--side", side, "--seed", seeds[side], *flags)

    found = in_turns({side: partial(train, side) for side in sides}, given.rounds, warm_up=False)
    base = [result["speed"] for result in found["textbook"]]
    return [
        {
            "data": name,
            "side": side,
            "images/s": (speed := [result["speed"] for result in results]),
            "of textbook": ratios(speed, base),
            "CPU ms an image": [result["cpu"] for result in results],
            "before the first epoch, s": [result["before"] for result in results],
            "whole training, s": [result["all"] for result in results],
            "test accuracy, %": [100 * result["accuracy"] for result in results],
            "MiB": [result["memory"] for result in results],
        }
        for side, results in found.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", nargs="+", default=DATA, help="data sets whose modalities are not co-registered")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--teacher-epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1, help="of the DataLoaders; cmkd reads in one thread")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=RESULTS / "peers.md")
    for internal in ("--side", "--pack", "--teacher"):
        parser.add_argument(internal, type=str if internal == "--side" else Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.side:
        print(json.dumps(measure_side(given)))
        return
    if importlib.util.find_spec("torchdistill") is None:
        print(f"torchdistill is left out; for it: {INSTALL}", file=sys.stderr)
    text = (
        f"The student thin ResNet and the teacher {TEACHER}, `kd`, batch {given.batch}, {given.epochs} epochs; one "
        f"thread for torch, and one more: cmkd's reader, or {given.workers} worker(s) of the DataLoaders. Speed and "
        "CPU time are those of all epochs but the first, with validation and checkpoints. Before the first epoch cmkd "
        "evaluates the teacher and computes its outputs, once for all students. Those of *a whole run* are of "
        f"{', '.join(METHODS)} with {SEEDS} seeds, and of everything after the teacher's training. Median of "
        f"{given.rounds} rounds (quartiles), each with its own seed, in which the sides take turns."
    )
    rows: list[dict[str, Any]] = []
    for data in given.data:
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(data, prepare(data, given, Path(folder)), given)
        print(write(given.out, "cmkd, torchdistill and a textbook loop", [Section(text, rows)]))


if __name__ == "__main__":
    main()
