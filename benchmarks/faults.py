"""Kill, starve and disturb real `cmkd` processes, repeat the command, and compare with an undisturbed one.

    OMP_NUM_THREADS=1 python benchmarks/faults.py

Each case starts a command, disturbs it at a random moment (SIGKILL, SIGTERM, SIGINT, a full disk, a killed worker, a
deleted cache, a clock that jumps, a second writer) and repeats it, with further disturbances, until it has ended. A
fault is survived if the repeated command ends with exit code 0 (an append or a build that was committed is not
repeated), the files equal those of the undisturbed command byte for byte, and no partial file is left. A file is lost
if it was complete before the fault and is gone or changed after it. Every exit code is compared with the
contract. An interrupted benchmark resumes. Full disks are small tmpfs file systems, which only root can mount; the
clock needs ``pip install libfaketime``. Writes ``faults.md``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from cmkd.io import write_text
from records import RESULTS, Records, about, table
from stopped import Ended, Running, contents, import_what_it_used, other_clock, small_disk

NETWORK = "thin_resnet(width=4,stages=2)"
TRAINING = [
    *("--methods", "none,kd", "--epochs", "4", "--trainer.checkpoint_seconds", "0", "--trainer.accelerator", "cpu"),
    *("--teacher.model", NETWORK, "--student.model", NETWORK, "--teacher.views", "4"),
]
BUILT = ["--rich", "optical", "--poor", "radar"]
STOPS = {"SIGKILL": (signal.SIGKILL, 137), "SIGTERM": (signal.SIGTERM, 143), "SIGINT": (signal.SIGINT, 130)}
ROUNDS = {"run": 5, "build": 12, "append": 12, "predict": 12, "export": 4}
"""Number of cases per signal, by command; a case of `run` has several faults."""
LASTING = ("best.safetensors", "history.csv", "results.json", "student.safetensors")


@dataclass(frozen=True)
class Place:
    """Folders of a case: the shared inputs, and its own folder.

    Args:
        shared: folder of pairs, packs and the undisturbed results.
        folder: folder of this case.
    """

    shared: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables: a separate cache, and one thread."""
        return {"CMKD_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}

    def start(self, arguments: Sequence[str], *, name: str = "log", fresh: bool = False) -> Running:
        """Start a command."""
        return Running(arguments, self.shared / f"{name}.txt", self.environment, fresh=fresh)


@dataclass(frozen=True)
class Command:
    """A command under test.

    Args:
        arguments: returns the command line for a place.
        committed: returns whether the result is committed, so that the command is not repeated.
        result: returns the files that must equal the undisturbed ones, with their checksums.
        kept: returns the files that no fault may lose or change once they exist, with their checksums.
        prepare: creates the state in which the command starts.
    """

    arguments: Callable[[Place], list[str]]
    committed: Callable[[Place], bool]
    result: Callable[[Place], dict[str, str]]
    kept: Callable[[Place], dict[str, str]]
    prepare: Callable[[Place], None] = lambda place: None


@dataclass
class Outcome:
    """Outcome of one case."""

    kind: str
    faults: int = 0
    lost: int = 0
    wrong_codes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, ended: Ended, allowed: Sequence[int]) -> None:
        """Compare exit code and output with the contract, which also forbids processes that outlive the command."""
        if ended.orphans:
            self.problems.append(f"{ended.orphans} processes went on")
        if ended.code not in allowed or not ended.clean:
            self.wrong_codes.append(f"exit {ended.code}, expected {allowed}: {ended.said[-300:]}")


def make_pairs(folder: Path, first: int, count: int) -> None:
    """Write pairs of small images, with a manifest."""
    lines = ["id,label,split,optical,radar"]
    for number in range(first, first + count):
        generator, label = np.random.default_rng(number), number % 3
        image = generator.integers(0, 80, (12, 12)).astype(np.uint8) + np.uint8(60 * label)
        for name in ("optical", "radar"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"optical/{number}.png")
        tifffile.imwrite(folder / f"radar/{number}.tif", (image + generator.normal(0, 60, image.shape)).astype("f4"))
        split = ("train", "train", "validation", "test")[number // 3 % 4]
        lines.append(f"pair-{number},class-{label},{split},optical/{number}.png,radar/{number}.tif")
    write_text(folder / "manifest.csv", "\n".join(lines) + "\n")


def run_of(place: Place) -> list[str]:
    """Return the command line of a run."""
    return ["run", "--data", str(place.shared / "pack"), "--out", str(place.folder / "run"), *TRAINING, "--seeds", "1"]


def pack_files(pack: Path) -> dict[str, str]:
    """Return a pack's files without its card, which holds its time of creation."""
    return contents(pack, lambda name: not name.startswith("card") and ".tmp" not in name)


def append_prepared(place: Place) -> None:
    """Copy the pack that the command appends to."""
    shutil.copytree(place.shared / "pack", place.folder / "pack")


def out(place: Place, name: str) -> dict[str, str]:
    """Return one file of a case."""
    return contents(place.folder, lambda path: path == name)


COMMANDS = {
    "run": Command(
        run_of,
        lambda place: False,
        lambda place: contents(place.folder / "run", lambda name: name.endswith(LASTING)),
        lambda place: contents(place.folder / "run", lambda name: name.endswith("result.json")),
    ),
    "build": Command(
        lambda place: ["data", "build", str(place.shared / "pairs"), *BUILT, "--out", str(place.folder / "pack")],
        lambda place: (place.folder / "pack").exists(),
        lambda place: pack_files(place.folder / "pack"),
        lambda place: pack_files(place.folder / "pack"),
    ),
    "append": Command(
        lambda place: ["data", "append", str(place.folder / "pack"), str(place.shared / "more")],
        lambda place: len(list((place.folder / "pack").glob("index*"))) > 1 and appended(place),
        lambda place: pack_files(place.folder / "pack"),
        lambda place: contents(place.folder / "pack", lambda name: "index" in name and ".tmp" not in name),
        append_prepared,
    ),
    "predict": Command(
        lambda place: [
            *("predict", str(place.shared / "reference/run"), str(place.shared / "pairs/radar")),
            *("--batch_size", "4", "--out", str(place.folder / "predictions.csv")),
        ],
        lambda place: False,
        lambda place: out(place, "predictions.csv"),
        lambda place: out(place, "predictions.csv"),
    ),
    "export": Command(
        lambda place: [
            *("export", str(place.shared / "reference/run"), "--out", str(place.folder / "student.onnx")),
            *("--data", str(place.shared / "pack")),
        ],
        lambda place: False,
        lambda place: out(place, "student.onnx"),
        lambda place: out(place, "student.onnx"),
    ),
}


def appended(place: Place) -> bool:
    """Return whether the second version is committed."""
    from cmkd.data import Pack

    return Pack.open(place.folder / "pack").card.version == 2


def stopped(
    command: Command, place: Place, moment: random.Random, *, stop: tuple[signal.Signals, int], seconds: float
) -> Outcome:
    """Stop a command at random moments until it ends by itself."""
    outcome, (number, code) = Outcome(""), stop
    for _ in range(6):
        if command.committed(place):
            break
        before = command.kept(place)
        process = place.start(command.arguments(place))
        if process.wait(moment.uniform(0.02, seconds)):
            outcome.check(process.end(), (0,))
            break
        process.send(number)
        outcome.faults += 1
        outcome.check(process.end(), (0, code))
        outcome.lost += lost(before, command.kept(place))
    return outcome


def lost(before: Mapping[str, str], after: Mapping[str, str]) -> int:
    """Return how many files are gone or changed."""
    return sum(after.get(name) != digest for name, digest in before.items())


def repeated(command: Command, place: Place, outcome: Outcome, expected: Mapping[str, str]) -> None:
    """Repeat a command without faults, and compare its result with the expected one."""
    if not command.committed(place):
        outcome.check(place.start(command.arguments(place)).end(), (0,))
    found = command.result(place)
    if found != expected:
        different = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        outcome.problems.append(f"different: {', '.join(different)[:200]}")
    left = [path.name for path in place.folder.rglob(".*.tmp") if "cache" not in path.parts]
    if left:
        outcome.problems.append(f"left behind: {', '.join(left)[:200]}")


def full_disk(command: Command, place: Place, moment: random.Random) -> Outcome:
    """Run a command on a disk that is too small; `Study.case` then enlarges the disk."""
    outcome, before = Outcome("", faults=1), command.kept(place)
    outcome.check(place.start(command.arguments(place)).end(), (0, 2))
    outcome.lost += lost(before, command.kept(place))
    return outcome


def killed_worker(command: Command, place: Place, moment: random.Random, *, seconds: float) -> Outcome:
    """Kill one of two processes that train students."""
    outcome, arguments = Outcome(""), [*command.arguments(place), "--jobs", "2"]
    process = place.start(arguments)
    while not process.wait(0.05) and len(process.workers()) < 2:
        pass
    if not process.wait(moment.uniform(0, seconds)) and (workers := process.workers()):
        os.kill(moment.choice(workers), signal.SIGKILL)
        outcome.faults += 1
    outcome.check(process.end(), (0, 2))
    return outcome


def deleted_cache(command: Command, place: Place, moment: random.Random, *, seconds: float) -> Outcome:
    """Delete the cache while a run is at work."""
    outcome, process = Outcome("", faults=1), place.start(command.arguments(place))
    process.wait(moment.uniform(0.02, seconds))
    before = command.kept(place)
    shutil.rmtree(place.folder / "cache", ignore_errors=True)
    outcome.check(process.end(), (0, 2))
    outcome.lost += lost(before, command.kept(place))
    return outcome


def jumping_clock(command: Command, place: Place, moment: random.Random, *, seconds: float) -> Outcome:
    """Let the clock jump forward or back by an hour or by years, then terminate the command."""
    offset = place.folder / "clock"
    write_text(offset, "+0")
    environment = place.environment | other_clock(offset)
    outcome = Outcome("", faults=1)
    process = Running(command.arguments(place), place.shared / "log.txt", environment, fresh=True)
    process.wait(moment.uniform(1, seconds))
    write_text(offset, moment.choice(["+3700", "-3700", "+90000000", "-90000000"]))
    if not process.wait(moment.uniform(0, seconds)):
        process.send(signal.SIGTERM)
    outcome.check(process.end(), (0, 143))
    return outcome


def two_writers(command: Command, place: Place, moment: random.Random, *, seconds: float) -> Outcome:
    """Start a command twice, the second one a moment later."""
    outcome, first = Outcome("", faults=1), place.start(command.arguments(place))
    first.wait(moment.uniform(0, seconds / 2))
    second = place.start(command.arguments(place), name="second")
    ends = [first.end(), second.end()]
    for ended in ends:
        outcome.check(ended, (0, 2))
    if 0 not in [ended.code for ended in ends]:
        outcome.problems.append("neither of two writers succeeded")
    return outcome


def one_cache(command: Command, place: Place, moment: random.Random) -> Outcome:
    """Let two runs fill one cache."""
    outcome, other = Outcome("", faults=1), Place(place.shared, place.folder / "other")
    other.folder.mkdir()
    first = place.start(command.arguments(place))
    first.wait(moment.uniform(0, 1))
    second = Running(command.arguments(other), place.shared / "second.txt", place.environment)
    for ended in (first.end(), second.end()):
        outcome.check(ended, (0,))
    if command.result(place) != command.result(other):
        outcome.problems.append("two runs with one cache differ")
    return outcome


class Study:
    """All cases, in a folder.

    Args:
        folder: folder of inputs, cases and records.
    """

    def __init__(self, folder: Path) -> None:
        self.shared, self.records = folder, Records(folder / "records.json", identity=("case",))
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict[str, str]] = {}
        self.kilobytes: dict[str, int] = {}

    def prepare(self) -> None:
        """Make the inputs, and the undisturbed result of every command."""
        if not (self.shared / "pack").exists():
            make_pairs(self.shared / "pairs", 0, 96)
            make_pairs(self.shared / "more", 96, 24)
            made = Place(self.shared, self.shared)
            made.start(["data", "build", str(self.shared / "pairs"), *BUILT, "--out", str(self.shared / "pack")]).end()
        reference = Place(self.shared, self.shared / "reference")
        for name, command in COMMANDS.items():
            for _ in range(2):
                shutil.rmtree(reference.folder if name == "run" else reference.folder / "pack", ignore_errors=True)
                reference.folder.mkdir(exist_ok=True)
                command.prepare(reference)
                began = time.monotonic()
                process = reference.start(command.arguments(reference))
                if (ended := process.end()).code:
                    raise RuntimeError(f"cmkd {name} does not work undisturbed: {ended.said}")
                self.seconds[name] = time.monotonic() - began
                import_what_it_used(process.log)
            self.expected[name] = command.result(reference)
            size = sum(path.stat().st_size for path in reference.folder.rglob("*") if path.is_file())
            self.kilobytes[name] = size // 1024

    def case(self, kind: str, name: str, number: int, act: Callable[[Command, Place, random.Random], Outcome]) -> None:
        """Run one case, unless it is recorded."""
        key = f"{kind}, {name}, {number}"
        if key in self.records.rows:
            return
        command, place = COMMANDS[name], Place(self.shared, self.shared / "case")
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir()
        with ExitStack() as stack:
            moment = random.Random(key)
            if kind == "full disk":
                size = moment.randrange(16, max(64, self.kilobytes[name]))
                enlarge = stack.enter_context(small_disk(place.folder, size + self._start(command)))
            command.prepare(place)
            outcome = act(command, place, moment)
            if kind == "full disk":
                enlarge()
            repeated(command, place, outcome, self.expected[name])
        problems = [*outcome.problems, *outcome.wrong_codes]
        row = {"case": key, "kind": f"{kind}: {name}", "tried": outcome.faults, "lost": outcome.lost}
        row |= {"survived": 0 if outcome.problems else outcome.faults, "codes": len(outcome.wrong_codes)}
        self.records.add(key, row | {"problems": problems})
        print(key, f"{outcome.faults} faults", *problems, sep="; ", flush=True)

    def _start(self, command: Command) -> int:
        size = sum(p.stat().st_size for p in (self.shared / "pack").rglob("*") if p.is_file())
        return 2 * size // 1024 if command is COMMANDS["append"] else 0

    def run(self) -> None:
        """Run all cases in rounds, one of each kind per round, so that an early table has all kinds."""
        run, seconds = "run", self.seconds
        for number in range(max(ROUNDS.values())):
            for name, (kind, stop) in itertools.product(ROUNDS, STOPS.items()):
                if number < ROUNDS[name]:
                    self.case(kind, name, number, partial(stopped, stop=stop, seconds=seconds[name]))
            for name in ROUNDS:
                if number < 6:
                    self.case("full disk", name, number, full_disk)
                if number < 4:
                    self.case("two writers", name, number, partial(two_writers, seconds=seconds[name]))
            if number < 6:
                self.case("deleted cache", run, number, partial(deleted_cache, seconds=seconds[run]))
                self.case("two runs, one cache", run, number, one_cache)
                self.case("killed worker, --jobs 2", run, number, partial(killed_worker, seconds=seconds[run]))
                for name in (run, "append"):
                    self.case("clock jumps", name, number, partial(jumping_clock, seconds=2 * seconds[name] + 5))


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown."""
    kinds = sorted({row["kind"] for row in rows})
    columns = ("tried", "survived", "lost", "codes")
    sums = {kind: [sum(row[c] for row in rows if row["kind"] == kind) for c in columns] for kind in kinds}
    sums["all"] = [sum(values) for values in zip(*sums.values(), strict=True)]
    lines = [[kind, *map(str, values)] for kind, values in sums.items()]
    return "\n".join(
        [
            "# Kills and faults",
            "",
            f"`OMP_NUM_THREADS=1 python benchmarks/faults.py`, {about()}.",
            "",
            "Real processes, disturbed at random moments; then the same command again. Survived: it ends with",
            "exit code 0 and with the files of an undisturbed command, byte for byte (weights, histories,",
            "`results.json`, packs, predictions, ONNX), and nothing half-written is left. Lost: files that were",
            "complete before the fault and are gone or changed after it. Wrong exit code: another one than the",
            "contract has (0 done, 2 and one line for a full disk, a lost worker or a second writer, 130 and 143",
            "and one line for SIGINT and SIGTERM).",
            "",
            table(["fault: command", "tried", "survived", "lost", "wrong exit code"], lines),
            "",
        ]
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/faults"))
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(folder)
    study.prepare()
    try:
        study.run()
    finally:  # also if the benchmark is interrupted
        write_text(RESULTS / "faults.md", page(list(study.records.rows.values())))


if __name__ == "__main__":
    main()
