"""Every command of the docs runs on small files, in the order of the pages, with short trainings."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cmkd.cli import main
from test_docs import ROOT, SMALL, commands

PAGES = ("README", "docs/quick_start", "docs/which_method", "docs/training", "docs/your_data", "docs/use_the_student")
MODALITIES = ["--teacher.modality", "optical", "--student.modality", "radar"]
SHORT = {"--epochs": "1", "--seeds": "1", "--tune": "2", "--tile": "16", "--stride": "16", "--teacher.size": "32"}
KINDS = ("tanker", "ferry", "tug")
PAIRS = 90


def write_pair(optical: Path, radar: Path, number: int) -> None:
    """Write an image and its noisy counterpart, whose class follows from the number."""
    generator = np.random.default_rng(number)
    clean = generator.integers(40, 200, (8, 8)) // (1 + number % 3)
    for path in (optical, radar):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(clean[:, :, None], 3, 2).astype(np.uint8)).save(optical)
    tifffile.imwrite(radar, (clean * generator.gamma(4.0, 0.25, clean.shape)).astype(np.float32))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the files that the commands of the docs name into the current folder."""
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.chdir(tmp_path)
    lists: dict[str, list[str]] = {"optical": [], "radar": []}
    for number in range(PAIRS):
        kind, name = KINDS[number % 3], f"{number:04d}"
        write_pair(Path(f"my_ships/optical/{kind}/{name}.png"), Path(f"my_ships/radar/{kind}/{name}.tif"), number)
        write_pair(Path(f"capture/optical/{name}.png"), Path(f"capture/radar/{name}.tif"), 1000 + number)
        when = f"2026-03-01T{12 + number // 60}:{number % 60:02d}:00Z"
        for sensor, suffix in (("optical", "png"), ("radar", "tif")):
            lists[sensor].append(f"capture/{sensor}/{name}.{suffix},{when},55.0,10.0,{kind}")
    for sensor, lines in lists.items():
        Path(f"{sensor}.csv").write_text("\n".join(["path,time,latitude,longitude,label", *lines]))
    rows = ["id,label,optical,radar"]
    for number in range(2000, 2020):
        write_pair(Path(f"next-capture/{number}.png"), Path(f"next-capture/{number}.tif"), number)
        rows.append(f"{number},{('tanker', 'ferry')[number % 2]},{number}.png,{number}.tif")
    Path("next-capture/manifest.csv").write_text("\n".join(rows))
    for place in ("incoming/1.tif", "2026-03/north/2.tif"):
        write_pair(Path("unused.png"), Path(place), 3000)
    Path("more.csv").write_text("id,radar\nlast,incoming/1.tif\n")
    grid = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 6_000_000)}
    with rasterio.open("scene.tif", "w", driver="GTiff", dtype="float32", count=1, height=64, width=64, **grid) as file:
        file.write(np.random.default_rng(0).gamma(4.0, 25.0, (1, 64, 64)).astype(np.float32))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"incoming/1.tif\n")))
    return tmp_path


def shortened(words: list[str], number: int) -> list[str]:
    """Return a command with less work; `...` is replaced by the options that the page gave before."""
    words = [SHORT.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "run":
        if "..." in words:
            at = words.index("...")
            words[at : at + 1] = [flag for k, flag in enumerate(MODALITIES) if MODALITIES[k - k % 2] not in words]
            words += ["--out", f"runs/{number}"]
        for flag in ("--epochs", "--seeds"):
            words += [] if flag in words else [flag, "1"]
        words += [*SMALL, "--trainer.progress", "none"]
    return words


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_every_command_runs() -> None:
    given = [words for page in PAGES for words in commands(ROOT / f"{page}.md") if words[0] != "serve"]
    for number, words in enumerate(given):
        command = shortened(words, number)
        if "other/teacher/best.safetensors" in command:
            shutil.copytree("runs/ships/teacher", "other/teacher")
        assert main(command) == 0, command
        if words[:2] == ["export", "runs/ships"] and not Path("student.onnx").exists():
            shutil.copy("runs/ships/student.onnx", ".")
    assert Path("ships.csv").exists() and Path("map.tif").exists() and Path("ships-hub/README.md").exists()
