"""Safe reading of published files: folders, zip and tar archives are read in place and never unpacked to disk.

An archive is refused, with a one-line message that says where to get it again, if a member's path leaves the archive,
if a member is a link or a device, if the archive is truncated or damaged, or if it unpacks to far more than its size
explains.
"""

from __future__ import annotations

import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from cmkd.datasets.formats.containers import (
    BLOCK_BYTES,
    FREE_BYTES,
    RATIO,
    Container,
    FolderContainer,
    TarContainer,
    UnsafeError,
    ZipContainer,
    whole_blocks,
)
from cmkd.errors import CmkdError

READ_BYTES = 2**31
"""Maximum bytes of a file that is read into memory at once."""
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, ArithmeticError, MemoryError),
)
"""Errors that the standard library raises for truncated, corrupted and unsupported archives (ValueError also for text
that is not UTF-8 or not a number)."""
_IGNORED = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|\._)")


class Archive:
    """Context manager for reading the files below a folder or inside a zip or tar file, by their relative names.

    Links in an archive are refused; links below a folder, which the user made, are followed.

    Args:
        place: a folder, a ``.zip``, or a ``.tar``, compressed or not.
        address: where the files are published, for error messages.

    Attributes:
        sizes: name with forward slashes -> bytes when unpacked, sorted by name.

    Raises:
        CmkdError: the place does not exist, is not an archive, is truncated, or is not safe to read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "labels.txt").write_bytes(b"cat dog")
        >>> with Archive(folder, address="https://example.org") as archive:
        ...     archive.sizes, archive.read("labels.txt")
        ({'labels.txt': 7}, b'cat dog')
    """

    def __init__(self, place: Path, *, address: str) -> None:
        self.place, self.address = place, address
        if not place.exists():
            raise CmkdError(f"{place} does not exist: get the files from {address}")
        self._backend = self._opened()
        self.sizes = dict(sorted((n, size) for n, size in self._backend.sizes.items() if not _IGNORED.search(n)))

    def _opened(self) -> Container:
        if self.place.is_dir():
            return FolderContainer(self.place)
        try:
            if zipfile.is_zipfile(self.place):
                return ZipContainer(self.place)
            return TarContainer(self.place)
        except UnsafeError as error:
            raise CmkdError(f"{self.place} is not safe to read: {error}; get it from {self.address}") from error
        except DAMAGE as error:
            state = "is truncated or not an archive (zip, tar): get it again"
            if isinstance(error, PermissionError):
                state = "cannot be read: fix its permissions, or get it again"
            raise CmkdError(f"{self.place} {state} from {self.address}") from error

    def ending(self, suffix: str) -> str:
        """Return the one name that is `suffix` or ends with ``/suffix``.

        Raises:
            CmkdError: no name or several names do so.
        """
        found = [name for name in self.sizes if name == suffix or name.endswith(f"/{suffix}")]
        if len(found) != 1:
            state = f"holds {len(found)} files {suffix}" if found else f"lacks {suffix}"
            raise CmkdError(f"{self.place} {state}: get it from {self.address}")
        return found[0]

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            CmkdError: the file is missing, damaged, or too large to be held in memory.
        """
        if self.sizes.get(name, 0) > READ_BYTES:
            raise CmkdError(f"{name} in {self.place} has {self.sizes[name]} bytes, too many to read at once")
        return b"".join(self.blocks(name, BLOCK_BYTES))

    @contextmanager
    def decoding(self, name: str) -> Iterator[io.BytesIO]:
        """Open a file for a decoder; any exception of the decoder becomes a `CmkdError` of one line.

        Raises:
            CmkdError: for the same reasons as `read`, or the decoder failed.
        """
        content = io.BytesIO(self.read(name))
        with damage(f"{name} in {self.place}", self.address, (Exception,)):  # decoders raise anything on damaged bytes
            yield content

    def error(self, name: str, problem: str) -> CmkdError:
        """Build the error for a file whose content is wrong: "NAME in PLACE PROBLEM: get it from ADDRESS"."""
        return CmkdError(f"{name} in {self.place} {problem}: get it from {self.address}")

    def blocks(self, name: str, size: int) -> Iterator[bytes]:
        """Yield a file's content in blocks of `size` bytes, the last one shorter.

        Raises:
            CmkdError: the file is missing or damaged.
        """
        if name not in self.sizes:
            raise CmkdError(f"{self.place} lacks {name}: get it from {self.address}")
        what = f"{name} in {self.place}"
        with damage(what, self.address), self._backend.open(name) as file:
            total = 0
            for block in whole_blocks(file, size):
                total += len(block)
                yield block
        if total != self.sizes[name]:
            raise CmkdError(
                f"{what} is damaged ({total} bytes of {self.sizes[name]}): get it again from {self.address}"
            )

    def close(self) -> None:
        """Release the file."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def damage(what: str, address: str, kinds: tuple[type[Exception], ...] = DAMAGE) -> Iterator[None]:
    """Turn errors raised for a damaged file into a `CmkdError` that says where to get the file again."""
    try:
        yield
    except CmkdError:
        raise
    except kinds as error:
        if isinstance(error, FileNotFoundError):
            raise CmkdError(f"{what} does not exist: get it from {address}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise CmkdError(f"{what} cannot be read: {error.strerror}") from error
        raise CmkdError(f"{what} is truncated or damaged: get it again from {address}") from error


def unpacked(path: Path, *, address: str, size: int = BLOCK_BYTES, limit: int | None = None) -> Iterator[bytes]:
    """Yield the content of a single file in blocks; a gzip file is detected by its content and unpacked.

    Args:
        path: the file.
        address: where the file is published, for error messages.
        size: bytes of a block; the last block may be shorter.
        limit: maximum bytes of the unpacked content; by default `RATIO` times the file's size plus `FREE_BYTES`.

    Raises:
        CmkdError: the file does not exist, is truncated or damaged, or unpacks to more than the limit.
    """
    with damage(str(path), address):
        most = limit if limit is not None else FREE_BYTES + RATIO * path.stat().st_size
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        opener: Callable[[Path, str], IO[bytes]] = gzip.open if packed else open  # type: ignore[assignment]
        total = 0
        with opener(path, "rb") as file:
            for block in whole_blocks(file, size):
                total += len(block)
                if total > most:
                    raise CmkdError(f"{path} unpacks to more than {most} bytes: get it again from {address}")
                yield block
