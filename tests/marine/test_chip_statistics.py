"""Statistics of chips agree with simulated clutter of known shape and looks, and targets of known size and strength."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chip_statistics as benchmark
from cmkd.data import Pack
from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.writer import PackWriter
from cmkd.simulators.marine.chip_statistics import equivalent_looks, extent, k_shape, measure, segments
from cmkd.types import Modality


def clutter(looks: float, shape: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw K-distributed power with mean 1."""
    return rng.gamma(looks, 1 / looks, (size, size)) * rng.gamma(shape, 1 / shape, (size, size))


def chip(looks: float, shape: float, seed: int, power: float = 200.0) -> np.ndarray:
    """Draw clutter with a target of 40 x 160 m; a pixel is 10 m wide."""
    rng = np.random.default_rng(seed)
    values = clutter(looks, shape, 64, rng)
    values[30:34, 24:40] += power
    return values


@pytest.mark.parametrize(("looks", "shape"), [(1, 1.0), (1, 3.0), (4, 1.0), (4, 3.0), (4.4, 10.0)])
def test_clutter_of_known_shape_and_looks(looks: float, shape: float) -> None:
    found = [measure(chip(looks, shape, seed), spacing=(10, 10), looks=looks) for seed in range(20)]
    # 15 %: peaks of single-look clutter of shape 1 are taken for bright areas, so the rest appears smoother
    assert np.median([f.k_shape for f in found]) == pytest.approx(shape, rel=0.15)
    theory = 1 / ((1 + 1 / looks) * (1 + 1 / shape) - 1)
    assert np.median([f.looks for f in found]) == pytest.approx(theory, rel=0.1)
    assert np.median([f.target_to_clutter_db for f in found]) == pytest.approx(10 * np.log10(201), abs=1)
    assert np.median([f.clutter_db for f in found]) == pytest.approx(0, abs=0.3)
    assert np.median([f.size_m for f in found]) == pytest.approx(160, abs=25)


def test_moments_of_large_samples() -> None:
    rng = np.random.default_rng(0)
    for shape in (0.5, 2.0):
        assert k_shape(clutter(1, shape, 1000, rng), 1) == pytest.approx(shape, rel=0.03)
    assert equivalent_looks(rng.gamma(4.4, 1, 10**6)) == pytest.approx(4.4, rel=0.01)
    assert k_shape(np.ones(100), 4) == np.inf  # less variance than speckle


def test_the_target_is_the_bright_area_in_the_middle() -> None:
    values = chip(4, 10, 0)
    values[5:9, 5:25] += 1000  # a neighbor
    target, sea = segments(values)
    assert target[31, 30]
    assert not target[6, 10]
    assert not sea[6, 10]
    assert measure(values, spacing=(10, 10), looks=4).k_shape == pytest.approx(10, rel=0.5)


def test_extent_uses_the_spacing_of_each_axis() -> None:
    area = np.zeros((20, 20), bool)
    area[5:15, 7] = True
    assert extent(area, (14.0, 2.3)) == pytest.approx(140)
    assert extent(area.T, (14.0, 2.3)) == pytest.approx(23)
    assert np.isnan(extent(np.zeros((3, 3), bool), (1, 1)))


def test_a_chip_that_does_not_tell_says_so() -> None:
    empty = measure(clutter(4, 10, 64, np.random.default_rng(0)), spacing=(1, 1), looks=4)
    assert np.isnan(empty.target_to_clutter_db)
    assert np.isnan(empty.size_m)
    assert empty.looks > 2
    padded = np.full((96, 96), np.nan)
    padded[16:80, 16:80] = chip(4, 3, 0)
    assert measure(padded, spacing=(10, 10), looks=4) == measure(padded[16:80, 16:80], spacing=(10, 10), looks=4)
    assert np.isnan(measure(np.full((30, 30), np.nan), spacing=(1, 1), looks=1).looks)


def pack(path: Path, unit: str, **columns: str) -> Path:
    radar = Modality("radar", "image", (2, 64, 64), "float32", nodata="nan", unit=unit)
    with PackWriter(path, CardInfo(path.name), classes=["a", "b"], modalities=[radar]) as writer:
        power = np.stack([np.stack([chip(4, 3, row), chip(4, 3, row, power=2000.0)]) for row in range(6)])
        values = 10 * np.log10(power) if unit == "dB" else power
        about = {name: [text] * 6 for name, text in columns.items()}
        splits = ["train"] * 4 + ["validation", "test"]
        ids = [str(row) for row in range(6)]
        writer.add(ids, [0, 1] * 3, splits, None, {"radar": values.astype(np.float32)}, metadata=about)
    Pack.open(path)
    return path


def test_two_packs_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = pack(tmp_path / "simulated", "dB", spacing="10", looks="4")
    second = pack(tmp_path / "real", "linear power", spacing_y="5", spacing_x="20")
    out = tmp_path / "table.md"
    command = [str(first), str(second), "--channels", "0", "1", "--out", str(out)]
    benchmark.main([*command, "--looks", "4", "--most", "2"])
    lines = [line.split("|")[1:-1] for line in out.read_text().splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert [line[0] for line in cells] == ["a", "a", "b", "b", "all", "all"]
    assert [line[2] for line in cells] == ["2", "2", "2", "2", "4", "4"]
    contrast, size = ([float(line[place].split(" / ")[1]) for line in cells[-2:]] for place in (4, 7))
    assert contrast == pytest.approx([23, 33], abs=1)
    assert size == pytest.approx([160, 320], rel=0.15)
    with pytest.raises(SystemExit):
        benchmark.main(command)
    assert "does not tell the looks of its chips (looks): give --looks" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main([str(first), str(pack(tmp_path / "raw", "amplitude"))])
    assert "'amplitude': the comparison needs a calibrated one" in capsys.readouterr().err
