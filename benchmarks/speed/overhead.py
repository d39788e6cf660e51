"""Measure what cmkd's trainer adds to a step: the whole `fit` against a bare loop with the same arithmetic.

    python benchmarks/speed/overhead.py

The bare loop has the same loader, augmentation, objective, optimizer, schedule, gradient clipping and moving average,
but no Lightning, logging, progress or files. The two alternate step by step: a callback of `fit` takes one step of the
bare loop before each step of `fit`. Both end with the same weights, bit for bit, which is checked on a CPU. `fit` is
measured without a logger and with TensorBoard. The progress bar is drawn by a separate thread and measured separately.
Further rows show what each part of the recipe costs in the bare loop. The target is 3 % of a step.
"""

from __future__ import annotations

from timing import RESULTS, Section, clock, pair_of_models, random_pack, write

# isort: split
import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.methods import create
from cmkd.progress import screen
from cmkd.training.augment import augment
from cmkd.training.display import TrainingDisplay
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.module import DistillationModule
from cmkd.training.reporting import SECONDS, Report

SKIP = 5  # number of first steps that are not counted, because buffers are allocated in them
PARTS = ("seed", "augmentation", "clipping", "average", "schedule")
OFF = AugmentationConfig(flip=False, shift=0.0, scale=0.0)


@dataclass(frozen=True)
class Setting:
    """Image size, batch size, method, number of steps and device of one comparison."""

    side: int
    batch: int
    method: str
    steps: int
    device: str = "cpu"

    def __str__(self) -> str:
        teacher = "student alone" if self.method == "none" else f"{self.method} from ResNet-18"
        return f"{self.side} x {self.side}, batch {self.batch}, {teacher}"


SETTINGS = (Setting(8, 32, "none", 400), Setting(32, 128, "none", 100), Setting(64, 128, "kd", 50))


def job(setting: Setting, pack: Pack, folder: Path) -> TrainingJob:
    """Return a training job of one epoch; each call makes equal models."""
    teacher, student = pair_of_models(setting.side)
    method = create(setting.method, student.spec, teacher.spec)
    method.setup(student, teacher)
    return TrainingJob(folder, pack, student, "auto", epochs=1, seed=0, teacher=teacher, method=method)


def bare(setting: Setting, made: TrainingJob, parts: Sequence[str] = PARTS) -> Iterator[int]:
    """Train in a bare loop with the given parts of the recipe; yield before each step and after the last."""
    card, config, modalities = made.pack.card, OptimizerConfig(), made.pack.modalities
    strengths = AugmentationConfig() if "augmentation" in parts else OFF
    strengths = strengths.resolved(mirror=card.mirror, cropped=card.cropped)
    module = DistillationModule(made, config, strengths, batch_size=setting.batch).to(setting.device)
    module.objective.move(torch.device(setting.device))
    built: Any = module.configure_optimizers()
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    trained = [p for p in module.objective.parameters() if p.requires_grad]
    batches = iter(module.train_dataloader())
    for step in range(setting.steps):
        yield step
        batch = next(batches).to(setting.device, non_blocking=True)
        if "seed" in parts:
            torch.default_generator.manual_seed(step * 1_009)
        batch = augment(batch, modalities, strengths, seed=0, co_registered=card.co_registered)
        _, terms = module.objective(batch)
        optimizer.zero_grad()
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        if "clipping" in parts:
            clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        if "average" in parts and module.average is not None:
            module.average.update(module.objective.model, step + 1)
        if "schedule" in parts:
            schedule.step()
    yield setting.steps


class Turns(Callback):
    """Take one step of a bare loop before each step of `fit`, and time both."""

    def __init__(self, other: Iterator[int], device: str) -> None:
        self.other, self.device = other, device
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing the first step of `fit`, which begins by reading its batch."""
        next(self.other)
        self.start = clock(self.device)

    def on_train_batch_start(self, *_: object) -> None:
        """End the timing of a step of `fit` here, before its hooks, and take one step of the bare loop."""
        now = clock(self.device)
        self.ours.append(now - self.start)
        next(self.other)
        self.start = clock(self.device)
        self.bare.append(self.start - now)


def compare(setting: Setting, pack: Pack, logger: Literal["none", "tensorboard"]) -> dict[str, Any]:
    """Alternate `fit` and a bare loop; return the seconds of each step, and of everything else that `fit` does."""
    with tempfile.TemporaryDirectory() as folder:
        ours, others = job(setting, pack, Path(folder)), job(setting, pack, Path())
        turns = Turns(bare(setting, others), setting.device)
        where: Literal["cpu", "gpu"] = "cpu" if setting.device == "cpu" else "gpu"
        begin = clock(setting.device)
        settings = TrainerConfig(setting.batch, accelerator=where, progress="none", logger=logger)
        fit(ours, OptimizerConfig(), AugmentationConfig(), settings, callbacks=[turns])
        everything = clock(setting.device) - begin
    if setting.device == "cpu" and not torch.equal(weights(ours), weights(others)):
        raise SystemExit(f"{setting}: `fit` and the bare loop end with different weights")
    # the first entry of `ours` only reads a batch and ends before the first step, so the two lists are shifted by one
    steps = np.array(turns.ours[1:])[SKIP:], np.array(turns.bare[:-1])[SKIP:]
    return {"fit": steps[0], "bare": steps[1], "rest": everything - sum(turns.ours) - sum(turns.bare)}


def weights(made: TrainingJob) -> Tensor:
    """Return all weights of the student as one vector."""
    return torch.cat([p.detach().flatten().cpu() for p in made.model.parameters()])


@contextmanager
def terminal() -> Iterator[None]:
    """Connect stdout and stderr to a pseudo-terminal whose output is discarded, so that progress bars are drawn."""
    ours, theirs = os.openpty()
    with subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        kept = [os.dup(stream) for stream in (1, 2)]
        try:
            sys.stdout.flush()
            for stream in (1, 2):
                os.dup2(theirs, stream)
            yield
        finally:
            sys.stdout.flush()
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            os.close(theirs)
            reader.terminate()
            os.close(ours)


def drawing(duration: float) -> float:
    """Return the CPU time that the progress bar takes per second of elapsed time."""
    with terminal(), screen() as on, TrainingDisplay(on, {"student": "student"}) as display:
        begin, used = time.perf_counter(), time.process_time()
        while (passed := time.perf_counter() - begin) < duration:
            display(Report("student", passed / duration, "epoch 1 of at most 2", 0.5))
            time.sleep(SECONDS)
        return (time.process_time() - used) / passed


def leave_out(setting: Setting, pack: Pack) -> dict[str, np.ndarray]:
    """Time bare loops that alternate step by step: one with the whole recipe, and one without each part."""
    loops = {"": bare(setting, job(setting, pack, Path()))} | {
        part: bare(setting, job(setting, pack, Path()), [other for other in PARTS if other != part]) for part in PARTS
    }
    found: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        next(loop)
    for _ in range(setting.steps):
        for name, loop in loops.items():
            start = clock(setting.device)
            next(loop)
            found[name].append(clock(setting.device) - start)
    return {name: np.array(times)[SKIP:] for name, times in found.items()}


def rows(settings: Sequence[Setting]) -> Iterator[dict[str, Any]]:
    """Yield the rows of both tables."""
    for setting in settings:
        with tempfile.TemporaryDirectory() as folder:
            pack = random_pack(Path(folder) / "pack", setting.steps * setting.batch, setting.side, held_out=64)
            for logger in ("none", "tensorboard"):
                found = compare(setting, pack, logger)
                name = "`fit`" if logger == "none" else "`fit` with TensorBoard"
                yield {"setting": str(setting), "what": name, **difference(found["fit"], found["bare"])} | {
                    "start, validation, files, s": float(found["rest"])
                }
            if setting is settings[0]:
                times = leave_out(setting, pack)
                for part in PARTS:
                    cost = difference(times[""], times[part])
                    yield {"setting": str(setting), "what": f"{part} in the bare loop", **cost}


def difference(ours: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Return the median step time of both sides, and the median of their difference with quartiles."""
    low, middle, high = np.percentile(ours - other, [25, 50, 75])
    base = float(np.median(other))
    return {
        "with, ms": 1e3 * float(np.median(ours)),
        "without, ms": 1e3 * base,
        "difference, ms": f"{1e3 * middle:+z.2f} ({1e3 * low:+.2f} to {1e3 * high:+.2f})",
        "of a step, %": f"{100 * middle / base:+z.1f}",
        "steps": len(ours),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="a few small steps, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS / "overhead.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = [replace(setting, device=given.device) for setting in SETTINGS]
    if given.quick:
        settings = [replace(settings[0], steps=SKIP + 4)]
    timed = "CPU time of the process, one thread" if given.device == "cpu" else "elapsed time, with a wait at each end"
    text = (
        "A step of the thin ResNet on random images, with Lightning and everything that `fit` does, or with a part of "
        f"the recipe, and without; {timed}; median over steps that take turns, with quartiles. `fit` and the bare loop "
        "have the same arithmetic: seed of the step, augmentation, clipping, schedule and moving average. "
        "On a CPU they end with the same weights, bit for bit."
    )
    share = drawing(0.5 if given.quick else 10.0)
    after = f"The progress bar takes {100 * share:.1f} % of the time of one core, whatever the step."
    sections = [Section(text, list(rows(settings))), Section(after)]
    print(write(given.out, "What the trainer adds to a step", sections))


if __name__ == "__main__":
    main()
