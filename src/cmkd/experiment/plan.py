"""The students of a run: their list, training order, and which of them may train in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cmkd.config import RunConfig
from cmkd.experiment.tuning import trial_count
from cmkd.methods.combine import taught_by


class PlannedStudent(NamedTuple):
    """One student of a run.

    Attributes:
        expression: method of the student.
        seed: seed of the student; `RunConfig.trial_seed` for tuning trials and their teachers.
        after: method whose student of the same seed is the teacher; empty if the teacher is the run's teacher.
        trial: number of the tuning trial of the method, from 0; None for a student with the chosen options.
    """

    expression: str
    seed: int
    after: str = ""
    trial: int | None = None

    @property
    def title(self) -> str:
        """Name of the student in messages."""
        return f"{self.expression}, " + (f"seed {self.seed}" if self.trial is None else f"trial {self.trial + 1}")

    @property
    def teacher(self) -> PlannedStudent:
        """The student that is the teacher of this one."""
        return PlannedStudent(self.after, self.seed)


def students(config: RunConfig) -> list[PlannedStudent]:
    """Return the students of a run in training order, each after those that it depends on.

    Trials come first. The trials of a method are in sequence, because each depends on the results of earlier ones.
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
    """Return the first waiting student whose teacher and earlier trials are finished; None if there is none.

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
