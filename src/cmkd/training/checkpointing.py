"""Files written during training: the history, the best model, and the full state to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from cmkd.cost import add_cost, read_cost
from cmkd.distributed import world_size
from cmkd.documents import BEST, HISTORY
from cmkd.errors import CmkdError
from cmkd.io import write_text
from cmkd.models.checkpoint import save_model
from cmkd.models.tensor_file import read_document, read_tensors, write_tensors
from cmkd.training.job import TrainingJob
from cmkd.training.module import DistillationModule

TREE = "tree"
"""Metadata key of a full state under which everything except its tensors is stored."""


class CheckpointCallback(Checkpoint):
    """Write the history, the best model and the full state. As a `Checkpoint` it runs after all other callbacks.

    Args:
        job: job whose files are written.
        seconds: shortest time in seconds between two full states, except for the one at the end of the training.
    """

    def __init__(self, job: TrainingJob, seconds: float) -> None:
        self.job, self.seconds, self._saved = job, seconds, time.monotonic()
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and count the time before the full state from which the training was resumed."""
        before = read_cost(self.job.folder).get("training_seconds") if trainer.ckpt_path else None
        self._began = time.monotonic() - (before or 0.0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Save the full state if it is due, except after an epoch's last batch: `on_train_epoch_end` may do it then."""
        if not trainer.is_last_batch and self._due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the history, the model if it is the best so far, and the full state if it is due, in this order."""
        assert isinstance(pl_module, DistillationModule)
        job, history = self.job, pd.DataFrame(pl_module.history)
        done, row = len(history), history.iloc[-1]
        if trainer.is_global_zero:
            write_text(job.folder / HISTORY, history.to_csv(index=False))
            if best_epoch(history) == done - 1:
                extra = {**(job.about or {}), "seed": job.seed, "epoch": int(row["epoch"])}
                path = job.folder / BEST
                save_model(path, pl_module.model, name=job.name, classes=job.pack.classes, extra=extra)
        # lost epochs are trained again, to the same weights, so short epochs need not each wait for the disk
        if trainer.should_stop or self._due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the training time; not called if there was nothing left to train."""
        self._keep_time(trainer)

    def _keep_time(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            add_cost(self.job.folder, training_seconds=time.monotonic() - self._began)

    def _due(self, trainer: Trainer) -> bool:
        due = time.monotonic() - self._saved >= self.seconds
        return due if world_size() == 1 else bool(trainer.strategy.broadcast(torch.tensor(due)))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.job.folder / "last.safetensors")
        self._keep_time(trainer)
        self._saved = time.monotonic()


def best_epoch(history: pd.DataFrame) -> int:
    """Return the row of the highest validation accuracy; ties go to the lower loss, then to the earlier epoch.

    Example:
        >>> best_epoch(pd.DataFrame({"validation_accuracy": [0.5, 0.8, 0.8, 0.8], "validation_loss": [1, 3, 2, 2]}))
        2
    """
    order = list(zip(history["validation_accuracy"], -history["validation_loss"], strict=True))
    return order.index(max(order))


class SafeCheckpointIO(CheckpointIO):
    """Store the full training state as one safetensors file: the tensors, and everything else as JSON metadata."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ANN401  # Lightning's signature
        """Write the state atomically."""
        tensors: dict[str, Tensor] = {}
        tree: Any = _encode(checkpoint, tensors, "the state of the training")
        write_tensors(Path(path), tensors, TREE, tree)

    def load_checkpoint(
        self,
        path: Any,  # noqa: ANN401
        map_location: Any | None = None,  # noqa: ANN401
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read and validate the state: Lightning raises unclear errors for a state that is not valid."""
        fix = "delete it to train this model again"
        tree, _ = read_document(Path(path), TREE, fix=fix)
        tensors = read_tensors(Path(path), TREE, fix=fix)
        try:
            decoded = _decode(tree, tensors)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CmkdError(f"'{path}' is damaged ({error}): {fix}") from error
        if not isinstance(decoded, dict):
            raise CmkdError(f"'{path}' is damaged (it holds no training state): {fix}")
        return decoded

    def remove_checkpoint(self, path: Any) -> None:  # noqa: ANN401
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def _encode(value: object, tensors: dict[str, Tensor], where: str) -> object:
    """Turn nested containers into JSON. Each container is tagged, so that keys and tuples keep their types.

    Raises:
        CmkdError: if it holds another type; the message names its place, `where`.
    """
    match value:
        case Tensor():
            key = str(len(tensors))
            tensors[key] = value
            return {"tensor": key}
        case dict():
            return {
                "dict": [[_encode(k, tensors, where), _encode(v, tensors, f"{where}, {k}")] for k, v in value.items()]
            }
        case list():
            return {"list": [_encode(v, tensors, where) for v in value]}
        case tuple():
            return {"tuple": [_encode(v, tensors, where) for v in value]}
        case float() if not math.isfinite(value):  # not a number in JSON
            return {"float": str(value)}
        case None | bool() | int() | float() | str():
            return value
        case np.generic() if not isinstance(value.item(), np.generic):
            return _encode(value.item(), tensors, where)
    raise CmkdError(
        f"{where}, holds {type(value).__name__}: a checkpoint keeps numbers, text, lists, dicts and tensors"
    )


def _decode(value: object, tensors: Mapping[str, Tensor]) -> object:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "float":
            return float(content)
        case "dict":
            return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
        case "list":
            return [_decode(v, tensors) for v in content]
    return tuple(_decode(v, tensors) for v in content)
