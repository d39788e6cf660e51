"""The logger of a training: named in its settings, or made by the user."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

from cmkd.errors import needs_extra
from cmkd.training.job import TrainingJob

MakeLogger = Callable[[TrainingJob], Logger]
TRACKING = "MLFLOW_TRACKING_URI"


@contextmanager
def logger_of(job: TrainingJob, name: str, make: MakeLogger | None) -> Iterator[Logger | bool]:
    """Yield a training's logger, with hyperparameters that let its runs be compared; False for no logger.

    Args:
        job: training to log.
        name: name of the logger: none, tensorboard, mlflow or wandb.
        make: function that makes a logger of your own, in place of the named one.

    Raises:
        CmkdError: if the named logger is not installed.
    """
    before = os.environ.get(TRACKING)
    logger = make(job) if make else _named(job, name)
    if logger is None:
        yield False
        return
    logger.log_hyperparams({"title": job.title, "model": job.name, "seed": job.seed, **(job.about or {})})
    try:
        yield logger
    finally:
        # both libraries keep their state for the whole process, so the next training would log into this one's run
        if make is None and name == "wandb":
            importlib.import_module("wandb").finish()
        if before is None:
            os.environ.pop(TRACKING, None)
        else:
            os.environ[TRACKING] = before


def _named(job: TrainingJob, name: str) -> Logger | None:
    if name == "none":
        return None
    with needs_extra(name, f"--trainer.logger {name}"):
        importlib.import_module(name)
    logs = job.logs or job.folder
    match name:
        case "mlflow":
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow 3 asks whether a folder may hold the logs
            place = os.environ.get(TRACKING) or f"file:{logs.absolute() / 'mlflow'}"
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "cmkd"
            return loggers.MLFlowLogger(experiment, run_name=job.title, tracking_uri=place)
        case "wandb":
            return loggers.WandbLogger(name=job.title, save_dir=logs, project=os.environ.get("WANDB_PROJECT") or "cmkd")
    return loggers.TensorBoardLogger(job.folder, name="", version="tensorboard")
