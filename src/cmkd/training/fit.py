"""Fit one model: a teacher, or a student with a teacher and a method."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.distributed import synchronize_batch_norm
from cmkd.documents import BEST
from cmkd.progress import screen
from cmkd.training.checkpointing import CheckpointCallback, SafeCheckpointIO
from cmkd.training.compiling import check_compiler
from cmkd.training.display import TrainingDisplay, style
from cmkd.training.job import TrainingJob as TrainingJob
from cmkd.training.launch import launch
from cmkd.training.loggers import MakeLogger, logger_of
from cmkd.training.module import DistillationModule
from cmkd.training.reporting import ReportCallback, Tell
from cmkd.training.schedule import training_length

for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # at import, so that spawned processes do it too


def fit(
    job: TrainingJob,
    optimizer: OptimizerConfig,
    augmentation: AugmentationConfig,
    trainer: TrainerConfig,
    *,
    callbacks: Sequence[Callback] = (),
    logger: MakeLogger | None = None,
    tell: Tell | None = None,
) -> Path:
    """Train a model, and return the path of the weights that were best on the validation pairs.

    An interrupted training resumes from its last full state. On a CPU, its final weights equal those of an
    uninterrupted training, bit for bit.

    Args:
        job: training job, with the model and its pairs.
        optimizer: optimizer and schedule.
        augmentation: augmentation of the training pairs; unset fields are filled in from the data card.
        trainer: settings of training and hardware; by default the batch size follows from the number of pairs.
        callbacks: extra Lightning callbacks, run in this order before checkpointing. With several devices, each process
            has its own copies.
        logger: function that makes the Lightning logger of this training, instead of ``trainer.logger``.
        tell: function that receives progress reports; by default they are shown on a display.

    Raises:
        CmkdError: if there are no training or validation pairs, a loss is not finite, a callback or module cannot be
            sent to the processes of several devices, or models are to be compiled and there is no compiler.
    """
    if trainer.compile:
        check_compiler()
    trainer = replace(trainer, batch_size=trainer.batch_size or training_length(job.pairs)[1])
    card = job.pack.card
    module = DistillationModule(
        job,
        optimizer,
        augmentation.resolved(mirror=card.mirror, cropped=card.cropped),
        batch_size=trainer.batch_size or 1,
        window=trainer.shuffle_window,
    )
    if trainer.devices * trainer.num_nodes > 1:
        synchronize_batch_norm(module)
    job.folder.mkdir(parents=True, exist_ok=True)
    with nullcontext(tell) if tell else _display(job.title, trainer) as told:
        launch(_train, module, trainer, told, logger, *callbacks, devices=trainer.devices)
    return job.folder / BEST


@contextmanager
def _display(title: str, trainer: TrainerConfig) -> Iterator[Tell]:
    with screen(style(trainer)) as on, TrainingDisplay(on, {title: title}) as display:
        yield display


def _train(
    module: DistillationModule,
    settings: TrainerConfig,
    tell: Tell,
    make_logger: MakeLogger | None,
    *callbacks: Callback,
) -> None:
    job, last = module.job, module.job.folder / "last.safetensors"
    keep, report = CheckpointCallback(job, settings.checkpoint_seconds), ReportCallback(job, tell)
    logged = logger_of(job, settings.logger, make_logger)
    with threads(settings.threads), logged as logger, warnings.catch_warnings():
        # Lightning's warnings are advice for people who write training loops
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
            callbacks=[*callbacks, keep, report],
            logger=logger,
            default_root_dir=job.folder,  # under SLURM, Lightning loads any `hpc_ckpt_*.ckpt` in it
            # not the environment of SLURM, with which Lightning writes such a file on a signal and requeues the job
            plugins=[
                SafeCheckpointIO(),
                TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment(),
            ],
            profiler=NoProfiler(),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000_000,
            use_distributed_sampler=False,
        )
        state = str(last) if last.exists() else None
        if settings.compile:
            module.objective.compile_models()
        try:
            trainer.fit(module, ckpt_path=state, weights_only=True)
        except SIGTERMException as stop:  # Lightning exits without a code, as if the training had been finished
            raise SystemExit(128 + signal.SIGTERM) from stop
        if job.method is not None:
            job.method.on_train_end(job.model)


class NoProfiler(PassThroughProfiler):
    """A profiler that measures nothing; Lightning's own enters a generator about sixty times per step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return _NOTHING


_NOTHING = nullcontext()


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set the number of CPU threads of torch in a block; None leaves it as it is."""
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
