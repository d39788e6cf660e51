"""Completion of the command line in a shell, by argcomplete.

The shell runs ``cmkd`` with the command line in environment variables. The line is passed on like any other, down to
its parser, which answers the shell instead of parsing.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterable
from contextlib import suppress

from cmkd.errors import CmkdError

ASKED = "_ARGCOMPLETE"
"""Environment variable that is set if a shell asks for completions of the command line."""


def complete(commands: Iterable[str]) -> int:
    """Answer the shell and end the process; return only if the line has no completion.

    Args:
        commands: names of the commands, each a module of this package.
    """
    from argcomplete.lexers import split_line

    *_, words, _ = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    with suppress(CmkdError):
        if len(words) < 2:
            answer_names("cmkd", commands)
        elif words[1] in commands:
            importlib.import_module(f"cmkd.cli.{words[1]}").main(words[2:])
    return 1


def answer_names(prog: str, names: Iterable[str]) -> None:
    """If a shell asks for completions, answer with the names of commands and end the process."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("command", choices=list(names))
    answer(parser)


def answer(parser: argparse.ArgumentParser) -> None:
    """If a shell asks for completions, answer with the arguments of a parser and end the process."""
    if ASKED not in os.environ:
        return
    import argcomplete

    for action in parser._actions:
        if isinstance(action.metavar, str) and action.metavar.startswith("{") and action.metavar.endswith("}"):
            action.choices = action.metavar.strip("{}").split(",")  # values of a Literal, as in the help
    os.environ[ASKED] = str(len(parser.prog.split()))  # position of the parser's own name, from 1
    argcomplete.autocomplete(parser, always_complete_options="long")
