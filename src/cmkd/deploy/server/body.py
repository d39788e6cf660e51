"""Turn a request body into samples: no writes to disk, no unpickling, and no decoding before the size is known."""

from __future__ import annotations

import math
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.arrays import read_npy
from cmkd.data.manifest.content import Content
from cmkd.data.manifest.pictures import opened_quietly
from cmkd.data.manifest.readers import inspect
from cmkd.data.manifest.sample import channels_first
from cmkd.data.manifest.tiff_blocks import BOUNDED, check_chain
from cmkd.deploy.new_sample import numbered, sample_of_array, sample_of_file
from cmkd.deploy.server.limits import Limits, Refused
from cmkd.errors import CmkdError
from cmkd.types import Kind, Modality

IMAGES = {"image/png": ".png", "image/jpeg": ".jpg", "image/tiff": ".tif"}
SOUNDS = {"audio/wav": ".wav", "audio/x-wav": ".wav", "audio/vnd.wave": ".wav"}
ARRAYS = {"application/x-npy": ".npy"}


def media_types(kind: Kind) -> dict[str, str]:
    """Return the media types that a model of this kind accepts, each with the file suffix of its format.

    Example:
        >>> list(media_types("vector"))
        ['application/x-npy']
    """
    return ARRAYS | (IMAGES if kind == "image" else SOUNDS if kind == "series" else {})


def requested_suffix(content_type: str, kind: Kind) -> str:
    """Return the file suffix for the content type of a request.

    Raises:
        Refused: if the model does not accept this type (status 415).
    """
    known = media_types(kind)
    given = content_type.partition(";")[0].strip().lower()
    if given not in known:
        raise Refused(415, f"this model takes {', '.join(known)}: send the body with its Content-Type")
    return known[given]


def samples(content: Content, modality: Modality, limits: Limits) -> NDArray[Any]:
    """Decode a request body to samples ``(n, *modality.shape)``.

    Args:
        content: body of the request.
        modality: modality of the model. An array may hold one sample or several, as for `Student.predict`.
            Invalid values (NaN, nodata) are filled with the modality's mean.
        limits: limits on image size and on the number of samples.

    Raises:
        Refused: if there are more pixels or samples than the limits allow (status 413).
        CmkdError: if the body is damaged or is not a sample of the modality.
    """
    if content.suffix == ".npy":
        array = _array(content)
        return _batch(array if array.ndim > len(modality.shape) else array[None], modality, limits)
    if content.suffix == ".tif":
        _check_tiff(content, modality, limits)
    elif content.suffix != ".wav":
        size = _declared(content)
        _check_size(size, modality, limits)
        if content.suffix == ".png" and _inflates_beyond(content.data, (size[0] + 8) * (size[1] + 8) * 8 + 2**16):
            raise CmkdError(f"{content} has more pixel data than its header states: save it again")
    return np.stack([sample_of_file(modality, content)])  # a copy: torch warns about the decoders' read-only arrays


def _array(content: Content) -> NDArray[Any]:
    try:
        return read_npy(content)
    except CmkdError:
        raise
    except Exception as error:  # numpy's header parser may raise many error types
        reason = " ".join(str(error).split())[:80]
        raise CmkdError(f"{content} is not an NPY array ({reason}): save it with numpy.save") from error


def _batch(array: NDArray[Any], modality: Modality, limits: Limits) -> NDArray[Any]:
    if len(array) > limits.batch:
        raise Refused(413, f"{len(array)} samples in one request, the limit is {limits.batch}: send several requests")
    if not array.size:
        raise CmkdError(f"the array is empty: its shape is {array.shape}")
    _check_size(channels_first(modality, array[0]).shape[-2:], modality, limits)
    found = []
    for place, one in enumerate(array):
        with numbered(place, len(array)):
            found.append(sample_of_array(modality, one))
    return np.stack(found)


def _check_size(shape: tuple[int, ...], modality: Modality, limits: Limits) -> None:
    """Refuse an image with too many pixels; other kinds are limited only by the size of the body."""
    if modality.kind != "image" or not shape:
        return
    size = "x".join(map(str, shape))
    if math.prod(shape) > limits.pixels:
        raise Refused(413, f"the image has {size} pixels, the limit is {limits.pixels} in all: send a smaller one")
    if max(shape) > limits.side:
        raise Refused(413, f"the image has {size} pixels, the limit of a side is {limits.side}: send a smaller one")


def _declared(content: Content) -> tuple[int, int]:
    """Return height and width from the header of a PNG or JPEG."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    opener = PngImageFile if content.suffix == ".png" else JpegImageFile  # Image.open would try every format it knows
    try:
        with opened_quietly(opener, content.open()) as image:
            return image.height, image.width
    except Exception as error:  # decoders raise many error types on damaged bytes
        kind = "PNG" if content.suffix == ".png" else "JPEG"
        raise CmkdError(f"{content} is not a {kind} image, or it is truncated: check its Content-Type") from error


def _inflates_beyond(png: bytes, most: int) -> bool:
    """Return whether the pixel data of a PNG decompress to more than `most` bytes; libpng would decompress all."""
    inflate, place, total = zlib.decompressobj(), 8, 0
    with suppress(zlib.error):  # the decoder reports the damage later
        while place + 8 <= len(png) and total <= most:
            length, name = struct.unpack_from(">I4s", png, place)
            if name == b"IDAT":
                total += len(inflate.decompress(png[place + 8 : place + 8 + length], most + 1 - total))
            place += length + 12
    return total > most


def _check_tiff(content: Content, modality: Modality, limits: Limits) -> None:
    """Refuse a TIFF that exceeds the limits when decompressed: in its pages, its tiles, or its declared shape."""
    import tifffile

    try:
        check_chain(content)
        with tifffile.TiffFile(content.open()) as file:
            for page in (page.aspage() for page in file.pages):
                compression = tifffile.COMPRESSION(page.compression).name
                if compression not in BOUNDED:
                    raise CmkdError(f"{content} has the compression {compression}: save it with LZW, deflate or none")
                _check_size(page.tile or (), modality, limits)
                _check_size((page.imagelength, page.imagewidth), modality, limits)
    except (CmkdError, Refused):
        raise
    except Exception as error:  # tifffile raises many error types on damaged bytes
        raise CmkdError(f"{content} is not a TIFF image, or it is truncated: check its Content-Type") from error
    shape = inspect(content, modality.kind, channels=modality.channels).shape
    if shape[0] != modality.channels:
        raise CmkdError(f"{content} has {shape[0]} channels, but '{modality.name}' has {modality.channels}: convert it")
    _check_size(shape[1:], modality, limits)
