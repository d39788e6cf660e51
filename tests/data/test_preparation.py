"""Preparation never holds a data set in memory: peaks of real processes for a number of pairs and for four times it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.tiny import tiny_source

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")]
CHILD = """
import json, re, sys
from pathlib import Path
from cmkd.datasets import DATASETS


def peak():  # not getrusage: it begins at the size of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])


name, options, small, source, out = sys.argv[1:]
data_set = DATASETS.find(name)(**json.loads(options))
data_set.prepare(Path(small), Path(out) / "small")  # imports and buffers that any size needs
before = peak()
pack = data_set.prepare(Path(source), Path(out) / "pack")
print(json.dumps([peak() - before, sum(p.stat().st_size for p in (Path(out) / "pack").glob("*.bin"))]))
"""


def photographs(folder: Path, count: int) -> None:
    """Write the uncompressed binary files of CIFAR-10 with `count` records of noise in total."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = generator.integers(0, 256, (count // 6, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / f"{file}.bin").write_bytes(records.tobytes())


def patches(folder: Path, count: int) -> None:
    """Write files of SEN12MS with `count` patches of eight scenes, by repeating the tiny ones."""
    tiny_source("sen12ms", folder)
    for path in sorted(folder.rglob("*_p*.tif")):
        stem, _, number = path.stem.rpartition("_p")
        for copy in range(1, count // 40):
            os.link(path, path.with_name(f"{stem}_p{int(number) + 5 * copy}.tif"))


@pytest.mark.parametrize(
    ("name", "options", "write", "count"),
    [
        ("cifar10", '{"check": false, "degradation": "few_bits"}', photographs, 12_000),
        ("sen12ms", '{"size": 64}', patches, 200),
    ],
)
def test_memory_does_not_grow_with_the_images(
    name: str, options: str, write: Callable[[Path, int], None], count: int, tmp_path: Path
) -> None:
    """The peak may grow only by the index and a signature of each image, a fraction of the added data."""
    small = tiny_source(name, tmp_path / "small")
    peaks, sizes = [], []
    for times in (1, 4):
        write(tmp_path / f"source{times}", times * count)
        run = [sys.executable, "-c", CHILD, name, options, str(small), str(tmp_path / f"source{times}")]
        done = subprocess.run([*run, str(tmp_path / f"out{times}")], capture_output=True, text=True, check=True)
        peak, size = map(int, done.stdout.strip("[]\n ").split(","))
        peaks.append(peak)
        sizes.append(size)
    added = sizes[1] - sizes[0]
    assert added > 75e6
    assert peaks[1] - peaks[0] < 0.3 * added, f"peak {peaks[0]} then {peaks[1]} bytes, for {added} bytes more"
