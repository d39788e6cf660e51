"""The students of a run: which there are, in which order they are trained, and which may be trained side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cmkd.config import RunConfig
from cmkd.experiment.tuning import trial_count
from cmkd.methods.combine import taught_by


class PlannedStudent(NamedTuple):
    """One student of a run.

    Attributes:
        expression: its method.
        seed: its seed; that of `RunConfig.trial_seed` for those that only try options, and their teachers.
        after: the method of the same seed whose student teaches it; empty for the run's teacher.
        trial: which of the trials of its method it is, from 0; None for a student with the options chosen.
    """

    expression: str
    seed: int
    after: str = ""
    trial: int | None = None

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.expression}, " + (f"seed {self.seed}" if self.trial is None else f"trial {self.trial + 1}")

    @property
    def teacher(self) -> PlannedStudent:
        """The student that teaches it."""
        return PlannedStudent(self.after, self.seed)


def students(config: RunConfig) -> list[PlannedStudent]:
    """Return the students of a run in the order of their training, each after those that it builds on.

    Trials come first. Those of one method come one after another, as each learns from the ones before.
    """
    found: dict[PlannedStudent, None] = {}

    def add(method: str, seed: int, trial: int | None = None) -> None:
        first = taught_by(method)
        if first:
            add(first, seed)
        found[PlannedStudent(method, seed, first, trial)] = None

    for method in dict.fromkeys(m for e in config.expressions for m in (taught_by(e), e) if m):
        for trial in range(trial_count(config, method)):
            add(method, config.trial_seed, trial)
    for seed in range(config.seed, config.seed + config.seeds):
        for expression in config.expressions:
            add(expression, seed)
    return list(found)


def ready(waiting: Sequence[PlannedStudent], busy: Sequence[PlannedStudent | None]) -> PlannedStudent | None:
    """Return the first student whose teacher and earlier trials are not still to be trained.

    Example:
        >>> both = [PlannedStudent("self_training", 0, "none"), PlannedStudent("kd", 0)]
        >>> ready(both, [PlannedStudent("none", 0)]), ready(both, [PlannedStudent("none", 1)])
        (PlannedStudent(expression='kd', seed=0, after='', trial=None),
         PlannedStudent(expression='self_training', seed=0, after='none', trial=None))
        >>> ready([PlannedStudent("kd", 9, trial=1), *both], [PlannedStudent("kd", 9, trial=0)])
        PlannedStudent(expression='self_training', seed=0, after='none', trial=None)
    """
    unfinished = [student for student in (*waiting, *busy) if student]
    teachers = {(s.expression, s.seed) for s in unfinished if s.trial is None}
    tried: dict[str, int] = {}
    for s in unfinished:
        if s.trial is not None:
            tried[s.expression] = min(s.trial, tried.get(s.expression, s.trial))
    free = (s for s in waiting if (s.after, s.seed) not in teachers and tried.get(s.expression, s.trial) == s.trial)
    return next(free, None)
