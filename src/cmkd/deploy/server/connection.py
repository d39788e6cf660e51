"""HTTP connections with a time limit on the head (request line and headers) of each request."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def closing_after(seconds: float) -> type[H11Protocol]:
    """Return a protocol class that closes a connection if the head of a request takes too long.

    uvicorn limits the time between two requests, but not the time until the end of a head: clients that connect and
    send nothing, or send slowly, could use up all file descriptors, so that nobody else could connect.

    Args:
        seconds: time limit from the connection, or from the first byte of a later request, to the end of the head.
    """

    class Connection(H11Protocol):
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            super().connection_made(transport)
            self.watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.unwatch()

        def between_requests(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def watch(self) -> None:
            if not self.between_requests():
                self.unwatch()
            elif self.late is None:
                self.late = self.loop.call_later(seconds, self.give_up)

        def unwatch(self) -> None:
            if self.late is not None:
                self.late.cancel()
                self.late = None

        def give_up(self) -> None:
            self.late = None
            if self.between_requests():
                self.transport.close()

    return Connection
