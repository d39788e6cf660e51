"""Parquet columns of modalities: pictures as PNG, everything else as nested lists."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cmkd.data.manifest.content import Content, suffix_of
from cmkd.data.manifest.pictures import picture_array
from cmkd.data.manifest.readers import PICTURES, read
from cmkd.data.manifest.size_limit import check_size
from cmkd.errors import CmkdError
from cmkd.types import Modality

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def is_picture(modality: Modality) -> bool:
    """Whether PNG can hold the modality without loss: 8 bits of 1, 3 or 4 channels, or 16 bits of one."""
    deep = (modality.shape[0], modality.dtype) == (1, "uint16")
    return modality.kind == "image" and (deep or (modality.dtype == "uint8" and modality.shape[0] in _MODES))


def feature(modality: Modality) -> dict[str, Any]:
    """Return the feature of the modality's column, as the hub's library stores it in the schema."""
    if is_picture(modality):
        return {"_type": "Image"}
    if len(modality.shape) == 1:
        value = {"dtype": modality.dtype, "_type": "Value"}
        return {"feature": value, "length": modality.shape[0], "_type": "Sequence"}
    return {"shape": list(modality.shape), "dtype": modality.dtype, "_type": f"Array{len(modality.shape)}D"}


def arrow_type(modality: Modality) -> pa.DataType:
    """Return the Arrow type of the modality's column."""
    if is_picture(modality):
        return PICTURE
    kind = pa.from_numpy_dtype(np.dtype(modality.dtype))
    for _ in modality.shape:
        kind = pa.list_(kind)
    return kind


def to_arrow(modality: Modality, values: NDArray[Any], present: NDArray[np.bool_], ids: list[str]) -> pa.Array:
    """Return an Arrow column of a chunk ``(pairs, *shape)``, null where absent; pictures are named by `ids`."""
    if is_picture(modality):
        cells = [
            {"bytes": _png(value), "path": f"{name}.png"} if here else None
            for value, here, name in zip(values, present, ids, strict=True)
        ]
        return pa.array(cells, type=PICTURE)
    kept = values[present]  # pyarrow below 25 cannot write nulls that hold values
    column = pa.array(kept.reshape(-1))
    for axis in range(len(modality.shape), 1, -1):
        count = int(np.prod(kept.shape[:axis]))
        column = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * values.shape[axis], column)
    ends = np.append(0, present.cumsum()).astype(np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), column, mask=pa.array(~present))


def from_arrow(modality: Modality, cell: pa.Scalar, where: str) -> NDArray[Any]:
    """Return one cell as the modality's array.

    Raises:
        CmkdError: the cell does not have the modality's shape, or is a picture of another dtype.
    """
    shown = pa.types.is_struct(cell.type)
    array = picture((cell.as_py() or {}).get("bytes"), where) if shown else _flat(cell)
    if shown and array.dtype.name != modality.dtype:
        raise CmkdError(
            f"{where} holds {array.dtype.name}, but {modality.name} is {modality.dtype}: convert them to one type"
        )
    size = int(np.prod(modality.shape))
    if array.size != size or (array.ndim > 1 and array.shape != modality.shape):
        raise CmkdError(f"{where} has shape {array.shape}, but {modality.name} is {modality.shape}: resize it")
    return array.reshape(modality.shape).astype(modality.dtype, copy=False)


_PICTURES = ("WEBP", "GIF", "BMP")  # 8-bit formats found on the hub; other formats of pillow may start another program


def picture(content: bytes | None, where: str) -> NDArray[Any]:
    """Decode a picture to ``(channels, height, width)``; read PNG, JPEG and TIFF as in a manifest, NaN where invalid.

    Raises:
        CmkdError: there are no bytes, they are not a picture, or an integer picture has invalid values.
    """
    from PIL import Image

    if content is None:
        raise CmkdError(f"{where} names a file: download the data set with its pictures embedded")
    suffix = suffix_of(content)
    if suffix in PICTURES:
        array = read(Content(where, suffix, content), "image")
        if np.ma.isMaskedArray(array) and array.dtype.kind != "f":
            raise CmkdError(f"{where} has nodata values in {array.dtype.name}: save floats with NaN, or remove the tag")
        return np.ma.filled(array, np.nan)
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=_PICTURES) as image:
            warnings.simplefilter("ignore")  # pillow warns about its own size limit; ours is checked next
            bands, height, width = len(image.getbands()), image.height, image.width
            check_size(Content(where, "", content), (bands, height, width), 1, pixels=height * width)
            if getattr(image, "n_frames", 1) > 1:
                raise CmkdError(f"{where} is an animation: save one frame")
            return picture_array(image)
    except CmkdError:
        raise
    except Exception as error:  # decoders raise any exception on damaged bytes
        raise CmkdError(f"{where} is not a picture, or is damaged: replace it") from error


def _png(value: NDArray[Any]) -> bytes:
    from PIL import Image

    # contiguous, since pillow ignores strides
    array = np.ascontiguousarray(value[0] if len(value) == 1 else np.moveaxis(value, 0, -1))
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _flat(cell: pa.Scalar) -> NDArray[Any]:
    values = cell.values
    while pa.types.is_nested(values.type):
        values = values.flatten()
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array
