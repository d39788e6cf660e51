"""A training job: what to train, on which pairs, and where its files go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.data.pack.pack import Pack
from cmkd.distributed import rank, world_size
from cmkd.errors import CmkdError
from cmkd.methods import Method
from cmkd.models import Model
from cmkd.training.answers import Answers
from cmkd.training.loader import PairLoader
from cmkd.training.schedule import EPOCH_STEPS


@dataclass
class TrainingJob:
    """One model to train.

    Args:
        folder: folder that receives ``best.safetensors``, ``last.safetensors``, ``history.csv`` and logs.
        pack: pack that holds the pairs.
        model: model to train, in place.
        name: name from which `models.build` made the model.
        epochs: largest number of epochs; an epoch is a pass over the training pairs, or part of a long pass.
        seed: random seed of the order of pairs, augmentation and dropout.
        teacher: trained teacher of a student, run in each step; never changed.
        method: distillation method of a student.
        pairs: number of pairs in an epoch; by default all that the training can use. A larger number repeats them
            equally often.
        about: entries to add to the description in the saved model.
        title: title of the training in messages.
        answers: precomputed outputs of the teacher; the teacher is then not run.
        views: number of augmented views of a pair, drawn by `view_seed`, the same for all students and repeated in
            turn; 0 for new views in each pass, drawn by `seed`.
        view_seed: random seed of the views, if their number is limited.
        modality_dropout: probability of hiding a modality of a training pair from a model that reads several.
        logs: folder in which MLflow and W&B keep all trainings of a run; by default `folder`.
    """

    folder: Path
    pack: Pack
    model: Model
    name: str
    epochs: int
    seed: int
    teacher: Model | None = None
    method: Method | None = None
    pairs: int = 0
    about: dict[str, Any] | None = None
    title: str = "training"
    answers: Answers | None = None
    views: int = 0
    view_seed: int = 0
    modality_dropout: float = 0.0
    logs: Path | None = None

    def __post_init__(self) -> None:
        self.pairs = self.pairs or len(self.rows("train"))

    def rows(self, split: str) -> np.ndarray:
        """Return the positions of the pairs of `split` that this training uses.

        These pairs have the model's first modality and a label. A method also uses training pairs without a label, if
        they have what it reads of the teacher.

        Raises:
            CmkdError: if there is no such pair.
        """
        name = self.model.modality.name
        rows = self.pack.rows(split, modalities=(name,), labeled=True)
        if not len(rows):
            raise CmkdError(f"no {split} pair has the modality '{name}' and a label; check the split column")
        if split == "train" and self.method is not None and self.method.needs:
            others = self.pack.rows(split, modalities=(name,), labeled=False)
            rows = np.union1d(rows, others[self._taught(others)] if self.distills else others)
        return rows

    @property
    def labels(self) -> int:
        """Number of training pairs whose label the training sees."""
        return len(self.pack.rows("train", modalities=(self.model.modality.name,), labeled=True))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that a training batch needs as inputs."""
        names = list(self._own)
        if self.method is not None and self.distills and (self.answers is None or "inputs" in self.method.needs):
            names += [str(self.teacher_modality)] if self.teacher is None else self.teacher.subsets[0]
        return tuple(dict.fromkeys(names))

    @property
    def _own(self) -> tuple[str, ...]:
        return tuple(modality.name for modality in self.model.modalities)

    @property
    def distills(self) -> bool:
        """Whether the method reads a teacher's outputs."""
        return self.teacher_modality is not None and self.method is not None and self.method.uses_teacher

    @property
    def teacher_modality(self) -> str | None:
        """Name of the teacher's modality (of several, the first); None without a teacher."""
        if self.answers is not None:
            return self.answers.modality
        return None if self.teacher is None else self.teacher.modality.name

    @property
    def always_paired(self) -> bool:
        """Whether every training pair has the teacher's outputs that the method reads."""
        return len(self.taught) == len(self.rows("train"))

    @property
    def taught(self) -> np.ndarray:
        """Positions of the training pairs that the method receives: those with the teacher's outputs that it reads."""
        rows = self.rows("train")
        return rows[self._taught(rows)] if self.distills else rows

    def _taught(self, rows: np.ndarray) -> np.ndarray:
        """Return a mask of the training pairs that have an output of the teacher."""
        if self.answers is not None:
            return self.answers.known(rows)
        return np.isin(rows, self.pack.rows("train", modalities=(str(self.teacher_modality),)))

    def loader(self, split: str, batch_size: int, window: int | None = None) -> PairLoader:
        """Return this process's batches of a split; those of ``train`` are shuffled.

        Args:
            split: split to load, ``train`` or ``validation``.
            batch_size: pairs per step, over all processes together; evaluation uses larger batches.
            window: shuffle within windows of this many pairs.
        """
        training = split == "train"
        return PairLoader(
            self.pack,
            self.rows(split),
            self.modalities if training else self._own,
            batch_size=batch_size if training else max(batch_size, 512 * world_size()),
            shuffle=training,
            seed=self.seed,
            rank=rank(),
            world=world_size(),
            pairs=min(self.pairs, EPOCH_STEPS * batch_size) if training else None,
            views=self.views,
            window=window,
            answers=self.answers if training and self.distills else None,
            taught=self.taught if training else None,
        )
