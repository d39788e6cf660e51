"""Regression cases for the command line: inputs that once failed are read correctly or refused in one line."""

from __future__ import annotations

import json
import lzma
import re
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.EpsImagePlugin
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from cmkd.cli import main
from cmkd.data import Pack
from cmkd.types import Modality
from data.tiny import tiny_source
from deploy.conftest import make_student

pytestmark = pytest.mark.filterwarnings("default::cmkd.errors.CmkdWarning")
Told = pytest.CaptureFixture[str]


def pairs(home: Path, suffix: str, write: Callable[[Path, int], object], *, number: int = 12) -> Path:
    """Write a folder of pairs of a file made by `write` and a normal array, with two alternating classes."""
    folder = home / "data"
    for name in ("o", "r"):
        (folder / name).mkdir(parents=True)
    rows = ["id,label,optical,radar"]
    for k in range(number):
        write(folder / "o" / f"{k}{suffix}", k)
        np.save(folder / "r" / f"{k}.npy", np.random.default_rng(k).normal(size=(4, 4)).astype(np.float32))
        rows.append(f"p{k},{'ab'[k % 2]},o/{k}{suffix},r/{k}.npy")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def build(folder: Path, *words: str) -> Pack:
    """Make a pack on the command line."""
    out = folder.with_name(f"pack{len(list(folder.parent.iterdir()))}")
    assert main(["data", "build", str(folder), "--out", str(out), *words]) == 0
    return Pack.open(out)


def refused(words: Sequence[object], told: Told, says: str) -> None:
    """Check that a command ends with exit code 2 and one line."""
    told.readouterr()
    assert main([*map(str, words)]) == 2
    error = [line for line in told.readouterr().err.splitlines() if not line.startswith(("reading", "cmkd: warning"))]
    assert len(error) == 1 and error[0].startswith("cmkd: error: ") and re.search(says, error[0]), error


def never_builds(folder: Path, told: Told, says: str) -> None:
    refused(["data", "build", folder, "--out", folder.parent / "pack"], told, says)
    assert not (folder.parent / "pack").exists()


def picture(k: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(k).integers(0, 255, shape, dtype=np.uint8)


def test_nodata_float(tmp_path: Path, capsys: Told) -> None:
    """Nodata is left out of statistics, becomes the mean in tensors, is counted, and is never blended in resizing."""

    def write(path: Path, k: int) -> None:
        values = np.random.default_rng(k).normal(-12, 3, (2, 16, 16)).astype(np.float32)
        values[:, :8, :8] = -9999 if k % 3 == 0 else values[:, :8, :8]
        tag = [(42113, "s", 0, "-9999", True)]
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate", extratags=tag)

    folder = pairs(tmp_path, ".tif", write)
    for words in ([], ["--size", "optical=12x12"]):
        pack = build(folder, *words)
        sensor, values = pack.modality("optical"), pack.batch(np.arange(12)).inputs["optical"].numpy()
        assert sensor.mean == pytest.approx((-12, -12), abs=0.4)
        assert sensor.std == pytest.approx((3, 3), abs=0.4 if not words else 1.6)  # resizing averages the noise
        assert np.abs(values[0][:, :5, :5] - np.reshape(sensor.mean, (2, 1, 1))).max() < 1e-3
        assert values.min() > -40
    capsys.readouterr()
    assert main(["data", "card", str(pack.path)]) == 0
    assert re.search("nodata|invalid", capsys.readouterr().out)


def test_palette_tiff_is_its_colors(tmp_path: Path) -> None:
    def write(path: Path, k: int) -> None:
        Image.fromarray(picture(k, 16, 16, 3)).quantize(8).save(path)

    found = [build(pairs(tmp_path / s, f".{s}", write)).array("optical") for s in ("tif", "png")]
    assert found[0].shape == (12, 3, 16, 16)
    np.testing.assert_array_equal(*found)


def test_bilevel_is_one_in_all_formats(tmp_path: Path) -> None:
    def write(path: Path, k: int) -> None:
        Image.fromarray(picture(k, 16, 16) > 127).save(path)

    found = [build(pairs(tmp_path / s, f".{s}", write)).array("optical") for s in ("tif", "png")]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("shape", [(11, 11, 144), (144, 11, 11)])
def test_hyperspectral(tmp_path: Path, capsys: Told, shape: tuple[int, ...]) -> None:
    """The order of the axes is found, or the error asks for it."""
    folder = pairs(tmp_path, ".npy", lambda path, k: np.save(path, np.zeros(shape, np.float32) + k))
    if main(["data", "build", str(folder), "--out", str(tmp_path / "pack")]) == 2:
        assert "--channels" in capsys.readouterr().err
        pack = build(folder, "--channels", f"optical={'first' if shape[0] == 144 else 'last'}")
    else:
        pack = Pack.open(tmp_path / "pack")
    assert pack.modality("optical").shape == (144, 11, 11)


def test_a_class_only_in_test_is_one_line(tmp_path: Path, capsys: Told) -> None:
    folder = pairs(tmp_path, ".npy", lambda path, k: np.save(path, np.ones((2, 4, 4), np.float32) + k))
    frame = pd.read_csv(folder / "manifest.csv", dtype=str)
    frame["split"] = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
    frame.loc[10:, "label"] = "z"
    frame.to_csv(folder / "manifest.csv", index=False)
    build(folder)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == ("cmkd: warning: the train split lacks 1 of 3 classes, such as 'z', which no model can learn")
    assert not any(".py" in line for line in lines)


@pytest.mark.parametrize("cell", [[1, 2], {"a": 1}, b"bytes"])
def test_a_parquet_column_of_lists_is_named(tmp_path: Path, capsys: Told, cell: object) -> None:
    folder = pairs(tmp_path, ".npy", lambda path, k: np.save(path, np.ones(3)))
    frame = pd.read_csv(folder / "manifest.csv", dtype=str)
    frame["bbox"] = [cell] * len(frame)
    frame.to_parquet(folder / "manifest.parquet")
    (folder / "manifest.csv").unlink()
    never_builds(folder, capsys, "column 'bbox' holds")


def test_a_parquet_cell_that_is_no_text(tmp_path: Path, capsys: Told) -> None:
    folder = pairs(tmp_path, ".npy", lambda path, k: np.save(path, np.ones(3)))
    frame = pd.read_csv(folder / "manifest.csv", dtype=str).assign(note="calm sea")
    frame.to_parquet(folder / "manifest.parquet", compression="none", write_statistics=False)
    (folder / "manifest.csv").unlink()
    path = folder / "manifest.parquet"
    path.write_bytes(path.read_bytes().replace(b"calm sea", b"\xb4alm sea"))
    never_builds(folder, capsys, "not a Parquet file|not text|UTF-8")


def wav(path: Path, k: int, riff: int, data: int) -> None:
    samples = (1000 * np.sin(np.arange(800) * (k + 1) / 9)).astype("<i2").tobytes()
    head = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + head + b"data" + struct.pack("<I", data) + samples
    )


def test_wav_of_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pack = build(pairs(tmp_path, ".wav", lambda path, k: wav(path, k, 2**32 - 1, 2**32 - 1)))
    assert pack.modality("optical").shape == (800, 1)
    assert pack.array("optical")[0, 7, 0] == int(1000 * np.sin(7 / 9))


def test_wav_that_states_more_than_it_holds(tmp_path: Path, capsys: Told) -> None:
    never_builds(pairs(tmp_path, ".wav", lambda path, k: wav(path, k, 100, 20_000)), capsys, "truncated|fewer than")


def lists(
    folder: Path, optical: list[str], radar: list[str], columns: str = "path,time,latitude,longitude"
) -> list[str]:
    """Write two lists of captures with empty files, and return the arguments that pair them."""
    for name, rows in (("optical", optical), ("radar", radar)):
        (folder / f"{name}.csv").write_text("\n".join([columns, *rows]))
        for cell in (row.split(",")[columns.split(",").index("path")] for row in rows):
            file = folder / cell.replace("\\", "/")
            file.parent.mkdir(exist_ok=True)
            file.touch()
    out = folder / "manifest.csv"
    return ["data", "pair", str(folder / "optical.csv"), str(folder / "radar.csv"), "--out", str(out)]


def timed(sensor: str, times: Sequence[str]) -> list[str]:
    return [f"{sensor}/{k}.png,{cell},0,0" for k, cell in enumerate(times)]


def test_compact_times(tmp_path: Path, capsys: Told) -> None:
    times = ["20230101000050", "20230101001000"], ["20230101000110", "20230101001010"]
    pair = lists(tmp_path, *map(timed, ("o", "r"), times))
    assert main([*pair, "--seconds", "30"]) == 0
    told = capsys.readouterr()
    assert "2 pairs in" in told.out and "the places in optical, radar are used only with --meters" in told.err
    record = (tmp_path / "manifest.pairing.csv").read_text().splitlines()
    assert [line.split(",")[4] for line in record[1:]] == ["20.000", "10.000"]


@pytest.mark.parametrize("seconds", ["5", "90000"])
def test_dates_alone_make_no_pairs(tmp_path: Path, capsys: Told, seconds: str) -> None:
    dates = ["20230131", "20230115"], ["20230301", "20230701"]
    says = "dates without a time of day" if seconds == "5" else "optical 2023-01-15T00:00:00 to 2023-01-31T00:00:00"
    words = [*lists(tmp_path, *map(timed, ("o", "r"), dates)), "--seconds", seconds]
    assert main(words) == 2 and says in capsys.readouterr().err
    assert not (tmp_path / "manifest.csv").exists()


def test_labels_na_and_backslashes(tmp_path: Path) -> None:
    """``None``, ``NA`` and ``null`` are names, 007 keeps its zeros, and Windows backslashes are read as slashes."""
    names = ["None", "NA", "null", "007"]
    cells = [[f"{what},{s}\\{k}.png,{60 * k},{what}" for k, what in enumerate(names)] for s in ("optical", "radar")]
    pair = lists(tmp_path, *cells, "id,path,time,label")
    assert main([*pair, "--seconds", "5"]) == 0
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    assert lines[1:] == [f"{k},{k},,optical/{n}.png,radar/{n}.png" for n, k in enumerate(names)]


def test_an_hour_between_the_clocks(tmp_path: Path, capsys: Told) -> None:
    start = np.datetime64("2023-03-26T00:30:00", "ms")
    seconds = np.cumsum(np.random.default_rng(0).exponential(90, 40))
    moments = [[str(start + int(1000 * second)) for second in seconds + late] for late in (0, 3600.4)]
    pair = lists(tmp_path, *map(timed, ("o", "r"), moments))
    assert main([*pair, "--seconds", "2", "--offset", "auto"]) == 0
    told = capsys.readouterr().out
    assert "radar: clock +3600.400 s to optical's; 40 of 40 captures agree" in told and "40 pairs in" in told


def test_tiff_without_the_data_of_its_shape(tmp_path: Path, capsys: Told) -> None:
    def write(path: Path, k: int) -> None:
        values = np.random.default_rng(k).normal(size=(12, 10, 3)).astype(np.float32)
        tifffile.imwrite(path, values, photometric="rgb", tile=(16, 16), compression="zlib")
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags[257].overwrite(45_219)  # type: ignore[union-attr]

    never_builds(pairs(tmp_path, ".tif", write), capsys, r"0\.tif")


def png_of(side: int) -> bytes:
    """Return a 16-bit color PNG whose header states `side` x `side` pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_small_files_of_many_pixels_are_refused_by_a_stated_limit(tmp_path: Path, capsys: Told, suffix: str) -> None:
    def write(path: Path, k: int) -> None:
        if suffix == ".png":
            path.write_bytes(png_of(20_000))
            return
        strips = iter([zlib.compress(bytes(30_000 * 100))] * 300)
        shape = (30_000, 30_000)
        tifffile.imwrite(path, strips, shape=shape, dtype="uint8", compression="zlib", rowsperstrip=100)

    folder = pairs(tmp_path, suffix, write, number=12)
    tracemalloc.start()
    try:
        never_builds(folder, capsys, "pixel")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_postscript_called_png_starts_no_program(tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(PIL.EpsImagePlugin, "gs_binary", None)
    folder = pairs(tmp_path, ".png", lambda path, k: Image.fromarray(picture(k, 8, 8, 3)).save(path, "EPS"))
    never_builds(folder, capsys, r"0\.png")
    assert not (tmp_path / "started").exists()


class SmallTensors(TorchDispatchMode):
    """Mode that refuses tensors of more than 16 MB, such as those of a network of the wrong size."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.device.type != "meta":
            assert made.nbytes < 16e6, "a large network was built"
        return made


@pytest.mark.parametrize("model", ["vit_giant_patch14_224", "thin_resnet(width=6000)"])
def test_checkpoint_that_names_another_model(tmp_path: Path, capsys: Told, model: str) -> None:
    modality = Modality("radar", "image", (1, 8, 8), "uint8", (120.0,), (60.0,))
    path = make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"]) | {"model": model}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    save_file(tensors, path, {"about": json.dumps(about)})
    Image.fromarray(picture(0, 8, 8)).save(tmp_path / "0.png")
    with SmallTensors():
        refused(["predict", path, tmp_path / "0.png"], capsys, "radar.safetensors")


def test_yaml_that_multiplies(tmp_path: Path, capsys: Told) -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    (tmp_path / "bomb.yaml").write_text("\n".join([*lines, "data: digits", f"out: {tmp_path / 'run'}", "methods: *a9"]))
    start = time.monotonic()
    refused(["run", "--config", tmp_path / "bomb.yaml"], capsys, "bomb.yaml")
    assert time.monotonic() - start < 1


def prepare(source: Path, told: Told, says: str) -> None:
    out = source.parent / "pack"
    refused(["data", "prepare", "presto(check=false)", "--source", source, "--out", out], told, says)


def test_archive_with_a_giant_header(tmp_path: Path, capsys: Told) -> None:
    """The extended header of the first member states 1.2 GB, and the archive contains as many zeros."""
    head = bytearray(512)
    head[:1], head[100:108], head[124:136], head[156:157] = b"x", b"0000644\0", b"11300000000\0", b"x"
    head[257:265], head[148:156] = b"ustar\x0000", b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    zeros = lzma.compress(bytes(2**26), preset=0)
    (tmp_path / "pax.tar.xz").write_bytes(lzma.compress(bytes(head)) + zeros * 19)
    tracemalloc.start()
    try:
        prepare(tmp_path / "pax.tar.xz", capsys, "pax.tar.xz")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_archive_with_a_name_that_is_no_text(tmp_path: Path, capsys: Told) -> None:
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/bé.txt", "text")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe1\xe1"))
    prepare(path, capsys, "files.zip")


def test_array_with_a_damaged_header(tmp_path: Path, capsys: Told) -> None:
    source = tiny_source("presto", tmp_path / "source")
    path = source / "site.npy"
    path.write_bytes(path.read_bytes().replace(b"), }", b"),\0\0", 1))
    prepare(source, capsys, "site.npy")
