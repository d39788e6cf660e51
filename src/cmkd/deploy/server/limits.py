"""Limits on requests, and the error for requests that exceed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from cmkd.errors import CmkdError


@dataclass(frozen=True)
class Limits:
    """Limits of the server on requests.

    Args:
        body_mb: largest body, in megabytes of 2**20 bytes.
        pixels: largest height times width of an image, checked before it is decoded.
        side: largest height or width of an image.
        batch: largest number of samples in one request.
        seconds: time limit for the head of a request, and again for its body and answer.
        workers: number of requests that are decoded and classified at the same time, one thread each.
        queue: number of further requests that may wait for a worker; beyond that, requests are refused.

    Raises:
        CmkdError: if a limit is not positive (only `queue` may be 0).
    """

    body_mb: float = 16.0
    pixels: int = 2**22
    side: int = 2**14
    batch: int = 256
    seconds: float = 10.0
    workers: int = 2
    queue: int = 32

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value <= 0 and not (option.name == "queue" and value == 0):
                raise CmkdError(f"the limit {option.name} is {value}: give a positive number")

    @property
    def body_bytes(self) -> int:
        """The largest body in bytes."""
        return int(self.body_mb * 2**20)


class Refused(Exception):
    """Raised for a request that gets an error as its answer.

    Args:
        status: HTTP status.
        message: one line for the client.
        headers: additional headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}
