"""Packs at an address: a real S3 server, faults of network and disk, kills, and what a push refuses."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cmkd.cli import main
from cmkd.data.pack import CardInfo, Pack, PackWriter
from cmkd.data.remote import push as pushing
from cmkd.data.remote.cache import BlockCache
from cmkd.data.remote.push import push
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
    """Blocks of 5 rows and shards of 20, and a cache of this test."""
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
        with pytest.raises(CmkdError, match="is not a pushed pack: it has no card.json"):
            Pack.open("s3://ships/nothing")
    finally:
        server.stop()
