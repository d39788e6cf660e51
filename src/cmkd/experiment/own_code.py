"""Code outside cmkd on which a run depends: find it, and compute checksums that show changes."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from cmkd.config import RunConfig
from cmkd.datasets.open import is_own
from cmkd.expression import parse_sum
from cmkd.io import checksum
from cmkd.methods import METHODS
from cmkd.models import ENCODERS
from cmkd.registry import load_reference


def own_code(config: RunConfig) -> dict[str, str]:
    """Return a checksum of the code of each method, model and data set of a run that is not part of cmkd.

    Raises:
        CmkdError: one of them cannot be imported.
    """
    own = own_models_and_data(config).union(*map(own_methods, config.expressions))
    return _given_models(config) | {name: code_checksum(name) for name in sorted(own)}


def own_methods(expression: str) -> set[str]:
    """Return the methods of an expression that are not part of cmkd, each as ``package.module:Name``."""
    found = {METHODS.reference(call.name) for call in parse_sum(expression)}
    return {name for name in found if name is not None}


def own_models_and_data(config: RunConfig) -> set[str]:
    """Return the models and the data set of a run that are not part of cmkd, each as ``package.module:Name``.

    Data sets of plug-ins are left out, because they have their own versions.
    """
    models = {model for role in (config.teacher, config.student) if isinstance(model := role.model, str)}
    found = {name for model in models if (name := ENCODERS.reference(model.partition("(")[0]))}
    if isinstance(config.data, str) and is_own(config.data):
        found.add(config.data.partition("(")[0])
    return found


def code_checksum(reference: str) -> str:
    """Return the checksum of the file of a class, function or model, and of the files beside it that it imports.

    These files are in the same package or folder, at any depth; for an installed package, only in that package.

    Raises:
        CmkdError: the reference cannot be imported (see `load_reference`).
    """
    # the named object may be defined in another module, for example imported or made by functools.partial
    return _modules_checksum(reference.partition(":")[0], _definition(load_reference(reference)).__module__)


def _given_models(config: RunConfig) -> dict[str, str]:
    """Return a checksum of the code of the models that are given as objects in Python, not by name.

    For a model defined in the user's script, only its own lines count: the rest of a script changes from run to run.
    """
    found = dict[str, str]()
    for model in (config.teacher.model, config.student.model):
        if isinstance(model, str):
            continue
        for part in map(_definition, model.modules() if isinstance(model, nn.Module) else [model]):
            module, name = part.__module__, f"{part.__module__}:{part.__qualname__}"
            if name in found or module.partition(".")[0] in ("cmkd", "torch"):
                continue
            with contextlib.suppress(TypeError, OSError):  # no source, as for code typed in a console
                lines = [inspect.getsource(part).encode()] if module == "__main__" else None
                found[name] = checksum(lines) if lines else _modules_checksum(module)
    return dict(sorted(found.items()))


def _definition(found: object) -> Any:  # noqa: ANN401  # a class or a function
    """Return the class or function behind an object: the object itself, the one it wraps, or its class."""
    while isinstance(found, functools.partial):
        found = found.func
    return inspect.unwrap(found) if callable(found) and hasattr(found, "__qualname__") else type(found)


def _modules_checksum(*modules: str) -> str:
    """Return the checksum of the files of modules, and of the files beside them that they import."""
    files = dict[Path, None]()
    for module in modules:
        with contextlib.suppress(TypeError, OSError):  # built-in modules
            files |= dict.fromkeys(_with_imports(module, Path(inspect.getfile(sys.modules[module]))))
    return checksum(file.read_bytes() for file in files)


def _with_imports(module: str, file: Path) -> list[Path]:
    """Return a module's file, followed by the files of the modules that it imports, directly or indirectly."""
    top, *below = module.split(".")
    root = file.parents[len(below) + (file.name == "__init__.py")]
    installed = str(root) in {sysconfig.get_path(kind) for kind in ("purelib", "platlib", "stdlib")}
    found, ahead = {file: None}, [(module, file)]
    while ahead:
        for name in _imports(*ahead.pop()):
            first = name.split(".")[0]
            if first == "cmkd" or (installed and first != top):
                continue
            place = root.joinpath(*name.split("."))
            for path in (place / "__init__.py", place.with_suffix(".py")):
                if path not in found and path.is_file():
                    found[path] = None
                    ahead.append((name, path))
    return [file, *sorted(path for path in found if path != file)]


def _imports(module: str, file: Path) -> Iterator[str]:
    """Yield the modules that a module may import, and the packages that contain them."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = [*above, *(node.module or "").split(".")] if node.module else above
                names = [[*base, alias.name] for alias in node.names]
            for parts in names:
                yield from (".".join(parts[: count + 1]) for count in range(len(parts)))
