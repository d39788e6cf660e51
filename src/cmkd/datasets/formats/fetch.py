"""Published files: download of missing files, and comparison of checksums."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmkd.datasets.formats.archive import unpacked
from cmkd.errors import CmkdError
from cmkd.io import checksum, locked
from cmkd.progress import shown

TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection and for the next bytes."""
BLOCK_BYTES = 2**16


@dataclass(frozen=True)
class PublishedFile:
    """One published file from which a data set is made.

    Args:
        name: name of the file inside the source folder.
        url: address at which the publisher offers the file.
        sha256: checksum of the file; empty if the publisher changes the file or the checksum is not known.
        md5: MD5 checksum, if the publisher states no sha256.
        unpacked: sha256 of the unpacked content of a ``.gz``, by which a recompressed copy is recognized.
    """

    name: str
    url: str
    sha256: str = ""
    md5: str = ""
    unpacked: str = ""

    @property
    def fetchable(self) -> bool:
        """Whether the file may be downloaded, which needs a known checksum."""
        return bool(self.sha256 or self.md5)


def published_files(address: str, checksums: Mapping[str, str]) -> tuple[PublishedFile, ...]:
    """Describe files below `address` by their names and sha256."""
    return tuple(PublishedFile(name, f"{address}/{name}", sha256) for name, sha256 in checksums.items())


def fetch(sources: Sequence[PublishedFile], folder: Path) -> Path:
    """Download the files that `folder` lacks, and return the folder.

    An interrupted download is resumed; a second process waits for the first. A file appears under its name only after
    its checksum was verified.

    Args:
        sources: the files; all must have checksums.
        folder: destination, created if needed.

    Raises:
        CmkdError: the folder cannot be written, an address cannot be reached, or it offers a file with another
            checksum; the message names the address and the path where to put the file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CmkdError(f"cannot write to {folder}: {error.strerror or error}") from error
    with locked(folder, wait=True):
        for source in sources:
            if not (folder / source.name).exists():
                _download(source, folder / source.name)
    return folder


def _download(source: PublishedFile, target: Path) -> None:
    import pooch
    import requests

    known = f"sha256:{source.sha256}" if source.sha256 else f"md5:{source.md5}"
    logger = pooch.get_logger()
    level, _ = logger.level, logger.setLevel(logging.WARNING)
    try:
        pooch.retrieve(source.url, known, target.name, target.parent, downloader=_Resumed(target))
    except (requests.RequestException, OSError) as error:
        reason = type(error).__name__ if isinstance(error, requests.RequestException) else error.strerror
        raise CmkdError(f"cannot download {source.url} ({reason}): get it elsewhere and put it at {target}") from error
    except ValueError as error:  # pooch raises it for a wrong checksum
        raise CmkdError(
            f"{source.url} no longer serves the published file (its checksum is not {known}): get it elsewhere "
            f"and put it at {target}"
        ) from error
    finally:
        logger.setLevel(level)


class _Resumed:
    """A downloader for pooch that keeps a partial file beside the target and resumes from it."""

    def __init__(self, target: Path) -> None:
        self._part = target.with_name(f".{target.name}.part")

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download `url` to `output_file`; exceptions of requests are passed on."""
        import requests

        have = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:  # nothing is left to download: the checksum decides
                os.replace(self._part, output_file)
                return
            response.raise_for_status()
            if response.status_code != 206:
                have = 0
            length = int(response.headers.get("Content-Length", 0))
            with (
                self._part.open("ab" if have else "wb") as file,
                shown(f"downloading {Path(url).name}", "bytes") as tell,
            ):
                for block in response.iter_content(BLOCK_BYTES):
                    file.write(block)
                    tell(file.tell(), have + length)
                arrived = file.tell()
        if length and arrived < have + length:
            raise requests.ConnectionError("the connection ended early")
        os.replace(self._part, output_file)


def find(place: Path, source: PublishedFile) -> Path:
    """Return the path of the published file `source`: `place` itself, or the file of its name in the folder `place`.

    Raises:
        CmkdError: the file does not exist.
    """
    path = place / source.name if place.is_dir() else place
    if not path.is_file():
        raise CmkdError(f"{path} does not exist: get it from {source.url}")
    return path


def packed_or_folder(source: Path, archive: str) -> Path:
    """Return the published archive in the folder `source`, else the folder's only archive, else `source` itself."""
    if not source.is_dir() or (source / archive).is_file():
        return source / archive if source.is_dir() else source
    others = [path for path in sorted(source.iterdir()) if path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz"))]
    return others[0] if len(others) == 1 else source


def verify_present(folder: Path, sources: Sequence[PublishedFile]) -> None:
    """Compare the files that are in `folder` under their published names with their checksums.

    Raises:
        CmkdError: a checksum differs.
    """
    for source in sources:
        if (folder / source.name).is_file():
            verify(folder / source.name, source)


def verify(path: Path, source: PublishedFile) -> None:
    """Compare a file with the published checksum, if there is one.

    Raises:
        CmkdError: the checksum differs.
    """
    if source.sha256 and checksum(path) == source.sha256:
        return
    if source.md5 and checksum(path, algorithm="md5") == source.md5:
        return
    if source.unpacked and checksum(unpacked(path, address=source.url)) == source.unpacked:
        return
    if source.fetchable:
        raise CmkdError(
            f"{path} is not the published file (sha256 {checksum(path)}): get it again from {source.url}, or read it "
            "as it is with the option check=false"
        )
