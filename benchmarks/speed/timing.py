"""Shared code of the speed benchmarks: taking turns, clocks, child processes, random pairs, and tables with JSON."""

from __future__ import annotations

from cmkd import models  # before lightning: some CPU builds of torch cannot import lightning without it

# isort: split
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.io import write_json, write_text
from cmkd.provenance import commit, hardware, versions
from cmkd.types import Modality

sys.path.append(str(Path(__file__).parents[1]))  # only the folder of the script itself is on the path
from records import RESULTS as RESULTS
from records import about, table

Key = TypeVar("Key")
Result = TypeVar("Result")
CLASSES = 10


def in_turns(
    sides: Mapping[Key, Callable[[], Result]], rounds: int, *, warm_up: bool = True
) -> dict[Key, list[Result]]:
    """Call the sides in turn, so that a slow moment affects all of them; discard a first warm-up round.

    Example:
        >>> calls = []
        >>> in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=1)
        {'a': [None], 'b': [None]}
        >>> calls
        ['a', 'b', 'a', 'b']
    """
    found: dict[Key, list[Result]] = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        for name, side in sides.items():
            result = side()
            if number >= warm_up:
                found[name].append(result)
    return found


def clock(device: str = "cpu") -> float:
    """Return the CPU time of this process in seconds, or for a GPU the wall-clock time after waiting for its work.

    CPU time is steadier if other programs share the cores. With one thread, it equals the time on an idle machine.
    """
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Return the seconds that a function takes, measured by `clock`."""
    start = clock(device)
    work()
    return clock(device) - start


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return the ratio of two sides in each round.

    Example:
        >>> ratios([2.0, 6.0], [1.0, 2.0])
        [2.0, 3.0]
    """
    return [value / other for value, other in zip(values, base, strict=True)]


def cell(value: object) -> str:
    """Return the text of a table cell: a number with three digits, or median and quartiles of a list of rounds.

    Example:
        >>> cell(1234.5), cell(0.01234), cell([1.0, 2.0, 3.0]), cell(None), cell("kd")
        ('1,234', '0.0123', '2.00 (1.00 to 3.00)', '', 'kd')
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        middle = cell(float(statistics.median(value)))
        if len(value) < 3:
            return middle
        low, _, high = statistics.quantiles(value, n=4)
        return f"{middle} ({cell(low)} to {cell(high)})"
    if isinstance(value, float):
        digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 0
        return f"{value:,.{digits}f}"
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Section:
    """A section of a result: a text, and below it a table of rows (column -> value, formatted by `cell`)."""

    text: str
    rows: Sequence[Mapping[str, Any]] = ()

    def markdown(self) -> str:
        """Return the text and the table as Markdown."""
        header = list(dict.fromkeys(column for row in self.rows for column in row))
        lines = [[cell(row.get(column)) for column in header] for row in self.rows]
        return f"{self.text}\n\n{table(header, lines, left=1)}" if self.rows else self.text


def write(out: Path, title: str, sections: Sequence[Section]) -> str:
    """Write a Markdown file, and a JSON file of the same name with the values of all rounds; return the Markdown."""
    command = f"python benchmarks/speed/{shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"
    where = f"`{command}`, {about()}, {processor()}. Load average at the end: {os.getloadavg()[0]:.1f}."
    text = "\n\n".join([f"# {title}", where, *(section.markdown() for section in sections)])
    write_text(out, text + "\n")
    settings = {"command": command, "commit": commit(), "versions": versions(), "hardware": hardware()}
    tables = [{"text": section.text, "rows": list(section.rows)} for section in sections]
    write_json(out.with_suffix(".json"), {**settings, "processor": processor(), "sections": tables})
    return text


def processor() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory() -> float:
    """Return the peak resident memory of this process in MiB; getrusage would include the peak of its parent."""
    return status("VmHWM") / 1024


def status(field: str) -> int:
    """Return a field of this process's status, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def cpu_seconds(workers: Iterable[int | None] = ()) -> float:
    """Return the CPU time of this process, of its children that have ended, and of `workers` that still run."""
    used = os.times()
    total = used.user + used.system + used.children_user + used.children_system
    for worker in workers:
        fields = Path(f"/proc/{worker}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def child(script: str, *arguments: object, launcher: Sequence[str] = (), **environment: str) -> dict[str, Any]:
    """Run a script in a new process, and return the JSON object on the last line that it prints.

    Raises:
        SystemExit: the script failed; with the end of what it wrote to stderr.
    """
    command = [sys.executable, *launcher, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command[1:])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return dict(json.loads(lines[-1]))


def sensors(side: int) -> tuple[Modality, Modality]:
    """Return an optical and a radar modality for random 8-bit images of `side` x `side` pixels."""
    mean, std = 127.5, 73.9
    return (
        Modality("optical", "image", (3, side, side), "uint8", (mean,) * 3, (std,) * 3),
        Modality("radar", "image", (1, side, side), "uint8", (mean,), (std,)),
    )


def random_pack(folder: Path, pairs: int, side: int, *, held_out: int = 0, co_registered: bool = True) -> Pack:
    """Write a pack of random pairs in 10 classes: `pairs` for training, `held_out` each for validation and test."""
    generator = np.random.default_rng(0)
    names = [f"class {number}" for number in range(CLASSES)]
    grids = [("optical", "radar")] if co_registered else []
    about_pack = CardInfo("speed", co_registered=grids, rich="optical", poor="radar", mirror=True)
    splits = np.repeat(["train", "validation", "test"], [pairs, held_out, held_out])
    with PackWriter(folder, about_pack, classes=names, modalities=sensors(side)) as writer:
        for start in range(0, len(splits), writer.pairs_per_chunk):
            rows = np.arange(start, min(start + writer.pairs_per_chunk, len(splits)))
            arrays = {m.name: generator.integers(0, 256, (len(rows), *m.shape), dtype=np.uint8) for m in sensors(side)}
            writer.add([str(row) for row in rows], rows % CLASSES, splits[rows].tolist(), None, arrays)
    return Pack.open(folder)


def pair_of_models(side: int, *, teacher: str = "resnet18", student: str = "auto") -> tuple[models.Model, models.Model]:
    """Return a teacher for optical and a student for radar images; their random weights have a fixed seed."""
    optical, radar = sensors(side)
    torch.manual_seed(0)
    return models.build(teacher, optical, classes=CLASSES), models.build(student, radar, classes=CLASSES)
