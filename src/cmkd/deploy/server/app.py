"""The FastAPI application and its endpoints."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cmkd.deploy.server.body import media_types
from cmkd.deploy.server.limits import Limits, Refused
from cmkd.deploy.server.metrics import Measured, Metrics
from cmkd.deploy.server.predictor import Predictor, predictions
from cmkd.deploy.student import Student

PREDICT = "/predict"
_BEARER = HTTPBearer(auto_error=False, description="the value of CMKD_TOKEN")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
REFUSALS = {
    400: "not HTTP, or the connection ended",
    401: "no token, or a wrong one",
    408: "the body did not arrive in time",
    413: "too large a body, too many pixels or samples",
    415: "a type that this model does not take",
    422: "damaged, or no sample of the modality",
    503: "all workers are busy and the queue is full, or the server is stopping",
    504: "no answer in time",
}
"""HTTP status of an error -> its meaning; the body of each is ``{"error": "one line"}``."""


def create_app(student: Student, model: dict[str, str], limits: Limits, *, token: str | None = None) -> FastAPI:
    """Return the FastAPI application that serves a student.

    Args:
        student: the student to serve.
        model: name and version of the model.
        limits: limits on requests.
        token: token that ``/predict`` and ``/metrics`` require; None requires no token.
    """
    metrics = Metrics(student.classes)
    predictor = Predictor(student, model, limits, metrics)
    app = FastAPI(title=f"cmkd: {model['name']}", version=model["version"], redoc_url=None)
    app.state.predictor = predictor
    app.add_middleware(Measured, metrics=metrics, path=PREDICT)
    _errors(app)

    async def allowed(given: Bearer) -> None:
        said = given.credentials if given is not None else ""
        if token is not None and not hmac.compare_digest(said.encode(), token.encode()):
            raise Refused(401, "send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    binary = {"schema": {"type": "string", "format": "binary"}}
    takes = dict.fromkeys(media_types(student.modality.kind), binary)
    about = (
        f"Classify one {student.modality.kind}, or an array of several: {student.modality.name}, "
        f"{student.modality.dtype} of shape {student.modality.shape}. The body is the file itself."
    )

    @app.post(
        PREDICT,
        dependencies=[Depends(allowed)],
        description=about,
        openapi_extra={"requestBody": {"required": True, "content": takes}},
        responses=_responses(student, model),
    )
    async def predict(request: Request) -> Response:
        return Response(await predictor.answer(request), media_type="application/json")

    @app.get("/health", description="200 if a request would be accepted now, 503 if every place is taken.")
    async def health() -> JSONResponse:
        busy = predictor.busy
        return JSONResponse({"status": "busy" if busy else "ready", "model": model}, 503 if busy else 200)

    @app.get("/metrics", dependencies=[Depends(allowed)], description="Counters in the text format of Prometheus.")
    async def measured() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _responses(student: Student, model: dict[str, str]) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of all responses for the OpenAPI page."""
    one = student.calibration.probabilities(np.zeros((1, len(student.classes))))
    example = {"model": model, "predictions": predictions(student, one)}
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": "one prediction a sample", "content": {"application/json": {"example": example}}}
    }
    error = {"application/json": {"example": {"error": "one line"}}}
    return found | {status: {"description": text, "content": error} for status, text in REFUSALS.items()}


def _errors(app: FastAPI) -> None:
    """Answer every error with one line of JSON; tracebacks go only to the server's own output."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return JSONResponse({"error": error.message}, error.status, dict(error.headers))

    async def no_such(request: Request, error: Exception) -> JSONResponse:
        status = getattr(error, "status_code", 404)
        said = "there is nothing at this path" if status == 404 else f"{request.method} is not supported at this path"
        return JSONResponse({"error": f"{said}: see /docs"}, status)

    async def bug(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "internal error: the server's log has the reason"}, 500)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(404, no_such)
    app.add_exception_handler(405, no_such)
    app.add_exception_handler(Exception, bug)
