"""Compare engines that stream samples from object storage in a given order with a small disk cache.

    python benchmarks/speed/stream_engines.py

Training reads a random permutation of the whole pack (same seed, same batches), so an engine must be able to read any
sample at any time. A pack of random pairs is written in each engine's own format and uploaded to a local S3 server
(`s3_server.py`). Each engine, in its own process, then reads the first samples of one permutation, one sample at a time
in one thread, as its ``dataset[i]`` does; cmkd is also measured in batches, as its loader reads. An engine that is not
installed is left out: the engines are not dependencies of cmkd, and some need other versions of cmkd's dependencies.
"""

from __future__ import annotations

from s3_server import BATCH, served, upload
from timing import RESULTS, Section, child, random_pack, write

# isort: split
import argparse
import importlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from cmkd._torchvision import register_missing_ops
from cmkd.data.pack.pack import Pack
from cmkd.data.remote.push import push

CHUNK = 2**20
"""Chunk size of the other engines in bytes: smaller chunks make random samples cheaper; their default is 64 MiB."""
Read = Callable[[NDArray[np.int64]], list[NDArray[Any]]]


def litdata(pack: Pack, folder: Path, limit: int) -> Read:
    """Return a function that reads samples of a litdata data set."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "made"), chunk_bytes=CHUNK)
    (folder / "made").mkdir(exist_ok=True)
    for row in range(len(pack)):
        writer[row] = {name: np.asarray(pack.array(name)[row]) for name in pack.modalities}
    writer.done()
    writer.merge()
    upload(folder / "made", "litdata")
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
    made = StreamingDataset(
        "s3://packs/litdata",
        cache_dir=str(folder / "cache"),
        max_cache_size=limit,
        storage_options=options,
    )
    return lambda rows: [made[int(row)]["optical"] for row in rows]


def mosaicml_streaming(pack: Pack, folder: Path, limit: int) -> Read:
    """Return a function that reads samples of a mosaicml-streaming data set."""
    register_missing_ops()  # `streaming` imports torchvision, whose compiled part may not fit torch
    streaming: Any = importlib.import_module("streaming")

    columns = {name: f"ndarray:{m.dtype}:{','.join(map(str, m.shape))}" for name, m in pack.modalities.items()}
    with streaming.MDSWriter(out=str(folder / "made"), columns=columns, size_limit=CHUNK) as writer:
        for row in range(len(pack)):
            writer.write({name: np.asarray(pack.array(name)[row]) for name in pack.modalities})
    upload(folder / "made", "mosaicml")
    os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
    made = streaming.StreamingDataset(
        local=str(folder / "cache"), remote="s3://packs/mosaicml", cache_limit=limit, batch_size=BATCH, shuffle=False
    )
    return lambda rows: [made[int(row)]["optical"] for row in rows]


def webdataset(pack: Pack, folder: Path, limit: int) -> Read:
    """Raise an error: webdataset reads tar files from start to end, without random access."""
    from webdataset import WebDataset

    assert issubclass(WebDataset, IterableDataset)
    raise TypeError("no random access: it iterates over tar files, and shuffles in a buffer of its own")


def cmkd_rows(pack: Pack, folder: Path, limit: int) -> Read:
    """Return a function that reads a pushed pack one row at a time."""
    os.environ |= {"CMKD_CACHE": str(folder / "cache"), "CMKD_STREAM_MIB": str(limit // 2**20)}
    push(pack.path, "s3://packs/cmkd")
    array = {name: Pack.open("s3://packs/cmkd").array(name) for name in pack.modalities}

    def read(rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Read both modalities, as the other engines do."""
        samples = [{name: array[name][int(row)] for name in array} for row in rows]
        return [sample["optical"] for sample in samples]

    return read


def cmkd_batches(pack: Pack, folder: Path, limit: int) -> Read:
    """Return a function that reads a pushed pack one batch at a time."""
    os.environ |= {"CMKD_CACHE": str(folder / "cache"), "CMKD_STREAM_MIB": str(limit // 2**20)}
    push(pack.path, "s3://packs/cmkd")
    opened = Pack.open("s3://packs/cmkd")
    return lambda rows: list(opened.batch(rows).inputs["optical"].numpy())


ENGINES = {f.__name__.replace("_", " "): f for f in (litdata, mosaicml_streaming, webdataset, cmkd_rows, cmkd_batches)}


def one(name: str, place: Path, limit: int, samples: int) -> dict[str, Any]:
    """Measure one engine in this process, and return its figures, or the reason why it cannot read."""
    pack = Pack.open(place)
    order = np.random.default_rng(1).permutation(len(pack))[:samples]
    with tempfile.TemporaryDirectory() as made:
        folder, peak, ended = Path(made), [0], threading.Event()
        try:
            read = ENGINES[name](pack, folder, limit)
        except (ImportError, TypeError) as error:
            return {"samples/s": None, "note": f"{type(error).__name__}: {error}"[:120]}

        def watch() -> None:
            while not ended.wait(0.05):
                found = [p.stat().st_size for p in (folder / "cache").rglob("*") if p.is_file() and p.exists()]
                peak[0] = max(peak[0], sum(found))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        start, equal, done = time.perf_counter(), True, 0
        try:
            for first in range(0, len(order), BATCH):
                rows = order[first : first + BATCH]
                found = read(rows)
                done += len(rows)
                equal &= bool((np.stack(found) == pack.array("optical")[rows]).all())
            note = ""
        except Exception as error:  # another engine's failure is a result
            note = f"{type(error).__name__} after {done} samples: {error}"[:160]
        seconds = time.perf_counter() - start
        ended.set()
        thread.join()
        return {"samples/s": done / seconds, "peak MiB of disk": peak[0] / 2**20, "equal": str(equal), "note": note}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--cache_mib", type=int, default=25)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=RESULTS / "streaming_engines.md")
    parser.add_argument("--one", nargs=2, help="engine and pack to read in this process")
    given = parser.parse_args(arguments)
    if given.one:
        result = one(given.one[0], Path(given.one[1]), given.cache_mib * 2**20, given.samples)
        print("\n" + json.dumps(result), flush=True)
        os._exit(0)  # threads of an engine may still be running
    with tempfile.TemporaryDirectory() as folder, served():
        pack = random_pack(Path(folder) / "pack", given.mib * 2**20 // (4 * given.side**2), given.side)
        rows = []
        for name in ENGINES:
            common = ("--cache_mib", given.cache_mib, "--samples", given.samples)
            rows.append({"engine": name} | child(__file__, "--one", name, pack.path, *common))
            print(rows[-1], flush=True)
    text = (
        f"{len(pack)} pairs of 3 x {given.side} x {given.side} and 1 x {given.side} x {given.side} bytes ({given.mib} "
        f"MiB), limit of the disk {given.cache_mib} MiB, the first {given.samples} samples of a permutation, both "
        f"modalities. Chunks of {CHUNK // 2**20} MiB. `equal`: whether the values are those of the pack."
    )
    print(write(given.out, "Streaming engines", [Section(text, rows)]))


if __name__ == "__main__":
    main()
