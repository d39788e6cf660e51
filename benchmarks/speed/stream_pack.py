"""Measure what streaming a pack from object storage costs compared with reading it from the local disk.

    python benchmarks/speed/stream_pack.py

The script writes a pack of random pairs, pushes it to a local S3 server (`s3_server.py`; needs ``moto[server]``), and
reads an epoch of it with the training loader, each time in a new process: from the local disk, and streamed with a
cache smaller than the pack, in random order, within windows, and in order. At the end, a process is killed (SIGKILL) in
the middle of an epoch and resumed after its last batch: all batches must equal those of the local pack.
"""

from __future__ import annotations

from s3_server import BATCH, served
from timing import RESULTS, Section, child, random_pack, write

# isort: split
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from cmkd.data.pack.pack import Pack
from cmkd.data.remote.push import push
from cmkd.data.remote.store import Store
from cmkd.io import cache_folder
from cmkd.training.loader import PairLoader


class Counted:
    """Counter of the requests and bytes of `Store.ranges`, and of the largest size of the cache."""

    def __init__(self) -> None:
        self.requests, self.bytes, self.peak, self._ended = 0, 0, 0, threading.Event()
        original = Store.ranges

        def ranges(store: Store, wanted: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, list[bytes]]:
            for parts in wanted.values():
                ends = {start + length for start, length in parts}
                self.requests += sum(start not in ends for start, _ in parts)  # adjacent parts are one request
                self.bytes += sum(length for _, length in parts)
            return original(store, wanted)

        Store.ranges = ranges  # type: ignore[assignment,method-assign]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self.look()

    def look(self) -> None:
        """Update the largest size of the cache."""
        used = 0
        for path in cache_folder().glob("blocks/*/*"):
            try:
                used += path.stat().st_size
            except FileNotFoundError:  # evicted meanwhile
                continue
        self.peak = max(self.peak, used)

    def end(self) -> None:
        """Stop watching, and measure the cache a last time."""
        self._ended.set()
        self._thread.join()
        self.look()


def epoch(place: str, order: str, window: int, log: Path, batches: int | None) -> dict[str, float]:
    """Read an epoch, starting after the batches in the log, and append the CRC-32 values of each batch to the log."""
    counted, start = Counted(), time.perf_counter()
    pack = Pack.open(place)
    opened = time.perf_counter() - start
    shuffle, size = order != "in order", window if order == "windows" else None
    loader = PairLoader(
        pack, pack.rows("train"), tuple(pack.modalities), batch_size=BATCH, shuffle=shuffle, seed=1, window=size
    )
    before = len(log.read_text().splitlines()) if log.exists() else 0
    loader.load_state_dict({"epoch": 0, "position": before})
    start, seen = time.perf_counter(), 0
    with log.open("a") as file:
        for number, batch in enumerate(loader, before + 1):
            seen += len(batch)
            found = [crc32(values.numpy().data) for values in (batch.index, *batch.inputs.values())]
            print(*found, file=file)
            file.flush()
            if number == batches:
                break
    seconds = time.perf_counter() - start
    counted.end()
    return {
        "pairs/s": seen / seconds,
        "pairs": seen,
        "seconds to open": opened,
        "requests": counted.requests,
        "MiB fetched": counted.bytes / 2**20,
        "peak MiB of the cache": counted.peak / 2**20,
    }


def killed(place: str, log: Path, batches: int, environment: Mapping[str, str]) -> int:
    """Start an epoch, kill its process after half of the batches, and return how many batches it had read."""
    command = [sys.executable, __file__, "--one", place, "random", str(log)]
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL) as process:
        while len(log.read_text().splitlines() if log.exists() else ()) < batches // 2:
            if process.poll() is not None:
                raise SystemExit("the epoch that was to be killed ended before")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    return len(log.read_text().splitlines())


def measure(work: Path, given: argparse.Namespace) -> list[Section]:
    """Return the sections of the result."""
    pairs = int(given.gib * 2**30) // (4 * given.side**2)
    pack = random_pack(work / "pack", pairs, given.side)
    place, limit, total = "s3://packs/random", str(given.cache_mib), sum(m.row_bytes for m in pack.modalities.values())
    start = time.perf_counter()
    push(pack.path, place)
    pushed = time.perf_counter() - start

    def run(name: str, where: str, order: str, mib: str = limit, folder: str = "") -> dict[str, Any]:
        log = work / f"{name}.log"
        log.unlink(missing_ok=True)
        cache = str(work / (folder or name))
        limits = {"CMKD_CACHE": cache, "CMKD_STREAM_MIB": mib}
        found = child(__file__, "--one", where, order, log, "--window", given.window, **limits)
        print(name, found, flush=True)
        return {"way": name} | found | {"fetched / read": found["MiB fetched"] * 2**20 / found["pairs"] / total}

    local = str(pack.path)
    run("warm up", local, "in order")
    rows = [
        run("local, random order", local, "random"),
        run("local, windows", local, "windows"),
        run("local, in order", local, "in order"),
        run("streamed, random order", place, "random"),
        run("streamed, windows", place, "windows"),
        run("streamed, in order", place, "in order"),
        run("streamed, first epoch, whole pack fits", place, "in order", "100000", "large"),
        run("streamed, random order, all in the cache", place, "random", "100000", "large"),
    ]
    equal = {o: same(work / f"local, {o}.log", work / f"streamed, {o}.log") for o in ("random order", "windows")}
    log, limits = work / "killed.log", {"CMKD_CACHE": str(work / "killed"), "CMKD_STREAM_MIB": limit}
    batches = len((work / "local, random order.log").read_text().splitlines())
    at = killed(place, log, batches, limits)
    again = child(__file__, "--one", place, "random", log, **limits)
    most = again["peak MiB of the cache"]
    nothing_lost = same(work / "local, random order.log", log)
    sizes = f"{pairs} pairs of 3 x {given.side} x {given.side} and 1 x {given.side} x {given.side} bytes"
    return [
        Section(
            f"{sizes} ({pairs * total / 2**30:.2f} GiB), cache of {limit} MiB, batch {BATCH}, windows of "
            f"{given.window} pairs; one epoch each, with the CRC-32 of every batch. The server takes the same cores. "
            f"Pushing and reading back took {pushed:.0f} s.",
            rows,
        ),
        Section(
            f"Batches equal to those of the local pack: random order {equal['random order']}, windows "
            f"{equal['windows']}. A process that was killed (SIGKILL) after {at} of {batches} batches and started "
            f"again read the remaining {batches - at} with a cache of at most {most:.0f} MiB; all "
            f"batches equal: {nothing_lost}."
        ),
    ]


def same(first: Path, second: Path) -> bool:
    """Whether two logs hold the same batches."""
    return first.read_text() == second.read_text()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--cache_mib", type=int, default=200)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--batches", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "streaming.md")
    parser.add_argument("--one", nargs=3, help="place, order and log of one epoch in this process")
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(epoch(given.one[0], given.one[1], given.window, Path(given.one[2]), given.batches)))
        return
    with tempfile.TemporaryDirectory() as folder, served():
        sections = measure(Path(folder), given)
    print(write(given.out, "Streaming", sections))


if __name__ == "__main__":
    main()
