"""What a request may cost, and the answer to one that costs more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from cmkd.errors import CmkdError


@dataclass(frozen=True)
class Limits:
    """What the server gives to requests.

    Args:
        body_mb: largest body, in megabytes of 2**20 bytes.
        pixels: largest height times width of an image, checked before it is decoded.
        side: largest height or width of an image.
        batch: most samples of one request.
        seconds: time for the head of a request, then for its body and answer.
        workers: requests that are decoded and classified at a time, in a thread each.
        queue: requests that may wait for a worker beyond these; one more is refused.

    Raises:
        CmkdError: a limit that is not positive (a queue may be 0).
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
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: one line for the client.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}
