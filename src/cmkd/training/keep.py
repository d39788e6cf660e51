"""What is written while a training runs: its history, its best model, and the state to continue from."""

from __future__ import annotations

import os
import time

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cmkd.training.files import save_model, write_text
from cmkd.training.module import Training
from cmkd.training.task import Task


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
