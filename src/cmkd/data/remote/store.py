"""Objects below an address, read and written with obstore; errors are one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeGuard

from cmkd.errors import CmkdError, needs_extra

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

THREADS = 32
"""Number of concurrent requests; our choice. Object storage answers each in about 10 to 100 ms, whatever its size."""
TRIES = 4
"""Number of attempts per request, and per block that arrives damaged."""
HUB = "hf://datasets/"


def is_address(place: object) -> TypeGuard[str]:
    """Return whether a text is an address, not a path.

    Example:
        >>> is_address("s3://bucket/ships"), is_address("data/ships"), is_address("mars:data/mars")
        (True, False, False)
    """
    return isinstance(place, str) and re.match(r"[a-z][a-z0-9]*://", place) is not None


class Store:
    """Objects by name below an address.

    Credentials come from the environment as the provider's own tools read them: ``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, and ``AWS_SKIP_SIGNATURE=true`` for a public
    bucket.

    Args:
        address: ``s3://bucket/folder``, ``gs://``, ``az://``, ``https://host/folder``, ``file:///folder`` or
            ``hf://datasets/USER/NAME``, followed by ``@REVISION`` for another one than ``main``.
        write: create the folder of a ``file://`` address.

    Raises:
        CmkdError: the address has an unsupported form, or obstore is not installed.
    """

    def __init__(self, address: str, *, write: bool = False) -> None:
        self.address = address.rstrip("/")
        with needs_extra("remote", "a pack at an address"):
            from obstore.store import from_url
        options: ClientConfig = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
        options |= {"pool_max_idle_per_host": str(THREADS)}
        retry: RetryConfig = {"max_retries": TRIES - 1, "retry_timeout": timedelta(seconds=90)}
        url = self.address
        if url.startswith(HUB):
            url, headers = _on_hub(url)
            options |= {"default_headers": headers}
        with self._told("open"):
            if url.startswith("file://"):
                self._store = from_url(url, mkdir=write)
                return
            if url.startswith("http://") or os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
                options |= {"allow_http": True}
            self._store = from_url(url, client_options=options, retry_config=retry)

    def read(self, name: str) -> bytes | None:
        """Return an object, or None if it does not exist."""
        import obstore

        with self._told("read", name):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def ranges(self, wanted: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, list[bytes]]:
        """Read parts of objects, several at a time.

        Args:
            wanted: name -> first byte and length of each part. Adjacent parts become one request.
        """
        import obstore

        def read(name: str) -> list[bytes]:
            starts, lengths = zip(*wanted[name], strict=True)
            with self._told("read", name):
                found = obstore.get_ranges(self._store, name, starts=starts, lengths=lengths, coalesce=0)
                return [bytes(part) for part in found]

        with ThreadPoolExecutor(min(THREADS, len(wanted))) as pool:
            return dict(zip(wanted, pool.map(read, wanted), strict=True))

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write objects whole or not at all, several at a time."""
        import obstore

        def put(name: str) -> None:
            with self._told("write", name):
                obstore.put(self._store, name, contents[name], use_multipart=False)

        with ThreadPoolExecutor(len(contents)) as pool:
            list(pool.map(put, contents))

    @contextmanager
    def _told(self, what: str, name: str = "") -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise CmkdError(f"cannot {what} {self.address}/{name}: it does not exist") from error
        except (BaseError, OSError, ValueError) as error:
            place = f"{self.address}/{name}" if name else self.address
            raise CmkdError(f"cannot {what} {place} ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Return obstore's message without its debug output, shortened in the middle."""
    text = " ".join(str(error).split("\n\nDebug source:")[0].split())
    return text if len(text) <= 240 else f"{text[:120]} ... {text[-110:]}"


def _on_hub(address: str) -> tuple[str, dict[str, str]]:
    """Return the HTTP address of a data set's files on the Hugging Face Hub, and the header with the user's token."""
    repository, below, revision = hub_place(address)
    with needs_extra("hub", "the Hugging Face Hub"):
        from huggingface_hub import constants, get_token
    token = get_token()
    url = f"{constants.ENDPOINT}/datasets/{repository}/resolve/{revision or 'main'}"
    return "/".join(filter(None, (url, below))), {"authorization": f"Bearer {token}"} if token else {}


def hub_place(address: str) -> tuple[str, str, str]:
    """Return repository, folder and revision of a Hugging Face Hub address; folder and revision are empty if not given.

    Raises:
        CmkdError: the address has an unsupported form.

    Example:
        >>> hub_place("hf://datasets/me/ships/v2@draft")
        ('me/ships', 'v2', 'draft')
    """
    name, _, revision = address.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w./-]+)?", name):
        raise CmkdError(f"cannot read the address '{address}': write {HUB}USER/NAME")
    user, data_set, *below = name.split("/", 2)
    return f"{user}/{data_set}", "".join(below), revision
