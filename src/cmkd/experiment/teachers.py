"""The teachers of a run: train and evaluate them, or copy them from another run that trained the same teacher."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import cmkd
from cmkd.distributed import world_size
from cmkd.documents import BEST, RESULT, read_json
from cmkd.errors import CmkdError
from cmkd.experiment.fitting import Fitting
from cmkd.experiment.folder import RunFolder
from cmkd.experiment.resolve import ResolvedRun
from cmkd.experiment.scoring import score_outputs
from cmkd.experiment.standing import outcome
from cmkd.experiment.teaching import Teaching, self_taught
from cmkd.io import atomic, checksum, locked, write_json
from cmkd.models.checkpoint import read_about
from cmkd.provenance import commit
from cmkd.training.display import TrainingDisplay
from cmkd.training.job import TrainingJob
from cmkd.training.teacher_outputs import inputs_key, model_key
from cmkd.types import UNLABELED

MADE_FROM = "made_from.json"
"""File in a teacher's folder that lists everything its training depends on."""


@dataclass(frozen=True)
class Teachers:
    """The teachers of a run.

    Args:
        fitting: object that trains and evaluates the teachers.
        folder: the files of the run.
        others: folder of other runs. A teacher that one of them trained from the same inputs, labels, options and code
            is copied instead of trained again.
    """

    fitting: Fitting
    folder: RunFolder
    others: Path | None = None

    @property
    def run(self) -> ResolvedRun:
        """The resolved run."""
        return self.fitting.run

    def planned(self) -> dict[str, Path]:
        """Return the titles of the teachers to be trained, in order, and their folders."""
        config = self.run.config.teacher
        if config.checkpoint is not None or config.outputs is not None:
            return {}
        folds = self.folder.folds(config.folds)
        first = {"teacher before self-training": self.folder.first_teacher} if config.self_training else {}
        found = {f"teacher without fold {k} of {len(folds)}": folder for k, folder in enumerate(folds, 1)}
        return first | {"teacher": self.folder.teacher} | found

    def make(self, display: TrainingDisplay) -> None:
        """Train the teachers that are not trained yet; evaluate a teacher that comes from a file."""
        config, folder = self.run.config, self.folder.teacher
        about: dict[str, Any] = {"modality": config.teacher.modality, "seed": None, "method": None, "labels": None}
        planned = self.planned()
        if not planned and not (folder / RESULT).exists():
            if config.teacher.outputs is not None:
                score_outputs(self.run, folder, config.teacher.outputs, about)
            elif config.teacher.checkpoint is not None:
                path = config.teacher.checkpoint
                if (converged := read_about(path).get("converged")) is not None:
                    about["converged"] = converged
                self.fitting.evaluate(folder, self.run.build("teacher"), path, about)
        for title, place in planned.items():
            if not (place / RESULT).exists():
                self._train(title, place, display)

    def teaching(self) -> Teaching:
        """Return the teacher, or its outputs, from which the students learn."""
        folds = [folder / BEST for folder in self.folder.folds(self.run.config.teacher.folds)]
        return Teaching.of(self.run, self.folder.teacher / BEST, folds)

    def _train(self, title: str, folder: Path, display: TrainingDisplay) -> None:
        run, config = self.run, self.run.config
        about: dict[str, Any] = {"modality": config.teacher.modality, "seed": config.seed, "method": None}
        pack, folds = run.packs["teacher"], self.folder.folds(config.teacher.folds)
        if folder in folds:
            about["fold"] = folds.index(folder)
            pack = pack.without_fold(about["fold"], len(folds))
        torch.manual_seed(config.seed)
        job = TrainingJob(
            folder,
            pack,
            run.build("teacher"),
            run.model_name("teacher"),
            epochs=int(config.epochs or 0),
            seed=config.seed,
            pairs=run.pairs("teacher"),
            about={"role": "teacher"},
            title=title,
            logs=config.out,
        )
        if config.teacher.self_training and folder == self.folder.teacher:
            job = self_taught(job, run, self.folder.first_teacher / BEST)
        made_from = None if self.others is None else self._made_from(job)
        with self._alone(made_from):
            found = None if made_from is None else self._found(folder, made_from)
            if found is not None:
                _copy(found, folder)
            else:
                self.fitting.fit(job, about, display)
                if made_from is not None:
                    write_json(folder / MADE_FROM, made_from)
        ended = outcome(folder)
        if found is not None and self.others is not None:
            ended += f" (copied from {found.relative_to(self.others).parts[0]})"
        display.end(title, ended)

    def _alone(self, made_from: dict[str, Any] | None) -> AbstractContextManager[Any]:
        """Lock the training of equal teachers: wait for another run that trains one, so that it can be copied."""
        if made_from is None or self.others is None:
            return nullcontext()
        key = checksum([json.dumps(made_from, sort_keys=True).encode()])[:8]
        return locked(self.others / f".teacher-{key}.lock", wait=True)

    def _made_from(self, job: TrainingJob) -> dict[str, Any] | None:
        """Return everything that the training depends on; None if it is not known, as for uncommitted code."""
        code = commit() or cmkd.__version__
        own = self.run.config.teacher.own_model or bool(self.fitting.callbacks)
        if own or job.method is not None or world_size() > 1 or code.endswith("-dirty"):
            return None
        settings, model = self.run.settings(), job.model
        names = [modality.name for modality in model.modalities]
        columns = ["id", "label", "split", "group", *(f"has_{name}" for name in names)]
        labeled = job.pack.index["label"] != UNLABELED  # the other pairs are not used
        index = job.pack.index.loc[labeled, columns].to_csv(index=False)
        return {
            "code": [code, torch.__version__],
            "model": model_key(model, names),
            "frozen": [name for name, values in model.named_parameters() if not values.requires_grad],
            "inputs": inputs_key(job.pack, names),
            "index": checksum([index.encode()]),
            "options": {name: settings[name] for name in ("optimizer", "augmentation", "trainer")},
            "length": [job.epochs, job.pairs],
            "seed": job.seed,
        }

    def _found(self, folder: Path, made_from: dict[str, Any]) -> Path | None:
        """Return the folder of an equal teacher of another run."""
        assert self.others is not None
        expected = json.loads(json.dumps(made_from))
        place = folder.relative_to(self.folder.path)
        for path in sorted(self.others.glob(f"*/{place}/{MADE_FROM}")):
            with suppress(CmkdError):  # a damaged file of another run is no reason to stop this one
                if (path.parent / RESULT).exists() and read_json(path, fix="delete it") == expected:
                    return path.parent
        return None


def _copy(source: Path, folder: Path) -> None:
    """Copy a finished training; ``result.json`` is copied last, because it marks the training as finished."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((p for p in source.iterdir() if p.is_file()), key=lambda p: p.name == RESULT):
        with atomic(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)
