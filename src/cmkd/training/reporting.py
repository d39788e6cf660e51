"""Progress reports of a training, for a display in this process or in the one that started it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cmkd.training.job import TrainingJob
from cmkd.training.module import DistillationModule

SECONDS = 0.5
"""Shortest time in seconds between two reports within an epoch."""


@dataclass(frozen=True)
class Report:
    """Progress of one training.

    Args:
        title: title of the training.
        fraction: fraction of the largest number of steps that is done; a training may end earlier.
        state: progress in words.
        accuracy: accuracy on the validation pairs after the last finished epoch; None before the first one.
        milestone: whether this is one of about ten reports that are printed if there is no terminal.
    """

    title: str
    fraction: float
    state: str
    accuracy: float | None = None
    milestone: bool = False


Tell = Callable[[Report], None]


class ReportCallback(Checkpoint):
    """Report the progress of a training: at its start, after each epoch, and about twice a second.

    As a `Checkpoint` it runs after the module's own hooks, which complete the history.

    Args:
        job: training to report.
        tell: function that receives the reports, in the first of the processes that train together.
    """

    def __init__(self, job: TrainingJob, tell: Tell) -> None:
        self.job, self.tell, self._told = job, tell, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the start, which is not at zero if a training resumes."""
        self._report(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Report the progress if a report is due."""
        if time.monotonic() - self._told >= SECONDS:
            self._report(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the accuracy."""
        self._report(trainer, pl_module, epoch_ended=True)

    def _report(self, trainer: Trainer, pl_module: LightningModule, *, epoch_ended: bool = False) -> None:
        assert isinstance(pl_module, DistillationModule)
        if not trainer.is_global_zero:
            return
        history, job = pl_module.history, self.job
        steps, epoch = int(trainer.num_training_batches) * job.epochs, len(history)
        self.tell(
            Report(
                job.title,
                min(1.0, trainer.global_step / max(1, steps)),
                f"epoch {epoch} of at most {job.epochs}",
                history[-1]["validation_accuracy"] if history else None,
                epoch_ended and (trainer.should_stop or epoch % max(1, job.epochs // 10) == 0),
            )
        )
        self._told = time.monotonic()
