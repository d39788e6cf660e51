"""A file in memory: what the readers take in place of a path."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Content:
    """The bytes of a file that is on no disk, such as the body of a request.

    Args:
        name: for messages.
        suffix: of the format, as a file's name would end.
        data: the bytes.

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
