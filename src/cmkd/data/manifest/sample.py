"""One sample of a known modality, from a file or an array, at the modality's size."""

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
        modality: its shape and dtype, and the values that mark invalid samples.
        path: the file, on disk or in memory.
        channels: which axis of an image of three axes is the channels; by default the one as long as the modality has
            channels. A file where both outer axes are that long is refused.

    Returns:
        A masked array if some values are invalid; `Modality.filled` follows.

    Raises:
        CmkdError: the file is damaged, has other channels or another dtype, or no valid value; the line names the file.
    """
    return _some_valid(fitted(modality, modality.masked(_read(modality, path, channels)), path), path)


def load_stored(
    modality: Modality, path: File, channels: Channels | None = None, marks: Collection[float] = ()
) -> NDArray[Any]:
    """Read a file as `load` does, in the form of a pack: invalid values are `Modality.nodata`.

    Raises:
        CmkdError: as `load`; also if a valid value is the nodata value or one of `marks` (as in
            `cmkd.data.manifest.readers.read`), or invalid ones have no value to be stored as.
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
    """Return what a file holds, read as a sample of a known modality; `channels` as for `load`."""
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
        modality: its shape and dtype.
        values: in the order of axes that `Modality` fixes; an image of one channel may lack its axis. The channels of
            an image may be the last axis, if only that one is as long as the modality has channels. Invalid are NaN,
            the modality's nodata value, and what a masked array masks.

    Returns:
        A masked array if some values are invalid; `Modality.filled` follows.

    Raises:
        CmkdError: another number of axes or channels, no valid value, infinite values, or values that the dtype cannot
            hold.

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
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused in words
        typed = values.astype(modality.dtype)
    if typed.dtype.kind == "f" and not np.isfinite(typed).all():
        raise CmkdError(f"the array holds {abs(values).max():g}, which {modality.dtype} cannot hold: rescale it")
    exact = typed.dtype.kind == "f" or np.array_equal(typed, values)
    kept = typed if exact else values
    if np.ma.isMaskedArray(given):
        kept = np.ma.MaskedArray(kept, np.ma.getmaskarray(given))
    return _some_valid(fitted(modality, kept, "the array"), "the array")


def channels_first(modality: Modality, values: NDArray[Any]) -> NDArray[Any]:
    """Return the array of a sample, its channels first where only the last axis is as long as the modality has them."""
    last = modality.kind == "image" and values.ndim == 3 and values.shape[0] != modality.channels == values.shape[2]
    return np.moveaxis(values, -1, 0) if last else values


def fitted(modality: Modality, array: NDArray[Any], where: object) -> NDArray[Any]:
    """Return an array of the modality's kind at its size, masked where it is invalid.

    The padding of a series is invalid if it is of floats, or the modality has a value for invalid samples; else it is
    zeros, which count.

    Args:
        modality: its shape and dtype.
        array: in the order of axes that `Modality` fixes, masked where it is invalid.
        where: the file, or what else the array is from, for messages.

    Raises:
        CmkdError: other channels, or another dtype.
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
    """Move valid values that rounding or clipping made equal to the nodata value by one, so that they stay valid."""
    plain = np.ma.getdata(array)
    beside = nodata + 1 if nodata < np.iinfo(plain.dtype).max else nodata - 1
    plain[(plain == nodata) & ~np.ma.getmaskarray(array)] = beside
