"""The one error and the one warning that users are meant to read."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

# control characters, line breaks, marks that reverse a line, and bytes of file names that are no UTF-8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_REASON = 300
"""Characters of what a library says of a failure; some print a page."""
_OF_THE_SYSTEM = {errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_OF_THE_SYSTEM |= {getattr(errno, name) for name in ("ESTALE", "ETIMEDOUT") if hasattr(errno, name)}


class CmkdError(ValueError):
    """Bad input from outside: one line that says what is wrong and how to fix it.

    The command line prints it as ``cmkd: error: ...`` and exits with 2. It is a ``ValueError``, so library users may
    catch either.
    """


class DivergedError(CmkdError):
    """A training whose loss or weights are not finite: its options are to blame, not the machine."""


class DiedError(CmkdError):
    """A process was killed: the machine is to blame, and the same command may go on."""


class IncompleteError(CmkdError):
    """Some of many inputs failed, and the rest is done: a line for each, or one with their number and report.

    The command line prints it and exits with 3.
    """


class CmkdWarning(UserWarning):
    """A doubt that stops nothing; the command line prints it as ``cmkd: warning: ...``."""


def one_line(text: str) -> str:
    r"""Return a text without line breaks and codes that would steer a terminal; both are written out.

    Example:
        >>> print(one_line("a\nb\x1b[31m"))
        a\nb\x1b[31m
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def has_control(text: str) -> bool:
    """Whether a text holds a line break, another control character, or bytes of a file name that are no UTF-8."""
    return _CONTROL.search(text) is not None


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
    by_case = {one.lower(): one for one in names}
    close = get_close_matches(str(name).lower(), by_case, n=1, cutoff=0.45)  # a key of YAML may be anything
    hint = f" did you mean '{by_case[close[0]]}'?" if close else ""
    return CmkdError(f"unknown {kind} '{name}':{hint} Known: {', '.join(names) or 'none'}")


def no_column(path: object, name: str, header: Iterable[str]) -> CmkdError:
    """Build the error for a table without a column, with the columns that it has.

    Example:
        >>> str(no_column("pairs.csv", "label", ["id", " Label"]))
        "pairs.csv has no column 'label': did you mean ' Label'? Its columns are 'id', ' Label'"
    """
    names = list(header)
    close = next((have for have in names if have.strip().lower() == name.lower()), None)
    hint = f" did you mean '{close}'? Its" if close else " its"
    return CmkdError(f"{path} has no column '{name}':{hint} columns are {', '.join(map(repr, names))}")


def not_let(path: object, error: BaseException) -> CmkdError | None:
    """Return the error for a file that the system does not let us read, None if its content may be to blame.

    Example:
        >>> str(not_let("1.png", PermissionError(13, "Permission denied")))
        '1.png cannot be read (Permission denied)'
        >>> not_let("1.png", OSError("image file is truncated")) is None
        True
    """
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        return CmkdError(f"{path} cannot be read ({error.strerror})")
    return None


@contextmanager
def in_one_line(doing: str) -> Iterator[None]:
    r"""Turn whatever code of the user's own, or a library, raises inside the block into one line.

    Args:
        doing: what failed, such as ``"Radar cannot be built"``.

    Raises:
        CmkdError: the block raised an exception; one that is a `CmkdError` already passes.

    Example:
        >>> with in_one_line("Radar cannot be built"):
        ...     raise OSError("no license:\n  ask for one")
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: Radar cannot be built (OSError: no license: ask for one)
    """
    try:
        yield
    except CmkdError:
        raise
    except Exception as error:
        reason = one_line(" ".join(str(error).split())[:LONGEST_REASON])
        raise CmkdError(f"{doing} ({type(error).__name__}: {reason})") from error


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
