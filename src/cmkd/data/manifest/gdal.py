"""GDAL's tags in a TIFF: the nodata value, and the scale and offset of the valid values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError

if TYPE_CHECKING:
    from tifffile import TiffPage

METADATA, NODATA = 42112, 42113
"""Numbers of the tags GDAL_METADATA and GDAL_NODATA."""
NOT_APPLIED = (
    "which is not applied: save it with a nodata value instead, as in gdalwarp -dstnodata VALUE IN.tif OUT.tif"
)
"""Text of messages about a mask, which GDAL would apply."""
ULPS = 4
"""Units in the last place within which a float equals the nodata value, as in GDAL: tags hold rounded text."""


@dataclass(frozen=True)
class ValueTags:
    """Tags of a file about its values.

    Args:
        nodata: the value of invalid samples.
        scale: pairs of band position and factor; bands that are not listed have 1.
        offset: pairs of band position and number added after scaling; bands that are not listed have 0.
    """

    nodata: float | None = None
    scale: tuple[tuple[int, float], ...] = ()
    offset: tuple[tuple[int, float], ...] = ()

    @property
    def scaled(self) -> bool:
        """Whether stored values must be scaled or shifted to be in their unit, which makes them floats."""
        return bool(self.scale or self.offset)


NO_TAGS = ValueTags()
"""Tags of a file that states none."""


def value_tags(page: TiffPage, where: object) -> ValueTags:
    """Return the nodata value, scales and offsets that the tags of a page state.

    Raises:
        CmkdError: the metadata cannot be read, or a scale or offset is not a finite number.
    """
    texts = {code: str(tag.value) for code in (METADATA, NODATA) if (tag := page.tags.get(code)) is not None}
    scale, offset = _linear(texts[METADATA], where) if METADATA in texts else ((), ())
    return ValueTags(_number(texts.get(NODATA, "")), scale, offset)


def _number(text: str) -> float | None:
    try:
        return float(text.strip(" \t\r\n\0"))
    except ValueError:
        return None


def _linear(text: str, where: object) -> tuple[tuple[tuple[int, float], ...], tuple[tuple[int, float], ...]]:
    """Return the scales other than 1 and the offsets other than 0, each with its band."""
    if "<!" in text:  # entities, which GDAL never writes, could expand without limit
        raise CmkdError(f"{where} has GDAL metadata with XML declarations: save it without them")
    found: dict[str, dict[int, float]] = {"scale": {}, "offset": {}}
    try:
        for item in ElementTree.fromstring(text.strip(" \t\r\n\0")).iter("Item"):
            role = item.get("role", "")
            if role in found:
                found[role][int(item.get("sample", "0"))] = float(item.text or "")
    except (ElementTree.ParseError, ValueError) as error:
        raise CmkdError(f"{where} has GDAL metadata that cannot be read ({error}): save it again") from error
    for role, neutral in (("scale", 1.0), ("offset", 0.0)):
        if not all(map(math.isfinite, found[role].values())):
            raise CmkdError(f"{where} has a {role} that is not a finite number: save it again")
        found[role] = {band: value for band, value in found[role].items() if value != neutral}
    return tuple(sorted(found["scale"].items())), tuple(sorted(found["offset"].items()))


def measured(
    array: NDArray[Any], tags: ValueTags = NO_TAGS, stated: float | Literal["none"] | None = None
) -> NDArray[Any]:
    """Return values in their unit, as a masked array if some are invalid: NaN, or equal to the nodata value.

    Args:
        array: values as stored; ``(bands, height, width)`` if there are scales or offsets.
        tags: tags of the file.
        stated: nodata value that replaces the one of the tags; ``"none"`` for no invalid value but NaN.

    Example:
        >>> measured(np.array([[[1, 255], [3, 4]]], np.uint8), ValueTags(255.0, ((0, 0.5),))).tolist()
        [[[0.5, None], [1.5, 2.0]]]
    """
    nodata = tags.nodata if stated is None else None if stated == "none" else stated
    invalid = np.isnan(array) if array.dtype.kind == "f" else np.zeros((), bool)
    if nodata is not None:
        invalid = invalid | equal(array, nodata)
    if tags.scaled:
        array = array.astype(np.float64)
        for band, factor in tags.scale:
            array[band : band + 1] *= factor
        for band, constant in tags.offset:
            array[band : band + 1] += constant
        array = array.astype(np.float32)
    return np.ma.MaskedArray(array, np.broadcast_to(invalid, array.shape)) if invalid.any() else array


def equal(array: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Return a mask of the elements equal to a value; it is False everywhere if the dtype cannot hold the value."""
    found: NDArray[np.bool_]
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        fits = float(value).is_integer() and limits.min <= value <= limits.max
        found = array == int(value) if fits else np.zeros(array.shape, bool)
        return found
    if array.dtype.kind != "f" or not math.isfinite(value):
        found = np.equal(array, value)
        return found
    limit, near = float(np.finfo(array.dtype).max), ULPS * float(np.finfo(array.dtype).eps)
    if abs(value) > limit * (1 + near):
        return np.zeros(array.shape, bool)
    with np.errstate(over="ignore"):
        found = np.isclose(array, array.dtype.type(min(max(value, -limit), limit)), rtol=near, atol=0)
    return found
