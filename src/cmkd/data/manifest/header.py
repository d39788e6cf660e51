"""Header of one sample's file: kind, shape and dtype, and which of its axes is the channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

from cmkd.data.manifest.gdal import NO_TAGS, ValueTags
from cmkd.errors import CmkdError
from cmkd.types import AXES, DTYPES, Kind

Channels = Literal["first", "last"] | int
"""Position of the channels in an array of three axes, or their number, from which the position follows."""


class ExtraAxisError(CmkdError):
    """An array has one axis more than its kind, as when one file holds several samples."""


@dataclass(frozen=True)
class FileHeader:
    """Content of a file as far as its header states it."""

    kind: Kind  # how to read the array
    shape: tuple[int, ...]  # shape of the array, in the order of axes that `Modality` fixes for the kind
    dtype: str  # dtype as it will be stored
    rate: int = 0  # samples per second of a recording, 0 for anything else
    orientation: int = 1  # EXIF orientation of a picture, which is not applied; 1 is upright
    tags: ValueTags = NO_TAGS  # nodata, scale and offset of the stored values
    order: Literal["told", "pages", "open"] = "told"  # whether the format tells which axis of an image is the channels
    names: tuple[str, ...] = ()  # column names of a table


Decoded = tuple[FileHeader, NDArray[Any] | None]
"""Result of a decoder: the header, and, if requested, the values as stored, without the tags applied."""


def as_kind(where: object, header: FileHeader, kind: Kind | None, *, channels_last: bool = False) -> FileHeader:
    """Return a header with the order of axes of the kind and with the dtype that is stored.

    Args:
        where: name of the file or other source in messages.
        header: kind, shape and dtype as found.
        kind: the kind to read the file as; by default the header's own.
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

    The format of pictures and of most TIFF files states it. For any other array, `channels` decides: ``first``,
    ``last``, or a number of channels, which decides if exactly one outer axis has that length. If `channels` is None,
    the shape decides by two rules, which must not disagree: two equal neighboring axes are height and width, and if one
    outer axis is at most 4 and the other above 4, the shorter one is the channels.

    Args:
        where: name of the file or other source in messages.
        header: header with the shape as found.
        channels: ``first``, ``last``, the number of channels, or None.

    Raises:
        CmkdError: the position of the channels cannot be decided, or the two rules disagree.

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
    """Return the positions of the channels, ``first`` or ``last``, that the lengths of three axes suggest."""
    a, b, c = shape
    signs = set()
    if (b == c != a) or (a <= 4 < c):
        signs.add("first")
    if (a == b != c) or (c <= 4 < a):
        signs.add("last")
    return signs


def as_orientation(value: object) -> int:
    """Return the value if it is an EXIF orientation, and otherwise 1, which is upright.

    Example:
        >>> as_orientation(6), as_orientation(0), as_orientation("left")
        (6, 1, 1)
    """
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def turned_note(modality: str, turned: int, example: object) -> str:
    """Return the warning that pictures of a modality have an orientation tag, which is not applied."""
    return (
        f"{turned} files of '{modality}' have an orientation tag, such as {example}: it is not applied, so "
        "that co-registered images keep their grid; turn the pixels where they must be upright"
    )
