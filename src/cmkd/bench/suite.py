"""A suite: the runs of a study, described by a YAML file."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from cmkd.config import RunConfig
from cmkd.datasets.open import is_own, open_data, portable
from cmkd.documents import read_yaml
from cmkd.errors import CmkdError
from cmkd.expression import Call, parse_sum, split_list
from cmkd.io import checksum
from cmkd.methods import METHODS
from cmkd.nested import beyond, filled, merged
from cmkd.options import Bounds, Count, build, check
from cmkd.progress import shown
from cmkd.registry import is_reference

SEED_STEP = 1000
"""Distance between the first seeds of two teachers, and so the largest number of students per teacher and method."""
OWN = ("data", "out", "methods", "seeds", "seed", "jobs")
"""Run options that a suite sets itself."""


@dataclass(frozen=True)
class Suite:
    """A study: all data sets in all settings, with several teachers each, and a student per teacher, method and seed.

    Args:
        data: data sets, as for ``cmkd run --data``; ``$NAME`` is replaced by that environment variable, such as the
            folder of files that you may not share.
        methods: methods as for ``cmkd run --methods``, a list of such texts, or ``every``; ``none`` is added in front
            if it is missing.
        settings: name -> options of ``cmkd run`` for this setting, such as ``{"a tenth": {"label_fraction": 0.1}}``. In
            text values, ``{data}`` is replaced by the data set and ``{teacher}`` by the number of the teacher, from 1,
            as in ``{"teacher": {"checkpoint": "{data}-teacher-{teacher}/best.safetensors"}}``.
        teachers: number of teachers for each data set and setting, each with its own seed.
        first_teacher: number of the first teacher, from 1. For example, 6 uses new teachers to confirm what a suite
            with five teachers has selected.
        seeds: number of students for each method and teacher.
        rivals: methods with which all others are compared.
        run: options of ``cmkd run`` for all runs, such as ``{"preset": "full"}``.

    Raises:
        CmkdError: an option is unknown, a value has the wrong type or is out of range, or a rival is not among the
            methods or occurs twice.

    Example:
        >>> suite = Suite(("digits",), "kd,ds", {"few": {"labels": 40}, "all": {}}, teachers=2)
        >>> [planned.title for planned in suite.runs(Path("bench"))][:3]
        ['digits, few, teacher 1', 'digits, all, teacher 1', 'digits, few, teacher 2']
    """

    data: tuple[str, ...]
    methods: str | tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=lambda: {"default": {}})
    teachers: Count = 1
    first_teacher: Count = 1
    seeds: Annotated[int, Bounds(least=1, most=SEED_STEP)] = 3
    rivals: tuple[str, ...] = ("none",)
    run: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rivals", tuple(split_list(",".join(self.rivals))))
        for name in ("data", "methods", "settings"):
            if not getattr(self, name):
                raise CmkdError(f"the suite's {name} has no entry; add one")
        if len(set(self.rivals)) < len(self.rivals):
            raise CmkdError(f"the suite's rivals {', '.join(self.rivals)} name a method twice; remove one")
        missing = [rival for rival in self.rivals if rival not in self.expressions]
        if missing:
            raise CmkdError(f"the suite's rivals {', '.join(missing)} are not among its methods; add them to methods")
        for name, options in (*self.settings.items(), ("run", self.run)):
            if not isinstance(options, Mapping):
                raise CmkdError(f"the suite's setting '{name}' is {options!r}; write options of a run as name: value")
            taken = next((option for option in options if option in OWN), None)
            if taken:
                raise CmkdError(f"the suite's setting '{name}' sets '{taken}', which the suite sets itself; remove it")

    @classmethod
    def load(cls, path: Path) -> Suite:
        """Read a suite from a YAML file.

        Raises:
            CmkdError: the file is missing or not valid YAML, or its content is invalid (see `Suite`).
        """
        return build(cls, read_yaml(path, example="data: [digits]"))

    @property
    def expressions(self) -> tuple[str, ...]:
        """The methods, one expression each, including ``none``."""
        if isinstance(self.methods, str):
            given = list(METHODS) if self.methods == "every" else split_list(self.methods)
        else:
            given = split_list(",".join(self.methods))
        return tuple(given) if "none" in given else ("none", *given)

    def with_method(self, method: str) -> Suite:
        """Return the suite with an additional method, written as in `methods`.

        Raises:
            CmkdError: the method is empty, for example from an unset variable in a script.
        """
        if not split_list(method):
            raise CmkdError("--method is empty; give a method, or leave it out")
        return self if method in self.expressions else replace(self, methods=",".join((*self.expressions, method)))

    def check_methods(self) -> None:
        """Check that runs can train the methods; the user's own classes are imported.

        Raises:
            CmkdError: an expression cannot be read, a method or option is unknown, or one method is listed in two
                spellings.
        """
        seen: list[tuple[str, list[Call]]] = []
        for expression in self.expressions:
            calls = [replace(c, options=check(c.name, METHODS.find(c.name), c.options)) for c in parse_sum(expression)]
            calls.sort(key=lambda call: call.name)
            if same := next((other for other, theirs in seen if theirs == calls), ""):
                raise CmkdError(f"'{same}' and '{expression}' of the suite's methods are the same; remove one")
            seen.append((expression, calls))

    @property
    def folders(self) -> tuple[str, ...]:
        """Entries of `data` that are packs or folders of pairs, not named data sets or the user's own classes."""
        return tuple(data for data in self.data if not (portable(expanded(data)) or is_own(expanded(data))))

    def packs(self) -> dict[str, str]:
        """Return a checksum of each entry of `folders`, because their content may change without a new name.

        Folders that are not available here are left out.

        Raises:
            CmkdError: two entries are the same data.
        """
        found, first = dict[str, str](), dict[str, str]()
        for data in self.folders:
            with contextlib.suppress(CmkdError), shown("preparing data") as progress:
                said = open_data(expanded(data), progress=progress).card.identity
                found[data] = checksum([json.dumps(said, sort_keys=True).encode()])
        for data, content in found.items():
            if (same := first.setdefault(content, data)) != data:
                raise CmkdError(f"'{same}' and '{data}' of the suite are the same data; remove one")
        return found

    def runs(self, store: Path) -> list[PlannedRun]:
        """Return the runs of the suite, each with its own folder in `store`.

        The first teacher's runs on all data sets and settings come first, then the next teacher's. A suite that is
        stopped early thus has fewer teachers rather than fewer data sets.

        Raises:
            CmkdError: a setting is not a valid run configuration, two entries give the same run, or an environment
                variable is not set.
        """
        found = [
            self._run_of(store, data, setting, teacher)
            for teacher in range(self.first_teacher - 1, self.first_teacher - 1 + self.teachers)
            for data in self.data
            for setting in self.settings
        ]
        first: dict[str, PlannedRun] = {}
        for planned in found:
            if (same := first.setdefault(planned.key, planned)) is not planned:
                raise CmkdError(f"'{same.title}' and '{planned.title}' of the suite are the same run; remove one")
        return found

    def _run_of(self, store: Path, data: str, setting: str, teacher: int) -> PlannedRun:
        fixed: dict[str, Any] = {"data": expanded(data), "seed": teacher * SEED_STEP, "out": store}
        written = merged(self.run, self.settings[setting])
        config = build(RunConfig, filled(written, {"data": fixed["data"], "teacher": str(teacher + 1)}) | fixed)
        # the key leaves out methods and seeds, so that an extended suite continues in the same folders; defaults, so
        # that it also does after an update of cmkd that adds options; and the place of the data
        general = build(RunConfig, written | fixed).to_dict()
        described = {"data": data} | beyond(general, RunConfig(config.data, store).to_dict())
        key = checksum([json.dumps(described, sort_keys=True).encode()])[:8]
        words = re.sub(r"[^\w.]+", "-", f"{data.rsplit('/', 1)[-1]}-{setting}")[:60].strip("-")
        values = config.to_dict() | {
            "out": str(store / f"{words}-{teacher + 1}-{key}"),
            "methods": ",".join(self.expressions),
            "seeds": self.seeds,
        }
        return PlannedRun(data, setting, teacher, build(RunConfig, values))


@dataclass(frozen=True)
class PlannedRun:
    """One run of a suite: a teacher and its students.

    Args:
        data: the data set, as written in the suite.
        setting: name of the setting.
        teacher: number of the teacher, from 0.
        config: configuration of the run.
    """

    data: str
    setting: str
    teacher: int
    config: RunConfig

    @property
    def place(self) -> tuple[str, str, int]:
        """Data set, setting and teacher, which identify the run within its suite."""
        return self.data, self.setting, self.teacher

    @property
    def own_classes(self) -> list[str]:
        """The methods, models and data named as ``package.module:Name``, which other machines may lack."""
        calls = [call.name for expression in self.config.expressions for call in parse_sum(expression)]
        named = [*calls, self.config.teacher.model, self.config.student.model]
        return [name for name in named if is_reference(name)] + [self.config.data] * is_own(self.config.data)

    @property
    def key(self) -> str:
        """Key that is the same for the runs of other suites with the same data, configuration and teacher."""
        return self.config.out.name.rsplit("-", 1)[-1]

    @property
    def title(self) -> str:
        """Name of the run in messages."""
        return f"{self.data}, {self.setting}, teacher {self.teacher + 1}"

    @property
    def students(self) -> list[tuple[str, int]]:
        """Method and seed of each student of the run."""
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        return [(method, seed) for method in self.config.expressions for seed in seeds]


def expanded(reference: str) -> str:
    """Return a reference to data with environment variables expanded.

    Raises:
        CmkdError: a variable is not set.

    Example:
        >>> os.environ["SENSORS"] = "/data"
        >>> expanded("mars:$SENSORS/mars")
        'mars:/data/mars'
    """
    found = os.path.expandvars(reference)
    left = re.search(r"\$\{?(\w+)", found)
    if left:
        raise CmkdError(f"'{reference}' needs the folder of its files: set the variable, as in {left[1]}=FOLDER")
    return found
