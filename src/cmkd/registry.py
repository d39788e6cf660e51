"""Methods, data sets and encoders by name: from this package and from plug-ins, imported only when needed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from cmkd.errors import CmkdError, in_one_line, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, type[T]], Generic[T]):
    """A read-only mapping from names to classes; listing the names imports nothing.

    The class called ``NAME`` is either the one with the attribute ``name = "NAME"`` in the module ``PACKAGE.NAME`` of
    this package, or the one that a plug-in offers as an entry point ``NAME`` of `group`. `find` also accepts
    ``package.module:Name``, which is not a member, because only an import shows whether it exists.

    Args:
        kind: kind of the members, such as ``"method"``, for messages.
        package: package of cmkd's own members, one module each.
        contract: base class of the members.
        group: group of the entry points; by default the name of the package.
        support: modules of the package that hold no member.

    Example:
        >>> from cmkd.methods import METHODS
        >>> "kd" in METHODS, METHODS["kd"].__name__
        (True, 'KD')
        >>> METHODS.find("kb")
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: unknown method 'kb': did you mean 'kd'? ...
    """

    def __init__(
        self, kind: str, package: str, contract: type[Any], *, group: str = "", support: Collection[str] = ()
    ) -> None:
        self.kind, self.package, self.contract = kind, package, contract
        self.group, self.support = group or package, frozenset(support)

    @cached_property
    def _own(self) -> frozenset[str]:
        path = importlib.import_module(self.package).__path__
        return frozenset(m.name for m in pkgutil.iter_modules(path) if m.name not in self.support)

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._own, *self._plugins}))

    def __len__(self) -> int:
        return len({*self._own, *self._plugins})

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._plugins

    def __getitem__(self, name: str) -> type[T]:
        offered = sorted({point.value for point in entry_points(group=self.group, name=name)})
        homes = [*([f"{self.package}.{name}"] if name in self._own else []), *offered]
        if len(homes) > 1:
            raise CmkdError(f"two {self.kind}s are named '{name}': {' and '.join(homes)}; uninstall or rename one")
        if name not in self._own:
            return self._checked(self._plugins[name])
        module = importlib.import_module(homes[0])
        found = next(c for c in vars(module).values() if inspect.isclass(c) and vars(c).get("name") == name)
        return cast("type[T]", found)

    def find(self, name: str) -> type[T]:
        """Return the class called `name`, or the user's own class for ``package.module:Name``.

        Raises:
            CmkdError: the name is unknown (the message gives the nearest one), or its class does not load or does not
                derive from the contract.
        """
        if is_reference(name):
            return self._of_kind(load_reference(name), f"'{name}'")
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]

    def reference(self, name: str) -> str | None:
        """Return ``package.module:Name`` for the user's own class or a plug-in's; None for a class of this package."""
        if is_reference(name):
            return name.partition("(")[0]
        return self._plugins[name].value if name in self._plugins else None

    def _checked(self, point: EntryPoint) -> type[T]:
        with in_one_line(f"the plug-in '{point.value}' cannot be loaded; fix or uninstall it"):
            loaded: Any = point.load()
        found = self._of_kind(loaded, f"the plug-in '{point.value}'")
        if getattr(found, "name", None) != point.name:
            raise CmkdError(f"the plug-in '{point.value}' needs the class attribute name = \"{point.name}\"; fix it")
        return found

    def _of_kind(self, loaded: object, what: str) -> type[T]:
        if not (inspect.isclass(loaded) and issubclass(loaded, self.contract) and loaded is not self.contract):
            raise CmkdError(f"{what} is not a subclass of {self.contract.__name__}; fix it")
        return cast("type[T]", loaded)


def is_reference(text: str) -> bool:
    """Return whether `text` has the form ``package.module:Name`` or ``package.module:Name(options)``.

    Example:
        >>> is_reference("mine.models:Radar(width=8)"), is_reference("mars:data/mars"), is_reference("thin_resnet")
        (True, False, False)
    """
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\(.*\))?", text) is not None


def load_reference(text: str) -> object:
    """Import the object named ``package.module:Name`` by the user; the current folder is searched too.

    Raises:
        CmkdError: the module cannot be imported, or has no such name.
    """
    module, _, name = text.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as with `python -m`; sys.path[0] is the command's folder
    with in_one_line(f"cannot import '{module}' of '{text}'"):
        loaded = importlib.import_module(module)
    if not hasattr(loaded, name):
        raise unknown_name(f"name in {module}", name, (n for n in vars(loaded) if not n.startswith("_")))
    return getattr(loaded, name)
