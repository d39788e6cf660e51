"""Answer requests with worker threads, a limited number of places and a time limit."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from cmkd.data.manifest.content import Content
from cmkd.deploy.server.body import requested_suffix, samples
from cmkd.deploy.server.limits import Limits, Refused
from cmkd.deploy.server.metrics import Metrics
from cmkd.deploy.student import Student
from cmkd.errors import CmkdError

_DISCARDED = 16
"""A body whose declared size is too large, but below this multiple of the limit, is read and discarded: a client that
is still sending may miss the answer, since many clients ask to close the connection after it."""


class Predictor:
    """A student with the workers and places that requests share.

    Args:
        student: the student that predicts.
        model: name and version of the model, repeated in each answer.
        limits: limits on each request and on the number of requests.
        metrics: counters of predictions.
    """

    def __init__(self, student: Student, model: dict[str, str], limits: Limits, metrics: Metrics) -> None:
        self.student, self.model, self.limits, self.metrics = student, model, limits, metrics
        self._workers = ThreadPoolExecutor(limits.workers, thread_name_prefix="predict")
        self._places = threading.BoundedSemaphore(limits.workers + limits.queue)
        self._work_left = set[Future[bytes]]()
        self._waiting = set[asyncio.Task[Any]]()
        self.unanswered = 0
        """Number of requests that got no prediction because the server stopped."""

    @property
    def busy(self) -> bool:
        """Whether every place is taken, so that a request would be refused."""
        free = self._places.acquire(blocking=False)
        if free:
            self._places.release()
        return not free

    async def answer(self, request: Request) -> bytes:
        """Return the answer to a request, as JSON.

        A request holds a place from before its body is read until its work ends, which bounds the memory. Work that
        has begun cannot be interrupted: after its time limit it still holds its worker and place until it ends.

        Raises:
            Refused: if a limit is exceeded, the body is not valid, or the server stops before there is an answer.
        """
        suffix = requested_suffix(request.headers.get("content-type", ""), self.student.modality.kind)
        if not self._places.acquire(blocking=False):
            raise Refused(503, "all workers are busy and the queue is full: try again", {"Retry-After": "1"})
        work: Future[bytes] | None = None
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            async with asyncio.timeout(self.limits.seconds):
                content = Content("the body", suffix, await _read(request, self.limits))
                work = self._workers.submit(self._work, content)
                self._work_left.add(work)
                work.add_done_callback(self._ended)
                return await asyncio.wrap_future(work)
        except TimeoutError:
            if work is None:
                raise _closing(408, f"the body did not arrive within {self.limits.seconds:g} s") from None
            raise Refused(504, f"no answer within {self.limits.seconds:g} s: send fewer or smaller samples") from None
        except asyncio.CancelledError:
            self.unanswered += 1
            raise _closing(503, "the server is stopping: send the request again later") from None
        finally:
            self._waiting.discard(task)
            if work is None:
                self._places.release()

    def _ended(self, work: Future[bytes]) -> None:
        self._work_left.discard(work)
        self._places.release()

    def _work(self, content: Content) -> bytes:
        try:
            given = samples(content, self.student.modality, self.limits)
        except CmkdError as error:
            raise Refused(422, str(error)) from error
        probabilities = self.student.probabilities(given)
        if not np.isfinite(probabilities).all():
            raise Refused(422, "the model has no finite answer for these values: check their units")
        answer: dict[str, Any] = {"model": self.model, "predictions": predictions(self.student, probabilities)}
        for one in answer["predictions"]:
            self.metrics.predictions.labels(one["class"]).inc()
            self.metrics.rejected.inc(one["rejected"])
        return json.dumps(answer, allow_nan=False).encode()

    def refuse_waiting(self) -> None:
        """Refuse the requests that still wait, because the server is stopping; call this in the server's event loop."""
        for task in self._waiting:
            task.cancel()

    def close(self) -> bool:
        """Start no more work, and return whether work is left that cannot be interrupted."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        return bool(self._work_left)


def predictions(student: Student, probabilities: NDArray[Any]) -> list[dict[str, Any]]:
    """Return the predictions of a table of probabilities ``(n, classes)``, ready for JSON."""
    columns = student.columns([""] * len(probabilities), probabilities)
    return [
        {name: columns[name][k] for name in ("class", "probability", "entropy", "rejected")}
        | {"probabilities": dict(zip(student.classes, row, strict=True))}
        for k, row in enumerate(probabilities.tolist())
    ]


async def _read(request: Request, limits: Limits) -> bytes:
    """Read and return the body; refuse one that is too large without holding all of it in memory."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _closing(415, "compressed bodies are not supported: send the body without Content-Encoding")
    length = request.headers.get("content-length", "")
    large = f"the body is larger than {limits.body_mb:g} MB"
    declared = int(length) if length.isdecimal() else 0
    if declared >= _DISCARDED * limits.body_bytes:
        raise _closing(413, large)
    discarded, body = declared > limits.body_bytes, bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client closed the connection")
        body += b"" if discarded else message.get("body", b"")
        if len(body) > limits.body_bytes:
            raise _closing(413, large)
        if not message.get("more_body", False):
            break
    if discarded:
        raise Refused(413, large)
    if not body:
        raise Refused(422, "the body is empty: send an image or an array")
    return bytes(body)


def _closing(status: int, message: str) -> Refused:
    """Return a refusal that closes the connection, which cannot serve another request after an unread body."""
    return Refused(status, message, {"Connection": "close"})
