"""Files: atomic writes, JSON, checksums, and locks that are released when their process ends."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cmkd.errors import CmkdError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows has no advisory locks, so two writers are not kept apart there
    fcntl = None  # type: ignore[assignment]

CHUNK_BYTES = 8 * 2**20
"""Size in bytes of a chunk of pairs, for data sets that are read or written in chunks."""
PIECE_BYTES = 2**20
"""Bytes read at a time in a pass over a whole file."""
STALE_SECONDS = 3600.0
"""Age in seconds from which a temporary folder counts as left behind, on file systems without locks."""
_RANDOM_BYTES = 6
_ENDING = "[0-9a-f]" * 2 * _RANDOM_BYTES + ".tmp"
"""Pattern of the end of a temporary folder's name."""
LONGEST_NAME = 220
"""Longest file name in bytes from which a temporary name is made; file systems allow 255 for the temporary name."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it durably if the block succeeds.

    Readers see either the old file or the new one, never a part, even after a crash at any time.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic(path) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> path.read_text()
        '1 2 3'
    """
    if path.is_dir():  # else the replacement would fail after the block's work
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with staged(path) as temporary:
        yield temporary
        temporary.chmod(temporary.parent.stat().st_mode & 0o666)  # safetensors makes private files, whatever the umask
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a hidden folder beside `path`; the folder is removed when the block ends.

    It is a folder, because libraries may write other files beside the requested one. The folder is locked, and the
    next writer of `path` removes the folders that killed processes left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    folder, descriptor = claim(path)
    try:
        yield folder / path.name
    except OSError as error:
        # for example, the disk is full: the system names no file, or the hidden one; a library's error keeps its text
        if error.errno and (error.filename is None or str(error.filename).startswith(str(folder))):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def claim(path: Path) -> tuple[Path, int]:
    """Make a folder named `temporary_sibling` beside `path`, and lock it against `remove_stale`.

    Returns:
        The folder, and the lock's descriptor as `lock` returns it.
    """
    while True:
        folder = temporary_sibling(path)
        try:
            folder.mkdir()
        except OSError as error:  # for example, the folder of the path is not writable
            error.filename = str(path)
            raise
        try:
            descriptor = _lock_folder(folder)
        except FileNotFoundError:  # removed before it was locked
            continue
        if descriptor is None:  # about to be removed
            continue
        if folder.exists():
            return folder, descriptor
        if descriptor >= 0:
            os.close(descriptor)


def temporary_sibling(path: Path) -> Path:
    """Return a hidden, unused name beside `path`, ``.NAME.<random>.tmp``, the form that `remove_stale` recognizes."""
    name = path.name if len(path.name.encode()) <= LONGEST_NAME else checksum([path.name.encode()])[:16]
    return path.with_name(f".{name}.{secrets.token_hex(_RANDOM_BYTES)}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold; use None for unknown values.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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


@contextmanager
def parquet_file(path: Path) -> Iterator[ParquetFile]:
    """Open a Parquet file; pyarrow gets an open file, because it would read ``runs:1/test.parquet`` as a URI."""
    from pyarrow.parquet import ParquetFile

    with path.open("rb") as opened, ParquetFile(opened) as file:
        yield file


def checksum(
    content: Path | Iterable[bytes | memoryview], *, algorithm: str = "sha256", length: int | None = None
) -> str:
    """Return the hexadecimal digest of a file, or of pieces of bytes.

    Args:
        content: a file, or the bytes in pieces.
        algorithm: name of the algorithm in `hashlib`.
        length: number of bytes to read from the start of a file; by default all.

    Example:
        >>> checksum([b"a", b"b"])[:8], checksum([b"ab"], algorithm="md5")[:8]
        ('fb8e20fc', '187ef443')
    """
    digest = hashlib.new(algorithm)
    for piece in pieces(content, length) if isinstance(content, Path) else content:
        digest.update(piece)
    return digest.hexdigest()


def files_below(folder: Path, *, above: Set[tuple[int, int]] = frozenset()) -> list[Path]:
    """Return all files below a folder, sorted by path; links to folders are followed.

    Args:
        folder: an existing folder.
        above: device and inode numbers of its parent folders; links back to them (loops) are not followed.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    found = list[Path]()
    for path in sorted(folder.iterdir()) if here not in above else ():
        found += files_below(path, above=above | {here}) if path.is_dir() else [path] if path.is_file() else []
    return found


def lock(path: Path, *, wait: bool = False, shared: bool = False) -> int | None:
    """Lock a folder or file until the returned descriptor is closed or the process ends.

    Args:
        path: an existing folder, or a file that is created if it is missing.
        wait: wait for the lock instead of returning None.
        shared: take a shared lock, which other processes may hold at the same time.

    Returns:
        A descriptor; -1 if the file system has no locks; None if another process holds the lock.
    """
    if fcntl is None:  # pragma: no cover  # Windows
        return -1
    return _locked_descriptor(os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT), wait, shared)


def _locked_descriptor(descriptor: int, wait: bool = False, shared: bool = False) -> int | None:
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
    """Hold a lock (see `lock`) during a block; yield False, without the lock, if another process holds it."""
    descriptor = lock(path, wait=wait, shared=shared)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)


def remove_stale(destination: Path) -> None:
    """Remove the temporary folders that killed writers of `destination` left beside it."""
    start = temporary_sibling(destination).name[: -2 * _RANDOM_BYTES - len(".tmp")]
    _remove_unlocked(destination.parent.glob(glob.escape(start) + _ENDING))


def remove_all_stale(folder: Path) -> None:
    """Remove the temporary folders (see `temporary_sibling`) that killed writers left anywhere in a folder."""
    _remove_unlocked(folder.rglob(f".?*.{_ENDING}"))


def _remove_unlocked(found: Iterable[Path]) -> None:
    for left in list(found):
        try:
            descriptor = _lock_folder(left)
        except OSError:  # a file, or removed by another process
            continue
        if descriptor is None:
            continue
        if descriptor >= 0 or time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _lock_folder(folder: Path) -> int | None:
    """Lock a folder as `lock` does, but never create it."""
    if fcntl is None:  # pragma: no cover  # Windows
        return -1
    return _locked_descriptor(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def expanded(text: str) -> Path:
    """Return a path with a leading ``~`` or ``~name`` replaced by the home folder; ``~`` with an unknown name stays.

    Example:
        >>> str(expanded("~$ship.tif"))
        '~$ship.tif'
    """
    return Path(os.path.expanduser(text))  # Path.expanduser raises for an unknown user


def cache_folder() -> Path:
    """Return the cache folder, whose content can be recreated: ``CMKD_CACHE``, or ``cmkd`` in the user's cache."""
    if os.environ.get("CMKD_CACHE"):
        return expanded(os.environ["CMKD_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return expanded(home) / "cmkd"


def writable_cache(*names: str) -> Path:
    """Return a path in the `cache_folder`.

    Raises:
        CmkdError: the path is not writable.
    """
    place = cache_folder().joinpath(*names)
    there = next((path for path in (place, *place.parents) if path.exists()), place)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise CmkdError(f"cannot write to {place}: set CMKD_CACHE to a folder that can be written")
    return place
