"""Typed signatures as command lines, by jsonargparse; its errors as one line with the nearest valid name."""

from __future__ import annotations

import inspect
import re
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from jsonargparse import ArgumentParser, Namespace

from cmkd.errors import CmkdError, unknown_name


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse, raising `CmkdError` for anything wrong."""
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise _readable(str(error), parser) from error


def call(function: Callable[..., object], arguments: Sequence[str], *, prog: str) -> None:
    """Call a function with the arguments of a command line: its parameters without a default are positional.

    Args:
        function: with a typed signature and a docstring, which become flags and help.
        arguments: without the program's name.
        prog: the command as users type it.
    """
    parser = ArgumentParser(
        prog=prog, exit_on_error=False, allow_abbrev=False, description=(function.__doc__ or "").split("\n")[0]
    )
    parser.add_function_arguments(function, as_positional=True)
    values = parse(parser, _spell_out(function, arguments)).as_dict()
    function(**values)


def _spell_out(function: Callable[..., object], arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``true`` behind a switch that stands alone: ``--json`` is ``--json true``."""
    switches = {
        f"--{name}"
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is False and parameter.kind is parameter.KEYWORD_ONLY
    }
    spelt: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:]):
        spelt.append(argument)
        if argument in switches and following not in ("true", "false", "True", "False"):
            spelt.append("true")
    return spelt


def choose(functions: Mapping[str, Callable[..., object]], arguments: Sequence[str], *, prog: str) -> None:
    """Call the function that the first argument names, with the others."""
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, functions))
        lines = [f"  {name:{width}}  {(f.__doc__ or '').split(chr(10))[0]}" for name, f in functions.items()]
        print("\n".join([f"usage: {prog} COMMAND [OPTIONS]", "", *lines]))
        if not arguments:
            raise CmkdError(f"{prog} needs a command: {', '.join(functions)}")
        return
    name, *rest = arguments
    if name not in functions:
        raise unknown_name("command", name, functions)
    call(functions[name], rest, prog=f"{prog} {name}")


def _readable(message: str, parser: ArgumentParser) -> CmkdError:
    flags = [option for action in parser._actions for option in action.option_strings]
    line = " ".join(message.split())
    unknown = re.search(r"[Uu]nrecognized arguments: (--?[\w.-]+)", line)
    if unknown:
        return _nearest(unknown[1], flags)
    key = re.search(r"(?:[Kk]ey|Option|accept nested key) '([\w.]+)'", line)
    if key:
        return _nearest(f"--{key[1]}", flags)
    wrong = re.search(r'Parser key "([\w.]+)".*?Expected an? (.+?)(?:\. Got| Given|, got| - |$)', line)
    if wrong:
        wanted = re.sub(r"typing\.Literal|<class '(\w+)'>|[\[\]']", r"\1", wrong[2])
        value = re.search(r"(?:Got|Given) value[^:]*: (\S+)", line)
        return CmkdError(f"--{wrong[1]} expects {wanted}" + (f", got {value[1]}" if value else ""))
    return CmkdError(line[:400])


def _nearest(flag: str, flags: Sequence[str]) -> CmkdError:
    from difflib import get_close_matches

    close = get_close_matches(flag, flags, n=1, cutoff=0.5)
    same = [f for f in flags if f.rsplit(".")[-1] == flag.lstrip("-").rsplit(".")[-1] and "." in f]
    hint = same[0] if same and not close else (close[0] if close else None)
    return CmkdError(f"unknown option {flag}" + (f": did you mean {hint}?" if hint else ": --help lists all options"))
