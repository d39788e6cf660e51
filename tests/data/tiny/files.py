"""Writers of the file formats that data sets are published in."""

from __future__ import annotations

import io
import struct
import tarfile
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def idx_bytes(values: np.ndarray) -> bytes:
    """Return bytes in the IDX format."""
    return struct.pack(f">HBB{values.ndim}I", 0, 0x08, values.ndim, *values.shape) + values.tobytes()


def jpeg_bytes(values: np.ndarray) -> bytes:
    """Return ``(height, width, 3)`` as a JPEG file."""
    content = io.BytesIO()
    Image.fromarray(values).save(content, "JPEG", quality=90)
    return content.getvalue()


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """Return samples from -1 to 1 as a mono 16-bit WAV file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return content.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a ``.tar.gz`` with the given contents by name."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_tiff(path: Path, values: np.ndarray, *, compression: str | None = None) -> None:
    """Write ``(height, width)`` or ``(height, width, bands)`` as a TIFF file; the folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", compression=compression)


def cells(*values: object) -> np.ndarray:
    """Return a column of MATLAB cells for `scipy.io.savemat`."""
    column = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        column[row, 0] = value
    return column
