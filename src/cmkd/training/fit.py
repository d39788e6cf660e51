"""Fit one model: a teacher, or a student with a teacher and a method. Resumes by itself."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig, training_length
from cmkd.distributed import rank, synchronize_batch_norm, world_size
from cmkd.errors import CmkdError
from cmkd.training.checkpointing import CheckpointCallback, SafeCheckpointIO
from cmkd.training.job import TrainingJob as TrainingJob
from cmkd.training.loader import PairLoader
from cmkd.training.module import DistillationModule
from cmkd.training.objective import Objective


def fit(
    job: TrainingJob,
    optimizer: OptimizerConfig,
    augmentation: AugmentationConfig,
    trainer: TrainerConfig,
    *,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train, and return the path of the model that was best on the validation pairs.

    A training that was stopped continues from its last full state; on a CPU its final weights are those of a training
    that was not stopped, bit for bit.

    Args:
        job: what to train, and on what.
        optimizer: of the weights.
        augmentation: of the training pairs.
        trainer: where and how.
        callbacks: of Lightning, to look on; they come before those that save.

    Raises:
        CmkdError: no training or validation pairs, or the loss stops being finite.
    """
    train = job.rows("train")
    modality = job.model.modality.name
    for split, rows in (("train", train), ("validation", job.rows("validation"))):
        if not len(rows):
            raise CmkdError(f"no {split} pair has the modality '{modality}' and a label; check the split column")
    batch_size = trainer.batch_size or training_length(job.pairs)[1]
    trainer = replace(trainer, batch_size=batch_size)
    steps = len(_loader(job, "train", trainer)) * job.epochs
    objective = Objective(
        job.model,
        teacher=job.teacher,
        method=job.method,
        label_smoothing=optimizer.label_smoothing,
        always_paired=job.always_paired,
    )
    if trainer.devices * trainer.num_nodes > 1:
        synchronize_batch_norm(objective)
    module = DistillationModule(
        objective,
        modalities=job.pack.modalities,
        optimizer=optimizer,
        augmentation=augmentation.resolved(mirror=job.pack.card.mirror, cropped=job.pack.card.cropped),
        co_registered=job.pack.card.co_registered,
        seed=job.seed,
        steps=steps,
        batch_size=batch_size,
        dataset_size=len(job.pack),
    )
    _run(job, module, trainer, callbacks)
    return job.folder / "best.safetensors"


for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # at import, so that spawned processes do it too


class Pairs(LightningDataModule):
    """Hands Lightning the loaders, built in each process for its share."""

    def __init__(self, job: TrainingJob, trainer: TrainerConfig) -> None:
        super().__init__()
        self.job, self.settings = job, trainer

    def train_dataloader(self) -> PairLoader:
        """Return the training batches."""
        return _loader(self.job, "train", self.settings)

    def val_dataloader(self) -> PairLoader:
        """Return the validation batches."""
        return _loader(self.job, "validation", self.settings)


def _loader(job: TrainingJob, split: str, trainer: TrainerConfig) -> PairLoader:
    training, batch_size = split == "train", trainer.batch_size
    assert batch_size is not None  # `fit` has chosen it
    return PairLoader(
        job.pack,
        job.rows(split),
        job.modalities if training else (job.model.modality.name,),
        batch_size=batch_size if training else max(batch_size, 512 * world_size()),
        shuffle=training,
        seed=job.seed,
        rank=rank(),
        world=world_size(),
        pairs=job.pairs if training else None,
    )


def _run(job: TrainingJob, module: DistillationModule, settings: TrainerConfig, callbacks: Sequence[Callback]) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    if settings.devices == 1 or _launched():
        _train(job, module, settings, callbacks)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        spawn(_process, (job, module, settings, callbacks, port), nprocs=settings.devices)  # type: ignore[no-untyped-call]
    except ProcessRaisedException as error:
        raise _from_child(error) from error


def _launched() -> bool:
    """Whether a launcher (torchrun, SLURM) has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_JOB_ID" in os.environ


def _process(
    rank_here: int,
    job: TrainingJob,
    module: DistillationModule,
    settings: TrainerConfig,
    callbacks: Sequence[Callback],
    port: int,
) -> None:
    """Train as one of the processes of this machine; Lightning finds its place in the environment.

    Lightning could spawn them itself, but its processes would import it before `cmkd.training` mends torchvision.
    """
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank_here)}
    for tensor in (*module.parameters(), *module.buffers()):
        # torch hands tensors to spawned processes as shared memory: without a copy every process would write to the
        # same. A copy of the whole would not do: hooks of a method on its student would still belong to the original
        tensor.data = tensor.data.clone()
    _train(job, module, settings, callbacks, parent=os.getppid())
    torch.distributed.destroy_process_group()


def _train(
    job: TrainingJob,
    module: DistillationModule,
    settings: TrainerConfig,
    callbacks: Sequence[Callback],
    *,
    parent: int | None = None,
) -> None:
    last = job.folder / "last.safetensors"
    bars = settings.progress == "auto" and sys.stderr.isatty()
    lines = settings.progress == "auto" and not bars
    keep = CheckpointCallback(job, seconds=settings.checkpoint_seconds, lines=lines, parent=parent)
    bar = [RichProgressBar(leave=False)] if bars else []
    with warnings.catch_warnings():
        # Lightning's advice is for people who write loops
        warnings.filterwarnings("ignore", module=r"lightning\.|torch\.|tensorboard|torchmetrics")
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy="auto" if settings.devices * settings.num_nodes == 1 else "ddp",
            precision=settings.precision,
            max_epochs=job.epochs,
            gradient_clip_val=module.optimizer_config.clip_norm or None,
            deterministic=settings.deterministic,
            callbacks=[*callbacks, keep, *bar],
            logger=_logger(job, settings),
            plugins=[SafeCheckpointIO()],
            enable_progress_bar=bars,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000_000,
            use_distributed_sampler=False,
        )
        path = str(last) if last.exists() else None
        trainer.fit(module, datamodule=Pairs(job, settings), ckpt_path=path, weights_only=True)
        if job.method is not None:
            job.method.on_train_end(module.model)


def _from_child(error: ProcessRaisedException) -> Exception:
    """Return the one line of a `CmkdError` raised in a spawned process, or the error as it is."""
    marked = [line for line in str(error).splitlines() if line.startswith("cmkd.errors.CmkdError: ")]
    return CmkdError(marked[-1].removeprefix("cmkd.errors.CmkdError: ")) if marked else error


def _logger(job: TrainingJob, settings: TrainerConfig) -> Logger | bool:
    from lightning.pytorch import loggers

    match settings.logger:
        case "tensorboard":
            return loggers.TensorBoardLogger(job.folder, name="", version="tensorboard")
        case "mlflow":
            return loggers.MLFlowLogger("cmkd", run_name=job.title, tracking_uri=f"file:{job.folder / 'mlflow'}")
        case "wandb":
            return loggers.WandbLogger(name=job.title, save_dir=job.folder, project="cmkd")
    return False
