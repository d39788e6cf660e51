"""The errors and the warning that are written for users to read."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

# control characters, line breaks, bidirectional marks, and bytes of file names that are not valid UTF-8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_REASON = 300
"""Largest number of characters quoted from a library's error message; some messages fill a page."""
_OF_THE_SYSTEM = {errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_OF_THE_SYSTEM |= {getattr(errno, name) for name in ("ESTALE", "ETIMEDOUT") if hasattr(errno, name)}


class CmkdError(ValueError):
    """Invalid input from outside: one line that says what is wrong and how to fix it.

    The command line prints it as ``cmkd: error: ...`` and exits with 2. It is a ``ValueError``, so library users may
    catch either.
    """


class DivergedError(CmkdError):
    """The loss or the weights of a training became NaN or infinite: the cause is its options, not the machine."""


class DiedError(CmkdError):
    """A process was killed: the cause is the machine, and repeating the command may succeed."""


class IncompleteError(CmkdError):
    """Some of many inputs failed, and the others are done: one line for each failure, or their number and a report.

    The command line prints it and exits with 3.
    """


class CmkdWarning(UserWarning):
    """A possible problem that does not stop the program; printed as ``cmkd: warning: ...`` on the command line."""


def one_line(text: str) -> str:
    r"""Return a text with line breaks and terminal control codes replaced by their escape sequences.

    Example:
        >>> print(one_line("a\nb\x1b[31m"))
        a\nb\x1b[31m
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def has_control(text: str) -> bool:
    """Return whether a text holds a line break, another control character, or file-name bytes that are not UTF-8."""
    return _CONTROL.search(text) is not None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> CmkdError:
    """Build the error for an unknown name, with the nearest valid name.

    Args:
        kind: kind of thing that is named, such as ``"method"``.
        name: the unknown name.
        known: the valid names.

    Example:
        >>> str(unknown_name("method", "kb", ["kd", "ds"]))
        "unknown method 'kb': did you mean 'kd'? Known: ds, kd"
    """
    names = sorted(known)
    by_case = {one.lower(): one for one in names}
    close = get_close_matches(str(name).lower(), by_case, n=1, cutoff=0.45)  # a YAML key may be of any type
    hint = f" did you mean '{by_case[close[0]]}'?" if close else ""
    return CmkdError(f"unknown {kind} '{name}':{hint} Known: {', '.join(names) or 'none'}")


def no_column(path: object, name: str, header: Iterable[str]) -> CmkdError:
    """Build the error for a missing column of a table, with the columns that exist.

    Example:
        >>> str(no_column("pairs.csv", "label", ["id", " Label"]))
        "pairs.csv has no column 'label': did you mean ' Label'? Its columns are 'id', ' Label'"
    """
    names = list(header)
    close = next((have for have in names if have.strip().lower() == name.lower()), None)
    hint = f" did you mean '{close}'? Its" if close else " its"
    return CmkdError(f"{path} has no column '{name}':{hint} columns are {', '.join(map(repr, names))}")


def not_let(path: object, error: BaseException) -> CmkdError | None:
    """Return the error for a file that the operating system cannot read; None if the content may be the cause.

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
    r"""Turn any exception raised in the block, by the user's own code or by a library, into a one-line error.

    Args:
        doing: description of the failure, such as ``"Radar cannot be built"``.

    Raises:
        CmkdError: the block raised an exception; a `CmkdError` passes unchanged.

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
    """Turn a failed import in the block into a one-line error that names the extra to install.

    Args:
        extra: name of the optional dependency group of cmkd.
        feature: the feature that needs the extra, for the message.

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
