"""Input modalities of teacher and students."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from cmkd.config import ModelConfig, RunConfig, StudentConfig, TeacherConfig
from cmkd.data import Pack
from cmkd.errors import CmkdError
from cmkd.models import stack

Config = TypeVar("Config", bound=ModelConfig)
MODALITY_DROPOUT = 0.5
"""Default probability of hiding a modality from a student with several. Our choice: over all subsets of modalities on
the validation pairs of digits, 0.25, 0.5 and 0.75 gave similar accuracies, all far above those of 0."""


def with_modalities(config: RunConfig, pack: Pack) -> tuple[TeacherConfig, StudentConfig]:
    """Return both configurations with their modalities filled in: the teacher's rich one first, the student's poor one.

    Raises:
        CmkdError: a modality does not exist, or the model cannot use the given modalities.
    """
    teacher, student = (_named(getattr(config, role), role, pack) for role in ("teacher", "student"))
    for role, config_of in (("teacher", teacher), ("student", student)):
        if config_of.own_model and len(config_of.modalities) > 1:
            one = f"an own module sees one modality; for {config_of.modality}, name an encoder as {role}.model"
            raise CmkdError(one)
    if teacher.fusion == "early":
        if len(teacher.modalities) == 1:
            raise CmkdError("teacher.fusion early needs several modalities, such as --teacher.modality optical+radar")
        stack([pack.modality(name) for name in teacher.modalities])
    several, dropout = len(student.modalities) > 1, student.modality_dropout
    if dropout is not None and not several:
        raise CmkdError("student.modality_dropout needs several modalities, such as --student.modality optical+radar")
    return teacher, replace(student, modality_dropout=MODALITY_DROPOUT if several and dropout is None else dropout)


def _named(config: Config, role: str, pack: Pack) -> Config:
    given = config.modality or (pack.card.rich if role == "teacher" else pack.card.poor)
    if given is None:
        known = ", ".join(pack.modalities)
        raise CmkdError(f"the {role} has no modality: give --{role}.modality, one of {known}")
    names = [pack.modality(name).name for name in replace(config, modality=given).modalities]
    if len(set(names)) < len(names):
        raise CmkdError(f"{role}.modality lists a modality twice: {given}")
    first = pack.card.rich if role == "teacher" else pack.card.poor
    return replace(config, modality="+".join(sorted(names, key=lambda name: name != first)))
