"""Progress of a run for its screen: all of its trainings, and those already finished in its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from cmkd.documents import RESULT
from cmkd.evaluation.results import read_result
from cmkd.experiment.plan import PlannedStudent
from cmkd.progress import Screen
from cmkd.training.display import TrainingDisplay


def display(
    screen: Screen,
    teachers: Mapping[str, Path],
    students: Mapping[PlannedStudent, Path],
    missing: Collection[PlannedStudent],
    jobs: int,
) -> TrainingDisplay:
    """Return the display of a run, and print the finished trainings found in its folder.

    Args:
        screen: the screen of the display.
        teachers: title of each teacher to be trained -> folder.
        students: student -> folder.
        missing: the students that are still to be trained.
        jobs: number of students that train at the same time.
    """
    found = {title: folder for title, folder in teachers.items() if (folder / RESULT).exists()}
    found |= {student.title: folder for student, folder in students.items() if student not in missing}
    titles = dict.fromkeys(teachers, "teacher") | {student.title: student.expression for student in students}
    if found:
        screen.say(f"found {len(found)} of {len(titles)} trainings: {'; '.join(found)}")
    ended = {title: f"{outcome(folder)} (found)" for title, folder in found.items()}
    return TrainingDisplay(screen, titles, ended=ended, alone=teachers, jobs=jobs)


def outcome(folder: Path) -> str:
    """Return the result of a training as text, read from its folder."""
    if not (folder / RESULT).exists():
        return "not trained"
    accuracy = read_result(folder / RESULT).get("validation_accuracy")
    return "trained" if accuracy is None else f"{100 * accuracy:.1f} %"
