"""A suite: which runs a study consists of, from a YAML file."""

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
"""Between the first seeds of two teachers: more students than anyone trains for one."""
OWN = ("data", "out", "methods", "seeds", "seed", "jobs")
"""Options of a run that a suite sets itself."""


@dataclass(frozen=True)
class Suite:
    """A study: every data set in every setting with several teachers, and a student for each method and seed of these.

    Args:
        data: data sets, as ``cmkd run --data`` takes them; ``$NAME`` is a variable of the environment, such as the
            folder of files that are not yours to share.
        methods: as ``cmkd run --methods`` takes them, a list of them, or ``every``; ``none`` comes first if it is not
            among them.
        settings: name -> options of ``cmkd run`` that make it, such as ``{"a tenth": {"label_fraction": 0.1}}``. In
            their texts, ``{data}`` stands for the data set and ``{teacher}`` for the number of the teacher, from 1, as
            in ``{"teacher": {"checkpoint": "{data}-teacher-{teacher}/best.safetensors"}}``.
        teachers: for each data set and setting, each with a seed of its own.
        first_teacher: number of the first of them, from 1: 6 confirms with new ones what a suite of five has chosen.
        seeds: students for each method and teacher.
        rivals: methods that the others are compared with.
        run: options of ``cmkd run`` for all runs, such as ``{"preset": "full"}``.

    Raises:
        CmkdError: an unknown option, a value of a wrong type or out of range, or a rival that is no method or occurs
            twice.

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
        """Read a YAML file.

        Raises:
            CmkdError: as the class; or the file is missing, or no YAML.
        """
        return build(cls, read_yaml(path, example="data: [digits]"))

    @property
    def expressions(self) -> tuple[str, ...]:
        """The methods, one expression each, ``none`` among them."""
        if isinstance(self.methods, str):
            given = list(METHODS) if self.methods == "every" else split_list(self.methods)
        else:
            given = split_list(",".join(self.methods))
        return tuple(given) if "none" in given else ("none", *given)

    def with_method(self, method: str) -> Suite:
        """Return the suite with one more method, as in `methods`.

        Raises:
            CmkdError: it is empty, as a variable of a script that is not set.
        """
        if not split_list(method):
            raise CmkdError("--method is empty; give a method, or leave it out")
        return self if method in self.expressions else replace(self, methods=",".join((*self.expressions, method)))

    def check_methods(self) -> None:
        """Refuse what no run could train; classes of the user's own are imported.

        Raises:
            CmkdError: an expression that cannot be read, an unknown method or option, or one method in two spellings.
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
        """The data that are packs or folders of pairs, not data sets known by a name or classes of the user's own."""
        return tuple(data for data in self.data if not (portable(expanded(data)) or is_own(expanded(data))))

    def packs(self) -> dict[str, str]:
        """Return a checksum of each of the `folders`, which may grow under its name.

        Those that are not at hand here are left out.

        Raises:
            CmkdError: two of them are the same.
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
        """Return the runs of the suite, with a folder each in `store`: one teacher everywhere, then the next.

        So a suite that is stopped early has fewer teachers rather than fewer data sets.

        Raises:
            CmkdError: a setting is no configuration of a run, two entries give the same run, or a variable is not set.
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
        # methods and seeds are no part of it, so that a suite that grows continues in the same folders; nor are
        # defaults, so that it does with a cmkd of more options; nor is where the data are
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
        data: the data set, as the suite names it.
        setting: name of the setting.
        teacher: number of the teacher, from 0.
        config: of the run.
    """

    data: str
    setting: str
    teacher: int
    config: RunConfig

    @property
    def place(self) -> tuple[str, str, int]:
        """Data set, setting and teacher: what names it among the runs of its suite."""
        return self.data, self.setting, self.teacher

    @property
    def own_classes(self) -> list[str]:
        """The methods, models and data named as ``package.module:Name``, which other machines may lack."""
        calls = [call.name for expression in self.config.expressions for call in parse_sum(expression)]
        named = [*calls, self.config.teacher.model, self.config.student.model]
        return [name for name in named if is_reference(name)] + [self.config.data] * is_own(self.config.data)

    @property
    def key(self) -> str:
        """What it has in common with the runs of other suites that train the same students of the same teacher."""
        return self.config.out.name.rsplit("-", 1)[-1]

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.data}, {self.setting}, teacher {self.teacher + 1}"

    @property
    def students(self) -> list[tuple[str, int]]:
        """Method and seed of each of its students."""
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        return [(method, seed) for method in self.config.expressions for seed in seeds]


def expanded(reference: str) -> str:
    """Return a reference with the variables of the environment in it.

    Raises:
        CmkdError: one is not set.

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
