"""A folder with a manifest, as a user brings it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cmkd.data import Pack
from cmkd.datasets.open import default_source
from data.tiny import TINY, tiny_pack, tiny_source

Edit = Callable[[list[dict[str, str]]], object]


def write_manifest(folder: Path, rows: Sequence[dict[str, str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes 24 pairs of PNG and float GeoTIFF; its argument `edit` may change the rows."""

    def make(edit: Edit | None = None, *, name: str = "ships") -> Path:
        folder = tmp_path / name
        (folder / "files").mkdir(parents=True)
        generator = np.random.default_rng(0)
        rows = []
        for k in range(24):
            picture = generator.integers(0, 255, (10, 8, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "files" / f"o{k}.png")
            radar = generator.normal(-15, 5, (2, 10, 8)).astype(np.float32)
            tifffile.imwrite(folder / "files" / f"r{k}.tif", radar, photometric="minisblack", planarconfig="separate")
            rows.append(
                {"id": f"p{k:02d}", "label": ["tanker", "cargo"][k % 2], "group": f"vessel{k // 2}",
                 "optical": f"files/o{k}.png", "radar": f"files/r{k}.tif"}
            )  # fmt: skip
        if edit is not None:
            edit(rows)
        write_manifest(folder, rows)
        return folder

    return make


@pytest.fixture
def published() -> Callable[[str], Path]:
    """Return a function that finds the real files of a data set, or skips the test."""

    def find(name: str) -> Path:
        source = default_source(name)
        if source is None:
            pytest.skip(f"the files of {name} are not in $CMKD_DATA")
        return source

    return find


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Pack]]:
    """Return a function that makes a data set's tiny source and pack once per session; tests must not change them."""

    @cache
    def make(name: str) -> tuple[Path, Pack]:
        folder = tmp_path_factory.mktemp(name)
        source = tiny_source(name, folder / "source") if TINY[name].write else None
        return source or folder, tiny_pack(name, source, folder / "pack")

    return make
