"""Readers of one sample's file: header or content of an image, an array or a recording.

They read PNG (also 16 bits per channel), JPEG, TIFF and GeoTIFF, NPY and WAV. Values stay in the file's own units;
64-bit floats become 32-bit ones, since nothing trains in 64. Orientation tags of cameras are not applied, because they
would turn an image away from the modality it is co-registered with.
"""

from __future__ import annotations

import struct
import threading
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError
from cmkd.types import DTYPES, Kind

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".wav")
_PIL_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 3, "YCbCr": 3, "I;16": 1, "I": 1, "F": 1}
_PIL_DTYPES = {"I;16": "uint16", "I": "int32", "F": "float32"}
_WAV = threading.Lock()  # scipy warns, and the filters of warnings are global to the process


@dataclass(frozen=True)
class FileHeader:
    """What a file holds, as far as its header says."""

    kind: Kind  # how to read the array
    shape: tuple[int, ...]  # of the array, in the order that `Modality` fixes for the kind
    dtype: str  # as it will be stored
    rate: int = 0  # samples per second of a recording, 0 elsewhere


def inspect(path: Path, kind: Kind | None = None) -> FileHeader:
    """Return what a file holds, from its header where the format has one.

    Args:
        path: the file.
        kind: how to read it. By default pictures are images, recordings are series, and an array is a vector (one
            axis), an image of one channel (two), or an image whose channels are the smaller of the outer axes (three).

    Raises:
        CmkdError: the file is damaged or truncated, or holds something that cannot be used; the line names the file.
    """
    found = _guarded(path, _header)
    return as_kind(path, found, kind, channels_last=_channels_last(path, found.shape))


def read(path: Path, kind: Kind | None = None, *, finite: bool = True) -> NDArray[Any]:
    """Return the array of a file, shaped and typed as `inspect` said.

    Args:
        path: the file.
        kind: how to read it; as in `inspect`.
        finite: refuse NaN and infinite values.

    Raises:
        CmkdError: the file is damaged or truncated, or has NaN or infinite values; the line names the file.
    """
    array = _guarded(path, _content)
    last = _channels_last(path, array.shape)
    header = FileHeader(_natural(path, array.shape), array.shape, array.dtype.name)
    header = as_kind(path, header, kind, channels_last=last)
    if header.kind == "image" and last:
        array = np.moveaxis(array, -1, 0)
    array = np.ascontiguousarray(array.reshape(header.shape), dtype=header.dtype)
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CmkdError(f"{path} holds NaN or infinite values: fill them, or leave its cell of the manifest empty")
    return array


def _guarded(path: Path, reader: Any) -> Any:  # noqa: ANN401  # header and content share one translation of errors
    if path.suffix.lower() not in SUFFIXES:
        raise CmkdError(f"{path} has an unsupported file type; supported: {', '.join(SUFFIXES)}: convert it")
    try:
        return reader(path)
    except CmkdError:
        raise
    except FileNotFoundError:
        raise CmkdError(f"{path} does not exist") from None
    except MemoryError:
        raise CmkdError(f"{path} is too large to read") from None
    except Exception as error:
        # decoders raise whatever they like on damaged bytes (struct.error, SyntaxError, ImcdError, ...)
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise CmkdError(f"{path} cannot be read, it is truncated or damaged ({reason}): replace it") from error


def _header(path: Path) -> FileHeader:
    match path.suffix.lower():
        case ".png" | ".jpg" | ".jpeg":
            return _picture_header(path)
        case ".tif" | ".tiff":
            shape, dtype = _tiff(path, read=False)
            return FileHeader("image", shape, dtype.name)
        case ".wav":
            rate, values = _wav(path)
            return FileHeader("series", values.shape, values.dtype.name, rate)
        case ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return FileHeader(_natural(path, array.shape), array.shape, array.dtype.name)
    raise CmkdError(f"{path} has an unsupported file type; supported: {', '.join(SUFFIXES)}: convert it")


def _content(path: Path) -> NDArray[Any]:
    match path.suffix.lower():
        case ".png" | ".jpg" | ".jpeg":
            return _picture(path)
        case ".tif" | ".tiff":
            array: NDArray[Any] = _tiff(path, read=True)[2]
            return array
        case ".wav":
            return _wav(path)[1]
    return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]


def _natural(path: Path, shape: tuple[int, ...]) -> Kind:
    if path.suffix.lower() == ".wav":
        return "series"
    return "vector" if len(shape) == 1 else "image"


def _channels_last(path: Path, shape: tuple[int, ...]) -> bool:
    return path.suffix.lower() == ".npy" and len(shape) == 3 and shape[-1] < shape[0]


def as_kind(where: object, header: FileHeader, kind: Kind | None, *, channels_last: bool = False) -> FileHeader:
    """Return a header with the shape that the kind fixes and the dtype that is stored.

    Args:
        where: the file, or what else is read, for messages.
        header: kind, shape and dtype as found.
        kind: the kind to read it as; by default the header's own.
        channels_last: whether an image's channels are its last axis.

    Raises:
        CmkdError: the shape does not fit the kind, or the dtype cannot be stored.
    """
    shape, wanted = header.shape, kind or header.kind
    if header.dtype.startswith("complex"):
        raise CmkdError(f"{where} is complex: save its amplitude, or its real and imaginary parts as two channels")
    if not shape or 0 in shape:
        raise CmkdError(f"{where} is empty: its shape is {shape}")
    if wanted == "image" and channels_last:
        shape = (shape[2], shape[0], shape[1])
    if wanted == "image" and len(shape) == 2:
        shape = (1, *shape)
    if wanted == "series" and len(shape) == 1:
        shape = (*shape, 1)
    axes = {"image": 3, "vector": 1, "series": 2, "points": 2, "point_series": 3}[wanted]
    if len(shape) != axes:
        raise CmkdError(f"{where} has shape {header.shape}, which does not fit the kind {wanted}: choose another kind")
    dtype = {"float64": "float32", "bool": "uint8"}.get(header.dtype, header.dtype)
    if dtype not in DTYPES:
        raise CmkdError(f"{where} holds {header.dtype}, which cannot be stored: save it as one of {', '.join(DTYPES)}")
    return replace(header, kind=wanted, shape=shape, dtype=dtype)


def _picture_header(path: Path) -> FileHeader:
    from PIL import Image

    bits, color = _png_depth(path)
    if bits == 16 and color != 0:  # pillow would silently drop the lower 8 bits
        array = _picture(path)
        return FileHeader("image", array.shape, array.dtype.name)
    with Image.open(path) as image:
        mode, (width, height) = image.mode, image.size
    if mode not in _PIL_CHANNELS:
        raise CmkdError(f"{path} has the color mode {mode}: convert it to gray or RGB")
    return FileHeader("image", (_PIL_CHANNELS[mode], height, width), _PIL_DTYPES.get(mode, "uint8"))


def _picture(path: Path) -> NDArray[Any]:
    from PIL import Image

    bits, color = _png_depth(path)
    if bits == 16 and color != 0:
        import imagecodecs

        deep: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
        return np.moveaxis(deep, -1, 0)
    with Image.open(path) as image:
        image.load()
        if image.format == "PNG" and b"IEND" not in path.read_bytes():  # pillow does without the end
            raise CmkdError(f"{path} is truncated: it has no end; replace it")
        return picture_array(image)


def picture_array(image: Image.Image) -> NDArray[Any]:
    """Return a picture's pixels ``(channels, height, width)``; palettes, CMYK and YCbCr become RGB."""
    modes = {"P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "1": "L"}
    array = np.asarray(image.convert(modes[image.mode]) if image.mode in modes else image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _png_depth(path: Path) -> tuple[int, int]:
    """Return bits per channel and color type of a PNG, zeros for anything else."""
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return 0, 0
    return head[24], head[25]


def _tiff(path: Path, *, read: bool) -> Any:  # noqa: ANN401  # (shape, dtype) or (shape, dtype, array)
    """Read a TIFF, channels first: bands interleaved, planar or as pages; previews and masks are skipped."""
    import tifffile

    _check_tiff_chain(path)
    size = path.stat().st_size
    with tifffile.TiffFile(path) as file:
        parts = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)] or file.series[:1]
        if len({(s.shape, s.axes, np.dtype(s.dtype)) for s in parts}) > 1 or (len(parts) > 1 and parts[0].ndim != 2):
            raise CmkdError(f"{path} holds {len(parts)} pictures that are not bands of one image: save one per file")
        for page in (page for s in parts for page in s.pages):
            blocks = zip(page.dataoffsets, page.databytecounts, strict=False) if page is not None else ()
            if page is None or max((o + n for o, n in blocks), default=0) > size:  # missing data is read as zeros
                raise CmkdError(f"{path} is truncated: {size} bytes, its header promises more; replace it")
        axes, dtype = parts[0].axes, np.dtype(parts[0].dtype)
        shape = tuple(int(n) for n in parts[0].shape)
        array = np.stack([s.asarray() for s in parts]) if read else None
    if len(parts) == 1 and len(shape) > 3:  # axes of length one that some writers add
        kept = [k for k, n in enumerate(shape) if n > 1 or axes[k] in "YX"]
        shape, axes = tuple(shape[k] for k in kept), "".join(axes[k] for k in kept)
    if len(shape) == 2:
        order, target = (0, 1, 2), (len(parts), *shape)
    elif len(shape) == 3 and axes.endswith("YX"):
        order, target = (0, 1, 2), shape
    elif len(shape) == 3 and axes.startswith("YX"):
        order, target = (2, 0, 1), (shape[2], shape[0], shape[1])
    else:
        raise CmkdError(f"{path} has the axes {axes} {shape}: save one image with its bands, height and width")
    if array is None:
        return target, dtype
    return target, dtype, array.reshape((len(parts), *shape) if len(shape) == 2 else shape).transpose(order)


def _check_tiff_chain(path: Path) -> None:
    """Follow the directories of a TIFF to the last, since tifffile ignores one that is cut off."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise CmkdError(f"{path} is truncated or not a TIFF file: replace it")
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        count, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
        (position,) = struct.unpack(f"{order}{pointer}", head[8:16] if big else head[4:8])
        seen: set[int] = set()
        while position and position not in seen:
            seen.add(position)
            file.seek(position)
            (entries,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(f"={count}")))
            end = position + struct.calcsize(f"={count}") + entries * entry
            if end + struct.calcsize(f"={pointer}") > size:
                raise CmkdError(f"{path} is truncated: {size} bytes, its header promises more; replace it")
            file.seek(end)
            (position,) = struct.unpack(f"{order}{pointer}", file.read(struct.calcsize(f"={pointer}")))


def _wav(path: Path) -> tuple[int, NDArray[Any]]:
    """Return samples per second and ``(time, channels)``."""
    from scipy.io import wavfile

    with path.open("rb") as file:
        head = file.read(12)
    size = path.stat().st_size
    if head[:4] == b"RIFF" and len(head) == 12 and struct.unpack("<I", head[4:8])[0] + 8 > size:
        raise CmkdError(f"{path} is truncated: {size} bytes, its header promises more; replace it")
    with _WAV, warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # it warns of tags that it skips
        rate, values = wavfile.read(path)
    return int(rate), values[:, None] if values.ndim == 1 else values
