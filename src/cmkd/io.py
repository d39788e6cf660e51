"""Files: written whole or not at all, JSON, checksums, and locks that end with their process."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows has no advisory locks, so two writers are not kept apart there
    fcntl = None  # type: ignore[assignment]

CHUNK_BYTES = 8 * 2**20
"""Bytes of a chunk of pairs, where a data set is read or written in chunks."""
PIECE_BYTES = 2**20
"""Bytes read at a time in a pass over a whole file."""
STALE_SECONDS = 60.0
"""Age from which an unlocked temporary folder counts as left behind by a killed process."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it durably if the block succeeds.

    A reader, or a crash at any time, sees the old file or the new one, never a part.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic(path) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> path.read_text()
        '1 2 3'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_sibling(path: Path) -> Path:
    """Return a hidden, unused name beside `path`, ``.NAME.<random>.tmp``, as `remove_stale` knows it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; does nothing where a folder cannot be opened (Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # pragma: no cover  # Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pieces(path: Path, length: int | None = None) -> Iterator[bytes]:
    """Read a file, or its first `length` bytes, in pieces of at most `PIECE_BYTES`."""
    with path.open("rb") as file:
        remaining = path.stat().st_size if length is None else length
        while remaining > 0 and (piece := file.read(min(PIECE_BYTES, remaining))):
            remaining -= len(piece)
            yield piece


def checksum(content: Path | Iterable[bytes], *, algorithm: str = "sha256", length: int | None = None) -> str:
    """Return the hexadecimal digest of a file, or of pieces of bytes.

    Args:
        content: a file, or the bytes in pieces.
        algorithm: as `hashlib` names it.
        length: of a file, the number of its first bytes to read; all by default.

    Example:
        >>> checksum([b"a", b"b"])[:8], checksum([b"ab"], algorithm="md5")[:8]
        ('fb8e20fc', '187ef443')
    """
    digest = hashlib.new(algorithm)
    for piece in pieces(content, length) if isinstance(content, Path) else content:
        digest.update(piece)
    return digest.hexdigest()


def lock(path: Path, *, wait: bool = False, shared: bool = False) -> int | None:
    """Lock a folder or file until the returned descriptor is closed or the process ends.

    Args:
        path: an existing folder, or a file that is created if it is missing.
        wait: wait for the lock instead of returning None.
        shared: let others hold a shared lock of it too.

    Returns:
        A descriptor; -1 where the file system has no locks; None if another process holds the lock.
    """
    if fcntl is None:  # pragma: no cover  # Windows
        return -1
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # pragma: no cover  # a network file system without locks
        os.close(descriptor)
        return -1
    return descriptor


@contextmanager
def locked(path: Path, *, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of `lock` in a block; yields False, without it, if another process holds it."""
    descriptor = lock(path, wait=wait, shared=shared)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)


def remove_stale(destination: Path) -> None:
    """Remove half-built siblings of `destination` whose writer was killed: unlocked and older than a minute."""
    for folder in destination.parent.glob(f".{destination.name}.*.tmp"):
        try:
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                with locked(folder) as free:
                    if free:
                        shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


def cache_folder() -> Path:
    """Return the folder of what can be made again: ``CMKD_CACHE``, or ``cmkd`` in the user's cache folder."""
    if os.environ.get("CMKD_CACHE"):
        return Path(os.environ["CMKD_CACHE"]).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return Path(home).expanduser() / "cmkd"
