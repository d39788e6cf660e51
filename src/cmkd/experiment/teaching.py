"""The teacher of a run's students: a trained model or a file of outputs, and the records that students learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cmkd.errors import CmkdError
from cmkd.experiment.resolve import ResolvedRun
from cmkd.io import writable_cache
from cmkd.methods import Method
from cmkd.methods.combine import union_of_maps
from cmkd.methods.self_training import SelfTraining
from cmkd.models import Model
from cmkd.models.checkpoint import load_model
from cmkd.progress import shown
from cmkd.training.answers import Answers
from cmkd.training.cross_fit import cross_fitted
from cmkd.training.job import TrainingJob
from cmkd.training.teacher_cache import TeacherCache
from cmkd.training.teacher_outputs import OutputsFile, Views, of_model
from cmkd.types import Spec


@dataclass(frozen=True)
class Teaching:
    """Source that the students learn from.

    Args:
        run: the resolved run.
        model: the trained teacher; None if a file of its outputs is used instead.
        outputs: the file of the teacher's outputs, if one is used.
        folds: cross-fitted teachers, whose outputs are used instead of the model's.
    """

    run: ResolvedRun
    model: Model | None = None
    outputs: OutputsFile | None = None
    folds: tuple[Model, ...] = ()

    @classmethod
    def of(cls, run: ResolvedRun, checkpoint: Path, folds: Sequence[Path] = ()) -> Teaching:
        """Load the teacher from its file, so that every student has the same teacher, whatever ran before."""
        config = run.config.teacher
        if config.outputs is not None:
            return cls(run, outputs=OutputsFile.read(config.outputs, run.pack))
        if config.checkpoint is not None:
            return cls(run, run.build("teacher"))
        teacher, _ = load_model(checkpoint, module=config.model)
        if config.frozen:  # for methods that train the teacher too
            teacher.freeze()
        return cls(run, teacher, folds=tuple(load_model(path, module=config.model)[0] for path in folds))

    @property
    def spec(self) -> Spec:
        """Shapes of the teacher's outputs."""
        if self.outputs is not None:
            return self.outputs.spec(self.run.pack)
        assert self.model is not None
        return self.model.spec

    def setup(self, method: Method, student: Model) -> None:
        """Set up a method with both models; skipped for a file of outputs, whose methods need no setup."""
        if self.model is not None:
            method.setup(student, self.model)

    def fill(self, methods: Iterable[Method]) -> None:
        """Compute the records that several methods need, in one pass for all methods that need the same views."""
        read = [method for method in methods if self._recorded(method)]
        for same_view in (False, True):
            alike = [method for method in read if method.same_view == same_view]
            found = "found in the cache"
            if alike and self._records(union_of_maps(alike), averaged=not same_view, idle=found) is None:
                for method in alike:  # each needs less; raise an error before any student is trained
                    self.answers(method)

    def answers(self, method: Method) -> Answers | None:
        """Return the records for a method; None if the teacher must run in each step.

        Raises:
            CmkdError: the records do not fit in the cache, and running the teacher would give different outputs.
        """
        if not self._recorded(method):
            return None
        answers = self._records(union_of_maps([method]), averaged=not method.same_view)
        if answers is None and not method.same_view:
            raise CmkdError(
                f"the teacher's outputs do not fit a cache of {self.run.config.trainer.cache_gb:g} GB, beside those in "
                "use; increase --trainer.cache_gb"
                + (", or run the teacher in each step with --teacher.views 0" if self.outputs is None else "")
            )
        return answers

    def views(self, method: Method) -> int:
        """Return the number of views of each pair that the student cycles through; 0 for new views in each pass."""
        return int(self.run.config.teacher.views or 0) if self._recorded(method) and method.same_view else 0

    def _recorded(self, method: Method) -> bool:
        if not method.uses_teacher or method.trains_teacher:
            return False
        return self.outputs is not None or bool(self.run.config.teacher.views)

    def _records(self, maps: dict[int, tuple[int, int] | None], *, averaged: bool, idle: str = "") -> Answers | None:
        config, pack = self.run.config, self.run.pack
        if self.outputs is not None:
            contents, compute = self.outputs.records(pack, self.run.rich)
        else:
            assert self.model is not None
            views = Views(int(config.teacher.views or 0), averaged, config.seed, config.augmentation)
            device = run_device(config.trainer.accelerator)
            if self.folds:
                contents, compute = cross_fitted(self.folds, self.run.packs["teacher"], views, device=device)
            else:
                contents, compute = of_model(self.model, pack, views, maps, device=device)
        with shown("outputs of the teacher", "samples", idle=idle) as progress:
            return cache(config.trainer.cache_gb).answers(contents, compute, progress=progress)


def self_taught(job: TrainingJob, run: ResolvedRun, first: Path) -> TrainingJob:
    """Return the training of a teacher that also learns from an earlier one, with the defaults of `SelfTraining`.

    Args:
        job: the training of a teacher.
        run: the resolved run.
        first: checkpoint of the earlier teacher.
    """
    method = SelfTraining(job.model.spec, job.model.spec)
    teaching = Teaching(run, load_model(first, module=run.config.teacher.model)[0])
    answers = teaching.answers(method)
    return replace(job, method=method, answers=answers, teacher=teaching.model if answers is None else None)


def cache(gigabytes: float) -> TeacherCache:
    """Return the teacher cache that all runs of this user share."""
    return TeacherCache(writable_cache("teacher_outputs"), int(gigabytes * 1e9))


def run_device(accelerator: str) -> str:
    """Return the device on which models run outside a training."""
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
