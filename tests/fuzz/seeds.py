"""Small valid inputs of every format, which `fuzz.mutation` damages."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 255, (8, 8), dtype=np.uint8)
RGB = RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65535, (8, 8, 3), dtype=np.uint16)
BANDS = RNG.normal(-12, 4, (3, 8, 8)).astype(np.float32)


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    """Return what a function writes to a binary file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def png() -> list[bytes]:
    """Return PNG files: gray, color, with alpha, with a palette, of 1 bit, and of 16 bits."""
    pictures = [Image.fromarray(GRAY), Image.fromarray(RGB), Image.fromarray(np.dstack([RGB, GRAY]))]
    pictures += [pictures[1].quantize(8), pictures[0].convert("1"), Image.fromarray(DEEP[..., 0])]
    pictures[0].info["dpi"] = (72, 72)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [written(lambda file, one=one: one.save(file, "PNG")) for one in pictures]
    return [*files, written(lambda file: pictures[1].save(file, "PNG", exif=exif)), imagecodecs.png_encode(DEEP)]


def jpeg() -> list[bytes]:
    """Return JPEG files: gray, color, progressive, CMYK, and with an orientation tag."""
    exif = Image.Exif()
    exif[0x0112] = 6
    gray, color = Image.fromarray(GRAY), Image.fromarray(RGB)
    return [
        written(lambda file: gray.save(file, "JPEG")),
        written(lambda file: color.save(file, "JPEG", exif=exif)),
        written(lambda file: color.save(file, "JPEG", progressive=True)),
        written(lambda file: color.convert("CMYK").save(file, "JPEG")),
    ]


def tiff() -> list[bytes]:
    """Return TIFF files: bands as samples, planes, pages and tiles, compressed or not, palette, 1 bit, and nodata."""

    def one(values: NDArray[Any], **options: Any) -> bytes:  # noqa: ANN401  # what tifffile takes
        return written(lambda file: tifffile.imwrite(file, values, **options))

    def pages(file: io.BytesIO) -> None:
        with tifffile.TiffWriter(file) as several:
            for band in BANDS:
                several.write(band, contiguous=False)

    gray: dict[str, Any] = {"photometric": "minisblack"}
    nodata = [(42113, "s", 0, "-9999", True), (33550, "d", 3, (10.0, 10.0, 0.0), True)]
    return [
        one(GRAY),
        one(DEEP, photometric="rgb"),
        one(BANDS, planarconfig="separate", extratags=nodata, **gray),
        one(BANDS, planarconfig="separate", tile=(16, 16), compression="lzw", **gray),
        one(DEEP[..., 0], compression="deflate", predictor=True),
        one(DEEP[..., 0], byteorder=">", bigtiff=True),
        one(GRAY, photometric="palette", colormap=np.arange(768, dtype=np.uint16).reshape(3, 256)),
        one(RGB, photometric="rgb", compression="jpeg"),
        written(pages),
        written(lambda file: Image.fromarray(GRAY).convert("1").save(file, "TIFF", compression="group4")),
        written(lambda file: Image.fromarray(RGB).save(file, "TIFF", compression="packbits")),
    ]


def npy() -> list[bytes]:
    """Return NPY files: arrays of one to four axes, in both memory orders and several types."""
    given = (BANDS, BANDS[0], BANDS[0, 0], np.asfortranarray(BANDS), BANDS.astype(">f8"), GRAY > 99, BANDS[None])
    return [written(lambda file, values=values: np.save(file, values)) for values in (*given, GRAY.astype(np.int64))]


def wav() -> list[bytes]:
    """Return WAV files: integers of 8 to 32 bits and floats, with one and two channels."""
    values = [RNG.integers(0, 255, 64).astype(np.uint8), RNG.integers(-999, 999, (32, 2)).astype(np.int16)]
    values += [RNG.integers(-999, 999, 32).astype(np.int32), RNG.normal(size=(16, 2)).astype(np.float32)]
    return [written(lambda file, one=one: wavfile.write(file, 8000, one)) for one in values]


def parquet(*frames: pd.DataFrame) -> list[bytes]:
    """Return tables as Parquet files, compressed and not."""
    kinds: tuple[Any, ...] = ("snappy", "zstd", None)
    return [frame.to_parquet(compression=kinds[k % 3], index=False) for k, frame in enumerate(frames)]


def series() -> list[pd.DataFrame]:
    """Return tables of numbers."""
    return [pd.DataFrame({"a": [1.5, 2.5], "b": [3, 4]}), pd.DataFrame(BANDS[0], columns=list("abcdefgh"))]


def zips() -> list[bytes]:
    """Return a zip archive, uncompressed and compressed."""

    def write(file: io.BytesIO, compression: int) -> None:
        with zipfile.ZipFile(file, "w", compression) as archive:
            archive.writestr("a/labels.txt", "cat dog " * 20)
            archive.writestr("a/b.bin", bytes(range(64)))

    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    return [written(lambda file, kind=kind: write(file, kind)) for kind in kinds]


def tars() -> list[bytes]:
    """Return tar archives, uncompressed and compressed, with names in both formats."""

    def write(file: io.BytesIO, mode: str, form: int) -> None:
        with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
            for name in ("a/labels.txt", f"a/{'long' * 40}.bin"):
                info = tarfile.TarInfo(name)
                info.size = 64
                archive.addfile(info, io.BytesIO(bytes(range(64))))

    forms = (("w", tarfile.GNU_FORMAT), ("w", tarfile.PAX_FORMAT), ("w:gz", tarfile.PAX_FORMAT), ("w:xz", 1))
    return [written(lambda file, mode=mode, form=form: write(file, mode, form)) for mode, form in forms]


def idx() -> list[bytes]:
    """Return labels in the IDX format, uncompressed and compressed."""
    plain = b"\0\0\x08\x01\0\0\0\x05" + bytes(range(5))
    return [plain, gzip.compress(plain)]


def safetensors(tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> bytes:
    """Return a safetensors file of arrays, with JSON in its metadata."""
    from safetensors.numpy import save

    return save(tensors, {name: json.dumps(value) for name, value in metadata.items()})
