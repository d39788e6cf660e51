"""Samples for testing a student: pairs from the user, samples that its run kept, or random samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.sample import fitted
from cmkd.data.pack import Pack
from cmkd.deploy.student import Student
from cmkd.errors import CmkdError
from cmkd.types import Modality

MOST = 500
"""Largest number of pairs of a data set on which an exported model is compared with PyTorch."""
RANDOM = 64
BATCH, BATCH_BYTES = 256, 2**26
"""Largest number of pairs classified at a time, and largest size of their samples in bytes, as float64."""


@dataclass(frozen=True)
class Samples:
    """Samples of a modality.

    Args:
        values: samples ``(n, *modality.shape)`` in the modality's dtype.
        source: readable description of where the samples come from.
    """

    values: NDArray[Any]
    source: str


def samples_for(student: Student, model: Path, data: Pack | None) -> Samples:
    """Return validation pairs of `data`, else the samples in the folder of the model's run, else random ones.

    Args:
        student: the student to test; the samples have its modality.
        model: file of the model.
        data: pairs that fit the student, if there are any.
    """
    modality = student.modality
    if data is not None:
        values, _ = labeled(student, data, "validation", MOST)
        return Samples(values, f"{len(values)} validation pairs of {data.card.name}")
    for folder in model.resolve().parents[:4]:  # RUN/student.safetensors or RUN/students/METHOD/SEED/best.safetensors
        file = folder / "samples.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                kept = arrays[modality.name] if modality.name in arrays else np.zeros(0)
            if kept.shape[1:] == modality.shape and kept.dtype.name == modality.dtype:
                return Samples(kept, f"{len(kept)} training pairs that the run kept")
    return Samples(_random(modality), f"{RANDOM} random samples with the modality's mean and deviation")


def labeled(student: Student, data: Pack, split: str, most: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return samples and targets of the pairs that `labeled_rows` selects with the same arguments."""
    rows, ours = labeled_rows(student, data, split, most), student.modality
    values = ours.filled(data.modality(ours.name).masked(data.array(ours.name)[rows]))
    return values, data.index["label"].to_numpy()[rows]


def labeled_rows(student: Student, data: Pack, split: str, most: int | None = None) -> NDArray[np.int64]:
    """Return the rows of a split's labeled pairs that have the student's modality: all, or `most` evenly spaced ones.

    Raises:
        CmkdError: if the data have other classes, another modality, or no such pairs.
    """
    ours = student.modality
    theirs = data.modality(ours.name)
    if (theirs.kind, theirs.shape, theirs.dtype) != (ours.kind, ours.shape, ours.dtype):
        raise CmkdError(
            f"'{ours.name}' of {data.card.name} is {theirs.kind} {theirs.shape} of {theirs.dtype}, the student's is "
            f"{ours.kind} {ours.shape} of {ours.dtype}: give the data that it was trained on"
        )
    ours.check_measured(theirs, data.card.name, "for the student")
    if data.classes != student.classes:
        raise CmkdError(f"{data.card.name} and the student differ in their classes: give the data it was trained on")
    rows = data.rows(split, modalities=(ours.name,), labeled=True)
    if not len(rows):
        raise CmkdError(f"{data.card.name} has no labeled {split} pairs with '{ours.name}'")
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return rows


def batches(student: Student, pack: Pack, rows: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield slices of `rows` with their samples at the student's size, invalid values filled, in bounded memory."""
    modality, array = student.modality, pack.array(student.modality.name)
    there = pack.modality(modality.name)
    size = max(1, min(BATCH, BATCH_BYTES // (8 * int(np.prod(modality.shape)))))
    for start in range(0, len(rows), size):
        samples = array[rows[start : start + size]]
        if samples.shape[1:] != modality.shape:
            fit = (modality.filled(fitted(modality, there.masked(one), modality.name)) for one in samples)
            yield slice(start, start + len(samples)), np.stack(list(fit))
        else:
            yield slice(start, start + len(samples)), modality.filled(there.masked(samples))


def _random(modality: Modality) -> NDArray[Any]:
    view = (-1, 1, 1) if modality.kind == "image" else (-1,)
    mean, std = (np.reshape(known, view) for known in (modality.mean, modality.std))
    values = mean + std * np.random.default_rng(0).standard_normal((RANDOM, *modality.shape))
    dtype = np.dtype(modality.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.rint(values).clip(limits.min, limits.max)
    return values.astype(dtype)
