"""The reader of PNG and JPEG files, including PNG with 16 bits per channel."""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.header import Decoded, FileHeader, as_orientation
from cmkd.data.manifest.size_limit import check_size
from cmkd.errors import CmkdError

if TYPE_CHECKING:
    from PIL import Image

_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 3, "YCbCr": 3, "I;16": 1, "I": 1, "F": 1}
_DTYPES = {"I;16": "uint16", "I": "int32", "F": "float32"}
_SHOWN = {"P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "1": "L"}
_PNG_SAMPLES = {2: 3, 4: 2, 6: 4}  # color type -> channels of a picture with 16 bits that is not gray
_ORIENTATION = 274
_WARNINGS = threading.Lock()  # warning filters are global to the process


def decode_png(path: File, *, values: bool) -> Decoded:
    """Read a PNG; palettes become RGB, one bit becomes 0 and 255."""
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as file, opened_quietly(PngImageFile, file) as image:
        pictures = getattr(image, "n_frames", 1)
        if pictures > 1:
            raise CmkdError(f"{path} holds {pictures} pictures: save one picture per file")
        header = _header(path, image, _deep_channels(path))
        if not values:
            return header, None
        if b"IEND" not in path.read_bytes():  # pillow does not require the end chunk
            raise CmkdError(f"{path} is truncated: its end is missing; replace it")
        return header, _deep(path, header) if header.dtype == "uint16" and header.shape[0] > 1 else picture_array(image)


def decode_jpeg(path: File, *, values: bool) -> Decoded:
    """Read a JPEG with 8 bits; CMYK becomes RGB. Only the first picture is read, no preview or gain map after it."""
    from PIL.JpegImagePlugin import JpegImageFile

    with path.open("rb") as file:
        try:
            opened = opened_quietly(JpegImageFile, file)
        except SyntaxError as error:
            found = re.search(r"cannot handle (\d+-(?:bit|layer))", str(error))
            if not found:
                raise
            what = found[1].replace("-", " ")
            raise CmkdError(f"{path} has JPEG samples of {what}: convert it to PNG or TIFF") from error
        with opened as image:
            header = _header(path, image)
            return header, picture_array(image) if values else None


def picture_array(image: Image.Image) -> NDArray[Any]:
    """Return a picture's pixels ``(channels, height, width)``; all colors become RGB, one bit 0 or 255."""
    array = np.asarray(image.convert(_SHOWN[image.mode]) if image.mode in _SHOWN else image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def opened_quietly(plugin: Callable[[IO[bytes]], Image.Image], file: IO[bytes]) -> Image.Image:
    """Open a picture without pillow's warnings about damaged EXIF data, which change no pixel."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        image = plugin(file)
        if "exif" in image.info:  # otherwise pillow would decode the pixels of a PNG to search for EXIF data after them
            with suppress(Exception):  # damaged EXIF data change no pixel
                image.info["orientation"] = image.getexif().get(_ORIENTATION)
        return image


def _header(path: File, image: Image.Image, deep: int = 0) -> FileHeader:
    """Return the header of an opened picture; `deep` is the number of channels of a 16-bit color PNG, else 0."""
    if image.mode not in _CHANNELS:
        raise CmkdError(f"{path} has the color mode {image.mode}: convert it to gray or RGB")
    shape = (deep or _CHANNELS[image.mode], image.height, image.width)
    dtype = np.dtype("uint16" if deep else _DTYPES.get(image.mode, "uint8"))
    check_size(path, shape, dtype.itemsize, pixels=image.height * image.width)
    return FileHeader("image", shape, dtype.name, orientation=as_orientation(image.info.get("orientation")))


def _deep_channels(path: File) -> int:
    """Return the number of channels of a 16-bit color PNG, whose lower 8 bits pillow drops; 0 for any other PNG."""
    with path.open("rb") as file:
        bits, color = struct.unpack("24xBB", file.read(26))
    return _PNG_SAMPLES.get(color, 0) if bits == 16 else 0


def _deep(path: File, header: FileHeader) -> NDArray[Any]:
    import imagecodecs

    values: NDArray[Any] = np.moveaxis(imagecodecs.png_decode(path.read_bytes()), -1, 0)
    if values.shape != header.shape:  # the decoder turns a transparent color into an extra channel
        values = values[: header.shape[0]]
    return values
