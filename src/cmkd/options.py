"""Check typed options, in the same way for the command line, YAML and Python.

Options are the keyword-only parameters of a method, data set or encoder, or the fields of a configuration. Each has a
type and a default.
"""

from __future__ import annotations

import inspect
import re
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cmkd.errors import CmkdError, unknown_name
from cmkd.io import expanded

T = TypeVar("T")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2


@dataclass(frozen=True)
class Bounds:
    """Limits of a number, as part of its type: ``Annotated[float, Bounds(least=0, below=1)]``.

    Args:
        least: smallest allowed value.
        most: largest allowed value.
        above: exclusive lower limit.
        below: exclusive upper limit.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return not (
            (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )

    def __str__(self) -> str:
        limits = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)


BelowOne = Annotated[float, Bounds(least=0, below=1)]
Depth = Annotated[int, Bounds(least=1, most=64)]
Count = Annotated[int, Bounds(least=1)]
Threads = Annotated[int, Bounds(least=1, most=1024)]
Seed = Annotated[int, Bounds(least=0, most=2**31 - 1)]


def parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a signature, in order."""
    found = inspect.signature(function).parameters
    return {name: p for name, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def fits(value: object, hint: object) -> bool:
    """Return whether a value is of an annotated type: numbers, text, choices, sequences and unions of these.

    Numbers must be finite; an int counts as a float, and a bool is not a number. Other annotations accept any value.

    Example:
        >>> fits(3, float), fits("a", float), fits(float("nan"), float), fits([1, 2.5], Sequence[float])
        (True, False, False, True)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(item, arguments[0]) for item in value)
    if hint is float:  # compared, since an int may be too large to become a float
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]  # mypy loses the type above
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, bool if hint is bool else str)
    if hint is Path:
        return isinstance(value, str | Path) and value != ""
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items()
        )
    return value is None if hint in (None, NoneType) else True


def described(hint: object) -> str:
    """Describe a type in words, for a message.

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
    if origin is Annotated:
        return described(arguments[0])
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(described(part) for part in arguments)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        each = "" if arguments[1] is Any else f", each with {described(arguments[1])}"
        return f"a group of names (in quotes if they are numbers){each}"
    if origin is not None and arguments:
        return f"a list, each item {described(arguments[0])}"
    return getattr(hint, "__name__", str(hint))


def check(owner: str, function: Callable[..., object], options: Mapping[str, object]) -> dict[str, Any]:
    """Check options against a signature, and return all of them, defaults included.

    Args:
        owner: name of the method, data set or encoder that has the options, for messages.
        function: a callable, such as a class, whose keyword-only parameters are the options.
        options: name -> value.

    Raises:
        CmkdError: a name is unknown (the message gives the nearest valid one), or a value has the wrong type or is out
            of its `Bounds`.

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
    hints = option_types(function)
    for name, value in options.items():
        if name not in known:
            other = inspect.signature(function).parameters.get(name)
            if other is not None and other.default is not inspect.Parameter.empty:
                raise CmkdError(f"option {name} of {owner} must be keyword-only: write '*' before it in its signature")
            raise unknown_name(f"option of {owner}", name, known)
        if not fits(value, hints.get(name, object)):
            raise CmkdError(f"option {name} of {owner} must be {described(hints[name])}, got {value!r}")
        check_bounds(f"option {name} of {owner}", value, hints.get(name, object))
    return {name: options.get(name, parameter.default) for name, parameter in known.items()}


def option_types(function: Callable[..., object]) -> dict[str, Any]:
    """Return the types in a signature (for a class, its constructor's) with their `Bounds`; empty if unknown."""
    try:
        return get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    except NameError:  # a plug-in that imports its annotations only for type checking
        return {}


def build(cls: type[T], values: Mapping[str, Any], *, path: str = "", others: bool = False) -> T:
    """Make a dataclass from a mapping of its fields, after checking their names and types.

    Args:
        cls: the dataclass.
        values: field -> value, as for `checked`.
        path: dotted name of `values` in the whole configuration, for messages.
        others: ignore unknown names, which a newer release may have written, instead of raising an error.

    Raises:
        CmkdError: a field is unknown or missing, or a value has the wrong type or is out of its `Bounds`.
    """
    made = checked(cls, values, path=path, others=others)
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in made and f.default is MISSING and f.default_factory is MISSING:
            raise CmkdError(f"{_dotted(path, f.name)} is missing")
    try:
        return cls(**made)
    except CmkdError as error:
        raise CmkdError(f"{path}: {error}" if path else str(error)) from error


def checked(cls: type[object], values: Mapping[str, Any], *, path: str = "", others: bool = False) -> dict[str, Any]:
    """Check values against the fields of a dataclass, and convert them to the fields' types; arguments as for `build`.

    Mappings become the dataclasses that the fields expect, also inside lists and mappings; given dataclasses are
    checked in the same way. Text becomes a path where a path is expected, with a leading ``~`` expanded, and lists
    become tuples.

    Raises:
        CmkdError: a field is unknown (the message gives the nearest valid one), or a value has the wrong type or is out
            of its `Bounds`.
    """
    hints, limited, made = get_type_hints(cls), get_type_hints(cls, include_extras=True), dict[str, Any]()
    for name, value in values.items():
        if name not in hints:
            if others:
                continue
            raise unknown_name("option", _dotted(path, name), [_dotted(path, known) for known in hints])
        made[name] = _converted(value, hints[name], _dotted(path, name), others)
        check_bounds(_dotted(path, name), value, limited[name])
    return made


def check_bounds(name: str, value: Any, hint: object) -> None:  # noqa: ANN401  # any value of an option
    """Raise `CmkdError` if a number is outside the `Bounds` of its type.

    Example:
        >>> check_bounds("--seed", -1, Annotated[int, Bounds(least=0)])
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: --seed is -1; it must be at least 0
    """
    bounds = _bounds(hint)
    if bounds is not None and value is not None and value not in bounds:
        raise CmkdError(f"{name} is {value}; it must be {bounds}")


def _bounds(hint: object) -> Bounds | None:
    """Return the `Bounds` in a type, or in one of the types of a union; None if there are none."""
    if get_origin(hint) is Annotated:
        return next((part for part in get_args(hint)[1:] if isinstance(part, Bounds)), None)
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    return next((found for part in parts if (found := _bounds(part)) is not None), None)


def _converted(value: Any, hint: Any, where: str, others: bool) -> Any:  # noqa: ANN401  # any value of a configuration
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return build(hint, value, path=where, others=others)
        if is_dataclass(value) and issubclass(hint, type(value)):  # or a base class: other fields have defaults
            return build(hint, {field.name: getattr(value, field.name) for field in fields(value)}, path=where)
        names = ", ".join(get_type_hints(hint))
        raise CmkdError(f"{where} must be a group of options ({names}), got {_shown(value)}")
    origin, kinds = get_origin(hint), get_args(hint) or (hint,)
    nested = [kind for kind in kinds if is_dataclass(kind)]
    if nested and origin in (Union, UnionType) and value is not None:
        return _converted(value, nested[0], where, others)
    if nested and origin in (tuple, Sequence) and isinstance(value, list):
        items = [_converted(item, nested[0], f"{where}[{k}]", others) for k, item in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if origin is Mapping and isinstance(value, Mapping) and all(fits(name, kinds[0]) for name in value):
        return {name: _converted(item, kinds[1], _dotted(where, str(name)), others) for name, item in value.items()}
    if isinstance(value, list) and tuple in (origin, *map(get_origin, kinds)):
        value = tuple(value)
    if not fits(value, hint):
        raise CmkdError(f"{where} must be {described(hint)}, got {_shown(value)}")
    # Lightning expands ~ too, so an unexpanded folder would be created in one place and searched in another
    is_path = Path in kinds and isinstance(value, Path if str in kinds else (str, Path))
    return expanded(str(value)) if is_path else value


def _shown(value: object) -> str:
    """Return a value as text for a one-line message; long text and deep nesting are cut."""
    return _SHORT.repr(value)


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def plain(value: Any) -> Any:  # noqa: ANN401  # any value of a configuration
    """Return a configuration value in a form that YAML and JSON can hold; objects become their names.

    Example:
        >>> plain({"out": Path("runs"), "sizes": (1, 2), "model": Path})
        {'out': 'runs', 'sizes': [1, 2], 'model': 'pathlib:Path'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    match value:
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case Path():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
    value = getattr(value, "module", value)  # for a wrapper, the wrapped module
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def from_text(text: str, hint: object) -> Any:  # noqa: ANN401  # of the type in `hint`
    """Read a value from the command line as an annotated type; text that does not fit is returned unchanged.

    Example:
        >>> from_text("3", float | None), from_text("null", float | None), from_text("true", bool), from_text("a", int)
        (3.0, None, True, 'a')
        >>> from_text("[1, 2.5]", Sequence[float]), from_text("relu", Literal["relu", "gelu"])
        ([1.0, 2.5], 'relu')
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return from_text(text, arguments[0])
    if origin is Literal:
        return next((choice for choice in arguments if str(choice) == text), text)
    if origin in (Union, UnionType):
        # any value fits text, so text comes after numbers, but before lists, into which commas would split the text
        lists = [part for part in arguments if get_origin(part) not in (None, Literal)]
        order = sorted(arguments, key=lambda part: (part in lists, part is str))
        if str in arguments and text.lower() != "null":  # else the text "none" could not be given
            order = [part for part in order if part is not NoneType]
        read = ((from_text(text, part), part) for part in order)
        return next((value for value, part in read if fits(value, part)), text)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        items = text.strip("[]()").split(",")
        return [from_text(item.strip(), arguments[0]) for item in items if item.strip()]
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if hint in (None, NoneType):
        return None if text.lower() in ("null", "none") else text
    if hint is Path and text:
        return expanded(text)
    if hint in (int, float) and text:
        try:
            return hint(text)
        except ValueError:
            return text
    return text


def documented(function: Callable[..., object]) -> tuple[list[str], dict[str, str]]:
    """Return the paragraphs of a docstring before its arguments, and the text of each argument, each as one line.

    Example:
        >>> documented(fits)[0][0]
        'Return whether a value is of an annotated type: numbers, text, choices, sequences and unions of these.'
        >>> documented(build)[1]["cls"]
        'the dataclass.'
    """
    head, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    arguments = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", arguments, flags=re.MULTILINE)
    paragraphs = [" ".join(p.split()) for p in head.split("\n\n") if p.strip()] or [""]
    return paragraphs, {name: " ".join(text.split()) for name, text in found}
