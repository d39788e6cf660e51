"""The reader of NPY files."""

from __future__ import annotations

import math
import re
from io import SEEK_END
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.header import Decoded, FileHeader
from cmkd.data.manifest.size_limit import check_size
from cmkd.errors import CmkdError

_HEADER_BYTES = 2**16
_TEXT = re.compile(rb"'[^'\\]*'|\"[^\"\\]*\"")
_ODD = re.compile(rb"\\|\d[A-KM-Za-z_]")
"""Header text for which Python's parser, which numpy calls, emits a warning; the L that Python 2 adds is allowed."""
_OLD = re.compile(rb"['\"][<>|=]?a\d*['\"]")
"""Old name of a string dtype, such as ``'a10'``, for which numpy emits a warning."""


def decode_npy(path: File, *, values: bool) -> Decoded:
    """Read an array; if it has three axes, the file does not tell which of them is the channels."""
    shape, dtype, _, _ = _npy_header(path)
    header = FileHeader("vector" if len(shape) == 1 else "image", shape, dtype.name, order="open")
    return header, read_npy(path) if values else None


def read_npy(path: File) -> NDArray[Any]:
    """Return the array of an NPY file; refuse a pickle, and a header that states more data than the file has.

    Raises:
        CmkdError: the file is truncated, too large, or holds objects.
        ValueError: the file is not an NPY file.
    """
    shape, dtype, columns_first, start = _npy_header(path)
    values = np.empty(math.prod(shape), dtype)
    with path.open("rb") as file:
        file.seek(start)
        file.readinto(values.view(np.uint8).data)
    return values.reshape(shape, order="F" if columns_first else "C")


def _npy_header(path: File) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """Return shape, dtype, whether the first axis changes fastest, and the byte offset of the values."""
    with path.open("rb") as file:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        begin = file.tell()
        length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        said = file.read(min(length, _HEADER_BYTES))
        if _ODD.search(_TEXT.sub(b"", said)) or _OLD.search(said):
            raise CmkdError(f"{path} is damaged: its header does not describe an array; replace it")
        file.seek(begin)
        shape, columns_first, dtype = header(file)
        start = file.tell()
        if dtype.hasobject:
            raise CmkdError(f"{path} cannot be read: it holds Python objects; save numbers")
        if dtype.names is not None or dtype.kind not in "biufc":
            raise CmkdError(f"{path} holds {dtype.name}, which cannot be stored: save numbers")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - file.tell():
            raise CmkdError(f"{path} is truncated: {size} bytes, fewer than its header says; replace it")
        check_size(path, shape, dtype.itemsize)
    return shape, dtype, columns_first, start
