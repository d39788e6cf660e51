"""The one checker of typed options, for the command line, YAML and Python alike.

Options are keyword-only parameters of a signature, with a type and a default each: of a method, a data set, an encoder
or the fields of a configuration.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cmkd.errors import CmkdError, unknown_name

T = TypeVar("T")


def parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a signature, in order."""
    found = inspect.signature(function).parameters
    return {name: p for name, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def fits(value: object, hint: object) -> bool:
    """Return whether a value is of an annotated type: numbers, text, choices, sequences and unions of these.

    Numbers must be finite; a whole number is a float, a bool is no number. Other annotations accept anything.

    Example:
        >>> fits(3, float), fits("a", float), fits(float("nan"), float), fits([1, 2.5], Sequence[float])
        (True, False, False, True)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, bool if hint is bool else str)
    if hint is Path:
        return isinstance(value, str | Path)
    return value is None if hint in (None, NoneType) else True


def described(hint: object) -> str:
    """Return a type in words for a message.

    Example:
        >>> described(int), described(Literal["a", "b"]), described(float | None)
        ('a whole number', "'a' or 'b'", 'a number or null')
    """
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    if hint in words:
        return words[hint]
    if hint in (None, NoneType):
        return "null"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(described(part) for part in arguments)
    if origin is not None and arguments:
        return f"a list, each item {described(arguments[0])}"
    return getattr(hint, "__name__", str(hint))


def check(owner: str, function: Callable[..., object], options: Mapping[str, object]) -> dict[str, Any]:
    """Check options against a signature, and return all of them, defaults included.

    Args:
        owner: whose options these are, for messages.
        function: a callable (a class, say) whose keyword-only parameters are the options.
        options: name -> value.

    Raises:
        CmkdError: an unknown name (with the nearest valid one) or a value of another type.

    Example:
        >>> def smooth(*, width: int = 3, power: float = 1.0) -> None: ...
        >>> check("smooth", smooth, {"width": 5})
        {'width': 5, 'power': 1.0}
        >>> check("smooth", smooth, {"width": "abc"})
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: option width of smooth must be a whole number, got 'abc'
    """
    known = parameters(function)
    hints = _hints(function.__init__ if inspect.isclass(function) else function)
    for name, value in options.items():
        if name not in known:
            raise unknown_name(f"option of {owner}", name, known)
        if not fits(value, hints.get(name, object)):
            raise CmkdError(f"option {name} of {owner} must be {described(hints[name])}, got {value!r}")
    return {name: options.get(name, parameter.default) for name, parameter in known.items()}


def build(cls: type[T], values: Mapping[str, Any], *, path: str = "") -> T:
    """Make a dataclass from nested mappings, checking names and types on the way.

    Args:
        cls: the dataclass; fields that are dataclasses themselves are made from mappings, or kept.
        values: field -> value; text is accepted for a path.
        path: of `values` in the whole, for messages.

    Raises:
        CmkdError: an unknown or missing field, or a value of another type.
    """
    hints, made = get_type_hints(cls), dict[str, Any]()
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for name, value in values.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            raise unknown_name("option", where, [f"{path}.{n}" if path else n for n in known])
        hint = hints[name]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping | hint):
                raise CmkdError(
                    f"{where} must be a group of options ({', '.join(get_type_hints(hint))}), got {value!r}"
                )
            made[name] = build(hint, value, path=where) if isinstance(value, Mapping) else value
        elif not fits(value, hint):
            raise CmkdError(f"{where} must be {described(hint)}, got {value!r}")
        else:
            wants_path = Path in (hint, *get_args(hint)) and str not in (hint, *get_args(hint))
            made[name] = Path(value) if wants_path and isinstance(value, str) else value
    for name, field in known.items():
        if name not in made and field.default is MISSING and field.default_factory is MISSING:
            raise CmkdError(f"{path + '.' if path else ''}{name} is missing")
    return cls(**made)


def _hints(function: object) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError:  # a plug-in whose annotations are imported for the type checker alone
        return {}
