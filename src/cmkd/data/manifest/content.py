"""A file in memory, which the readers accept in place of a path."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

from cmkd.errors import CmkdError


@dataclass(frozen=True)
class Content:
    """The bytes of a file that is not on disk, such as the body of a request.

    Args:
        name: name in messages.
        suffix: file name suffix of the format, such as ``.npy``.
        data: content of the file.

    Example:
        >>> Content("the body", ".npy", b"123").open().read()
        b'123'
    """

    name: str
    suffix: str
    data: bytes = field(repr=False)

    def open(self, mode: Literal["rb"] = "rb") -> BytesIO:
        """Return the bytes as a binary file."""
        return BytesIO(self.data)

    def read_bytes(self) -> bytes:
        """Return the bytes."""
        return self.data

    def __str__(self) -> str:
        return self.name


File = Path | Content
"""A file on disk or in memory."""


_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "NPY": (b"\x93NUMPY",),
    "WAV": (b"RIFF????WAVE", b"RIFX????WAVE", b"RF64????WAVE"),
    "Parquet": (b"PAR1",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "WebP": (b"RIFF????WEBP",),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "HDF5": (b"\x89HDF",),
    "ZIP": (b"PK\x03\x04",),
    "gzip": (b"\x1f\x8b",),
}
"""Format -> first bytes of its files, where ``?`` matches any byte."""
SIGNATURE_BYTES = max(len(start) for starts in _SIGNATURES.values() for start in starts)

_FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
    "NPY": (".npy",),
    "WAV": (".wav",),
    "Parquet": (".parquet",),
}


def check_content(path: File) -> None:
    """Refuse a file whose first bytes belong to another format than its suffix.

    Raises:
        CmkdError: the signature and the suffix differ. CSV files are not checked, since text has no signature.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return
    with path.open("rb") as file:
        head = file.read(SIGNATURE_BYTES)
    for name, starts in _SIGNATURES.items():
        if suffix not in _FORMATS.get(name, ()) and any(_begins(head, start) for start in starts):
            way = f"name it {_FORMATS[name][0]}" if name in _FORMATS else "convert it"
            raise CmkdError(f"{path} has the suffix {suffix}, but its content is {name}: {way}")


def suffix_of(data: bytes) -> str:
    r"""Return the suffix of the format whose signature the bytes begin with; empty for a format without a reader.

    Example:
        >>> suffix_of(b"\x89PNG\r\n\x1a\n..."), suffix_of(b"GIF89a")
        ('.png', '')
    """
    found = (name for name, starts in _SIGNATURES.items() if any(_begins(data, start) for start in starts))
    return _FORMATS.get(next(found, ""), ("",))[0]


def begins_as(data: bytes, suffix: str) -> bool:
    r"""Return whether the first bytes of a file match the signature of its suffix's format, as far as they go.

    Example:
        >>> begins_as(b"\x89PN", ".png"), begins_as(b"\x89PN", ".jpg")
        (True, False)
    """
    starts = (start for name, suffixes in _FORMATS.items() if suffix in suffixes for start in _SIGNATURES[name])
    return any(_matches(data, start) for start in starts)


def _begins(head: bytes, start: bytes) -> bool:
    return len(head) >= len(start) and _matches(head, start)


def _matches(head: bytes, start: bytes) -> bool:
    return all(a in (b, ord("?")) for a, b in zip(start, head, strict=False))
