"""One sample of a known modality, from a file or an array, at the modality's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.header import Channels, FileHeader, as_kind
from cmkd.data.manifest.readers import read
from cmkd.data.manifest.resize import fit
from cmkd.errors import CmkdError
from cmkd.types import Modality


def load(modality: Modality, path: File, *, channels: Channels | None = None) -> NDArray[Any]:
    """Read a file as a sample of a modality ``(*modality.shape)``; an image of another size is resized.

    Args:
        modality: its shape and dtype.
        path: the file.
        channels: which axis of an image of three axes is the channels; by default the one as long as the modality has
            channels. A file where both outer axes are that long is refused.

    Raises:
        CmkdError: the file is damaged, or has other channels or another dtype; the line names the file.
    """
    return fitted(modality, read(path, modality.kind, channels=channels or modality.channels), path)


def sample(modality: Modality, values: NDArray[Any]) -> NDArray[Any]:
    """Return an array as a sample of a modality ``(*modality.shape)``; an image of another size is resized.

    Args:
        modality: its shape and dtype.
        values: in the order of axes that `Modality` fixes; an image of one channel may lack its axis. The channels of
            an image may be the last axis, if only that one is as long as the modality has channels.

    Raises:
        CmkdError: another number of axes or channels, NaN or infinite values, or values that the dtype cannot hold.

    Example:
        >>> radar = Modality("radar", "image", (1, 4, 4), "uint8")
        >>> sample(radar, np.full((8, 8), 7)).shape
        (1, 4, 4)
    """
    if modality.kind == "image" and values.ndim == 3 and values.shape[0] != modality.channels == values.shape[2]:
        values = np.moveaxis(values, -1, 0)
    header = as_kind("the array", FileHeader(modality.kind, values.shape, values.dtype.name), modality.kind)
    values = values.reshape(header.shape)
    if not np.isfinite(values).all():
        raise CmkdError("the array holds NaN or infinite values: fill them")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused in words
        typed = values.astype(modality.dtype)
    if typed.dtype.kind == "f" and not np.isfinite(typed).all():
        raise CmkdError(f"the array holds {abs(values).max():g}, which {modality.dtype} cannot hold: rescale it")
    exact = typed.dtype.kind == "f" or np.array_equal(typed, values)
    return fitted(modality, typed if exact else values, "the array")


def fitted(modality: Modality, array: NDArray[Any], where: object) -> NDArray[Any]:
    """Return an array of the modality's kind at its size.

    Args:
        modality: its shape and dtype.
        array: in the order of axes that `Modality` fixes.
        where: the file, or what else the array is from, for messages.

    Raises:
        CmkdError: other channels, or another dtype.
    """
    image = modality.kind == "image"
    channels = array.shape[0] if image else array.shape[-1]
    if channels != modality.channels:
        raise CmkdError(f"{where} has {channels} channels, '{modality.name}' has {modality.channels}: convert it")
    if array.dtype.name != modality.dtype:
        raise CmkdError(
            f"{where} holds {array.dtype.name}, '{modality.name}' is {modality.dtype}: its values would mean "
            "something else; convert it"
        )
    return fit(array, modality.kind, modality.shape[1:] if image else modality.shape[:-1])
