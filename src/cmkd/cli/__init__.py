"""The command line: find and run a command, and turn every outcome into an exit code (see `main`)."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import signal
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import cmkd
from cmkd.cli.completion import ASKED, complete
from cmkd.errors import CmkdError, CmkdWarning, IncompleteError, one_line, unknown_name
from cmkd.io import expanded

COMMANDS = {
    "run": "train a teacher and students, and write results and a report",
    "export": "write a student as an ONNX or pt2 file",
    "report": "write the report of a run again",
    "predict": "classify new files with the student of a run, or map a whole scene",
    "analyze": "measure and draw the structure of trained models' features",
    "evaluate": "measure a student on labeled pairs, its calibration and robustness, or compare two",
    "bench": "train a suite of runs, and compare methods over data sets and settings",
    "methods": "list the distillation methods, or show one",
    "data": "list, inspect, prepare, build and verify data sets",
    "serve": "answer predictions of a student over HTTP",
    "simulate": "make a data set of simulated pairs",
}
"""Command -> one-line summary; its code is the module of the same name in this package."""
RUN_FOLDER = "run_folder"
"""Attribute of an error in a run: folder in which its traceback is kept."""
CONTINUES = "the same command continues where it was"
STOPPED = {
    **dict.fromkeys(("run", "bench", "simulate", "data push", "data prepare"), CONTINUES),
    "analyze": "only whole files are left",  # figures, written as they are drawn
    "serve": "requests in flight were answered",
}
"""Command -> message after it was stopped; the other commands write their files whole or not at all."""
SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)}
"""Signals that stop a command; SIGUSR1, which SLURM may send before a time limit, is treated like SIGTERM."""
AGAIN_SECONDS = 0.01
"""Delay before a stop that Python discarded is repeated; the callback that discarded it has ended by then."""
FIXABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EIO),
    *(errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE),
)
"""Errors of the operating system that a user can fix: a full disk, a folder that is a file or was removed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: arguments without the program's name; by default those of the process.

    Returns:
        0 on success; 2 on bad input (one line says what to fix) or an error in the user's own module; 3 if some of many
        inputs failed and the rest is done (the failed ones are listed last), or if a strict check flagged some; 130
        after Ctrl-C and 143 after SIGTERM; 1 for a bug.
    """
    if ASKED in os.environ:
        return complete(COMMANDS)
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        print(f"cmkd {cmkd.__version__}")
        return 0
    _received.clear()
    main_thread = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, _stop) for n in SIGNALS if main_thread}
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_stop_again, hook)
    try:
        if given[0] not in COMMANDS:
            raise unknown_name("command", given[0], COMMANDS)
        module = importlib.import_module(f"cmkd.cli.{given[0]}")
        with warnings.catch_warnings():
            _print_own_warnings()
            module.main(given[1:])
    except Stopped as stop:
        code = _say_stopped(given, stop.signal, stop.unanswered)
        if stop.working:  # Python would wait for the threads, which nothing can interrupt
            sys.stdout.flush()
            os._exit(code)
        return code
    except Exception as error:
        # decoders and compiled code may turn the exception of a signal into any other error
        return _say_stopped(given, _received[-1]) if _received else _failed(error, given)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
    return _say_stopped(given, _received[-1]) if _received else 0


class Stopped(BaseException):
    """Raised by Ctrl-C and SIGTERM; unlike KeyboardInterrupt, Lightning passes it on.

    Args:
        signal: the number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
        self.unanswered, self.working = 0, False  # set by the server


def _system_error(error: Exception) -> int:
    """Return the number of an operating system error, or 0 for other errors.

    Errors of safetensors, pyarrow and processes that train together have this number only in their message.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"(?:os error|\[errno) (\d+)", str(error), flags=re.IGNORECASE)
    return int(found[1]) if found else 0


def _failed(error: Exception, given: Sequence[str]) -> int:
    """Print what went wrong, and return the exit code."""
    number = _system_error(error)
    match error:
        case BrokenPipeError():
            return 0
        case IncompleteError():
            _tell("cmkd: " + "\n".join(map(one_line, str(error).split("\n"))))
            return 3
        case CmkdError():
            line = str(error)
        case UnicodeEncodeError(reason="surrogates not allowed"):
            line = f"a name has bytes that are not UTF-8, {_word(error)!a}: rename the file or folder"
        case _ if number in FIXABLE:
            line = f"cannot read or write {getattr(error, 'filename', None) or 'a file'}: {os.strerror(number)}"
        case ModuleNotFoundError() if not (error.name or "cmkd").startswith("cmkd"):
            line = f"cmkd {given[0]} needs {error.name}: pip install cmkd"
        case _ if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # numpy and torch
            line = f"too little memory ({' '.join(str(error).split())[-200:]}): use smaller sizes"
        case _:
            text = "".join(traceback.format_exception(error))
            summary = one_line(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            place = _own_place(text)
            folder = getattr(error, RUN_FOLDER, None) or _out(given)
            _tell(_kept(text, folder, f"error in {place}: {summary}" if place else f"bug: {summary}"))
            return 2 if place else 1
    _tell(f"cmkd: error: {one_line(line)}")
    return 2


def _tell(text: str) -> None:
    """Print to standard error, ignoring a closed pipe: the exit code still tells the result."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _prepare_streams() -> None:
    """Replace standard streams that the caller closed (``2>&-``) by the null device; escape unencodable letters."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # open until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # class names may have letters that it cannot encode


def _word(error: UnicodeEncodeError) -> str:
    """Return the word that cannot be encoded (between spaces or quotes), at most its last 200 letters."""
    before = re.split(r"[\s\"']", error.object[: error.start])[-1]
    after = re.split(r"[\s\"']", error.object[error.start :], maxsplit=1)[0]
    return (before + after)[-200:]


_received: list[int] = []
"""Signals that stopped the command."""


def _say_stopped(given: Sequence[str], number: int, unanswered: int = 0) -> int:
    meaning = STOPPED.get(given[0]) or STOPPED.get(" ".join(given[:2]), "no partial file is left")
    if unanswered:
        meaning = f"not answered in time: {unanswered} of the requests in flight; for more time, set --grace"
    print(f"cmkd: stopped; {meaning}", file=sys.stderr, flush=True)
    return 128 + number


def _stop(number: int, _: object) -> None:
    number = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
    _received.append(number)
    raise Stopped(number)


def _stop_again(usual: Callable[[sys.UnraisableHookArgs], object], discarded: sys.UnraisableHookArgs) -> None:
    """Stop a moment later if the signal came where Python discards errors, as in a callback of a weak reference."""
    if isinstance(stop := discarded.exc_value, Stopped):
        threading.Timer(AGAIN_SECONDS, _raise_again, [stop.signal]).start()
    else:
        usual(discarded)


def _raise_again(number: int) -> None:
    if signal.getsignal(number) is not _stop or number not in _received:  # the command has ended since
        return
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:  # this also ends a wait of the main thread
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def _print_own_warnings() -> None:
    """Print warnings of cmkd in the same form as errors; leave other warnings to Python."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, CmkdWarning):
            print(f"cmkd: warning: {one_line(str(message))}", file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def usage() -> str:
    """Return the text of ``cmkd --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cmkd COMMAND [OPTIONS]",
            "",
            cmkd.__doc__.splitlines()[0] if cmkd.__doc__ else "",
            "",
            *lines,
            "",
            "cmkd COMMAND --help says more; cmkd --version prints the version.",
        ]
    )


def _own_place(text: str) -> str:
    """Return file and line in a traceback where the user's own module failed; empty if cmkd itself failed."""
    own, libraries = Path(cmkd.__file__).parent, [Path(path) for path in sysconfig.get_paths().values()]
    for file, line in reversed(re.findall(r'^ *File "([^<"][^"]*)", line (\d+)', text, re.MULTILINE)):
        if Path(file).is_relative_to(own):
            break
        if os.path.isfile(file) and not any(map(Path(file).is_relative_to, libraries)):  # compiled code has no file
            return f"{file}, line {line}"
    return ""


def _out(given: Sequence[str]) -> Path | None:
    """Return the path given as ``--out``, if any."""
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--out=") else [word])]
    return next((expanded(b) for a, b in pairwise(words) if a == "--out"), None)


def _kept(text: str, folder: Path | None, summary: str) -> str:
    """Keep a traceback in the run's folder if there is one, and return the lines to print."""
    report = "please report it with" if summary.startswith("bug") else "its traceback is"
    if folder is not None and os.path.isdir(folder):
        with contextlib.suppress(OSError):  # a full disk
            (folder / "error.log").write_text(text, encoding="utf-8")
            return f"cmkd: {summary}\ncmkd: {report} {folder / 'error.log'}"
    return f"{text}cmkd: {summary}\ncmkd: {report} the lines above"
