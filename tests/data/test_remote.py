"""Packs on object storage: a real S3 server, faults of network and disk, kills, and pushes that are refused."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cmkd.cli import main
from cmkd.data.pack import CardInfo, Pack, PackWriter
from cmkd.data.pack.pack import TOGETHER
from cmkd.data.pack.sample import train_values
from cmkd.data.remote import push as pushing
from cmkd.data.remote.cache import BlockCache
from cmkd.data.remote.push import push
from cmkd.data.remote.store import Store
from cmkd.errors import CmkdError
from cmkd.io import checksum
from cmkd.training.loader import PairLoader
from cmkd.types import Modality

ROWS = 300
SENSORS = [Modality("optical", "image", (3, 8, 8), "uint8"), Modality("radar", "vector", (50,), "float32")]


def write_pack(folder: Path, seed: int = 0, rows: int = ROWS) -> Pack:
    with PackWriter(folder, CardInfo("random"), classes=["a", "b"], modalities=SENSORS) as writer:
        add(writer, seed, 0, rows)
    return Pack.open(folder)


def add(writer: PackWriter, seed: int, first: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    optical = generator.integers(0, 256, (rows, 3, 8, 8), dtype=np.uint8)
    radar = generator.normal(size=(rows, 50)).astype(np.float32)
    splits = np.array(["train", "train", "validation", "test"])[np.arange(rows) % 4]
    ids = [str(first + row) for row in range(rows)]
    present = {"radar": np.arange(rows) % 9 > 0}
    writer.add(ids, np.arange(rows) % 2, splits.tolist(), None, {"optical": optical, "radar": radar}, present)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use blocks of 5 rows, shards of 20 rows, and a separate cache for each test."""
    monkeypatch.setattr(pushing, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(pushing, "SHARD_BYTES", 4000)
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_pack(tmp_path_factory.mktemp("remote") / "pack")


@pytest.fixture
def address(pack: Pack, tmp_path: Path) -> str:
    push(pack.path, f"file://{tmp_path}/pushed")
    return f"file://{tmp_path}/pushed"


def digests(pack: Pack, batch_size: int = 16) -> list[str]:
    """Return a checksum of each batch of a shuffled epoch."""
    loader = PairLoader(pack, pack.rows("train"), list(pack.modalities), batch_size=batch_size, shuffle=True, seed=3)
    return [checksum([batch.index.numpy().data, *(x.numpy().data for x in batch.inputs.values())]) for batch in loader]


def expect(streamed: Pack, local: Pack) -> None:
    """Check that all values are equal."""
    for name in local.modalities:
        np.testing.assert_array_equal(np.asarray(streamed.array(name)), np.asarray(local.array(name)))


def stored(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.glob("blocks/*/*"))


def test_a_pack_on_s3_gives_the_batches_of_the_local_one(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        given = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "ENDPOINT_URL": f"http://{host}:{port}"}
        for name, text in given.items():
            monkeypatch.setenv(f"AWS_{name}", text)
        import boto3

        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="ships")
        place = "s3://ships/version/one"
        main(["data", "push", str(pack.path), place])
        streamed = Pack.open(place)
        assert streamed.index.equals(pack.index)
        assert digests(streamed) == digests(pack)
        assert pickle.loads(pickle.dumps(streamed)).batch([7]).inputs["radar"].equal(pack.batch([7]).inputs["radar"])
        streamed.verify()
        with pytest.raises(CmkdError, match=r"is not a pushed pack: it has no card.json"):
            Pack.open("s3://ships/nothing")
    finally:
        server.stop()


def test_any_index_along_the_rows_reads_what_numpy_reads(pack: Pack, address: str) -> None:
    streamed = Pack.open(address)
    assert (streamed.place, len(streamed.array("radar"))) == (address, ROWS)
    mask = np.arange(ROWS) % 7 == 0
    for key in (
        3,
        -1,
        slice(10, 40),
        slice(None, None, -50),
        [5, 5, -2],
        mask,
        np.zeros(0, np.int64),
        np.ones((2, 2), int),
    ):
        for name in pack.modalities:
            found, expected = streamed.array(name)[key], pack.array(name)[key]
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(IndexError):
        streamed.array("radar")[ROWS]
    assert digests(streamed) == digests(pack)
    assert digests(streamed.withhold(0.5), 10) == digests(pack.withhold(0.5), 10)


def test_the_cache_never_exceeds_its_limit_and_drops_the_least_recently_used(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "blocks", 1000)
    blocks = {checksum([content]): content for content in (bytes([number]) * 100 for number in range(40))}
    first = next(iter(blocks))
    for number, (name, content) in enumerate(blocks.items()):
        cache.keep({name: content})
        os.utime(tmp_path / "blocks" / name[:2] / name, ns=(number, number))
        assert stored(tmp_path) <= 1000
        assert cache.get(first, 100) is not None  # it was used again and again, so it is kept
    assert cache.get(list(blocks)[5], 100) is None
    assert cache.get(list(blocks)[-1], 100) is not None
    cache.keep({checksum([b"x" * 2000]): b"x" * 2000})
    assert stored(tmp_path) <= 1000
    (tmp_path / "blocks" / "bytes").write_bytes(b"")  # as a power failure may leave it
    cache.keep({checksum([b"y" * 100]): b"y" * 100})
    assert cache.get(checksum([b"y" * 100]), 100) is not None and stored(tmp_path) <= 1000


def test_a_damaged_block_on_disk_is_fetched_again(pack: Pack, address: str, tmp_path: Path) -> None:
    expect(Pack.open(address), pack)
    blocks = sorted((tmp_path / "cache").glob("blocks/*/*"))
    before = [path.read_bytes() for path in blocks]
    blocks[0].write_bytes(bytes(len(before[0])))
    blocks[1].write_bytes(before[1][:-1])
    blocks[2].write_bytes(b"")
    expect(Pack.open(address), pack)
    assert [path.read_bytes() for path in blocks] == before


def test_a_damaged_shard_is_one_line(address: str, tmp_path: Path) -> None:
    streamed = Pack.open(address)
    shards = [path for path in (tmp_path / "pushed" / "objects").iterdir() if path.stat().st_size == 4000]
    for path in shards:
        path.write_bytes(bytes(4000))
    with pytest.raises(CmkdError, match=r"is damaged \(sha256 of a block\): push the pack again"):
        streamed.verify()
    for path in shards:
        path.unlink()
    with pytest.raises(CmkdError, match=r"cannot read .*: it does not exist"):
        streamed.array("radar")[:]


def test_without_room_on_the_disk_reading_goes_on(pack: Pack, address: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "blocks").write_text("no folder")
    with pytest.warns(UserWarning, match="cannot cache blocks in .*; free space"):
        expect(Pack.open(address), pack)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_limit_that_is_no_number_is_refused(text: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMKD_STREAM_MIB", text)
    with pytest.raises(CmkdError, match="give a positive whole number of MiB"):
        Pack.open(address).array("radar")


READER = """
import sys
import numpy as np
from cmkd.data.pack import Pack
pack, generator = Pack.open(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
print("open", flush=True)
for _ in range(int(sys.argv[3])):
    rows = generator.permutation(len(pack))[:8]
    print(float(pack.array("radar")[rows].sum(dtype="float64")), flush=True)
"""


@pytest.mark.slow
def test_killed_readers_and_readers_side_by_side_leave_a_sound_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMKD_STREAM_MIB", "1")
    pack, address = write_pack(tmp_path / "pack", rows=6000), f"file://{tmp_path}/pushed"
    monkeypatch.setattr(pushing, "BLOCK_BYTES", 2**15)
    push(pack.path, address)

    def start(seed: int, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", READER, address, str(seed), str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start(0, 10**9) as endless, start(1, 40) as other:
        assert endless.stdout is not None
        for _ in range(60):
            endless.stdout.readline()
        endless.send_signal(signal.SIGKILL)
        output, _ = other.communicate()
    generator = np.random.default_rng(1)
    sums = [pack.array("radar")[generator.permutation(6000)[:8]].sum(dtype="float64") for _ in range(40)]
    assert list(map(float, output.split()[1:])) == sums
    assert 0 < stored(tmp_path / "cache") <= 2**20
    expect(Pack.open(address), pack)
    assert 0 < stored(tmp_path / "cache") <= 2**20


class Objects(BaseHTTPRequestHandler):
    """HTTP handler that serves objects by name, with ranges, and accepts commits as the Hugging Face Hub does."""

    objects: dict[str, bytes]
    faults = 0
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        kind = type(self)
        content = kind.objects.get(self.path)
        if kind.faults:
            kind.faults -= 1
            self.answer(503)
        elif content is None:
            self.answer(404)
        elif "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            shown = f"bytes {first}-{last}/{len(content)}"
            self.answer(206, content[first : last + 1], Content_Range=shown)
        else:
            self.answer(200, content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said_url = f"http://{self.headers['Host']}/datasets/me/ships"
        said: object = {"url": said_url, "errors": [], "warnings": []}
        if "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            said = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    name, content = line["value"]["path"], base64.b64decode(line["value"]["content"])
                    type(self).objects[f"/datasets/me/ships/resolve/main/{name}"] = content
            said = {"commitUrl": f"{said_url}/commit/1", "commitOid": "1", "success": True}
        self.answer(200, json.dumps(said).encode())


@pytest.fixture
def server() -> Iterator[tuple[str, type[Objects]]]:
    kind = type("Fresh", (Objects,), {"objects": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", kind
        running.shutdown()


def test_a_pack_by_http_outlives_faults_of_the_network(
    pack: Pack, address: str, server: tuple[str, type[Objects]]
) -> None:
    url, kind = server
    root = Path(address.removeprefix("file://"))
    kind.objects = {f"/p/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    kind.faults = 2
    streamed = Pack.open(f"{url}/p")
    streamed.array("radar")
    kind.faults = 2
    expect(streamed, pack)
    kind.faults = 10**9
    with pytest.raises(CmkdError, match=r"cannot read http://.*503") as raised:
        Pack.open(f"{url}/p")
    assert "\n" not in str(raised.value)
    with pytest.raises(CmkdError, match="give an address such as s3://"):
        push(pack.path, f"{url}/p")


def test_a_pack_on_a_stand_in_of_the_hub(
    pack: Pack, server: tuple[str, type[Objects]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    url, kind = server
    monkeypatch.setattr(constants, "ENDPOINT", url)
    push(pack.path, "hf://datasets/me/ships")
    expect(Pack.open("hf://datasets/me/ships"), pack)
    card = kind.objects["/datasets/me/ships/resolve/main/README.md"].decode()
    assert card.startswith("---\npretty_name: random") and "pushed by `cmkd data push`" in card
    with pytest.raises(CmkdError, match="write hf://datasets/USER/NAME"):
        Pack.open("hf://datasets/ships")


def written(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Return a list to which the names of written objects are added; interrupt after `stop_after` objects."""
    names: list[str] = []
    original = Store.write

    def write(store: Store, contents: Mapping[str, bytes]) -> None:
        if stop_after is not None and len(names) >= stop_after:
            raise KeyboardInterrupt
        names.extend(contents)
        original(store, contents)

    monkeypatch.setattr(Store, "write", write)
    return names


def test_a_push_that_was_stopped_sends_the_rest(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"file://{tmp_path}/pushed"
    with monkeypatch.context() as patch:
        first = written(patch, stop_after=12)
        with pytest.raises(KeyboardInterrupt):
            push(pack.path, address)
    with pytest.raises(CmkdError, match=r"is not a pushed pack: it has no card.json"):
        Pack.open(address)
    with monkeypatch.context() as patch:
        second = written(patch)
        push(pack.path, address)
    assert len(first) == 12 and not set(first) & set(second) and second[-1] == "card.json"
    expect(Pack.open(address), pack)
    with monkeypatch.context() as patch:
        third = written(patch)
        push(pack.path, address)
    assert third == []


def test_shards_that_are_equal_are_stored_once_and_read_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = np.arange(ROWS) >= 200  # ten shards without radar
    values = {sensor.name: np.ones((ROWS, *sensor.shape), sensor.dtype) for sensor in SENSORS}
    ids, splits = [str(row) for row in range(ROWS)], ["train", "test", "validation"] * (ROWS // 3)
    with PackWriter(tmp_path / "pack", CardInfo("gap"), classes=["a", "b"], modalities=SENSORS) as writer:
        writer.add(ids, np.arange(ROWS) % 2, splits, None, values, {"radar": present})
    address = f"file://{tmp_path}/pushed"
    sent = written(monkeypatch)
    push(tmp_path / "pack", address)
    assert sum(name.startswith("objects/") for name in sent) == 3 + 2  # shards: one optical, two radar; and digests
    Pack.open(address).verify()
    expect(Pack.open(address), Pack.open(tmp_path / "pack"))


def test_a_new_version_sends_what_is_new_and_another_pack_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"file://{tmp_path}/pushed"
    first = write_pack(tmp_path / "pack")
    before = shutil.copytree(first.path, tmp_path / "before")
    push(first.path, address)
    opened = Pack.open(address)
    with PackWriter.append(first.path) as writer:
        add(writer, 1, ROWS, 30)
    with monkeypatch.context() as patch:
        sent = written(patch)
        push(first.path, address)
    # for each array, two or three shards (the last one may have been full) and checksums; index, layout and card
    assert len(sent) <= 2 * 4 + 3
    second = Pack.open(address)
    expect(second, Pack.open(first.path))
    expect(Pack.open(address, 1), Pack.open(before))
    expect(opened, Pack.open(before))
    second.verify()
    with pytest.raises(CmkdError, match=r"version 2 of this pack, which is newer: push to .*/v1, or .* --force"):
        push(before, address)
    other = write_pack(tmp_path / "other", seed=5)
    with pytest.raises(CmkdError, match=r"holds another pack, or another version of it: .*--force"):
        push(other.path, address)
    expect(Pack.open(address), Pack.open(first.path))
    main(["data", "push", str(other.path), address, "--force"])
    expect(Pack.open(address), other)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ('{"name": "of other software"}', "holds another pack, or another version of it"),
        ('{"versions": null}', "holds another pack, or another version of it"),
        ('{"versions": [1]}', r"card\.json' is damaged \(versions\)"),
    ],
)
def test_a_card_that_cmkd_did_not_write_is_not_replaced(card: str, says: str, pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "card.json").write_text(card)
    with pytest.raises(CmkdError, match=says):
        push(pack.path, f"file://{tmp_path}/there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["card.json"]


def test_a_card_that_does_not_fit_its_layout_is_refused(address: str, tmp_path: Path) -> None:
    other = write_pack(tmp_path / "other", seed=6)
    shutil.copy(other.path / "card.json", tmp_path / "pushed" / "card.json")
    with pytest.raises(CmkdError, match=r"does not match its stream.json: .*wait for a push to end"):
        Pack.open(address)


def test_a_push_sends_the_versions_that_there_were_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, place = write_pack(tmp_path / "own"), f"file://{tmp_path}/pushed"
    shards = pushing._shards

    def append_meanwhile(path: Path, length: int, shard_bytes: int) -> Iterator[tuple[str, bytes]]:
        if path.stem == "radar":
            with PackWriter.append(own.path) as writer:
                add(writer, 1, ROWS, 8)
        return shards(path, length, shard_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(pushing, "_shards", append_meanwhile)
        assert push(own.path, place).version == 1
    assert len(Pack.open(own.path)) == ROWS + 8
    expect(Pack.open(place), own)
    assert push(own.path, place).version == 2
    expect(Pack.open(place), Pack.open(own.path))


def test_samples_of_a_pushed_pack_are_read_together(pack: Pack, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed, requests, ranges = Pack.open(address), list[int](), Store.ranges
    monkeypatch.setattr(Store, "ranges", lambda *given: requests.append(1) or ranges(*given))
    found = train_values(streamed, "radar")
    assert (found == train_values(pack, "radar")).all()
    assert len(requests) <= ROWS / 2 / TOGETHER + 1


def test_without_obstore_one_line_names_the_extra(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(CmkdError, match=r"needs obstore.*pip install 'cmkd\[remote\]'"):
        Pack.open(address)
    with pytest.raises(CmkdError, match="cannot open nothing://"):
        monkeypatch.undo()
        Pack.open("nothing://somewhere")
