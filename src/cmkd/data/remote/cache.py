"""Bounded cache of blocks on the local disk, shared by processes; the least recently used blocks are removed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError, CmkdWarning
from cmkd.io import cache_folder, checksum, locked

VARIABLE = "CMKD_STREAM_MIB"
LIMIT_MIB = 10 * 1024
"""Default limit of the blocks on disk, in MiB; the environment variable CMKD_STREAM_MIB replaces it."""
SPARE = 1 / 16
"""Fraction of the limit that an eviction frees beyond the need, since an eviction scans all files; our choice."""

KNOWN = 2**17
"""Maximum number of blocks that a process remembers as checked: about 20 MB of memory."""


class BlockCache:
    """Blocks in a folder, limited in total size.

    A block's name is the sha256 of its content, which is checked when a process first reads the block. Every
    writer holds a lock. A killed process leaves at most a temporary file, which the next writer removes.

    Args:
        folder: folder of the blocks; created if needed.
        limit: maximum total size of the blocks, bytes.

    Example:
        >>> import tempfile
        >>> cache = BlockCache(Path(tempfile.mkdtemp()), limit=1000)
        >>> name = checksum([b"block"])
        >>> cache.keep({name: b"block"})
        >>> bytes(cache.get(name, 5)), cache.get(checksum([b"other"]), 5)
        (b'block', None)
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._sound: set[str] = set()
        self._full = False

    def get(self, name: str, size: int) -> NDArray[np.uint8] | None:
        """Return a block, or None if it is missing or damaged."""
        path = self._path(name)
        try:
            os.utime(path)  # marks the block as recently used
            with path.open("rb") as file:  # np.memmap takes ten times as long to open one
                content = np.frombuffer(mmap(file.fileno(), 0, access=ACCESS_READ), np.uint8)
        except (OSError, ValueError):  # an empty file cannot be mapped
            content = None
        if content is None or len(content) != size or (name not in self._sound and checksum([content.data]) != name):
            with suppress(OSError):
                path.unlink()  # so that a damaged block is written again
            return None
        self._checked(name)
        return content

    def keep(self, blocks: Mapping[str, bytes]) -> None:
        """Write blocks, first removing others as the limit requires; a full disk only causes a warning."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock", wait=True):
                self._write({name: block for name, block in blocks.items() if not self._path(name).exists()})
        except OSError as error:
            if not self._full:
                reason = error.strerror or error
                warnings.warn(f"cannot cache blocks in {self.folder}: {reason}; free space", CmkdWarning, stacklevel=2)
            self._full = True

    def _write(self, blocks: Mapping[str, bytes]) -> None:
        needed = sum(map(len, blocks.values()))
        if not needed or needed > self.limit:
            return
        count = self.folder / "bytes"
        try:
            used = int(count.read_text())
        except (FileNotFoundError, ValueError):  # a power failure may leave it empty
            used = self._evict(self.limit)
        if used + needed > self.limit:
            used = self._evict(max(0, int(self.limit * (1 - SPARE)) - needed))
        # before the blocks: a process killed in between has counted too much, which the next eviction corrects
        _replace(count, str(used + needed).encode())
        for name, block in blocks.items():
            path = self._path(name)
            path.parent.mkdir(exist_ok=True)
            _replace(path, block)
            self._checked(name)

    def _evict(self, target: int) -> int:
        """Remove the least recently used blocks until at most `target` bytes are left, and return the bytes left."""
        found = []
        for path in self.folder.glob("*/*"):
            if path.suffix:  # left by a killed writer, since this one holds the lock
                path.unlink(missing_ok=True)
                continue
            with suppress(FileNotFoundError):  # a reader removed a damaged block
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        used = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if used <= target:
                break
            path.unlink(missing_ok=True)
            self._sound.discard(path.name)
            used -= size
        return used

    def _checked(self, name: str) -> None:
        """Remember that a block needs no further check; beyond `KNOWN` blocks, all are forgotten and checked again."""
        if len(self._sound) >= KNOWN:
            self._sound.clear()
        self._sound.add(name)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def _replace(path: Path, content: bytes) -> None:
    # without fsync: what a power failure leaves is recognized by its checksum
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def block_cache() -> BlockCache:
    """Return the cache of this user, in `cmkd.io.cache_folder`.

    Raises:
        CmkdError: CMKD_STREAM_MIB is not a positive whole number.
    """
    text = os.environ.get(VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise CmkdError(f"{VARIABLE} is '{text}': give a positive whole number of MiB")
    return BlockCache(cache_folder() / "blocks", int(text or LIMIT_MIB) * 2**20)
