"""Typed signatures as command lines: argparse splits the words, `cmkd.options` checks the values."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from cmkd.cli.completion import answer, answer_names
from cmkd.errors import CmkdError, unknown_name
from cmkd.options import check_bounds, described, documented, fits, from_text

WORDS: dict[object, str] = {Path: "PATH", int: "N", float: "NUMBER", bool: "{true,false}"}
"""How the help shows a value of each type; everything else is TEXT."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `CmkdError`, with the nearest flag for an unknown one."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        hint = "; write one that begins with '-' as --flag=VALUE" if message.endswith("expected one argument") else ""
        raise CmkdError(" ".join(message.split()) + hint)

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the given values by name.

        Raises:
            CmkdError: if a flag is unknown, an argument is missing, or a flag has no value.
        """
        answer(self)
        try:
            found, unknown = self.parse_known_args(list(arguments))
        except CmkdError as error:
            odd = next((word for word in arguments if word.startswith("-") and os.path.isfile(word)), None)
            if odd is None or "are required" not in str(error):
                raise
            raise CmkdError(f"'{odd}' begins with '-' and reads as an option: write ./{odd}") from error
        if unknown:
            known = [flag for action in self._actions for flag in action.option_strings if action.dest != "help"]
            raise _unknown(unknown[0], known)
        return vars(found)


def call(function: Callable[..., object], arguments: Sequence[str], *, prog: str) -> None:
    """Call a function with the arguments of a command line.

    Its positional parameters are positional arguments (``*names`` takes one or more); keyword-only ones are flags; a
    flag that is false by default stands alone.

    Args:
        function: function with a typed signature and a docstring, which become flags and help.
        arguments: the words after the command.
        prog: the command as users type it.
    """
    (summary, *_), texts = documented(function)
    parser, hints = Parser(prog, summary), get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        text = texts.get(name, "").replace("%", "%%")
        if parameter.kind is parameter.KEYWORD_ONLY:
            required = parameter.default is parameter.empty
            default = "" if required or parameter.default in (None, False, "") else f" (default: {parameter.default})"
            parser.add_argument(f"--{name}", required=required, help=text + default, **_takes(parameter, hints[name]))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            parser.add_argument(name, nargs="+", help=text)
        else:
            extra: dict[str, Any] = {} if parameter.default is parameter.empty else {"nargs": "?"}
            parser.add_argument(name, help=text, **extra)
    values = {
        name: [value(name, word, hints[name]) for word in given]
        if isinstance(given, list)
        else value(f"--{name}" if parameters[name].kind is parameters[name].KEYWORD_ONLY else name, given, hints[name])
        for name, given in parser.parse(arguments).items()
    }
    several = next((name for name, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    before = [values.pop(n) for n, p in parameters.items() if several and p.kind is p.POSITIONAL_OR_KEYWORD]
    function(*before, *(values.pop(several, ()) if several else ()), **values)


def _takes(parameter: inspect.Parameter, hint: object) -> dict[str, Any]:
    """Return the argparse options for a flag's value; a flag that is false by default takes no value."""
    return {"action": "store_const", "const": "true"} if parameter.default is False else {"metavar": metavar(hint)}


def value(name: str, text: str, hint: object) -> Any:  # noqa: ANN401  # of the type that `hint` names
    """Read one word as the type of its parameter; an error names the flag."""
    if not text and hint in (Path, Path | None):
        raise CmkdError(f"{name} is empty: give a path")
    read = from_text(text, hint)
    if not fits(read, hint):
        raise CmkdError(f"{name} must be {described(hint)}, got {text!r}")
    check_bounds(name, read, hint)
    return read


def metavar(hint: object) -> str:
    """Return how the help shows a flag's value: words such as N and PATH, never the name of a Python type.

    Example:
        >>> metavar(int | None), metavar(Path | str), metavar(tuple[str, ...]), metavar(Literal["a", "b"])
        ('N', 'PATH|TEXT', 'TEXT', '{a,b}')
    """
    if get_origin(hint) is Annotated:
        return metavar(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if get_origin(hint) in (Union, UnionType):
        return "|".join(dict.fromkeys(metavar(part) for part in get_args(hint) if part is not type(None)))
    return WORDS.get(hint, "TEXT")


def choose(functions: Mapping[str, Callable[..., object]], arguments: Sequence[str], *, prog: str) -> None:
    """Call the function that the first argument names, with the remaining arguments."""
    if not arguments:
        answer_names(prog, functions)
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, functions))
        lines = [f"  {name:{width}}  {documented(f)[0][0]}" for name, f in functions.items()]
        print("\n".join([f"usage: {prog} COMMAND [OPTIONS]", "", *lines]))
        if not arguments:
            raise CmkdError(f"{prog} needs a command: {', '.join(functions)}")
        return
    name, *rest = arguments
    if name not in functions:
        raise unknown_name("command", name, functions)
    call(functions[name], rest, prog=f"{prog} {name}")


def _unknown(word: str, flags: Sequence[str]) -> CmkdError:
    flag = word.partition("=")[0]
    if not flag.startswith("-"):
        return CmkdError(f"unexpected argument '{word}'")
    last = flag.rpartition(".")[2].lstrip("-")
    near = [f for f in flags if f.rpartition(".")[2].lstrip("-") == last] or get_close_matches(flag, flags, 1)
    return CmkdError(f"unknown option {flag}: " + (f"did you mean {near[0]}?" if near else "--help lists all options"))
