"""The one error and the one warning that users are meant to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class CmkdError(ValueError):
    """Bad input from outside: one line that says what is wrong and how to fix it.

    The command line prints it as ``cmkd: error: ...`` and exits with 2. It is a ``ValueError``, so library users may
    catch either.
    """


class IncompleteError(CmkdError):
    """Some of many inputs failed, and the rest is done: a line for each that failed.

    The command line prints it and exits with 3.
    """


class CmkdWarning(UserWarning):
    """A doubt that stops nothing; the command line prints it as ``cmkd: warning: ...``."""


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


@contextmanager
def needs_extra(extra: str, feature: str) -> Iterator[None]:
    """Turn a failed import inside the block into one line that names the extra to install.

    Args:
        extra: name of the optional dependency group of cmkd.
        feature: what needs it.

    Raises:
        CmkdError: a package is missing or does not load.

    Example:
        >>> with needs_extra("marine", "the marine simulator"):
        ...     import a_missing_package
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: the marine simulator needs a_missing_package: pip install 'cmkd[marine]'
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        reason = "" if isinstance(error, ModuleNotFoundError) else f", which does not load here ({error})"
        raise CmkdError(f"{feature} needs {package}{reason}: pip install 'cmkd[{extra}]'") from error
