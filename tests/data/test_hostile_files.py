"""Small files that would need much memory or another program are refused in one line, by their first bytes."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import EpsImagePlugin, Image

from cmkd.data.manifest.content import Content
from cmkd.data.manifest.readers import inspect, read
from cmkd.errors import CmkdError

GRAY = np.arange(120, dtype=np.uint8).reshape(12, 10)
HEIGHT, WIDTH, TILE_WIDTH, TILE_HEIGHT = 257, 256, 322, 323


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray = GRAY, /, sizes: dict[int, int] | None = None, **options: object) -> bytes:
    """Return a TIFF file whose size tags are changed after it is written."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    data = buffer.getvalue()
    for tag, value in (sizes or {}).items():
        place = next(i for kind in (3, 4) if (i := data.find(struct.pack("<HHI", tag, kind, 1))) > 0)
        data = data[: place + 2] + struct.pack("<HII", 4, 1, value) + data[place + 12 :]
    return data


def png(side: int, values: np.ndarray) -> bytes:
    """Return a PNG file whose header states `side` x `side` pixels."""
    data = imagecodecs.png_encode(values)
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def jpeg_bomb() -> bytes:
    """Return a TIFF whose only tile is a JPEG that states 60,000 pixels a side."""
    data = tiff(np.zeros((32, 32), np.uint8), tile=(32, 32), compression="jpeg")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", 60000, 60000) + data[place + 4 :]


def children(parent: int, child: int) -> bytes:
    """Return a TIFF file with a child image; the arguments are their subfile types, where 1 means reduced."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(GRAY, subifds=1, subfiletype=parent)
        file.write(GRAY[::2, ::2].copy(), subfiletype=child)
    return buffer.getvalue()


def circle() -> bytes:
    """Return a TIFF file whose only page links to itself as the next page."""
    data = tiff()
    (first,) = struct.unpack("<I", data[4:8])
    end = first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]
    return data[:end] + data[4:8] + data[end + 4 :]


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + bytes(96)


def riff(whole: int, samples: int) -> bytes:
    """Return a WAV file with 2000 bytes of samples whose header states other sizes."""
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    return struct.pack("<4sI8sI16s4sI", b"RIFF", whole, b"WAVEfmt ", 16, form, b"data", samples) + bytes(2000)


BOMBS = {
    "damaged height": (".tif", tiff(sizes={HEIGHT: 4521996}, rowsperstrip=4, compression="lzw"), "too few"),
    "no strip": (".tif", tiff(sizes={HEIGHT: 24}), "truncated"),
    "bomb30k": (".tif", tiff(sizes={HEIGHT: 30000, WIDTH: 30000, 278: 30000}, compression="zlib"),
                "900,000,000 pixels; the limit is 50,000,000: cut it, or raise the limit with CMKD_MAX_PIXELS=10"),
    "tile": (".tif", tiff(tile=(16, 16), compression="zlib", sizes={TILE_WIDTH: 80000, TILE_HEIGHT: 80000}), "pixels"),
    "jpeg in tiff": (".tif", jpeg_bomb(), "a JPEG in it is larger than its strip or tile"),
    "codec": (".tif", tiff(compression="png"), "has the compression PNG: save it with LZW"),
    "children": (".tif", children(1, 0), r"child images \(SubIFDs\)"),
    "circle": (".tif", circle(), "its pages form a loop"),
    "bomb20k_rgb16": (".png", png(20000, np.zeros((4, 4, 3), np.uint16)), "400,000,000 pixels; the limit is"),
    "bomb12k": (".png", png(12000, GRAY), "144,000,000 pixels"),
    "text": (".png", encoded(Image.fromarray(GRAY), "PNG").replace(b"IDAT", b"zTXt"), "cannot be read"),
    "animated": (".png", encoded(Image.fromarray(GRAY), "PNG", save_all=True,
                                  append_images=[Image.fromarray(GRAY + 1)]), "save one picture per file"),
    "12 bits": (".jpg", imagecodecs.jpeg_encode(GRAY.astype(np.uint16), bitspersample=12), "JPEG samples of 12 bit"),
    "riff_small": (".wav", riff(100, 20000), "truncated"),
    "ds_presto": (".npy", npy("{'descr': '<U11', 'fortran_order': False, 'shape': (240,),\0\0"), "cannot be read"),
    "negative": (".npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}\n"), "truncated"),
    "text array": (".npy", npy("{'descr': '<U2', 'fortran_order': False, 'shape': (4,)}\n"), "cannot be stored"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_little_memory(name: str) -> None:
    suffix, data, says = BOMBS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for reader in (inspect, read):
        with pytest.raises(CmkdError, match=says) as caught:
            reader(Content("a", suffix, data))
        assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_pyramid_is_no_damage() -> None:
    np.testing.assert_array_equal(read(Content("a", ".tif", children(0, 1)))[0], GRAY)


def test_only_the_format_of_the_suffix_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("another program is started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    rgb = Image.fromarray(np.dstack([GRAY] * 3))
    for suffix, form, says in (
        (".png", "EPS", "its content is PostScript: convert it"),
        (".png", "JPEG", r"its content is JPEG: name it \.jpg"),
        (".jpg", "PNG", r"its content is PNG: name it \.png"),
        (".tif", "JPEG", r"has the suffix \.tif, but its content is JPEG"),
        (".png", "GIF", "its content is GIF: convert it"),
        (".png", "PPM", "cannot be read"),
    ):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encoded(rgb, form))
        with pytest.raises(CmkdError, match=says):
            inspect(path)


def test_the_limit_is_raised_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros(200))
    table = pd.DataFrame(np.zeros((40, 5)), columns=list("abcde"))
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    for limit, refused in (("119", 4), ("120", 3), ("2000", 0)):
        monkeypatch.setenv("CMKD_MAX_PIXELS", limit)
        said = []
        for path in sorted(tmp_path.iterdir()):
            try:
                read(path)
            except CmkdError as error:
                said.append(str(error))
        assert len(said) == refused and all("the limit is" in line for line in said), said
    monkeypatch.setenv("CMKD_MAX_PIXELS", "1e9")
    with pytest.raises(CmkdError, match="CMKD_MAX_PIXELS is '1e9': give a positive whole number"):
        inspect(tmp_path / "a.png")


def test_damaged_exif_data_change_no_pixel() -> None:
    exif = Image.Exif()
    exif[274], exif[270] = 6, "a long description"
    data = encoded(Image.fromarray(GRAY), "JPEG", exif=exif)
    place = data.index(b"\x12\x01\x03\0") if b"\x12\x01\x03\0" in data else data.index(b"\x01\x12\0\x03")
    content = Content(
        "a", ".jpg", data[: place + 4] + b"\xff" * 8 + data[place + 12 :]
    )  # damages count and value of the tag; no library warning escapes
    assert inspect(content).orientation == 1
    np.testing.assert_array_equal(read(content)[0], np.asarray(Image.open(io.BytesIO(data))))
