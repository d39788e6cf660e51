"""One training: what is trained, on which pairs, and where its files go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.data.pack.pack import Pack
from cmkd.methods import Method
from cmkd.models import Model


@dataclass
class TrainingJob:
    """One training.

    Args:
        folder: of its files: ``best.safetensors``, ``last.safetensors``, ``history.csv``, logs.
        pack: the pairs.
        model: what trains.
        name: what `models.build` made it from.
        epochs: passes over its training pairs.
        seed: of the order of pairs, augmentation and dropout.
        teacher: the trained teacher, for a student.
        method: what to distil, for a student.
        allow_unlabeled: let pairs without a label take part in the method's terms.
        about: goes into the saved model's description.
        title: what to call it in messages.
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
        """Return the pairs of `split` this training uses: those that have its modality."""
        guided = self.method is not None and bool(self.method.needs)
        labeled = None if self.allow_unlabeled and guided and split == "train" else True
        return self.pack.rows(split, modalities=(self.model.modality.name,), labeled=labeled)

    @property
    def pairs(self) -> int:
        """How many pairs an epoch has: with pairs without a label at hand, as many for those who cannot use them.

        So students of all methods, and the teacher, make the same number of steps.
        """
        labeled = None if self.allow_unlabeled else True
        return len(self.pack.rows("train", modalities=(self.model.modality.name,), labeled=labeled))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs a training batch needs."""
        reads_teacher = self.method is not None and self.method.uses_teacher and self.teacher is not None
        own = self.model.modality.name
        guide = self.teacher.modality.name if reads_teacher and self.teacher is not None else own
        return tuple(dict.fromkeys((own, guide)))

    @property
    def always_paired(self) -> bool:
        """Whether every training pair has all of `modalities`."""
        own = self.pack.rows("train", modalities=(self.model.modality.name,))
        return len(own) == len(self.pack.rows("train", modalities=self.modalities))
