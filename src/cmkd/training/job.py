"""What to train, on which pairs, and where its files go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.config import EPOCH_STEPS
from cmkd.data.pack.pack import Pack
from cmkd.distributed import rank, world_size
from cmkd.errors import CmkdError
from cmkd.methods import Method
from cmkd.models import Model
from cmkd.training.loader import PairLoader
from cmkd.training.teacher_cache import Answers


@dataclass
class TrainingJob:
    """One model to train.

    Args:
        folder: receives ``best.safetensors``, ``last.safetensors``, ``history.csv`` and logs.
        pack: the pairs.
        model: the model to train; it is trained in place.
        name: the name that `models.build` made it from.
        epochs: largest number of epochs; an epoch is a pass over the training pairs, or a part of it where it is long.
        seed: of the order of pairs, augmentation and dropout.
        teacher: the trained teacher of a student, to be run in each step; never changed.
        method: the distillation method of a student.
        allow_unlabeled: let pairs without a label take part in the method's terms.
        about: added to the description in the saved model.
        title: names the training in messages.
        answers: the teacher's outputs, computed before; the teacher is then not run.
        views: number of augmented views of a pair, drawn by `view_seed` and the same for all students, after which the
            first comes again; 0 for new ones in each pass, drawn by `seed`.
        view_seed: of the finite views.
    """

    folder: Path
    pack: Pack
    model: Model
    name: str
    epochs: int
    seed: int
    teacher: Model | None = None
    method: Method | None = None
    allow_unlabeled: bool = False
    about: dict[str, Any] | None = None
    title: str = "training"
    answers: Answers | None = None
    views: int = 0
    view_seed: int = 0

    def rows(self, split: str) -> np.ndarray:
        """Return the positions of the pairs of `split` that this training uses: those that have its modality.

        Raises:
            CmkdError: there is none.
        """
        distills = self.method is not None and bool(self.method.needs)
        labeled = None if self.allow_unlabeled and distills and split == "train" else True
        name = self.model.modality.name
        rows = self.pack.rows(split, modalities=(name,), labeled=labeled)
        if not len(rows):
            raise CmkdError(f"no {split} pair has the modality '{name}' and a label; check the split column")
        return rows

    @property
    def pairs(self) -> int:
        """Number of pairs in an epoch, the same for students of all methods and for the teacher.

        Where unlabeled pairs are allowed, a training that cannot use them repeats labeled ones instead.
        """
        labeled = None if self.allow_unlabeled else True
        return len(self.pack.rows("train", modalities=(self.model.modality.name,), labeled=labeled))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs that a training batch needs."""
        names = [self.model.modality.name]
        if self.method is not None and self.distills and (self.answers is None or "inputs" in self.method.needs):
            names.append(str(self.teacher_modality))
        return tuple(dict.fromkeys(names))

    @property
    def distills(self) -> bool:
        """Whether the method reads a teacher's outputs."""
        return self.teacher_modality is not None and self.method is not None and self.method.uses_teacher

    @property
    def teacher_modality(self) -> str | None:
        """Name of the teacher's modality, if there is a teacher."""
        if self.answers is not None:
            return self.answers.modality
        return None if self.teacher is None else self.teacher.modality.name

    @property
    def always_paired(self) -> bool:
        """Whether every training pair has all of `modalities`."""
        own = self.pack.rows("train", modalities=(self.model.modality.name,))
        if self.distills and self.answers is not None:
            return bool(self.answers.known(own).all())
        return len(own) == len(self.pack.rows("train", modalities=self.modalities))

    def loader(self, split: str, batch_size: int) -> PairLoader:
        """Return this process's batches of a split; those of ``train`` are shuffled.

        Args:
            split: ``train`` or ``validation``.
            batch_size: pairs a step, over all processes together; evaluation uses larger batches.
        """
        training = split == "train"
        return PairLoader(
            self.pack,
            self.rows(split),
            self.modalities if training else (self.model.modality.name,),
            batch_size=batch_size if training else max(batch_size, 512 * world_size()),
            shuffle=training,
            seed=self.seed,
            rank=rank(),
            world=world_size(),
            pairs=min(self.pairs, EPOCH_STEPS * batch_size) if training else None,
            views=self.views,
            answers=self.answers if training and self.distills else None,
        )
