"""All formats of images and sound are read by the one convention that docs/files.md states."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from cmkd.data.manifest.build import build
from cmkd.data.manifest.content import Content
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.quality import FolderSource, check
from cmkd.errors import CmkdError, CmkdWarning

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (20, 24), dtype=np.uint8)
RGB = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def planes(image: Image.Image) -> NDArray[Any]:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


MODES = {
    ".png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    ".jpg": ("L", "RGB", "CMYK"),
    ".tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
}


@pytest.mark.parametrize(("mode", "suffix"), [(mode, suffix) for suffix, modes in MODES.items() for mode in modes])
def test_pictures_are_those_of_pillow(tmp_path: Path, mode: str, suffix: str) -> None:
    inks = np.dstack([RGB, GRAY])
    picture = {
        "1": Image.fromarray(GRAY).convert("1"),
        "P": Image.fromarray(RGB).quantize(32),
        "LA": Image.fromarray(inks[..., 2:], "LA"),
        "RGBA": Image.fromarray(inks),
        "CMYK": Image.fromarray(inks, "CMYK"),
        "I;16": Image.fromarray(GRAY.astype(np.uint16) * 200),
    }.get(mode, Image.fromarray(RGB).convert(mode if mode == "L" else "RGB"))
    path = tmp_path / f"a{suffix}"
    picture.save(path)
    with Image.open(path) as reference:
        shown = {"P": "RGB", "CMYK": "RGB", "1": "L"}.get(reference.mode, reference.mode)
        expected = planes(reference.convert(shown) if shown != reference.mode else reference)
    header = inspect(path)
    assert (header.shape, header.dtype) == (expected.shape, expected.dtype.name)
    np.testing.assert_array_equal(read(path), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_white_as_the_smallest_is_inverted_and_few_bits_fill_a_byte(bits: int) -> None:
    most = 2**bits - 1
    values = RNG.integers(0, most + 1, (9, 16)).astype(np.uint8 if bits <= 8 else np.uint16)
    rows = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(9, 16, 2), axis=-1)[..., -bits:]
    packed = values.astype("<u2").tobytes() if bits == 16 else np.packbits(rows.reshape(9, -1), axis=-1).tobytes()
    for photometric, shown in ((0, most - values), (1, values)):
        content = Content("a", ".tif", tiff(16, 9, bits, photometric, packed))
        assert inspect(content).dtype == ("uint8" if bits <= 8 else "uint16")
        np.testing.assert_array_equal(read(content)[0], shown.astype(int) * 255 // most if bits < 8 else shown)


def tiff(width: int, height: int, bits: int, photometric: int, data: bytes) -> bytes:
    """Return a TIFF file with one strip."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height),
            (279, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data += b"\0" * (len(data) % 2)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_orientation_is_told_and_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    lines = ["id,label,a,b"]
    for k in range(12):
        name = f"{k}{('.png', '.tif', '.jpg')[k % 3]}"
        Image.fromarray(RGB).save(tmp_path / name, exif=exif)
        assert inspect(tmp_path / name).orientation == 6 and read(tmp_path / name).shape == (3, 20, 24)
        np.save(tmp_path / f"{k}.npy", RNG.normal(size=(8, 8)))
        lines.append(f"{k},{'xy'[k % 2]},{name},{k}.npy")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    said = "12 files of 'a' have an orientation tag, such as "
    with pytest.warns(CmkdWarning, match=said + r".*0\.png: it is not applied"):
        build(tmp_path, tmp_path / "pack")
    assert any(note.startswith(f"{said}that of '0'") for note in check(FolderSource(tmp_path)).notes)


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data


FORMAT = struct.pack("<HHIIHH", 1, 2, 8000, 32000, 4, 16)
SOUND = RNG.integers(-(2**15), 2**15, (50, 2)).astype("<i2")
MOST = 2**32 - 1
WAVS = {
    "pipe": b"RIFF\xff\xff\xff\xffWAVE" + chunk(b"fmt ", FORMAT) + chunk(b"LIST", b"odd", 3) + b"\0"
    + chunk(b"data", SOUND.tobytes(), MOST),
    "pipe cut within a frame": b"RIFF\xff\xff\xff\xffWAVE" + chunk(b"fmt ", FORMAT)
    + chunk(b"data", SOUND.tobytes() + b"xyz", MOST),
    "rf64": b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", struct.pack("<QQQI", 0, 200, 50, 0)) + chunk(b"fmt ", FORMAT)
    + chunk(b"data", SOUND.tobytes(), MOST) + chunk(b"LIST", b"tags"),
    "extensible": b"RIFF" + struct.pack("<I", 260) + b"WAVE"
    + chunk(b"fmt ", struct.pack("<H", 0xFFFE) + FORMAT[2:] + struct.pack("<HHIH", 22, 16, 3, 1)
            + bytes.fromhex("000000001000800000aa00389b71")) + chunk(b"data", SOUND.tobytes()),
}  # fmt: skip


@pytest.mark.parametrize("name", WAVS)
def test_sound_of_unknown_length(name: str) -> None:
    content = Content("a", ".wav", WAVS[name])
    assert (inspect(content).shape, inspect(content).rate) == ((50, 2), 8000)
    np.testing.assert_array_equal(read(content), SOUND)


def test_sound_of_24_bits_fills_the_upper_bits_and_big_endian_is_native() -> None:
    frames = (SOUND.astype(np.int32) * 200).astype("<i4")
    packed = frames.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    form = struct.pack("<HHIIHH", 1, 2, 8000, 48000, 6, 24)
    data = b"RIFF" + struct.pack("<I", 36 + len(packed)) + b"WAVE" + chunk(b"fmt ", form) + chunk(b"data", packed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # float32 holds 24-bit samples exactly, so there is no warning
        np.testing.assert_array_equal(read(Content("a", ".wav", data)), frames << 8)
    swapped = struct.pack(">4sI4s4sIHHIIHH4sI", b"RIFX", 236, b"WAVE", b"fmt ", 16, 1, 2, 8000, 32000, 4, 16, b"data",
                          200) + SOUND.astype(">i2").tobytes()  # fmt: skip
    np.testing.assert_array_equal(read(Content("a", ".wav", swapped)), SOUND)


@pytest.mark.parametrize("tag", [2, 6, 7, 0x55, 0x1234])
def test_encoded_sound_is_to_be_converted(tag: int) -> None:
    form = struct.pack("<HHIIHH", tag, 1, 8000, 8000, 1, 8)
    data = b"RIFF" + struct.pack("<I", 136) + b"WAVE" + chunk(b"fmt ", form) + chunk(b"data", bytes(100))
    with pytest.raises(CmkdError, match=r"holds sound in .*: convert it to PCM, as in ffmpeg"):
        inspect(Content("a", ".wav", data))


def test_values_that_floats_cannot_hold_are_told_of_once_a_folder(tmp_path: Path) -> None:
    tiny = np.full((4, 4), 1e-300)
    whole = np.full((4, 4), 2**24 + 1)
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", tiny if k else whole)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for k in (0, 1, 2):
            read(tmp_path / f"{k}.npy")
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2 and "16,777,216" in said[0] and "become 0" in said[1]
    np.save(tmp_path / "a.npy", np.full(4, 1e300))
    with pytest.raises(CmkdError, match=r"holds 1e\+300, which float32 cannot hold: rescale it"):
        read(tmp_path / "a.npy")
    pd.DataFrame({"a": [[1.0]]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(CmkdError, match="column 'a' holds list"):
        read(tmp_path / "a.parquet")


STEPS = np.arange(50)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"t": 1.7e9 + STEPS / 10, "x": STEPS / 7}, "so far from 0"),
        ({"north": 5.5e6 + np.sin(STEPS), "east": 500.5 + STEPS}, "so far from 0"),
        ({"t": 1.7e9 + STEPS}, "whole numbers above 16,777,216"),
        ({"t": 1.7e9 + 1e5 * STEPS, "x": STEPS / 7, "k": 0.1 + 0.2 + 0 * STEPS}, ""),
        (
            {"k": np.where(STEPS % 2, 0.3, 0.1 + 0.2), "small": 1e-30 * STEPS, "lost": np.where(STEPS, 1 / 7, np.nan)},
            "",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_differences_that_floats_cannot_hold_are_told_of(
    tmp_path: Path, values: dict[str, np.ndarray], said: str, suffix: str
) -> None:
    frame, path = pd.DataFrame(values).astype(np.float64), tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, frame.to_numpy().T[:, None])  # an image
    else:
        frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        read(path, channels="first" if suffix == ".npy" else None)
    assert len(caught) == bool(said) and all(
        said in str(one.message) and "subtract an offset" in str(one.message) for one in caught
    )


def test_deep_png_with_a_transparent_color_keeps_its_channels(tmp_path: Path) -> None:
    deep = RGB.astype(np.uint16) * 257
    png = imagecodecs.png_encode(deep)
    body = b"tRNS" + bytes(6)
    extra = struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "a.png"
    path.write_bytes(png.replace(png[png.index(b"IDAT") - 4 :], extra + png[png.index(b"IDAT") - 4 :]))
    assert inspect(path).shape == (3, 20, 24)
    np.testing.assert_array_equal(read(path), np.moveaxis(deep, -1, 0))
