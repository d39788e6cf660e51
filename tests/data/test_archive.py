"""Truncated, corrupted and malicious archives are refused in one line, and nothing outside of them is read."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cmkd.datasets.formats.archive import Archive, unpacked
from cmkd.datasets.formats.containers import FREE_BYTES
from cmkd.datasets.formats.idx import Idx, read_idx
from cmkd.datasets.fsdd import SpokenDigit, recordings
from cmkd.errors import CmkdError
from cmkd.io import checksum
from data.tiny.files import idx_bytes

ADDRESS = "https://example.org/data"
CONTENT = {f"top/part{i}.bin": np.random.default_rng(i).bytes(3000) for i in range(3)}


def make_zip(path: Path, content: dict[str, bytes] = CONTENT, links: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in content.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK if name in links else stat.S_IFREG) << 16
            file.writestr(info, value)
    return path


def make_tar(path: Path, content: dict[str, bytes] = CONTENT, links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, value in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            file.addfile(info, io.BytesIO(value))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            file.addfile(info)
    return path


def read_all(path: Path) -> dict[str, bytes]:
    with Archive(path, address=ADDRESS) as archive:
        return {name: archive.read(name) for name in archive.sizes}


def refused(path: Path, says: str) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)


def test_folder_zip_and_tar_are_one(tmp_path: Path) -> None:
    for name, value in CONTENT.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    packed = [make_zip(tmp_path / "a.zip"), make_tar(tmp_path / "a.tar"), make_tar(tmp_path / "a.tar.gz")]
    for place in (tmp_path / "folder", *packed):
        assert read_all(place) == CONTENT
    with Archive(packed[2], address=ADDRESS) as archive:
        assert archive.ending("part1.bin") == "top/part1.bin"
        assert [len(block) for block in archive.blocks("top/part1.bin", 1024)] == [1024, 1024, 952]
        with pytest.raises(CmkdError, match=r"lacks part9.bin: get it from https"):
            archive.ending("part9.bin")
        with pytest.raises(CmkdError, match=r"lacks top/none: get it from https"):
            archive.read("top/none")


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/etc/evil", "C:/evil", "top\\..\\evil", "a\nb"])
def test_paths_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    refused(make_zip(tmp_path / "a.zip", {**CONTENT, name: b"x"}), "not safe to read: the path .* leaves it; get it")
    refused(make_tar(tmp_path / "a.tar.gz", {**CONTENT, name: b"x"}), "not safe to read: the path .* leaves it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "a.zip"]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    refused(make_tar(tmp_path / "a.tar", links={"top/key": "/etc/passwd"}), "top/key' is a link")
    packed = make_zip(tmp_path / "a.zip", {**CONTENT, "top/key": b"/etc/passwd"}, links=("top/key",))
    refused(packed, "top/key' is a link")


@pytest.mark.parametrize("keep", [0, 10, 512, 1500, 5000, 0.5, 0.9, -1, -40])
def test_truncated_archives_are_refused(tmp_path: Path, keep: float) -> None:
    for whole in (make_zip(tmp_path / "a.zip"), make_tar(tmp_path / "a.tar.gz")):
        content = whole.read_bytes()
        whole.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
        refused(whole, r"(is truncated or not an archive|truncated or damaged|is damaged).*: get it again from https")


@pytest.mark.parametrize("keep", [512 + 3072, 2 * (512 + 3072), 2 * (512 + 3072) + 100, 3 * (512 + 3072)])
def test_a_tar_that_ends_between_members_is_refused(tmp_path: Path, keep: int) -> None:
    path = make_tar(tmp_path / "a.tar")
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "is truncated or not an archive")


def test_flipped_bits_are_refused(tmp_path: Path) -> None:
    for path in (make_zip(tmp_path / "a.zip"), make_tar(tmp_path / "a.tar.gz")):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
        refused(path, "damaged|truncated")


def test_bombs_are_refused_without_being_unpacked(tmp_path: Path) -> None:
    zeros = bytes(2**20)
    bomb = tmp_path / "a.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file, file.open("zeros", "w") as member:
        for _ in range(2 * FREE_BYTES // len(zeros)):
            member.write(zeros)
    stream = tmp_path / "a.gz"
    with gzip.open(stream, "wb") as out:
        for _ in range(2 * FREE_BYTES // len(zeros)):
            out.write(zeros)
    tracemalloc.start()
    refused(bomb, "unpacks to more than 200 times its size")
    with pytest.raises(CmkdError, match="unpacks to more than"):
        for _ in unpacked(stream, address=ADDRESS):
            pass
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_a_zip_whose_sizes_lie_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"part.bin": bytes(5000)})
    content = path.read_bytes()
    lied = content.replace(struct.pack("<I", 5000), struct.pack("<I", 50))
    assert lied != content
    path.write_bytes(lied)
    refused(path, "damaged")


def test_twice_encrypted_missing(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("part", "a")
        file.writestr("part", "b")
    refused(tmp_path / "a.zip", "it contains part twice")
    path = make_zip(tmp_path / "b.zip", {"part": b"x"})
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, "part' is encrypted")
    refused(tmp_path / "nowhere.zip", r"does not exist: get the files from https")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    path.chmod(0)
    refused(path, "cannot be read")


@pytest.mark.parametrize("packed", [True, False])
def test_idx_in_blocks(tmp_path: Path, packed: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 7, 5), dtype=np.uint8)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(idx_bytes(images)) if packed else idx_bytes(images))
    blocks = list(Idx(path, axes=3, address=ADDRESS).blocks(30))
    assert [len(block) for block in blocks] == [30, 30, 30, 10]
    np.testing.assert_array_equal(np.concatenate(blocks), images)
    np.testing.assert_array_equal(read_idx(path, axes=3, address=ADDRESS), images)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (idx_bytes(np.zeros(9, np.uint8)), "has 1 axes, expected 3: is it another file with this name"),
        (idx_bytes(np.ones((9, 3, 3), np.uint8))[:-5], r"holds 76 of the 81 bytes in its header"),
        (idx_bytes(np.ones((9, 3, 3), np.uint8)) + b"x", "holds more of the 81 bytes in its header"),
        (gzip.compress(idx_bytes(np.ones((9, 3, 3), np.uint8)), mtime=0)[:-9], "truncated or damaged: get it again"),
        (
            gzip.compress(idx_bytes(np.ones((9, 3, 3), np.uint8)) + bytes(10**6), mtime=0),
            "unpacks to more than 98 bytes",
        ),
        (idx_bytes(np.zeros((9, 0, 3), np.uint8)), "is empty"),
        (b"", "not an IDX file"),
        (b"<html>not found</html>", "not an IDX file"),
    ],
)
def test_bad_idx(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(CmkdError, match=says) as caught:
        read_idx(path, axes=3, address=ADDRESS)
    assert "https://example.org" in str(caught.value)


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180
    assert checksum(tmp_path / "a").startswith("ba7816bf")


def test_recordings(tmp_path: Path) -> None:
    from scipy.io import wavfile

    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("0_theo_10", "0_theo_9", "1_lucas_0"):
        wavfile.write(folder / f"{name}.wav", 8000, np.full(50, 16384, np.int16))

    def read() -> list[SpokenDigit]:
        with Archive(tmp_path, address=ADDRESS) as archive:
            return list(recordings(archive))

    found = read()
    assert [r.id for r in found] == ["0_theo_9", "0_theo_10", "1_lucas_0"]
    assert found[0].samples.tolist() == [0.5] * 50
    wavfile.write(folder / "2_theo_0.wav", 44100, np.zeros(50, np.int16))
    with pytest.raises(CmkdError, match="has 44100 Hz"):
        read()
    wavfile.write(folder / "2_theo_0.wav", 8000, np.zeros(50, np.int16))
    (folder / "2_theo_0.wav").write_bytes((folder / "2_theo_0.wav").read_bytes()[:-10])
    with pytest.raises(CmkdError, match=r"2_theo_0.wav in .* expected a whole recording"):
        read()
    (folder / "2_theo_0.wav").write_bytes(b"RIFF")
    with pytest.raises(CmkdError, match=r"2_theo_0.wav in .* is truncated or damaged"):
        read()


def test_a_giant_header_a_sparse_file_and_a_damaged_name_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2**28
    sparse = tarfile.TarInfo("sparse")
    sparse.type = tarfile.GNUTYPE_SPARSE
    for name, info, says in (("pax", header, "a header of 268435456 bytes"), ("sparse", sparse, "a sparse file")):
        path = tmp_path / f"{name}.tar.xz"
        with lzma.open(path, "wb", preset=0) as file:
            file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
        tracemalloc.start()
        refused(path, says)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        tracemalloc.stop()
    path = make_zip(tmp_path / "name.zip", {"caf\u00e9.bin": b"1"})
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xe1\x2e"))
    refused(path, "is truncated or not an archive")
