"""Load `cmkd serve` on loopback: latency, throughput and memory over many requests, some of them bad.

    python benchmarks/speed/serving.py --requests 10000 --clients 8

A server in a separate process answers several clients, each of which sends its next request when the last one is
answered. Nine of ten requests are good: PNG files, NPY arrays, and arrays of 16 samples. The others are bad in six
ways, for example bodies above the limit, pickles and images of 10**10 pixels. Every answer must have the expected
status.
"""

from __future__ import annotations

from timing import CLASSES, RESULTS, Section, pair_of_models, write

# isort: split
import argparse
import asyncio
import io
import itertools
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmkd.deploy.calibration import Calibration
from cmkd.models.checkpoint import save_model

SIDE = 64
BODY_MB = 16
WARM_UP = 200


@dataclass(frozen=True)
class Kind:
    """One kind of request, with the expected status of its answer."""

    name: str
    content_type: str
    body: bytes
    status: int = 200


def npy(array: NDArray[Any]) -> bytes:
    """Return the bytes of an NPY file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def png(array: NDArray[Any], declared: tuple[int, int] | None = None) -> bytes:
    """Return the bytes of a gray PNG; its header states the size `declared`, if given."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    content = file.getvalue()
    if declared is None:
        return content
    head = b"IHDR" + struct.pack(">II", *declared) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]


def kinds() -> tuple[list[Kind], list[Kind]]:
    """Return the good and the bad kinds of request, with random images."""
    drawn = np.random.default_rng(0).integers(0, 256, (16, 1, SIDE, SIDE), dtype=np.uint8)
    array, image = "application/x-npy", "image/png"
    good = [
        Kind("PNG", image, png(drawn[0, 0])),
        Kind("array", array, npy(drawn[0])),
        Kind("array of 16", array, npy(drawn)),
    ]
    bad = [
        Kind("truncated PNG", image, png(drawn[0, 0])[:1000], 422),
        Kind("pickle", array, npy(np.array([{}], dtype=object)), 422),
        Kind("wrong shape", array, npy(drawn[None]), 422),
        Kind("no such type", "text/plain", b"x" * 1000, 415),
        Kind("PNG of 10**10 pixels", image, png(drawn[0, 0], (100_000, 100_000)), 413),
        Kind("body above the limit", array, bytes(BODY_MB * 2**20 + 1), 413),
    ]
    return good, bad


def mixed(count: int) -> list[Kind]:
    """Return `count` requests, a tenth of them bad, in a random order with a fixed seed."""
    good, bad = kinds()
    chosen = list(itertools.islice(itertools.cycle(good), count - count // 10))
    chosen += itertools.islice(itertools.cycle(bad), count // 10)
    return [chosen[k] for k in np.random.default_rng(1).permutation(count)]


@contextmanager
def server(model: Path) -> Iterator[tuple[str, int]]:
    """Run a server, and yield its address and process ID."""
    command = [sys.executable, "-m", "cmkd", "serve", str(model), "--port", "0", "--body_mb", str(BODY_MB)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" at ")[1].split(",")[0], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def resident(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


async def load(
    url: str, process: int, requests: Sequence[Kind], clients: int
) -> tuple[dict[str, list[float]], Counter[str], list[float]]:
    """Send requests; return seconds by kind, counts of unexpected answers, and the memory after every tenth of them."""
    waiting, times, wrong = iter(requests), dict[str, list[float]](), Counter[str]()
    memory, every, answered = [resident(process)], max(1, len(requests) // 10), itertools.count(1)

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as session:
            for kind in waiting:
                start = time.perf_counter()
                try:
                    headers = {"content-type": kind.content_type}
                    status: object = (await session.post("/predict", content=kind.body, headers=headers)).status_code
                except httpx.TransportError as error:
                    status = type(error).__name__
                times.setdefault(kind.name, []).append(time.perf_counter() - start)
                if status != kind.status:
                    wrong[f"{kind.name}: {status}"] += 1
                if next(answered) % every == 0:
                    memory.append(resident(process))

    await asyncio.gather(*(client() for _ in range(clients)))
    return times, wrong, memory


def measure(url: str, process: int, requests: Sequence[Kind], clients: int) -> Section:
    """Load a server, and return the section with the figures."""
    start = time.perf_counter()
    times, wrong, memory = asyncio.run(load(url, process, requests, clients))
    took = time.perf_counter() - start
    rows = [
        {
            "request": kind.name,
            "status": str(kind.status),
            "n": str(len(times[kind.name])),
            "p50, ms": 1000 * float(np.percentile(times[kind.name], 50)),
            "p99, ms": 1000 * float(np.percentile(times[kind.name], 99)),
        }
        for kind in itertools.chain(*kinds())
        if kind.name in times
    ]
    unexpected = ", ".join(f"{name} ({count})" for name, count in wrong.items()) or "none"
    text = (
        f"{clients} client(s), {len(requests):,} requests in {took:.0f} s: {len(requests) / took:.0f} requests/s. "
        f"Answers with an unexpected status: {unexpected}. Resident memory of the server at every tenth of the "
        f"requests, MiB: {', '.join(f'{value:.0f}' for value in memory)}."
    )
    return Section(text, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Load a server with one client and good requests, then with several clients and all kinds of request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.md")
    options = parser.parse_args(arguments)
    student = pair_of_models(SIDE)[1].eval()
    about = {"calibration": Calibration().to_dict()}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "student.safetensors"
        save_model(model, student, name="auto", classes=tuple(map(str, range(CLASSES))), extra=about)
        with server(model) as (url, process):
            good = kinds()[0]
            asyncio.run(load(url, process, good * (WARM_UP // len(good)), options.clients))
            alone = measure(url, process, good * max(1, options.requests // 30), 1)
            crowd = measure(url, process, mixed(options.requests), options.clients)
    intro = (
        f"`cmkd serve` with its defaults (2 workers of one thread) and the default student of gray images of {SIDE} x "
        f"{SIDE}, with PyTorch on a CPU. Server and clients share the machine's {os.cpu_count()} cores; see the load "
        "average. Latency is what the client sees, with httpx."
    )
    print(write(options.out, "Load of the server", [Section(intro), alone, crowd]))


if __name__ == "__main__":
    main()
