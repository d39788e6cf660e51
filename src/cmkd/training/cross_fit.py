"""Records from cross-fitted teachers: each labeled pair is answered by a teacher that did not train on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.io import checksum
from cmkd.models import Model
from cmkd.training.teacher_cache import Compute, Contents
from cmkd.training.teacher_outputs import Views, of_model
from cmkd.types import Output


def cross_fitted(
    teachers: Sequence[Model], pack: Pack, views: Views, *, device: torch.device | str = "cpu"
) -> tuple[Contents, Compute]:
    """Return the description of the records of teachers that each left out one fold, and the function to compute them.

    A pair without a visible label, on which no teacher trained, gets the average of all teachers' class probabilities.
    The records hold logits alone: the embeddings of different teachers cannot be compared.

    Args:
        teachers: one teacher for each fold of `Pack.folds`, in order.
        pack: the pairs, with the labels that the teachers see.
        views: augmented views that the teachers see.
        device: device of the forward passes.
    """
    parts = [of_model(teacher, pack, views, {}, device=device) for teacher in teachers]
    fold = pack.folds(len(teachers))
    key = {"folds": [contents.key for contents, _ in parts], "fold": checksum([fold.tobytes()])}
    contents = replace(parts[0][0], key=key, dim=0, stages=0)

    def compute(rows: NDArray[np.int64], view: int) -> Output:
        logits = torch.zeros(len(rows), contents.classes)
        unseen = torch.from_numpy(fold[rows] < 0)
        votes = torch.full((len(rows), contents.classes), -torch.inf)
        for number, (_, answer) in enumerate(parts):
            own = torch.from_numpy(fold[rows] == number)
            wanted = own | unseen
            if not wanted.any():
                continue
            given = torch.zeros_like(logits)
            given[wanted] = answer(rows[wanted.numpy()], view).logits.float().cpu()
            logits[own] = given[own]
            votes[unseen] = torch.logaddexp(votes[unseen], given[unseen].log_softmax(1))
        logits[unseen] = votes[unseen] - math.log(len(teachers))
        return Output(logits, logits.new_zeros(len(rows), 0))

    return contents, compute
