"""Readers of one sample's file: header or content of an image, an array, a recording or a table of numbers.

They read PNG (also 16 bits per channel), JPEG, TIFF and GeoTIFF, NPY, WAV, and a series as a CSV or Parquet file whose
columns are features and whose rows are times. A file is opened only as the format that its suffix names. Values stay in
the file's own units; 64-bit floats become 32-bit ones, since no model trains in 64 bits. One convention holds for
pictures of all formats: palettes and CMYK become RGB, fewer than 8 bits are stretched to 0 to 255, larger is brighter,
and orientation tags of cameras are not applied, because a rotated image would no longer match its co-registered
modality. A sample that is too large (`cmkd.data.manifest.size_limit`) is refused when its header is read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.arrays import decode_npy
from cmkd.data.manifest.content import File, check_content
from cmkd.data.manifest.gdal import NOT_APPLIED, ValueTags, equal, measured
from cmkd.data.manifest.header import Channels, Decoded, FileHeader, as_kind, channels_last
from cmkd.data.manifest.pictures import decode_jpeg, decode_png
from cmkd.data.manifest.reading import SIDECAR
from cmkd.data.manifest.series import decode_csv, decode_parquet
from cmkd.data.manifest.sound import decode_wav
from cmkd.data.manifest.tiff import decode_tiff
from cmkd.data.text_table import is_number
from cmkd.errors import CmkdError, CmkdWarning, not_let
from cmkd.types import Kind

TABLES = (".csv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_DECODERS: Mapping[str, Callable[..., Decoded]] = {
    ".png": decode_png,
    ".jpg": decode_jpeg,
    ".jpeg": decode_jpeg,
    ".tif": decode_tiff,
    ".tiff": decode_tiff,
    ".npy": decode_npy,
    ".wav": decode_wav,
    ".csv": decode_csv,
    ".parquet": decode_parquet,
}
SUFFIXES = tuple(_DECODERS)
MASK = ".msk"
"""Suffix that GDAL appends to an image's name for its mask file."""
AUXILIARY = ".aux.xml"
"""Suffix that GDAL appends to an image's name for metadata that its format cannot hold."""
_NODATA = re.compile(r"<NoDataValue[^>]*>([^<]*)<")
_LINEAR = re.compile(r"<(Scale|Offset)>([^<]*)<")
CONSTANT = 100
"""A channel counts as constant if its standard deviation is at most this many rounding errors of 64-bit floats."""


def inspect(path: File, kind: Kind | None = None, *, channels: Channels | None = None) -> FileHeader:
    """Return what a file holds, from its header where the format has one.

    Args:
        path: the file, on disk or in memory.
        kind: how to read the file. By default, pictures are images, recordings and tables are series, and an array is a
            vector (one axis) or an image (two or three axes).
        channels: which axis of an image with three axes is the channels, ``first`` or ``last``, or the number of
            channels; by default the shape must decide (`cmkd.data.manifest.header.channels_last`). Pictures and most
            TIFF files state it themselves.

    Raises:
        CmkdError: the file is damaged or truncated, or holds something unsupported; the message names the file.
    """
    header, _ = _decoded(path, values=False)
    return _settled(path, header, kind, channels)[0]


def read(
    path: File,
    kind: Kind | None = None,
    *,
    finite: bool = True,
    channels: Channels | None = None,
    nodata: float | Literal["none"] | None = None,
    marks: Collection[float] = (),
) -> NDArray[Any]:
    """Return the array of a file in the shape and dtype that `inspect` returns, masked if some values are invalid.

    NaN and the nodata value are invalid. The scale and offset that a TIFF states are applied.

    Args:
        path: the file, on disk or in memory.
        kind: how to read the file (see `inspect`).
        finite: refuse infinite values.
        channels: position or number of the channels (see `inspect`).
        nodata: nodata value that replaces the one the file states; ``"none"`` for none.
        marks: nodata values in the tags of this file or of others of its modality, refused where they count as valid.

    Raises:
        CmkdError: the file is damaged or truncated, or has infinite values, values that 32 bits cannot hold, or one of
            `marks` as a valid value, or GDAL states its nodata value, scale or offset in a file beside it; the message
            names the file.
    """
    found, array = _decoded(path, values=True)
    assert array is not None
    if isinstance(path, Path):
        _check_auxiliary(path, found.tags, nodata=nodata is None and found.tags.nodata is None)
    raw, array = array, measured(array, found.tags, nodata)
    for value in marks:
        if (equal(raw, value) & ~np.ma.getmaskarray(array)).any():
            raise CmkdError(
                f"{path} has values {value:g} that count as valid, though tags of its modality's files call {value:g} "
                f"nodata: state what is, as `nodata` in {SIDECAR} or in cmkd data build --nodata MODALITY={value:g}"
            )
    header, last = _settled(path, found, kind, channels)
    if last:
        array = np.moveaxis(array, -1, 0)
    array = array.reshape(header.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # values that do not fit raise an error below
        stored = array.astype(header.dtype, order="C", copy=False)
    valid, kept = np.ma.compressed(array), np.ma.compressed(stored)
    if kept.dtype.kind == "f" and (infinite := np.isinf(kept)).any():
        if (lost := valid[infinite & np.isfinite(valid)]).size:
            raise CmkdError(f"{path} holds {abs(lost).max():g}, which {header.dtype} cannot hold: rescale it")
        if finite:
            raise CmkdError(
                f"{path} holds infinite values: fill them, or leave it out (in a manifest, by an empty cell)"
            )
    _warn_of_lost_values(path, valid, kept, flattened=_flattened(array, stored, header.kind))
    return stored


def _decoded(path: File, *, values: bool) -> Decoded:
    """Decode a file; any exception of its decoder becomes a `CmkdError` of one line."""
    suffix = path.suffix.lower()
    if suffix not in _DECODERS:
        raise CmkdError(f"{path} has an unsupported file type; supported: {', '.join(SUFFIXES)}: convert it")
    if isinstance(path, Path) and path.with_name(f"{path.name}{MASK}").exists():
        raise CmkdError(f"{path} has a mask in {path.name}{MASK}, {NOT_APPLIED}")
    try:
        check_content(path)
        return _DECODERS[suffix](path, values=values)
    except CmkdError:
        raise
    except FileNotFoundError:
        raise CmkdError(f"{path} does not exist") from None
    except MemoryError:
        raise CmkdError(f"{path} is too large to read") from None
    except Exception as error:
        # decoders raise whatever they like on damaged bytes (struct.error, SyntaxError, ImcdError, ...)
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        damaged = CmkdError(f"{path} cannot be read; it is truncated or damaged ({reason}): replace it")
        raise (not_let(path, error) or damaged) from error


def _check_auxiliary(path: Path, tags: ValueTags, *, nodata: bool) -> None:
    """Refuse a picture whose scale, offset or (with `nodata`) nodata value is only in GDAL's file beside it.

    Its values would be in another unit, or its invalid samples would count as valid.
    """
    beside = path.with_name(f"{path.name}{AUXILIARY}")
    if not beside.is_file():
        return
    text = beside.read_text(encoding="utf-8", errors="replace")
    for name, value in () if tags.scaled else _LINEAR.findall(text):
        if is_number(value) and float(value) != (name == "Scale"):
            raise CmkdError(
                f"{path} has {name} {float(value):.9g} in {beside.name}, which is not read: apply it, as in "
                f"gdal_translate -unscale -ot Float32 {path.name} {path.stem}.tif"
            )
    stated = _NODATA.search(text) if nodata else None
    if stated is not None and is_number(stated[1]) and float(stated[1]) == float(stated[1]):  # NaN is invalid anyway
        value = f"{float(stated[1]):.9g}"
        raise CmkdError(
            f"{path} has NoData {value} in {beside.name}, which is not read: state it, as in cmkd data build --nodata "
            f"MODALITY={value}, or MODALITY=none"
        )


def _settled(path: File, found: FileHeader, kind: Kind | None, channels: Channels | None) -> tuple[FileHeader, bool]:
    """Return a header in the order of the kind's axes, and whether the channels are the last axis in the file."""
    last = (kind or found.kind) == "image" and channels_last(path, found, channels)
    return as_kind(path, found, kind, channels_last=last), last


def _flattened(array: NDArray[Any], stored: NDArray[Any], kind: Kind) -> bool:
    """Whether 32-bit floats change a channel (or a vector) by over a hundredth of its standard deviation."""
    if array.dtype != np.float64:
        return False
    axis = 0 if kind == "image" else -1
    values, kept = (
        one.reshape(1, -1) if kind == "vector" else np.moveaxis(one, axis, 0).reshape(one.shape[axis], -1)
        for one in (array, np.ma.getdata(stored).astype(np.float64))
    )
    values = np.ma.masked_where(~np.isfinite(kept) | np.ma.getmaskarray(values), np.ma.getdata(values))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values are masked
        spread, most = values.std(axis=1), abs(values).max(axis=1)
        varies = spread > CONSTANT * np.finfo(np.float64).eps * most
        return bool(np.ma.any(varies & (abs(values - kept).max(axis=1) > spread / 100)))


def _warn_of_lost_values(path: File, array: NDArray[Any], stored: NDArray[Any], *, flattened: bool) -> None:
    """Warn about values that a 32-bit float cannot hold, with the same text for all files of a folder."""
    folder = getattr(path, "parent", None)
    files = path if folder is None else f"{folder}/*{path.suffix}"
    whole = array.dtype.kind in "iu" and array.dtype.itemsize > 2
    small = array.dtype == np.float64 and bool(((stored == 0) & (array != 0)).any())
    if whole:
        flattened = bool((array.astype(np.float32).astype(np.float64) != array).any())
    if flattened and not small and (array == np.rint(array)).all():
        problem = f"whole numbers above {2**24:,} that a network's 32-bit floats cannot tell apart"
    elif small:
        problem = "values too small for 32-bit floats, which become 0"
    elif flattened:
        problem = "values so far from 0 that 32-bit floats cannot hold their differences"
    else:
        return
    warnings.warn(f"{files} hold {problem}: subtract an offset, or rescale them", CmkdWarning, stacklevel=1)
