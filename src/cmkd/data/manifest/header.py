"""What one sample's file holds: kind, shape and dtype, and which of its axes are the channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

from cmkd.data.manifest.gdal import NO_TAGS, ValueTags
from cmkd.errors import CmkdError
from cmkd.types import AXES, DTYPES, Kind

Channels = Literal["first", "last"] | int
"""Where the channels of an array of three axes are, or how many there are, which tells."""


class ExtraAxisError(CmkdError):
    """An array with one axis more than the kind has, as several samples in one file have."""


@dataclass(frozen=True)
class FileHeader:
    """What a file holds, as far as its header says."""

    kind: Kind  # how to read the array
    shape: tuple[int, ...]  # of the array, in the order that `Modality` fixes for the kind
    dtype: str  # as it will be stored
    rate: int = 0  # samples per second of a recording, 0 elsewhere
    orientation: int = 1  # EXIF orientation of a picture, which is not applied; 1 is upright
    tags: ValueTags = NO_TAGS  # nodata, scale and offset of the stored values
    order: Literal["told", "pages", "open"] = "told"  # whether the format tells which axis of an image is the channels
    names: tuple[str, ...] = ()  # of the columns of a table


Decoded = tuple[FileHeader, NDArray[Any] | None]
"""What a decoder returns: the header, and the values, as stored, where they were asked for, the tags not applied."""


def as_kind(where: object, header: FileHeader, kind: Kind | None, *, channels_last: bool = False) -> FileHeader:
    """Return a header with the shape that the kind fixes and the dtype that is stored.

    Args:
        where: the file, or what else is read, for messages.
        header: kind, shape and dtype as found.
        kind: the kind to read it as; by default the header's own.
        channels_last: whether an image's channels are its last axis.

    Raises:
        CmkdError: the shape does not fit the kind (an `ExtraAxisError` if it has one axis more), or the dtype cannot be
            stored.
    """
    shape, wanted = header.shape, kind or header.kind
    if header.dtype.startswith("complex"):
        raise CmkdError(f"{where} is complex: save its amplitude, or its real and imaginary parts as two channels")
    if 0 in shape:
        raise CmkdError(f"{where} is empty: its shape is {shape}")
    if wanted == "image" and channels_last:
        shape = (shape[2], shape[0], shape[1])
    if wanted == "image" and len(shape) == 2:
        shape = (1, *shape)
    if wanted == "series" and len(shape) == 1:
        shape = (*shape, 1)
    axes = AXES[wanted]
    if len(shape) != len(axes):
        made = ExtraAxisError if len(shape) == len(axes) + 1 else CmkdError
        raise made(
            f"{where} has shape {header.shape}, which does not fit the kind {wanted} ({', '.join(axes)}): reshape "
            "it, or choose another kind for all samples"
        )
    dtype = {"float64": "float32", "bool": "uint8"}.get(header.dtype, header.dtype)
    if dtype not in DTYPES:
        raise CmkdError(
            f"{where} holds {header.dtype}, which cannot be stored: convert it to one of {', '.join(DTYPES)}"
        )
    return replace(header, kind=wanted, shape=shape, dtype=dtype)


def channels_last(where: object, header: FileHeader, channels: Channels | None) -> bool:
    """Return whether the channels of an image are the last of its three axes.

    A picture and most TIFF files tell. Of any other array, `channels` tells; where it is None, the shape does, if the
    signs agree: two equal neighboring axes are height and width, and an outer axis of at most 4 beside an outer axis
    above 4 is the channels. A number of channels tells if exactly one outer axis has that length.

    Args:
        where: the file, or what else is read, for messages.
        header: its shape as found.
        channels: ``first``, ``last``, the number of channels, or None.

    Raises:
        CmkdError: nothing tells, or the signs disagree.

    Example:
        >>> for shape in ((11, 11, 144), (144, 11, 11), (3, 48, 64), (48, 64, 3)):
        ...     channels_last("a.npy", FileHeader("image", shape, "uint8", order="open"), None)
        True
        False
        False
        True
    """
    shape = header.shape
    if header.order == "told" or len(shape) != 3:
        return False
    if isinstance(channels, str):
        return channels == "last"
    if channels is not None:
        if shape[0] == shape[2] == channels:
            raise CmkdError(
                f"{where} has shape {shape}: its {channels} channels may be its first axis or its last; save it as "
                "TIFF, which records it"
            )
        return shape[2] == channels != shape[0]
    signs = channel_signs(shape)
    if header.order == "pages" and signs != {"last"}:
        return False
    if len(signs) != 1 or header.order == "pages":
        first, last = (f"{c} x {h} x {w}" for c, h, w in (shape, (shape[2], *shape[:2])))
        raise CmkdError(
            f"{where} has shape {shape}: channels x height x width may be {first} or {last}; say which, as in "
            "--channels NAME=first or --channels NAME=last"
        )
    return signs == {"last"}


def channel_signs(shape: tuple[int, ...]) -> set[str]:
    """Return what the lengths of three axes say of the channels' place."""
    a, b, c = shape
    signs = set()
    if (b == c != a) or (a <= 4 < c):
        signs.add("first")
    if (a == b != c) or (c <= 4 < a):
        signs.add("last")
    return signs


def as_orientation(value: object) -> int:
    """Return an EXIF orientation, and 1, upright, for what is none.

    Example:
        >>> as_orientation(6), as_orientation(0), as_orientation("left")
        (6, 1, 1)
    """
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def turned_note(modality: str, turned: int, example: object) -> str:
    """Say in a line that pictures of a modality have an orientation tag, which is not applied."""
    return (
        f"{turned} files of '{modality}' have an orientation tag, such as {example}: it is not applied, so "
        "that co-registered images keep their grid; turn the pixels where they must be upright"
    )
