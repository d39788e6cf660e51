"""Run cases in a separate process, which has limited memory and time and may die."""

from __future__ import annotations

import faulthandler
import logging
import mmap
import os
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz.cases import CORPUS, Finding, generated, kept, smaller, tried
from fuzz.mutation import MOST_BYTES
from fuzz.targets import TARGETS

MEMORY = 2**30
"""Most bytes of memory for a case, beyond those of the imports."""
CPU_SECONDS, WALL_SECONDS = 5, 60
"""Most CPU time and elapsed time for a case; the latter is longer because the machine may be busy."""
_HEAD = struct.Struct("QQQ")


class Progress:
    """Progress in memory that outlives a process: number of cases, number of known inputs tried, and current input."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size + 4 * MOST_BYTES)
        self.cases = self.replayed = 0

    def begin(self, data: bytes, *, replay: bool) -> None:
        """Record a case before it runs."""
        self.cases, self.replayed = self.cases + 1, self.replayed + replay
        self._memory[: _HEAD.size] = _HEAD.pack(self.cases, self.replayed, len(data))
        self._memory[_HEAD.size : _HEAD.size + len(data)] = data

    def last(self) -> bytes:
        """Read the counts of the ended process, and return the input of its last case."""
        self.cases, self.replayed, length = _HEAD.unpack(self._memory[: _HEAD.size])
        return self._memory[_HEAD.size : _HEAD.size + length]


@dataclass
class Session:
    """Fuzzing of one target; each time its process dies, another one continues.

    Args:
        name: name of the target.
        found: folder of new findings.
        seed: random seed of the cases.
    """

    name: str
    found: Path
    seed: int
    progress: Progress = field(default_factory=Progress)
    seconds: float = 0.0

    def run(self, seconds: float) -> None:
        """Fuzz for a time, and at least until all valid and stored inputs have been tried."""
        begun = time.monotonic()
        self.open.parent.mkdir(parents=True, exist_ok=True)
        self.open.write_text("")
        while True:
            before = self.progress.cases
            with tempfile.TemporaryFile() as errors:
                ended = self._process(begun + seconds, errors.fileno())
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace")
            data = self.progress.last()
            if ended == 0:
                break
            if self.progress.cases == before:
                raise RuntimeError(f"{self.name} ends before its first case: {said}")
            self.keep(_death(ended, said), data)
            self.seed += 1
        self.seconds = time.monotonic() - begun

    @property
    def open(self) -> Path:
        """File with the names of the findings that are not fixed, one per line."""
        return self.found / self.name / "open.txt"

    def names(self) -> set[str]:
        """Return the names of the findings that are not fixed."""
        return set(self.open.read_text().split())

    def keep(self, finding: Finding, data: bytes) -> None:
        """Store a finding, unless the same one is already open."""
        name, known = finding.name, {**kept(CORPUS, self.name), **kept(self.found, self.name)}
        again = next((other for other, stored in known.items() if stored == data), None)
        if again is None and any(re.sub(r"\.\d+$", "", other) == name for other in self.names()):
            return
        number = 2
        while again is None and name in known:
            name, number = f"{finding.name}.{number}", number + 1
        with self.open.open("a") as file:
            file.write(f"{again or name}\n")
        if again is None:
            (self.open.parent / f"{name}.bin").write_bytes(data)
        (self.open.parent / f"{again or name}.txt").write_text(f"{finding.kind}\n{finding.place}\n\n{finding.text}")

    def _process(self, end: float, errors: int) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:  # pragma: no cover  # coverage cannot be measured in a process that dies
            status = 1
            try:
                os.dup2(errors, 1)
                os.dup2(errors, 2)
                self._cases(end)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return os.waitpid(child, 0)[1]

    def _cases(self, end: float) -> None:
        faulthandler.enable()
        faulthandler.register(signal.SIGPROF, chain=True)
        faulthandler.register(signal.SIGALRM, chain=True)
        logging.disable()
        random = Random(f"{self.name} {self.seed}")
        with tempfile.TemporaryDirectory() as folder:
            target = TARGETS[self.name]
            valid, check = target.prepare(Path(folder))
            _limit_memory()
            known = [*valid, *kept(CORPUS, self.name).values(), *kept(self.found, self.name).values()]
            for replay, data in self._listed(known, generated(target, known, random)):
                if not replay and time.monotonic() > end:
                    return
                self.progress.begin(data, replay=replay)
                signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
                signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
                finding = tried(check, data)
                if finding is not None:
                    new = data not in known and finding.name not in self.names()
                    self.keep(finding, smaller(check, data, finding) if new else data)
                if self.progress.cases % 1000 == 0:
                    os.ftruncate(2, 0)

    def _listed(self, known: list[bytes], more: Iterator[bytes]) -> Iterator[tuple[bool, bytes]]:
        yield from ((True, data) for data in known[self.progress.replayed :])
        yield from ((False, data) for data in more)


def _limit_memory() -> None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # pragma: no cover  # macOS
        return
    used = 1024 * int(re.findall(r"VmData:\s+(\d+)", status)[0])
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))


def _death(status: int, said: str) -> Finding:
    """Return the finding that ended a process, from its status and the traceback that faulthandler wrote."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    slow = number in (signal.SIGPROF, signal.SIGALRM)
    kind = "hang" if slow else signal.Signals(number).name if number else f"exit{os.WEXITSTATUS(status)}"
    frames = re.findall(r'File "(.*)", line \d+ in (\w+)', said)
    own = [frame for frame in frames if "/cmkd/" in frame[0]]
    place = " ".join(f"{Path(file).name}:{function}" for file, function in (*own[:1], *frames[:1]))
    return Finding(kind, place or said[-200:], said[-10_000:])
