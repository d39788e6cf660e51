"""Containers of files, which are folders, zip and tar files: listed once, and refused if they are not safe to read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from cmkd.io import files_below

BLOCK_BYTES = 2**20
"""Bytes read at a time."""
FREE_BYTES = 64 * 2**20
"""Bytes that an archive of any size may unpack to."""
MEMBER_BYTES = 1024
"""Bytes that a member of a tar file counts in addition to its content: the memory that its listing takes."""
RATIO = 200
"""Multiple of its size that an archive may unpack to, in addition to `FREE_BYTES`; images and sound stay below 10."""


class Container(Protocol):
    """The interface of a folder, a zip and a tar file."""

    sizes: dict[str, int]

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        ...

    def close(self) -> None:
        """Close open files."""
        ...


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, or none at the end."""
        ...


class UnsafeError(Exception):
    """An archive is not safe to read; the message says why."""


class FolderContainer:
    """The files below a folder."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.sizes = {path.relative_to(place).as_posix(): path.stat().st_size for path in files_below(place)}

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return (self._place / name).open("rb")

    def close(self) -> None:
        """Do nothing: no file is held."""


_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""Compression methods that unpack in little memory; LZMA is excluded because its header may ask for gigabytes."""


class ZipContainer:
    """The files in a zip; a zip is refused if a member is encrypted, a link, outside the archive, or far too large."""

    def __init__(self, place: Path) -> None:
        self._file = zipfile.ZipFile(place)
        try:
            self.sizes = self._listed(place.stat().st_size)
        except BaseException:
            self._file.close()
            raise

    def _listed(self, size: int) -> dict[str, int]:
        tally = _Tally(size)
        for info in self._file.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                tally.check_name(info.filename.rstrip("/"))
            elif info.flag_bits & 1:
                raise UnsafeError(f"{info.filename!r} is encrypted")
            elif info.compress_type not in _ZIP_METHODS:
                raise UnsafeError(f"{info.filename!r} is not compressed with deflate or bzip2")
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise UnsafeError(f"{info.filename!r} is a link or a device")
            else:
                tally.add(info.filename, info.file_size)
        return tally.sizes

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return self._file.open(name)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class TarContainer:
    """The files in a tar file, compressed or not, read once on opening.

    A tar file is refused for similar reasons as a zip file, and if it is truncated.
    """

    def __init__(self, place: Path) -> None:
        self._stream = _decompressed(place)
        try:
            self._file = tarfile.TarFile(fileobj=_ShortReads(self._stream))  # type: ignore[arg-type]  # all it needs
            self._members = self._listed(place.stat().st_size)
            self.sizes = {name: member.size for name, member in self._members.items()}
        except BaseException:
            self._stream.close()
            raise

    def _listed(self, size: int) -> dict[str, tarfile.TarInfo]:
        tally, members, end = _Tally(size), {}, 0
        for member in self._file:
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            tally.spend(MEMBER_BYTES)
            if member.isdir():
                tally.check_name(member.name)
            elif not member.isreg() or member.issparse():
                raise UnsafeError(f"{member.name!r} is a link, a device or a sparse file")
            else:
                tally.add(member.name, member.size)
                members[member.name] = member
        # tarfile accepts an archive that was truncated between two members
        assert self._file.fileobj is not None
        self._file.fileobj.seek(end)
        if self._file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end of archive")
        for block in whole_blocks(self._file.fileobj, BLOCK_BYTES):  # up to the checksum at the end of the stream
            tally.spend(len(block))
        return members

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        opened = self._file.extractfile(self._members[name])
        assert opened is not None
        return opened

    def close(self) -> None:
        """Release the file."""
        self._stream.close()


def _decompressed(place: Path) -> IO[bytes]:
    with place.open("rb") as file:
        start = file.read(6)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), open)
    opened: IO[bytes] = opener(place, "rb")
    return opened


class _ShortReads:
    """A stream that refuses to read more than `BLOCK_BYTES` at once, which a forged header would make tarfile do."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= BLOCK_BYTES:
            raise UnsafeError(f"it has a header of {size} bytes")
        return self._read(size)


class _Tally:
    """The safe members of an archive, and the number of bytes that further members may still unpack to."""

    def __init__(self, archive_bytes: int) -> None:
        self.sizes: dict[str, int] = {}
        self._left = FREE_BYTES + RATIO * archive_bytes

    def check_name(self, name: str) -> None:
        inside = name and not re.search(r"^/|^[A-Za-z]:|\\|[\x00-\x1f]", name)
        if not inside or ".." in name.split("/"):
            raise UnsafeError(f"the path {name!r} leaves it")

    def add(self, name: str, size: int) -> None:
        self.check_name(name)
        if name in self.sizes:
            raise UnsafeError(f"it contains {name} twice")
        self.spend(size)
        self.sizes[name] = size

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UnsafeError(f"it unpacks to more than {RATIO} times its size")


def whole_blocks(file: Readable, size: int) -> Iterator[bytes]:
    """Yield blocks of exactly `size` bytes; the last one may be shorter."""
    while True:
        parts, missing = [], size
        while missing and (piece := file.read(min(missing, BLOCK_BYTES))):
            parts.append(piece)
            missing -= len(piece)
        if block := b"".join(parts):
            yield block
        if missing:
            return
