"""Reading of one sample of a known modality from a file or an array, at the modality's size."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.header import Channels, FileHeader, as_kind
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.manifest.resize import fit
from cmkd.errors import CmkdError
from cmkd.types import Modality


def load(modality: Modality, path: File, *, channels: Channels | None = None) -> NDArray[Any]:
    """Read a file as a sample of a modality ``(*modality.shape)``; an image of another size is resized.

    Args:
        modality: the modality, with its shape, dtype and values that mark invalid samples.
        path: the file, on disk or in memory.
        channels: which axis of an image with three axes is the channels; by default the outer axis whose length is the
            modality's number of channels. A file in which both outer axes have that length is refused.

    Returns:
        A masked array if some values are invalid; pass it to `Modality.filled`.

    Raises:
        CmkdError: the file is damaged, has other channels, another dtype or no valid value; the message names the file.
    """
    return _some_valid(fitted(modality, modality.masked(_read(modality, path, channels)), path), path)


def load_stored(
    modality: Modality, path: File, channels: Channels | None = None, marks: Collection[float] = ()
) -> NDArray[Any]:
    """Read a file as `load` does, in the form that a pack stores: invalid values become `Modality.nodata`.

    Raises:
        CmkdError: for the same reasons as `load`; also if a valid value is the nodata value or one of `marks` (see
            `cmkd.data.manifest.readers.read`), or if a value is invalid and the modality has integers without a
            nodata value.
    """
    array = _read(modality, path, channels, marks)
    real = np.ma.getdata(array).dtype.kind == "f"
    if not real and isinstance(modality.nodata, int) and (array == modality.nodata).any():  # masked ones are no match
        raise CmkdError(
            f"{path} has valid values {modality.nodata}, which marks invalid ones of '{modality.name}' in other files: "
            f"if it does here, state it for all, as in cmkd data build --nodata {modality.name}={modality.nodata}"
        )
    found = _some_valid(fitted(modality, array, path), path)
    if not np.ma.isMaskedArray(found):
        return found
    if modality.nodata is None and not real:
        raise CmkdError(f"{path} has nodata values, but '{modality.name}' of the pack has none: make the pack again")
    return np.ma.filled(found, np.nan if real else modality.nodata)


def _read(modality: Modality, path: File, channels: Channels | None, marks: Collection[float] = ()) -> NDArray[Any]:
    nodata: Any = modality.file_nodata
    return read(path, modality.kind, channels=channels or modality.channels, nodata=nodata, marks=marks)


def header_of(modality: Modality, path: File, *, channels: Channels | None = None) -> FileHeader:
    """Return the header of a file, read as a sample of a known modality; `channels` is that of `load`."""
    return inspect(path, modality.kind, channels=channels or modality.channels)


def _some_valid(array: NDArray[Any], where: object) -> NDArray[Any]:
    if np.ma.getmaskarray(array).all():
        raise CmkdError(
            f"{where} has no valid value, only nodata or NaN: leave it out (in a manifest, by an empty cell)"
        )
    return array


def sample(modality: Modality, values: NDArray[Any]) -> NDArray[Any]:
    """Return an array as a sample of a modality ``(*modality.shape)``; an image of another size is resized.

    Args:
        modality: the modality, with its shape and dtype.
        values: array in the order of axes that `Modality` fixes; an image of one channel may lack the channel axis. The
            channels of an image may be the last axis, if its length is the modality's number of channels and the first
            axis has another length. NaN, the modality's nodata value and masked elements are invalid.

    Returns:
        A masked array if some values are invalid; pass it to `Modality.filled`.

    Raises:
        CmkdError: the array has another number of axes or channels, no valid value, infinite values, or values that the
            dtype cannot hold.

    Example:
        >>> radar = Modality("radar", "image", (1, 4, 4), "uint8")
        >>> sample(radar, np.full((8, 8), 7)).shape
        (1, 4, 4)
    """
    values = channels_first(modality, values)
    header = as_kind("the array", FileHeader(modality.kind, values.shape, values.dtype.name), modality.kind)
    given = modality.masked(values.reshape(header.shape))
    values = np.ma.filled(given, 0)
    if not np.isfinite(values).all():
        raise CmkdError("the array holds infinite values: fill them")
    with np.errstate(over="ignore", invalid="ignore"):  # values that do not fit raise an error below
        typed = values.astype(modality.dtype)
    if typed.dtype.kind == "f" and not np.isfinite(typed).all():
        raise CmkdError(f"the array holds {abs(values).max():g}, which {modality.dtype} cannot hold: rescale it")
    exact = typed.dtype.kind == "f" or np.array_equal(typed, values)
    kept = typed if exact else values
    if np.ma.isMaskedArray(given):
        kept = np.ma.MaskedArray(kept, np.ma.getmaskarray(given))
    return _some_valid(fitted(modality, kept, "the array"), "the array")


def channels_first(modality: Modality, values: NDArray[Any]) -> NDArray[Any]:
    """Return the array of a sample, with the last axis moved to the front if only that one can be the channels."""
    last = modality.kind == "image" and values.ndim == 3 and values.shape[0] != modality.channels == values.shape[2]
    return np.moveaxis(values, -1, 0) if last else values


def fitted(modality: Modality, array: NDArray[Any], where: object) -> NDArray[Any]:
    """Return an array of the modality's kind at the modality's size, masked where it is invalid.

    The padding of a series is invalid if the series holds floats or the modality has a value for invalid samples;
    otherwise it is zeros, which count as valid.

    Args:
        modality: the modality, with its shape and dtype.
        array: array in the order of axes that `Modality` fixes, masked where it is invalid.
        where: name of the file or other source of the array in messages.

    Raises:
        CmkdError: the array has another number of channels, or another dtype.
    """
    image = modality.kind == "image"
    channels = array.shape[0] if image else array.shape[-1]
    if channels != modality.channels:
        raise CmkdError(f"{where} has {channels} channels, but '{modality.name}' has {modality.channels}: convert it")
    if array.dtype.name != modality.dtype:
        raise CmkdError(
            f"{where} holds {array.dtype.name}, but '{modality.name}' is {modality.dtype}: its values would have "
            "another meaning; convert it"
        )
    mask_padding = modality.kind == "series" and (modality.nodata is not None or array.dtype.kind == "f")
    found = fit(array, modality.kind, modality.size, mask_padding=mask_padding)
    if found is not array and isinstance(modality.nodata, int):
        off_nodata(found, modality.nodata)
    return found


def off_nodata(array: NDArray[Any], nodata: int) -> None:
    """Change valid values that rounding or clipping made equal to the nodata value by one, so that they stay valid."""
    plain = np.ma.getdata(array)
    beside = nodata + 1 if nodata < np.iinfo(plain.dtype).max else nodata - 1
    plain[(plain == nodata) & ~np.ma.getmaskarray(array)] = beside
