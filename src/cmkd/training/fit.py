"""Fit one model: a teacher, or a student with a teacher and a method. Resumes by itself."""

from __future__ import annotations

import copy
import logging
import os
import socket
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from cmkd.config import AugmentationConfig, OptimiserConfig, TrainerConfig, training_length
from cmkd.data.pack import Pack
from cmkd.distributed import rank, synchronise_batch_norm, world_size
from cmkd.errors import CmkdError
from cmkd.methods import Method
from cmkd.models import Model
from cmkd.training.files import SafeCheckpointIO, save_model, write_text
from cmkd.training.loader import PairLoader
from cmkd.training.module import Training
from cmkd.training.objective import Objective


@dataclass
class Task:
    """One training.

    Args:
        folder: of its files: ``best.safetensors``, ``last.safetensors``, ``history.csv``, logs.
        pack: the pairs.
        model: what trains.
        name: what `models.build` made it from.
        epochs: passes over its training pairs.
        seed: of the order of pairs, augmentation and dropout.
        teacher: the trained teacher, for a student.
        method: what to distil, for a student.
        allow_unlabelled: let pairs without a label take part in the method's terms.
        about: goes into the saved model's description.
        title: what to call it in messages.
    """

    folder: Path
    pack: Pack
    model: Model
    name: str
    epochs: int
    seed: int
    teacher: Model | None = None
    method: Method | None = None
    allow_unlabelled: bool = False
    about: dict[str, Any] | None = None
    title: str = "training"

    def rows(self, split: str) -> np.ndarray:
        """Return the pairs of `split` this training uses: those that have its modality."""
        guided = self.method is not None and bool(self.method.needs)
        labelled = None if self.allow_unlabelled and guided and split == "train" else True
        return self.pack.rows(split, modalities=(self.model.modality.name,), labelled=labelled)

    @property
    def pairs(self) -> int:
        """How many pairs an epoch has: with pairs without a label at hand, as many for those who cannot use them.

        So students of all methods, and the teacher, make the same number of steps.
        """
        labelled = None if self.allow_unlabelled else True
        return len(self.pack.rows("train", modalities=(self.model.modality.name,), labelled=labelled))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs a training batch needs."""
        reads_teacher = self.method is not None and self.method.uses_teacher and self.teacher is not None
        own = self.model.modality.name
        guide = self.teacher.modality.name if reads_teacher and self.teacher is not None else own
        return tuple(dict.fromkeys((own, guide)))

    @property
    def always_paired(self) -> bool:
        """Whether every training pair has all of `modalities`."""
        own = self.pack.rows("train", modalities=(self.model.modality.name,))
        return len(own) == len(self.pack.rows("train", modalities=self.modalities))


def fit(task: Task, optimiser: OptimiserConfig, augmentation: AugmentationConfig, trainer: TrainerConfig) -> Path:
    """Train, and return the path of the model that was best on the validation pairs.

    A training that was stopped continues from its last full state; on a CPU its final weights are those of a training
    that was not stopped, bit for bit.

    Raises:
        CmkdError: no training or validation pairs, or the loss stops being finite.
    """
    train = task.rows("train")
    modality = task.model.modality.name
    for split, rows in (("train", train), ("validation", task.rows("validation"))):
        if not len(rows):
            raise CmkdError(f"no {split} pair has the modality '{modality}' and a label; check the split column")
    batch_size = trainer.batch_size or training_length(task.pairs)[1]
    trainer = replace(trainer, batch_size=batch_size)
    steps = len(_loader(task, "train", trainer)) * task.epochs
    objective = Objective(
        task.model,
        teacher=task.teacher,
        method=task.method,
        label_smoothing=optimiser.label_smoothing,
        always_paired=task.always_paired,
    )
    if trainer.devices * trainer.num_nodes > 1:
        synchronise_batch_norm(objective)
    module = Training(
        objective,
        modalities=task.pack.modalities,
        optimiser=optimiser,
        augmentation=augmentation.of_data(mirror=task.pack.card.mirror, cropped=task.pack.card.cropped),
        registered=task.pack.card.registered,
        seed=task.seed,
        steps=steps,
        batch_size=batch_size,
        dataset_size=len(task.pack),
    )
    _run(task, module, trainer)
    return task.folder / "best.safetensors"


for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # at import, so that spawned processes do it too


class KeepState(Checkpoint):
    """Writes the history, the best model and the full state; a `Checkpoint`, so it runs after everything else.

    Args:
        task: whose files.
        seconds: between full states within an epoch.
        lines: whether to say how it goes, in about ten plain lines: for logs and pipes.
        parent: the process that spawned this one and that it must not outlive; None for none.
    """

    def __init__(self, task: Task, *, seconds: float, lines: bool = False, parent: int | None = None) -> None:
        self.lines, self.parent = lines, parent
        self.task, self.seconds, self._saved = task, seconds, time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Save the full state if it is time, but not on an epoch's last batch: its end is saved anyway."""
        if self.parent is not None and self.parent != os.getppid():
            os._exit(1)  # the process that spawned this one was killed; a successor may already be at work
        if not trainer.is_last_batch and self._due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the history, the model if it is the best so far, and the full state if it is time, in this order."""
        assert isinstance(pl_module, Training)
        history = pd.DataFrame(pl_module.history)
        done, row = len(history), history.iloc[-1]
        if trainer.is_global_zero:
            write_text(self.task.folder / "history.csv", history.to_csv(index=False))
            order = list(zip(history["validation_accuracy"], -history["validation_loss"], strict=True))
            if order[-1] == max(order) and order.index(max(order)) == len(order) - 1:
                save_model(
                    self.task.folder / "best.safetensors",
                    pl_module.model,
                    name=self.task.name,
                    classes=self.task.pack.classes,
                    extra={**(self.task.about or {}), "seed": self.task.seed, "epoch": int(history["epoch"].iloc[-1])},
                )
            if self.lines and (done == self.task.epochs or done % max(1, self.task.epochs // 10) == 0):
                print(
                    f"{self.task.title}: epoch {done}/{self.task.epochs}, loss {row['train_loss']:.3f}, "
                    f"validation {100 * row['validation_accuracy']:.1f} %",
                    flush=True,
                )
        # what is lost is trained again, to the same weights, so short epochs need not each wait for the disk
        if done == self.task.epochs or self._due(trainer):
            self._save(trainer)

    def _due(self, trainer: Trainer) -> bool:
        return bool(trainer.strategy.broadcast(torch.tensor(time.monotonic() - self._saved >= self.seconds)))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.task.folder / "last.safetensors")
        self._saved = time.monotonic()


class Pairs(LightningDataModule):
    """Hands Lightning the loaders, built in each process for its share."""

    def __init__(self, task: Task, trainer: TrainerConfig) -> None:
        super().__init__()
        self.task, self.settings = task, trainer

    def train_dataloader(self) -> PairLoader:
        """Return the training batches."""
        return _loader(self.task, "train", self.settings)

    def val_dataloader(self) -> PairLoader:
        """Return the validation batches."""
        return _loader(self.task, "validation", self.settings)


def _loader(task: Task, split: str, trainer: TrainerConfig) -> PairLoader:
    training, batch_size = split == "train", trainer.batch_size
    assert batch_size is not None  # `fit` has chosen it
    return PairLoader(
        task.pack,
        task.rows(split),
        task.modalities if training else (task.model.modality.name,),
        batch_size=batch_size if training else max(batch_size, 512 * world_size()),
        shuffle=training,
        seed=task.seed,
        rank=rank(),
        world=world_size(),
        pairs=task.pairs if training else None,
    )


def _run(task: Task, module: Training, settings: TrainerConfig) -> None:
    task.folder.mkdir(parents=True, exist_ok=True)
    if settings.devices == 1 or _launched():
        _train(task, module, settings)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        spawn(_process, (task, module, settings, port), nprocs=settings.devices)  # type: ignore[no-untyped-call]
    except ProcessRaisedException as error:
        raise _from_child(error) from error


def _launched() -> bool:
    """Whether a launcher (torchrun, SLURM) has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_JOB_ID" in os.environ


def _process(rank_here: int, task: Task, module: Training, settings: TrainerConfig, port: int) -> None:
    """Train as one of the processes of this machine; Lightning finds its place in the environment.

    Lightning could spawn them itself, but its processes would import it before `cmkd.training` mends torchvision.
    """
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank_here)}
    # torch hands tensors to spawned processes as shared memory: without a copy every process would write to the same
    _train(task, copy.deepcopy(module), settings, parent=os.getppid())
    torch.distributed.destroy_process_group()


def _train(task: Task, module: Training, settings: TrainerConfig, *, parent: int | None = None) -> None:
    last = task.folder / "last.safetensors"
    bars = settings.progress == "auto" and sys.stderr.isatty()
    lines = settings.progress == "auto" and not bars
    callbacks: list[Callback] = [KeepState(task, seconds=settings.checkpoint_seconds, lines=lines, parent=parent)]
    if bars:
        callbacks.append(RichProgressBar(leave=False))
    with warnings.catch_warnings():
        # Lightning's advice is for people who write loops
        warnings.filterwarnings("ignore", module=r"lightning\.|torch\.|tensorboard|torchmetrics")
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy="auto" if settings.devices * settings.num_nodes == 1 else "ddp",
            precision=settings.precision,
            max_epochs=task.epochs,
            gradient_clip_val=module.optimiser_config.clip_norm or None,
            deterministic=settings.deterministic,
            callbacks=callbacks,
            logger=_logger(task, settings),
            plugins=[SafeCheckpointIO()],
            enable_progress_bar=bars,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000_000,
            use_distributed_sampler=False,
        )
        path = str(last) if last.exists() else None
        trainer.fit(module, datamodule=Pairs(task, settings), ckpt_path=path, weights_only=True)
        if task.method is not None:
            task.method.finish(module.model)


def _from_child(error: ProcessRaisedException) -> Exception:
    """Return the one line of a `CmkdError` raised in a spawned process, or the error as it is."""
    marked = [line for line in str(error).splitlines() if line.startswith("cmkd.errors.CmkdError: ")]
    return CmkdError(marked[-1].removeprefix("cmkd.errors.CmkdError: ")) if marked else error


def _logger(task: Task, settings: TrainerConfig) -> Logger | bool:
    from lightning.pytorch import loggers

    match settings.logger:
        case "tensorboard":
            return loggers.TensorBoardLogger(task.folder, name="", version="tensorboard")
        case "mlflow":
            return loggers.MLFlowLogger("cmkd", run_name=task.title, tracking_uri=f"file:{task.folder / 'mlflow'}")
        case "wandb":
            return loggers.WandbLogger(name=task.title, save_dir=task.folder, project="cmkd")
    return False
