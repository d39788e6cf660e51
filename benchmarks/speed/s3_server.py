"""Serve S3 from memory with moto, for `streaming.py`: prints its address, and ends when stdin closes.

moto copies the whole object for each range that is read of it, which costs more than everything that is measured. Here
it keeps the bytes of each object as they are.
"""

from __future__ import annotations

import sys

from moto.s3.models import FakeKey
from moto.server import ThreadedMotoServer


class _Kept:
    """The content of an object, kept as one bytes object."""

    def __init__(self, original: property) -> None:
        self._original, self._known = original, {}

    def __get__(self, key: FakeKey, kind: type) -> object:
        known = key.__dict__.get("_kept")
        if known is None:
            known = key.__dict__["_kept"] = self._original.__get__(key, kind)
        return known

    def __set__(self, key: FakeKey, content: object) -> None:
        key.__dict__.pop("_kept", None)
        self._original.__set__(key, content)


def main() -> None:
    """Serve until stdin closes."""
    FakeKey.value = _Kept(FakeKey.value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
