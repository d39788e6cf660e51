"""Downloads from a local server that can hang up early, send wrong content, or be unreachable."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cmkd.datasets import open_data
from cmkd.datasets.formats.fetch import PublishedFile, fetch, verify
from cmkd.datasets.mnist import Mnist
from cmkd.errors import CmkdError
from data.tiny import tiny_source

CONTENT = bytes(range(256)) * 2000


class Server(ThreadingHTTPServer):
    """HTTP server of files by name; it hangs up after `stop_after` bytes, and ignores ranges if `ranges` is false."""

    files: dict[str, bytes]
    stop_after: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.stop_after])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.files, made.asked = {"file.bin": CONTENT}, []
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def source(server: Server, content: bytes = CONTENT) -> PublishedFile:
    address = f"http://127.0.0.1:{server.server_address[1]}/file.bin"
    return PublishedFile("file.bin", address, hashlib.sha256(content).hexdigest())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert fetch([source(server)], tmp_path / "files") == tmp_path / "files"
    assert (tmp_path / "files" / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None]
    assert f"downloading file.bin: {len(CONTENT)} of {len(CONTENT)} bytes" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["file.bin"]


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    both = [threading.Thread(target=fetch, args=([source(server)], tmp_path)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.stop_after = 300_000
    with pytest.raises(CmkdError, match=r"cannot download http://127.*: get it elsewhere and put it at .*file.bin"):
        fetch([source(server)], tmp_path)
    assert not (tmp_path / "file.bin").exists()
    server.stop_after, server.ranges = None, ranges
    fetch([source(server)], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked[-1] is not None
    assert int(server.asked[-1].removeprefix("bytes=").rstrip("-")) > 0


def test_a_wrong_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match=r"no longer serves the published file .* put it at .*file.bin"):
        fetch([source(server, b"other")], tmp_path)
    assert not list(tmp_path.iterdir())


def test_unreachable_and_missing(server: Server, tmp_path: Path) -> None:
    server.files = {}
    with pytest.raises(CmkdError, match=r"cannot download http.*HTTPError"):
        fetch([source(server)], tmp_path)
    nobody = PublishedFile("file.bin", "http://127.0.0.1:9/file.bin", "0" * 64)
    with pytest.raises(
        CmkdError, match=r"cannot download http://127.0.0.1:9/file.bin .* put it at .*file.bin"
    ) as caught:
        fetch([nobody], tmp_path)
    assert "\n" not in str(caught.value)


def test_open_data_fetches_what_it_lacks(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_source("mnist", tmp_path / "published")
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    address = f"http://127.0.0.1:{server.server_address[1]}"
    sources = tuple(
        PublishedFile(name, f"{address}/{name}", hashlib.sha256(content).hexdigest())
        for name, content in server.files.items()
    )
    monkeypatch.setattr(Mnist, "sources", sources)
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CMKD_DATA", raising=False)
    pack = open_data("mnist")  # checksums are compared again, since `check` is on
    assert len(pack) == 250
    assert sorted(path.name for path in (tmp_path / "cache" / "sources" / "mnist").iterdir()) == sorted(server.files)
    asked = len(server.asked)
    assert open_data("mnist").path == pack.path
    assert len(server.asked) == asked


def test_a_copy_that_was_packed_again_is_known(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(CONTENT, 1))
    known = PublishedFile("file.gz", "https://example.org", "0" * 64, unpacked=hashlib.sha256(CONTENT).hexdigest())
    verify(path, known)
    path.write_bytes(gzip.compress(CONTENT + b"x", 1))
    with pytest.raises(CmkdError, match="is not the published file"):
        verify(path, known)
    path.write_bytes(CONTENT)
    verify(path, PublishedFile("file.gz", "https://example.org", md5=hashlib.md5(CONTENT).hexdigest()))
    with pytest.raises(CmkdError, match="is not the published file"):
        verify(path, PublishedFile("file.gz", "https://example.org", md5="0" * 32))
