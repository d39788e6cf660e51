"""Find the models of an analysis in folders of runs and checkpoint files, and give each one a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cmkd.documents import RESULTS
from cmkd.errors import CmkdError
from cmkd.evaluation.results import read_results
from cmkd.models.checkpoint import read_about


@dataclass(frozen=True)
class Subject:
    """One model to analyze.

    Args:
        label: unique name in figures and tables.
        path: checkpoint of the model.
        role: ``teacher``, ``student``, or empty if unknown.
        method: distillation method; empty for a teacher.
        seed: seed of the training; None if unknown.
        run: folder of the run; None for a checkpoint file.
        others: folders of other runs with this model as teacher.
    """

    label: str
    path: Path
    role: str = ""
    method: str = ""
    seed: int | None = None
    run: Path | None = None
    others: tuple[Path, ...] = ()

    @property
    def from_elsewhere(self) -> bool:
        """Whether the model is a teacher that its run did not train, which may have other classes."""
        home = None if self.run is None else self.run.resolve()
        return self.role == "teacher" and home is not None and not self.path.resolve().is_relative_to(home)


def find(places: Sequence[Path]) -> list[Subject]:
    """Find the models in folders of runs and in checkpoint files, each once.

    Args:
        places: folders of runs (their teacher and students), or ``.safetensors`` files.

    Raises:
        CmkdError: a folder is not that of a run or has no model yet, or a checkpoint is missing or damaged.
    """
    found: dict[Path, Subject] = {}
    for place in places:
        for subject in _of_run(place) if place.is_dir() else [_alone(place)]:
            path = subject.path.resolve()
            if path in found and subject.run is not None:
                found[path] = replace(found[path], others=(*found[path].others, subject.run))
            found.setdefault(path, subject)
    runs = {subject.run for subject in found.values()}
    subjects = [_named(subject, several=len(runs) > 1) for subject in found.values()]
    labels = [subject.label for subject in subjects]
    for place_in_list, subject in enumerate(subjects):
        if labels.count(subject.label) > 1:
            subjects[place_in_list] = replace(subject, label=f"{subject.label} #{place_in_list + 1}")
    return subjects


def _of_run(folder: Path) -> list[Subject]:
    if not (folder / RESULTS).is_file():
        raise CmkdError(f"'{folder}' holds no results.json; give the --out folder of a run, or a .safetensors file")
    results = read_results(folder / RESULTS)
    listed = [(results["teacher"], "teacher"), *((student, "student") for student in results["students"])]
    found = [
        Subject("", folder / one["checkpoint"], role, one.get("method") or "", one.get("seed"), folder)
        for one, role in listed
        if one.get("checkpoint")
    ]
    if not found:
        raise CmkdError(f"the run '{folder}' has no checkpoint yet; let `cmkd run` finish its teacher first")
    for subject in found:
        if not subject.path.is_file():
            raise CmkdError(
                f"'{subject.path}', a checkpoint of the run '{folder}', is missing: restore it or train it again"
            )
    return found


def _alone(path: Path) -> Subject:
    about = read_about(path)
    return Subject("", path, about.get("role", ""), about.get("method") or "", about.get("seed"))


def _named(subject: Subject, *, several: bool) -> Subject:
    about = read_about(subject.path)
    seen = [about, *(about.get("others", ()) if about.get("together") else ())]
    modality = "+".join(one["modality"]["name"] for one in seen)
    seed = "" if subject.role != "student" or subject.seed is None else f" seed {subject.seed}"
    who = subject.method or subject.role or subject.path.stem
    whose = f"{subject.run.resolve().name}: " if several and subject.run else ""
    return replace(subject, label=f"{whose}{who}{seed} ({modality})")


def teacher_of(subject: Subject, subjects: Sequence[Subject]) -> Subject | None:
    """Return the teacher of a student: its run's teacher, or else the only teacher; None for a teacher."""
    if subject.role == "teacher":
        return None
    teachers = [other for other in subjects if other.role == "teacher"]
    own = [other for other in teachers if subject.run is not None and subject.run in (other.run, *other.others)]
    return own[0] if own else teachers[0] if len(teachers) == 1 else None
