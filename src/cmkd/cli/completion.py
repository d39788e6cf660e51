"""Completion of the command line in a shell, by argcomplete.

The shell runs ``cmkd`` with the line in the environment. The line goes the way of any other down to the parser that it
ends in, which answers in place of parsing.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterable
from contextlib import suppress

from cmkd.errors import CmkdError

ASKED = "_ARGCOMPLETE"
"""Environment variable that says that a shell asks how the line may go on."""


def complete(commands: Iterable[str]) -> int:
    """Answer the shell; only a line that cannot go on returns from here.

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
    """Answer with the names of commands, if a shell asks; this ends the process."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("command", choices=list(names))
    answer(parser)


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer with what a parser knows, if a shell asks; this ends the process."""
    if ASKED not in os.environ:
        return
    import argcomplete

    for action in parser._actions:
        if isinstance(action.metavar, str) and action.metavar.startswith("{") and action.metavar.endswith("}"):
            action.choices = action.metavar.strip("{}").split(",")  # the help shows the values of a Literal so
    os.environ[ASKED] = str(len(parser.prog.split()))  # the words that the parser is not concerned with, and one
    argcomplete.autocomplete(parser, always_complete_options="long")
