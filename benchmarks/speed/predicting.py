"""Measure `cmkd predict` on many small files, some of them broken, and on a large scene: speed, memory, completeness.

    python benchmarks/speed/predicting.py

The command runs in separate processes, with a student that has random weights. The tables show whether each of the 37
broken files is reported with a reason and each other file is predicted, whether the peak memory grows with the number
of files or with the rows of the scene, and whether the map has the scene's georeference. Memory is ``VmHWM`` of the
process.
"""

from __future__ import annotations

from timing import CLASSES, RESULTS, Section, pair_of_models, write

# isort: split
import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window

from broken import write_broken
from cmkd.models.checkpoint import save_model

SIDE, BROKEN = 64, 37
ORIGIN = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 6_000_000.0)
CHILD = """
import json, pathlib, re, sys, time
from cmkd.cli import main

start = time.perf_counter()
code = main(sys.argv[2:])
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
pathlib.Path(sys.argv[1]).write_text(json.dumps({"exit code": code, "seconds": seconds, "peak MiB": peak}))
"""


def call(folder: Path, *words: object) -> tuple[dict[str, Any], str]:
    """Return exit code, seconds and peak memory of ``cmkd predict``, and what it wrote to stderr."""
    report = folder / "report.json"
    command = [sys.executable, "-c", CHILD, str(report), "predict", str(folder / "student.safetensors")]
    done = subprocess.run(
        [*command, *map(str, words), "--device", "cpu"], stderr=subprocess.PIPE, text=True, check=True
    )
    return json.loads(report.read_text()), done.stderr


def files(folder: Path, count: int, workers: int) -> dict[str, Any]:
    """Predict for `count` files, of which 37 are broken."""
    home = folder / f"{count} files"
    home.mkdir()
    generator, good = np.random.default_rng(0), b""
    for k in range(count - BROKEN):
        memory = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(memory, format="PNG")
        good = memory.getvalue()
        (home / f"{k:05}.png").write_bytes(good)
    broken = write_broken(home, good, SIDE)
    measured, error = call(folder, home, "--workers", workers, "--out", folder / "table.csv")
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        predicted = {row["input"] for row in csv.DictReader(file)}
    named = [path for path in broken if sum(str(path) in line for line in error.splitlines()) == 1]
    wanted = {str(path) for path in home.iterdir()} - {str(path) for path in broken}
    return {
        "files": f"{count:,}",
        "broken, named": f"{len(named)} of {len(broken)}",
        "others, predicted": f"{len(predicted & wanted):,} of {len(wanted):,}",
        **measured,
        "files/s": count / measured["seconds"],
    }


def scene(folder: Path, rows: int, columns: int, stride: int) -> dict[str, Any]:
    """Map a scene of bytes whose lower right corner is nodata."""
    source, out, block = folder / "scene.tif", folder / "map.tif", 500
    generator = np.random.default_rng(0)
    profile = {"crs": "EPSG:32632", "transform": ORIGIN, "nodata": 0, "tiled": True, "compress": "lzw"}
    with rasterio.open(source, "w", "GTiff", columns, rows, 1, dtype="uint8", **profile) as file:
        for top in range(0, rows, block):
            values = 16 * generator.integers(1, 16, (1, block, columns), dtype=np.uint8)
            values[0, max(0, rows - 300 - top) :, -300:] = 0
            file.write(values, window=Window(0, top, columns, block))
    measured, _ = call(folder, source, "--tile", SIDE, "--stride", stride, "--out", out)
    with rasterio.open(source) as given, rasterio.open(out) as made:
        a, b, c, d, e, f = given.transform[:6]
        scaled = rasterio.Affine(a * stride, b * stride, c, d * stride, e * stride, f)
        beyond = [abs(x - y) for x, y in zip(made.bounds, given.bounds, strict=True)]
        return {
            "scene": f"{rows:,} x {columns:,}",
            "stride": str(stride),
            "map": f"{made.height} x {made.width}",
            "same CRS": str(made.crs == given.crs),
            "transform is the scene's x stride": str(made.transform == scaled),
            "bounds equal": "True" if not max(beyond) else f"the last pixel ends {max(beyond):.0f} m beyond",
            "without prediction": f"{int((made.read(1) == made.nodata).sum()):,}",
            **measured,
            "tiles/s": made.height * made.width / measured["seconds"],
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=10_000, help="of the scene, a multiple of 2500")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS / "predicting.md")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, student = pair_of_models(SIDE)
        classes = tuple(f"class {number}" for number in range(CLASSES))
        save_model(folder / "student.safetensors", student, name="auto", classes=classes, extra={})
        tables = [files(folder, count, chosen.workers) for count in (chosen.files // 10, chosen.files)]
        shapes = ((chosen.side // 5, 32), (chosen.side, 32), (chosen.side, 50))
        maps = [scene(folder, rows, chosen.side, stride) for rows, stride in shapes]
    of_files = (
        f"`cmkd predict STUDENT FOLDER --workers {chosen.workers} --out table.csv` on gray PNG files of "
        f"{SIDE} x {SIDE}, of which {BROKEN} are broken in different ways (`benchmarks/speed/broken.py`). The student "
        f"is a thin ResNet of random weights on 1 x {SIDE} x {SIDE} bytes. Seconds include loading the libraries and "
        "the student; other programs ran beside it (see the load average). Exit code 3 says that some files have no "
        "prediction."
    )
    of_scenes = (
        f"`cmkd predict STUDENT scene.tif --tile {SIDE} --stride N --out map.tif` on a GeoTIFF of one band of bytes, "
        "LZW in blocks, whose lower right 300 x 300 pixels are nodata: classes and probabilities in two GeoTIFFs. A "
        "tile of which less than half is valid has no prediction."
    )
    print(write(chosen.out, "Predicting", [Section(of_files, tables), Section(of_scenes, maps)]))


if __name__ == "__main__":
    main()
