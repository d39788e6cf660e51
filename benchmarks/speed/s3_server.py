"""Serve S3 from memory with moto, for the streaming benchmarks; `served` starts it in a separate process.

For each range that is read, moto copies the whole object, which costs more than everything that is measured. Here, the
content of each object is kept as one bytes object.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BATCH = 128


@contextmanager
def served() -> Iterator[None]:
    """Start an S3 server, and point the AWS variables of this process and its children to it."""
    script = Path(__file__)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, str(script)], text=True, **pipes) as server:
        assert server.stdout is not None and server.stdin is not None
        address = server.stdout.readline().strip()
        given = {
            "ACCESS_KEY_ID": "test",
            "SECRET_ACCESS_KEY": "test",
            "ENDPOINT_URL": address,
            "REGION": "us-east-1",
            "DEFAULT_REGION": "us-east-1",
        }
        os.environ.update({f"AWS_{name}": text for name, text in given.items()})
        import boto3

        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="packs")
        yield
        server.stdin.close()


def upload(folder: Path, name: str) -> None:
    """Upload the files of a folder under the prefix `name`."""
    import boto3

    client = boto3.client("s3")
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "packs", f"{name}/{path.relative_to(folder)}")


class _Kept:
    """The content of an object, kept as one bytes object."""

    def __init__(self, original: property) -> None:
        self._original = original

    def __get__(self, key: object, kind: type) -> object:
        known = key.__dict__.get("_kept")
        if known is None:
            known = key.__dict__["_kept"] = self._original.__get__(key, kind)
        return known

    def __set__(self, key: object, content: object) -> None:
        key.__dict__.pop("_kept", None)
        self._original.__set__(key, content)


def main() -> None:
    """Print the address, and serve until stdin closes."""
    from moto.s3.models import FakeKey
    from moto.server import ThreadedMotoServer

    kind: Any = FakeKey
    kind.value = _Kept(kind.value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
