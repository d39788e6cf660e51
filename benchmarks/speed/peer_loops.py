"""Training loops with which ``peers.py`` compares cmkd: a textbook loop, and torchdistill as in its own examples."""

from __future__ import annotations

from timing import cpu_seconds

# isort: split
import logging
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig
from cmkd.data.pack.pack import Pack
from cmkd.inference import predict
from cmkd.methods.kd import KD
from cmkd.models.checkpoint import load_model
from cmkd.training.module import WARMUP
from cmkd.training.schedule import PlateauSchedule
from cmkd.types import Output

TEMPERATURE, WEIGHT = (signature(KD).parameters[name].default for name in ("temperature", "weight"))
Loader = DataLoader[tuple[dict[str, Tensor], int]]


class Stopwatch:
    """Elapsed and CPU time of this process and its workers."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.elapsed = self.cpu = self.before = self.total = 0.0
        self._begun = self._started = self._now()

    def ready(self) -> None:
        """Record the time before the first epoch, which starts now."""
        self.before = self._now()[0] - self._begun[0]

    def start(self) -> None:
        """Start the measurement, at the beginning of the second epoch."""
        self._started = self._now()

    def stop(self) -> None:
        """End the measurement."""
        now = self._now()
        self.elapsed, self.cpu = now[0] - self._started[0], now[1] - self._started[1]
        self.total = now[0] - self._begun[0]

    def _now(self) -> tuple[float, float]:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter(), cpu_seconds(process.pid for process in multiprocessing.active_children())


@dataclass(frozen=True)
class Recipe:
    """Data, teacher and settings that are the same in both loops."""

    pack: Pack
    teacher: Path
    epochs: int
    batch: int
    seed: int
    device: str
    workers: int

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return len(self.pack.rows("train")) // self.batch

    def models(self) -> tuple[models.Model, models.Model]:
        """Return the trained teacher and a new student."""
        torch.manual_seed(self.seed)
        student = models.build("auto", self.pack.modality(str(self.pack.card.poor)), classes=len(self.pack.classes))
        teacher, _ = load_model(self.teacher)
        return teacher.to(self.device).eval(), student.to(self.device)

    @property
    def rate(self) -> float:
        """Peak learning rate of the student, as cmkd chooses it."""
        return 0.01 * math.sqrt(self.batch / 128)

    @property
    def factor(self) -> Callable[[int], float]:
        """Factor of the learning rate at each step."""
        total = self.steps * self.epochs
        warmup = max(1, min(WARMUP, round(OptimizerConfig().warmup * total)))
        return PlateauSchedule(total, warmup, self.steps).factor

    def loader(self, split: str) -> Loader:
        """Return the loader of a split; only ``train`` is shuffled and transformed."""
        return DataLoader(
            Pairs(self.pack, split), batch_size=self.batch if split == "train" else 512, shuffle=split == "train",
            drop_last=split == "train", **self.workers_of_loader,
        )  # fmt: skip

    @property
    def workers_of_loader(self) -> dict[str, Any]:
        """Arguments of a DataLoader that are the same for both loops."""
        return {
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": self.device != "cpu",
        }


class Pairs(Dataset[tuple[dict[str, Tensor], int]]):
    """Pairs of a split; each training image is transformed separately, 8-bit gray and RGB images as PIL images."""

    def __init__(self, pack: Pack, split: str) -> None:
        if pack.card.co_registered:
            raise SystemExit("choose data that are not co-registered: the other loops transform each image by itself")
        self.rows, self.labels = pack.rows(split), pack.index["label"].to_numpy()
        names = [str(pack.card.poor), *([str(pack.card.rich)] if split == "train" else [])]
        self.arrays = {name: pack.array(name) for name in names}
        strengths = AugmentationConfig().resolved(mirror=pack.card.mirror, cropped=pack.card.cropped)
        shift, scale = float(strengths.shift or 0.0), strengths.scale
        moved = transforms.RandomAffine(0, translate=(shift, shift), scale=(1 - scale, 1 + scale))
        flipped = [transforms.RandomHorizontalFlip()] if strengths.flip else []
        self.transform = transforms.Compose([*flipped, moved]) if split == "train" else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        row = self.rows[index]
        return {name: self._image(array[row]) for name, array in self.arrays.items()}, int(self.labels[row])

    def _image(self, array: Any) -> Tensor:  # noqa: ANN401  # a numpy array
        if self.transform is None:
            return torch.from_numpy(array.copy())
        tensor: Tensor
        if array.dtype == np.uint8 and array.shape[0] in (1, 3):
            image = Image.fromarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0).copy())
            tensor = pil_to_tensor(self.transform(image))
        else:  # Pillow cannot hold such images, so they are transformed as tensors
            tensor = self.transform(torch.from_numpy(array.copy()))
        return tensor


def textbook(recipe: Recipe, watch: Stopwatch) -> float:
    """Train in a plain loop over a DataLoader; return the test accuracy of the best epoch."""
    teacher, student = recipe.models()
    rich, poor, device = teacher.modality.name, student.modality.name, recipe.device
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.rate, weight_decay=OptimizerConfig().weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.factor)
    train, validation = recipe.loader("train"), recipe.loader("validation")
    watch.ready()
    with best_of(recipe, student, validation) as checked:
        for epoch in range(recipe.epochs):
            if epoch == 1:
                watch.start()
            student.train()
            for inputs, target in train:
                target = target.to(device, non_blocking=True)
                with torch.no_grad():
                    taught = F.log_softmax(teacher(inputs[rich].to(device, non_blocking=True)).logits / TEMPERATURE, 1)
                logits = student(inputs[poor].to(device, non_blocking=True)).logits
                own = F.log_softmax(logits / TEMPERATURE, 1)
                soft = F.kl_div(own, taught, log_target=True, reduction="batchmean") * TEMPERATURE**2
                optimizer.zero_grad()
                (F.cross_entropy(logits, target) + WEIGHT * soft).backward()
                clip_grad_norm_(student.parameters(), OptimizerConfig().clip_norm)
                optimizer.step()
                schedule.step()
            checked()
        watch.stop()
    return accuracy(recipe, student)


def torchdistill(recipe: Recipe, watch: Stopwatch) -> float:
    """Train with torchdistill's distillation box, as in its image classification example; return the test accuracy."""
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.core.interfaces.registry import register_forward_proc_func
    from torchdistill.misc.log import MetricLogger

    logging.disable(logging.INFO)
    teacher, student = recipe.models()

    register_forward_proc_func(of_its_modality)
    data = {split: Pairs(recipe.pack, split) for split in ("train", "validation")}
    device = torch.device(recipe.device)
    box = get_distillation_box(teacher, student, data, settings(recipe), device, None, False, 1)
    watch.ready()
    with best_of(recipe, student, box.val_data_loader) as checked:
        for epoch in range(recipe.epochs):
            if epoch == 1:
                watch.start()
            box.pre_epoch_process(epoch=epoch)
            log = MetricLogger()
            for inputs, target, extra in log.log_every(box.train_data_loader, 50):
                inputs = {name: value.to(device) for name, value in inputs.items()}
                loss = box.forward_process(inputs, target.to(device), extra)
                box.post_forward_process(loss=loss)
                log.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            checked()
            box.post_epoch_process()
        watch.stop()
    return accuracy(recipe, student)


def of_its_modality(model: models.Model, sample_batch: dict[str, Tensor], *_: object, **__: object) -> Tensor:
    """Run a model on its own modality, and return the logits."""
    output: Output = model(sample_batch[model.modality.name])
    return output.logits


def settings(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as a torchdistill configuration."""

    def loader(split: str, sampler: type, **options: Any) -> dict[str, Any]:  # noqa: ANN401  # DataLoader's own
        options |= recipe.workers_of_loader
        return {"dataset_id": split, "sampler": {"class_or_func": sampler, "kwargs": {}}, "kwargs": options}

    logits = {f"{role}_module_{what}": value for role in ("student", "teacher")
              for what, value in (("path", "."), ("io", "output"))}  # fmt: skip
    kd = {"key": "KDLoss", "kwargs": {**logits, "temperature": TEMPERATURE, "alpha": 1.0, "beta": WEIGHT}}
    data = torch.utils.data
    optimizer = {"lr": recipe.rate, "weight_decay": OptimizerConfig().weight_decay}
    return {
        "num_epochs": recipe.epochs,
        "train_data_loader": loader("train", data.RandomSampler, batch_size=recipe.batch, drop_last=True),
        "val_data_loader": loader("validation", data.SequentialSampler, batch_size=512) | {"requires_supp": False},
        "teacher": {"forward_proc": "of_its_modality", "requires_grad": False},
        "student": {"forward_proc": "of_its_modality"},
        "optimizer": {"key": "AdamW", "kwargs": optimizer, "max_grad_norm": OptimizerConfig().clip_norm},
        "scheduler": {"key": "LambdaLR", "kwargs": {"lr_lambda": recipe.factor}, "scheduling_step": 1},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}}},
    }


@contextmanager
def best_of(recipe: Recipe, student: models.Model, validation: Loader) -> Iterator[Callable[[], None]]:
    """Yield a function that saves the student if it is the best so far; load the best at the end."""
    best = -1.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "best.pt")

        def check() -> None:
            nonlocal best
            student.eval()
            right = torch.zeros((), dtype=torch.int64, device=recipe.device)
            with torch.inference_mode():
                for inputs, target in validation:
                    logits = student(inputs[student.modality.name].to(recipe.device)).logits
                    right += (logits.argmax(1) == target.to(recipe.device)).sum()
            if right > best:
                best = float(right)
                torch.save(student.state_dict(), path)

        yield check
        student.load_state_dict(torch.load(path, weights_only=True))


def accuracy(recipe: Recipe, student: models.Model) -> float:
    """Return the test accuracy of the student."""
    rows = recipe.pack.rows("test")
    logits = predict(student, recipe.pack, rows, device=recipe.device)
    return float((logits.argmax(1) == recipe.pack.index["label"].to_numpy()[rows]).mean())


LOOPS = {"textbook": textbook, "torchdistill": torchdistill}
