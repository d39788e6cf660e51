"""Counters of the server in the text format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

App = Callable[..., Awaitable[None]]
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram's buckets."""


class Metrics:
    """Counters of one server.

    Args:
        classes: classes of the model; each counter starts at 0, so that a class that was never predicted is listed.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("cmkd_requests", "Requests by HTTP status.", ["status"], registry=self.registry)
        self.seconds = Histogram("cmkd_request_seconds", "Time of a request.", buckets=SECONDS, registry=self.registry)
        self.in_flight = Gauge("cmkd_in_flight", "Requests that are being answered.", registry=self.registry)
        self.predictions = Counter("cmkd_predictions", "Predictions by class.", ["class"], registry=self.registry)
        self.rejected = Counter("cmkd_rejected", "Predictions below their threshold.", registry=self.registry)
        for name in classes:
            self.predictions.labels(name)

    def text(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        return generate_latest(self.registry)

    @contextmanager
    def request(self) -> Iterator[list[int]]:
        """Measure a request; the caller puts its HTTP status into the yielded list."""
        status, start = [500], time.perf_counter()
        self.in_flight.inc()
        try:
            yield status
        finally:
            self.in_flight.dec()
            self.seconds.observe(time.perf_counter() - start)
            self.requests.labels(str(status[0])).inc()


class Measured:
    """Middleware that measures the requests to one path.

    Args:
        app: application that answers the requests.
        metrics: counters to update.
        path: path of the measured requests.
    """

    def __init__(self, app: App, metrics: Metrics, path: str) -> None:
        self.app, self.metrics, self.path = app, metrics, path

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]
    ) -> None:
        """Answer a request, and measure it if its path is the measured one."""
        if scope["type"] != "http" or scope["path"] != self.path:
            return await self.app(scope, receive, send)
        with self.metrics.request() as status:

            async def sent(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    status[0] = message["status"]
                await send(message)

            await self.app(scope, receive, sent)
        return None
