"""Train and evaluate one model of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from cmkd.distributed import rank, world_size
from cmkd.documents import HISTORY
from cmkd.evaluation.results import read_history
from cmkd.experiment.resolve import ResolvedRun
from cmkd.experiment.scoring import score_model
from cmkd.models import Model
from cmkd.models.checkpoint import load_model, rewrite
from cmkd.training.fit import fit
from cmkd.training.job import TrainingJob
from cmkd.training.reporting import Tell

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from cmkd.training.loggers import MakeLogger


@dataclass(frozen=True)
class Fitting:
    """Trains and evaluates models with the settings of a run.

    Args:
        run: the resolved run.
        callbacks: extra Lightning callbacks of every training.
        logger: function that makes the Lightning logger of a training.
    """

    run: ResolvedRun
    callbacks: Sequence[Callback] = ()
    logger: MakeLogger | None = None

    def fit(self, job: TrainingJob, about: dict[str, Any], tell: Tell) -> None:
        """Train a model and evaluate it.

        Args:
            job: the training.
            about: further entries of ``result.json``.
            tell: callback for the progress of the training.
        """
        config = self.run.config
        settings = (config.optimizer, config.augmentation, config.trainer)
        try:
            path = fit(job, *settings, callbacks=self.callbacks, logger=self.logger, tell=tell)
        finally:
            if job.answers is not None:
                job.answers.close()  # reference cycles delay its release, and the next student may need the memory
        last = read_history(job.folder / HISTORY, ("step", "leveled")).iloc[-1]
        about |= {"steps": int(last["step"]), "converged": bool(last["leveled"])}
        if rank() == 0:  # other runs may use the file as teacher, and find `converged` only there
            rewrite(path, path, {"converged": about["converged"]})
        model, _ = load_model(path, module=job.model.encoder)
        self.evaluate(job.folder, model, path, about | {"labels": job.labels})

    def evaluate(self, folder: Path, model: Model, path: Path, about: dict[str, Any]) -> None:
        """Evaluate a model; ``result.json`` is written last, because it marks the model as finished.

        Args:
            folder: folder of the model, which receives ``result.json``.
            model: the model.
            path: checkpoint of the model.
            about: further entries of ``result.json``.
        """
        if rank() == 0:
            score_model(self.run, folder, model, path, about)
        if world_size() > 1:
            dist.barrier()
