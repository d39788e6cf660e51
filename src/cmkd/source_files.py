"""Files of the code that the user named as ``package.module:Name``, which may change under its name."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from cmkd.io import checksum
from cmkd.registry import load_reference


def code_checksum(reference: str) -> str:
    """Return the checksum of the file of a class, function or model, and of the files beside it that it imports.

    Those lie in its package or its folder, at any depth; of an installed package, in that package.

    Raises:
        CmkdError: as `load_reference`.
    """
    found = load_reference(reference)
    named = found if callable(found) and hasattr(found, "__qualname__") else type(found)
    files = _with_imports(named.__module__, Path(inspect.getfile(named)))
    return checksum(file.read_bytes() for file in files)


def _with_imports(module: str, file: Path) -> list[Path]:
    """Return a module's file, then those of the modules that it imports, and that these import."""
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
    """Yield the modules that a module may import, and the packages that they are in."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    with contextlib.suppress(SyntaxError):
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
