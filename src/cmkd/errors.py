"""The one error that users are meant to read."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CmkdError(ValueError):
    """Bad input from outside: one line that says what is wrong and how to mend it.

    The command line prints it as ``cmkd: error: ...`` and exits with 2. It is a ``ValueError``, so library users may
    catch either.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> CmkdError:
    """Build the error for a name that is not in a list, with the nearest valid names.

    Args:
        kind: what the name should name, such as ``"method"``.
        name: what was given.
        known: the valid names.

    Example:
        >>> str(unknown_name("method", "kb", ["kd", "ds"]))
        "unknown method 'kb': did you mean 'kd'? Known: ds, kd"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" did you mean '{close[0]}'?" if close else ""
    return CmkdError(f"unknown {kind} '{name}':{hint} Known: {', '.join(names) or 'none'}")
