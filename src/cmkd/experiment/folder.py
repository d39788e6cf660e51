"""The folder of a run: its settings, finished models and results."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import cmkd
from cmkd.data import SPLITS
from cmkd.deploy.recommend import recommended
from cmkd.documents import RESULT, RESULTS, SETTINGS, read_json, record
from cmkd.errors import CmkdError
from cmkd.evaluation import summarize
from cmkd.evaluation.results import read_result, students_answers
from cmkd.experiment.own_code import own_models_and_data
from cmkd.experiment.resolve import OWN_DATA, ResolvedRun, by_content
from cmkd.experiment.tuning import summary
from cmkd.expression import parse_sum
from cmkd.io import atomic, checksum, locked, remove_all_stale, write_json, write_text
from cmkd.methods import METHODS
from cmkd.methods.pages import bibliography
from cmkd.nested import differences
from cmkd.options import check
from cmkd.provenance import commit, hardware, versions

CONFIG = "config.yaml"
"""File with the configuration, every default filled in."""
BESIDE = (".log", ".out", ".err", ".txt", ".yaml", ".yml", ".sh")
"""Suffixes of logs, configurations and batch scripts that may be in the folder before a run."""
LONGEST_NAME = 120
"""Largest number of characters of a method's expression in the name of its folder."""
SHOWN_CLASSES = 12
"""Largest number of classes with a sample pair in the report."""


@dataclass(frozen=True)
class _Settings:
    """Schema of ``settings.json``; its other entries are compared with the current settings."""

    method_options: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    student: Mapping[str, Any] = field(default_factory=dict)


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings that `RunFolder.record` wrote.

    Raises:
        CmkdError: the file is damaged.
    """
    again = "choose another --out, or restore the file"
    found = read_json(path, fix=again)
    record(_Settings, found, f"'{path}'", fix=again)
    return found


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def teacher(self) -> Path:
        """Folder of the teacher's files."""
        return self.path / "teacher"

    @property
    def first_teacher(self) -> Path:
        """Folder of the first teacher, from whose predictions a self-trained teacher learns."""
        return self.teacher / "first"

    def folds(self, count: int) -> list[Path]:
        """Return the folders of the cross-fitted teachers."""
        return [self.teacher / f"fold-{number}" for number in range(count if count > 1 else 0)]

    def student(self, expression: str, seed: int) -> Path:
        """Return the folder of one student's files."""
        return self.path / "students" / _file_name(expression) / f"seed-{seed}"

    def tuning(self, expression: str) -> Path:
        """Return the folder of the trials that choose a method's options."""
        return self.path / "tuning" / _file_name(expression)

    @contextmanager
    def held(self, *, leader: bool) -> Iterator[None]:
        """Lock the folder while a run is active; the lock is released when the process ends, however it ends.

        Args:
            leader: whether this process is the first of those that train together; the others take no lock.

        Raises:
            CmkdError: the path is a file, the folder holds files that are not of a run, or another run is active in it.
        """
        if leader:
            self._check_own()
        self.path.mkdir(parents=True, exist_ok=True)
        if not leader:
            yield
            return
        with locked(self.path / ".lock") as free:
            if not free:
                raise CmkdError(f"another run is active in '{self.path}'; wait for it to end, or choose another --out")
            try:
                self._remove_stale()  # files of an earlier run
                yield
            finally:
                self._remove_stale()  # files of this run's own processes

    def _check_own(self) -> None:
        """Raise `CmkdError` if the folder holds other files, such as data, with which a run's files would be mixed."""
        if self.path.exists() and not self.path.is_dir():
            raise CmkdError(f"--out '{self.path}' is a file; give a folder")
        if (self.path / SETTINGS).exists() or not self.path.exists():
            return
        pack = self.path / OWN_DATA if (self.path / OWN_DATA / "card.json").exists() else None
        for entry in sorted(self.path.iterdir()):
            if entry.name.startswith(".") or entry == pack or (entry.suffix in BESIDE and entry.name != CONFIG):
                continue
            # another process of the run may have created empty folders
            if entry.is_file() or any(path.is_file() for path in entry.rglob("*")):
                raise CmkdError(f"'{entry}' is not of a run and could be lost: move it, or choose another --out")

    def _remove_stale(self) -> None:
        if (self.path / SETTINGS).exists():  # any other folder is the user's own
            remove_all_stale(self.path)

    def record(self, run: ResolvedRun) -> None:
        """Write the resolved configuration, its provenance, and a training pair and a test pair of each class.

        Raises:
            CmkdError: the folder holds a run with other settings.
        """
        settings, path = run.settings(), self.path / SETTINGS
        if path.exists():
            before = read_settings(path)
            by_content(before)  # older folders also store the names of files
            both, free = {}, self._not_begun(run)
            for of_methods in ("method_options", "sources"):  # a new method keeps its own values
                was = before[of_methods] = {k: v for k, v in before.get(of_methods, {}).items() if k not in free}
                if of_methods == "method_options":  # older folders store only given options
                    was |= {name: check(name, METHODS.find(name), given) for name, given in was.items()}
                settings[of_methods] = was | settings[of_methods]
                both[of_methods] = {name: settings[of_methods][name] for name in was}
            defaults = type(run.config)(
                data=run.config.data, out=self.path
            ).to_dict()  # defaults of options newer than the folder
            if different := differences(before, settings | both, defaults):
                cause = min(different, key=_consequence)
                others = "; its data have changed since: restore them, or" if _consequence(cause) == 0 else ";"
                raise CmkdError(
                    f"'{self.path}' was started with {cause}={different[cause]}{others} choose another --out"
                )
        about = {"versions": versions(), "commit": commit(), "hardware": hardware(), "command": sys.argv}
        text = yaml.safe_dump(run.config.to_dict() | {"method_options": settings["method_options"]}, sort_keys=False)
        comments = "".join(f"# {line}\n" for line in yaml.safe_dump(about, sort_keys=False).splitlines())
        write_json(path, settings)
        write_text(self.path / CONFIG, f"{text}\n{comments}")
        for split, name in (("train", "samples"), ("test", "test_samples")):
            if not (self.path / f"{name}.npz").exists():
                self._keep_samples(run, split, name)

    def _not_begun(self, run: ResolvedRun) -> set[str]:
        """Return the methods of a run without a started student or trial here, by name and by reference to own code."""
        begun = ("last.safetensors", RESULT)  # either file may have been removed to save space
        folders = [path.parents[1].name for name in begun for path in self.path.glob(f"students/*/*/{name}")]
        folders += [path.name for path in self.path.glob("tuning/*")]
        names = dict[str, set[str]]()
        for call in (call for expression in run.config.expressions for call in parse_sum(expression)):
            names.setdefault(METHODS.reference(call.name) or call.name, set()).add(call.name)
        found = set[str]()
        for reference, spellings in names.items():
            both = {reference, *spellings}
            if not any(_plain(name) in folder or len(folder) > LONGEST_NAME for name in both for folder in folders):
                found |= both
        return found - own_models_and_data(run.config)

    def _keep_samples(self, run: ResolvedRun, split: str, name: str) -> None:
        pack, names = run.pack, (run.rich, run.poor)
        rows = pack.rows(split, modalities=names, labeled=True)
        labels = pack.index["label"].to_numpy()[rows]
        classes, first = np.unique(labels, return_index=True)
        about = {
            "labels": [pack.classes[label] for label in classes[:SHOWN_CLASSES]],
            "ids": pack.index["id"].iloc[rows[first[:SHOWN_CLASSES]]].tolist(),
            "modalities": {name: asdict(pack.modalities[name]) for name in names},
        }
        write_json(self.path / f"{name}.json", about)
        inputs = pack.batch(rows[first[:SHOWN_CLASSES]], names).inputs
        with atomic(self.path / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{m: values.numpy() for m, values in inputs.items()})

    def results(self, run: ResolvedRun) -> dict[str, Any]:
        """Collect the results of all finished models; DESIGN describes the content of ``results.json``."""
        methods = run.config.expressions
        found = [
            read_result(path, student=True) for path in sorted((self.path / "students").glob(f"*/seed-*/{RESULT}"))
        ]
        order = {method: place for place, method in enumerate(methods)}
        students = sorted(found, key=lambda r: (order.get(r["method"], len(order)), r["method"], r["seed"]))
        tuned = [row for path in sorted((self.path / "tuning").glob("*")) if (row := summary(path, run.config.tune))]
        measured = {split: run.pack.rows(split, modalities=(run.poor,), labeled=True) for split in SPLITS[1:]}
        of_teacher = run.pack.rows("test", modalities=run.config.teacher.modalities, labeled=True)
        answers = students_answers(self.path, students, len(run.pack.classes))
        asked = {(m, run.config.seed + k) for m in methods for k in range(run.config.seeds)}
        return {
            "cmkd": cmkd.__version__,
            "data": {
                "name": run.pack.card.name,
                "version": run.pack.card.version,
                "classes": list(run.pack.classes),
                "rich": run.config.teacher.modality,
                "poor": run.poor,
                "pairs": {"train": len(run.pack.rows("train"))}
                | {split: len(rows) for split, rows in measured.items()},
                "same_test_pairs": np.array_equal(measured["test"], of_teacher),
                "labels": run.labels,
            },
            "epochs": run.config.epochs,
            "complete": asked <= {(r["method"], r["seed"]) for r in students},
            "teacher": read_result(self.teacher / RESULT),
            "students": students,
            "tuned": sorted(tuned, key=lambda r: (order.get(r["method"], len(order)), r["method"])),
            "summary": summarize(students, answers=answers),
            "recommended": recommended(students),
        }

    def write_results(self, run: ResolvedRun) -> dict[str, Any]:
        """Write ``results.json`` and ``citations.bib``, and return the results."""
        results = self.results(run)
        write_json(self.path / RESULTS, results)
        used = [*run.config.expressions, *(student["method"] for student in results["students"])]
        cited = [text.strip() for text in (run.pack.card.citation, bibliography(used)) if text]
        write_text(self.path / "citations.bib", "\n\n".join(cited) + "\n")
        return results


def _consequence(name: str) -> int:
    """Return the rank of a setting in messages: settings that depend on others come after those they depend on."""
    return 0 if name.startswith("pack.") else {"epochs": 2, "teacher.views": 3}.get(name, 1)


def _plain(text: str) -> str:
    return re.sub(r"[^\w.=,+*()-]", "_", text, flags=re.ASCII)


def _file_name(expression: str) -> str:
    """Return a folder name for a method, at most 255 bytes; a digest is added if characters are replaced or cut off."""
    name = _plain(expression)
    whole = name == expression and len(name) <= LONGEST_NAME
    return name if whole else f"{name[:LONGEST_NAME]}-{checksum([expression.encode()])[:12]}"
