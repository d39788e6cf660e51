"""Run `cmkd` commands in separate processes and disturb them from outside: signals, small disks, other clocks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from cmkd.io import checksum

PATIENCE = 300.0
"""Seconds after which a process counts as hanging."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code as a shell shows it, 137 after SIGKILL.
        said: output of the command, standard output and standard error.
        orphans: number of processes of its session that were still running seconds later.
    """

    code: int
    said: str
    orphans: int = 0

    @property
    def clean(self) -> bool:
        """Whether the output has at most one error, in the program's own form, and no traceback."""
        errors = [line for line in self.said.splitlines() if line.startswith(("cmkd: error", "cmkd: stopped"))]
        return "Traceback" not in self.said and "cmkd: bug" not in self.said and len(errors) <= 1


class Running:
    """A running command, in its own session.

    Args:
        arguments: command-line arguments of ``cmkd``.
        log: file for its standard output and standard error.
        environment: variables added to the environment of this process.
        fresh: start a new interpreter; otherwise the process is a fork of this one, which has imported cmkd already, so
            that faults hit the work and not the imports.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str], *, fresh: bool = False
    ) -> None:
        self.log = log
        self._code: int | None = None
        if fresh:
            command = [sys.executable, "-m", "cmkd", *arguments]
            with log.open("wb") as file:
                self.pid = subprocess.Popen(
                    command, stdout=file, stderr=file, env=os.environ | dict(environment), start_new_session=True
                ).pid
        else:
            self.pid = os.fork()
            if not self.pid:
                _become(arguments, log, environment)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return False if the process is still running."""
        until = time.monotonic() + seconds
        while self._code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                return False
            else:
                time.sleep(0.005)
        return True

    def send(self, number: int) -> None:
        """Send a signal, if the process is still running."""
        if not self.wait(0):
            os.kill(self.pid, number)

    def end(self) -> Ended:
        """Wait for the end, and return how the command ended; a process that hangs is killed and gets exit code 124."""
        code = 124
        if self.wait(PATIENCE) and self._code is not None:
            code = self._code if self._code >= 0 else 128 - self._code
        until = time.monotonic() + 5
        while (orphans := self._others()) and time.monotonic() < until:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(10)
        return Ended(code, self.log.read_text(errors="replace"), len(orphans))

    def _others(self) -> list[int]:
        return [pid for pid, _, session in _processes() if session == self.pid and pid != self.pid]

    def workers(self) -> list[int]:
        """Return the process ids of its children that train."""
        children = [pid for pid, parent, _ in _processes() if parent == self.pid]
        return [pid for pid in children if b"spawn_main" in _command_line(pid)]


def _become(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Run the command in this forked process, then exit."""
    code = 1
    try:
        os.setsid()
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ |= environment
        from cmkd.cli import main

        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # the command has ended; do not interrupt the lines below
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            log.with_suffix(".modules").write_text("\n".join(sys.modules))
        os._exit(code)


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield number, parent and session of each process; zombies are left out."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if state != "Z":
                    yield int(entry.name), int(parent), int(session)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def import_what_it_used(log: Path) -> None:
    """Import the modules that an earlier command imported, so that later forks have them."""
    for name in log.with_suffix(".modules").read_text().split():
        with contextlib.suppress(Exception):  # lazy modules of libraries may raise anything
            import_module(name)


def contents(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    """Return the sha256 of each file below a folder whose relative path is wanted."""
    names = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: checksum(path) for name, path in names.items() if wanted(name)}


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Callable[[], None]]:
    """Mount a file system of this size at a folder, and yield a function that enlarges it; needs root."""
    options = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
    try:

        def enlarge() -> None:
            subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)

        yield enlarge
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def other_clock(file: Path) -> dict[str, str]:
    """Return the environment variables with which a process reads its clock's offset from a file, such as ``+3600``.

    Raises:
        ImportError: libfaketime is not installed.
    """
    found = find_spec("libfaketime")
    if found is None or found.origin is None:
        raise ImportError("libfaketime")
    library = next(Path(found.origin).parent.rglob("libfaketime.so.1"))
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
