"""Effect of nodata on statistics, a student and its predictions, when it is read as a measurement and when it is not.

The images are real: Sentinel-1 (dB) and Sentinel-2 patches of 16 x 16 pixels from the five tiles of ``terramind``. No
file of that publication has nodata, so this program cuts the patches from tiles whose edge it turns by 30 degrees, as
the edge of an orbit is turned, and writes them as GeoTIFF: what lies beyond the edge is -9999, and the tag GDAL_NODATA
says so. The label is the most frequent class of land cover. The patches are built, trained on and predicted by the
command line, with the tags read, and with ``--nodata sentinel1=none``, which reads them as measurements.

    python benchmarks/nodata.py FOLDER_OF_TERRAMIND
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray

from cmkd.data import Pack
from cmkd.datasets.terramind import CLASSES
from cmkd.documents import read_json
from cmkd.io import write_text
from records import RESULTS, about, percent, table

SIDE, NODATA, TURN, BEYOND = 16, -9999.0, np.pi / 6, 0.3
"""Pixels along a side of a patch; nodata value; angle of the edge, radians; fraction of a tile beyond the edge."""
TRAINING = ("--methods", "none", "--epochs", "12", "--jobs", "1")
CASES = {"tags read": "", "read as a measurement": "sentinel1=none"}


def cut(archive: Path, folder: Path) -> None:
    """Write the patches of all tiles and their manifest; every patch keeps at least one valid pixel."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows: list[list[object]] = []
    with zipfile.ZipFile(archive) as file:
        names = sorted(Path(name).name for name in file.namelist() if "/LULC/" in name and name.endswith(".tif"))
        for tile, name in enumerate(names):
            s1, s2, cover = (
                tifffile.imread(BytesIO(file.read(f"examples/{layer}/{name}"))) for layer in ("S1RTC", "S2L2A", "LULC")
            )
            down, right = np.indices(cover.shape) / len(cover)
            beyond = np.cos(TURN) * right + np.sin(TURN) * down
            gap = beyond > np.quantile(beyond, 1 - BEYOND)
            radar = np.where(gap, NODATA, np.moveaxis(s1, -1, 0)).astype(np.float32)
            optical = np.moveaxis(s2, -1, 0)
            for y, x in np.ndindex(len(cover) // SIDE, len(cover) // SIDE):
                here = np.s_[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE]
                codes, counts = np.unique(cover[here], return_counts=True)
                label = CLASSES.get(int(codes[counts.argmax()]))
                if label is None or gap[here].all():
                    continue
                key = f"{tile}-{y:02d}-{x:02d}"
                write(folder / f"s1-{key}.tif", radar[:, *here], NODATA)
                write(folder / f"s2-{key}.tif", optical[:, *here], None)
                rows.append([key, label, f"{tile}-{y // 2}-{x // 2}", f"s2-{key}.tif", f"s1-{key}.tif"])
    frequent = {label for label in CLASSES.values() if sum(row[1] == label for row in rows) >= 30}
    with (folder / "manifest.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "label", "group", "sentinel2", "sentinel1"])
        writer.writerows(row for row in rows if row[1] in frequent)


def write(path: Path, values: NDArray[Any], nodata: float | None) -> None:
    """Write a GeoTIFF ``(bands, height, width)``."""
    place = rasterio.transform.from_origin(0, 0, 10, 10)
    form = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", nodata=nodata, crs="EPSG:32632", transform=place, **form) as file:
        file.write(values)


def command(*words: object) -> str:
    """Run ``cmkd`` and return what it prints."""
    done = subprocess.run([sys.executable, "-m", "cmkd", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def measure(folder: Path, work: Path, nodata: str, seeds: int) -> list[str]:
    """Build, run and predict, and return a row of the table."""
    shutil.rmtree(work, ignore_errors=True)
    options = ["--rich", "sentinel2", "--poor", "sentinel1", "--unit", "sentinel1=dB"]
    command("data", "build", folder, "--out", work / "pack", *options, *(["--nodata", nodata] if nodata else []))
    pack = Pack.open(work / "pack")
    radar = pack.modality("sentinel1")
    command("run", "--data", work / "pack", *TRAINING, "--seeds", seeds, "--out", work / "run")
    students = read_json(work / "run" / "results.json")["students"]
    command("predict", work / "run", folder, "--out", work / "predictions.csv")
    with (work / "predictions.csv").open() as file:
        predicted = {row["id"]: row for row in csv.DictReader(file)}
    test = pack.index[(pack.index["split"] == "test")]
    right = np.array([predicted[i]["class"] == pack.classes[k] for i, k in zip(test["id"], test["label"], strict=True)])
    array = pack.array("sentinel1")[test.index]
    gaps = (np.isnan(array) | (array == NODATA)).any((1, 2, 3))
    values, pairs = pack.card.invalid.get("sentinel1", (0, 0))
    return [
        ", ".join(f"{v:.1f}" for v in radar.mean),
        ", ".join(f"{v:.1f}" for v in radar.std),
        f"{values:,} in {pairs}" if values else "none",
        ", ".join(percent(student["validation_accuracy"]) for student in students),
        f"{percent(float(right.mean()))} of {len(right)}",
        f"{percent(float(right[gaps].mean()))} of {int(gaps.sum())}",
        f"{percent(float(right[~gaps].mean()))} of {int((~gaps).sum())}",
    ]


def main() -> None:
    """Write ``results/nodata.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with terramind-examples.zip")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    work = Path("runs/nodata")
    cut(given.source / "terramind-examples.zip", work / "patches")
    pairs = len((work / "patches" / "manifest.csv").read_text().splitlines()) - 1
    rows = [[name, *measure(work / "patches", work / f"case-{k}", nodata, given.seeds)]
            for k, (name, nodata) in enumerate(CASES.items())]  # fmt: skip
    header = ["Sentinel-1", "mean, dB", "standard deviation, dB", "invalid values", "validation, % (each seed)",
              "test of `cmkd predict`, %", "patches with a gap", "patches without"]  # fmt: skip
    said = " ".join((__doc__ or "").split("\n\n")[1].split())
    text = f"# Nodata\n\n{said}\n\n{pairs} patches; {about()}.\n\n{table(header, rows)}\n"
    write_text(RESULTS / "nodata.md", text)
    print(text)


if __name__ == "__main__":
    main()
