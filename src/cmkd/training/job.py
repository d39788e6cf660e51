"""What to train, on which pairs, and where its files go."""

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
from cmkd.training.loader import PairLoader


@dataclass
class TrainingJob:
    """One model to train.

    Args:
        folder: receives ``best.safetensors``, ``last.safetensors``, ``history.csv`` and logs.
        pack: the pairs.
        model: the model to train; it is trained in place.
        name: the name that `models.build` made it from.
        epochs: passes over the training pairs.
        seed: of the order of pairs, augmentation and dropout.
        teacher: the trained teacher of a student; never changed.
        method: the distillation method of a student.
        allow_unlabeled: let pairs without a label take part in the method's terms.
        about: added to the description in the saved model.
        title: names the training in messages.
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
        if self.teacher is not None and self.method is not None and self.method.uses_teacher:
            names.append(self.teacher.modality.name)
        return tuple(dict.fromkeys(names))

    @property
    def always_paired(self) -> bool:
        """Whether every training pair has all of `modalities`."""
        own = self.pack.rows("train", modalities=(self.model.modality.name,))
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
            pairs=self.pairs if training else None,
        )
