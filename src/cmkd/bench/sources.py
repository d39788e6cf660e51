"""Dependencies of students that may change without a new name: the user's own code and files, and method defaults."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cmkd.bench.suite import PlannedRun, Suite
from cmkd.config import RunConfig
from cmkd.documents import SETTINGS
from cmkd.errors import CmkdError
from cmkd.experiment.folder import read_settings
from cmkd.experiment.own_code import code_checksum, own_methods, own_models_and_data
from cmkd.expression import parse_sum
from cmkd.io import checksum
from cmkd.methods import METHODS
from cmkd.nested import differences
from cmkd.options import check, plain
from cmkd.registry import is_reference

APART = {"method_options", "checkpoint", "outputs", "modality"}
"""Settings excluded from the comparison: they are compared by method or by content, or have several spellings."""
OPEN = {"epochs", "batch_size", "flip", "shift", "views", "modality_dropout"}
"""Settings that a run fills in if they are left open."""


def sources(asked: Suite) -> dict[str, str]:
    """Return a checksum of each own method, data set and model of a suite (their code), and of each teacher in a file.

    Code and files that are not available here are left out.
    """
    found = set[str]().union(*(_own(planned.config, asked.expressions) for planned in asked.runs(Path())))
    return {name: now for name in sorted(found) if (now := _checksum(name))}


def changed(was: Mapping[str, str], now: Mapping[str, str], *, whole: bool = False) -> set[str]:
    """Return the names whose checksums differ; with `whole`, also the names that `was` lacks."""
    new = set(now) - set(was) if whole else set()
    return new | {name for name, content in was.items() if now.get(name, content) != content}


def options(methods: Iterable[str], given: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Return all options of each method in some expressions, by method name: the given ones, and defaults for the rest.

    Methods that are not available here are left out.
    """
    found = dict[str, dict[str, Any]]()
    for name in sorted(_names(methods)):
        with contextlib.suppress(CmkdError):
            found[name] = plain(check(name, METHODS.find(name), (given or {}).get(name, {})))
    return found


def with_other_options(was: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the methods with a changed value of an option; options that only `now` has do not count.

    Example:
        >>> with_other_options({"kd": {"weight": 1.0}, "ds": {}}, {"kd": {"weight": 2.0}, "ds": {"new": 0}})
        {'kd'}
    """
    return {name for name, said in was.items() if any(now.get(name, said).get(key, v) != v for key, v in said.items())}


def changed_since(planned: PlannedRun) -> set[str]:
    """Return the names of code, files and methods that have changed since a run was started in its folder."""
    path = planned.config.out / SETTINGS
    settings = read_settings(path) if path.exists() else {}
    was = dict(settings.get("sources", {}))
    for (role, option), file in _files(planned.config).items():
        if content := settings.get(role, {}).get(f"{option}_sha256"):
            was[str(file)] = content
    found = changed(was, {name: now for name in was if (now := _checksum(name))})
    given = options(planned.config.expressions, planned.config.method_options)
    return found | with_other_options(settings.get("method_options", {}), given)


def other_settings(planned: PlannedRun) -> dict[str, str]:
    """Return the settings in a run's folder that differ from those of its suite: name -> ``old, now new``.

    Settings that the run filled in itself, and options that are newer than the folder, are not compared. If students
    are left to train, the run itself compares all of its settings (`RunFolder.record`).
    """
    path = planned.config.out / SETTINGS
    return differences(*_alike(read_settings(path), planned.config.to_dict())) if path.exists() else {}


def _alike(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parts of two nested mappings with common names, without those that the second leaves open."""
    old, new = dict[str, Any](), dict[str, Any]()
    for name in was.keys() & now.keys() - APART:
        before, after = was[name], now[name]
        if after is not None or name not in OPEN:
            both = isinstance(before, Mapping) and isinstance(after, Mapping)
            old[name], new[name] = _alike(before, after) if both else (before, after)
    return old, new


def depends(planned: PlannedRun, method: str, names: Collection[str]) -> bool:
    """Return whether a method's students in a run depend on one of the names (code, files or methods)."""
    return not (_own(planned.config, [method]) | _names([method])).isdisjoint(names)


def _own(config: RunConfig, methods: Iterable[str]) -> set[str]:
    """Return the names of the user's own code and files that students of some methods depend on."""
    return own_models_and_data(config).union(*map(own_methods, methods), map(str, _files(config).values()))


def _names(methods: Iterable[str]) -> set[str]:
    return {call.name for expression in methods for call in parse_sum(expression)}


def _files(config: RunConfig) -> dict[tuple[str, str], Path]:
    """Return the files of teacher and student, by role and option."""
    keys = [(role, option) for role in ("teacher", "student") for option in ("checkpoint", "outputs")]
    found = {(role, option): getattr(getattr(config, role), option, None) for role, option in keys}
    return {key: Path(path) for key, path in found.items() if path is not None}


def _checksum(name: str) -> str:
    """Return the checksum of the code of a class, or of a file; empty if it is not available here."""
    with contextlib.suppress(CmkdError, OSError):
        return code_checksum(name) if is_reference(name) else checksum(Path(name))
    return ""
