"""Run the server: load the student, listen, answer requests, and stop after the requests in flight."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from cmkd.deploy.server.app import create_app
from cmkd.deploy.server.connection import closing_after
from cmkd.deploy.server.limits import Limits
from cmkd.deploy.server.predictor import Predictor
from cmkd.deploy.student import load_student, model_file
from cmkd.errors import CmkdError
from cmkd.io import checksum

TOKEN = "CMKD_TOKEN"
"""Environment variable with the token that clients must send; if it is unset, no token is required."""
UNANSWERED, WORKING = "unanswered", "working"
"""Attributes of the exception that a signal raises: number of unanswered requests, and whether threads still work."""


class _Server(uvicorn.Server):
    """A uvicorn server that refuses the requests still waiting at the end of the grace period.

    Args:
        config: configuration of uvicorn.
        predictor: predictor with the waiting requests.
        grace: length of the grace period in seconds, from the stop signal.
    """

    def __init__(self, config: uvicorn.Config, predictor: Predictor, grace: float) -> None:
        super().__init__(config)
        self.predictor, self.grace = predictor, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop when all requests are answered; requests that exceed the grace period are refused."""
        asyncio.get_running_loop().call_later(self.grace, self.predictor.refuse_waiting)
        await super().shutdown(sockets)


def serve(
    path: Path,
    *,
    host: str,
    port: int,
    device: str,
    threads: int,
    grace: float,
    limits: Limits,
    module: object = None,
) -> None:
    """Answer requests until a signal; then finish the requests in flight and pass the signal to its previous handler.

    The exception that this handler raises gets the attributes `UNANSWERED` and `WORKING`.

    Args:
        path: path of the student, as for `load_student`.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        device: device of the student, as for `load_student`.
        threads: CPU threads of one prediction.
        grace: seconds that requests in flight get to finish; then they are answered with 503.
        limits: limits on requests.
        module: the user's own network, if the model is one, as for `load_student`.

    Raises:
        CmkdError: if there is no student, the address cannot be used, or the token is empty or cannot be sent.
    """
    token = os.environ.get(TOKEN)
    if token == "":
        raise CmkdError(f"{TOKEN} is empty: set it to a secret, or unset it to serve without one")
    if token is not None and not all("!" <= letter <= "~" for letter in token):  # clients could not send it
        raise CmkdError(f"{TOKEN} must be visible ASCII without spaces or line ends: set another secret")
    student = load_student(path, device=device, module=module, threads=threads)
    student.probabilities(np.zeros((1, *student.modality.shape), student.modality.dtype))  # the first call is slow
    model = described(student.about, model_file(path))
    app = create_app(student, model, limits, token=token)
    config = uvicorn.Config(
        app,
        http=closing_after(limits.seconds),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace + 1,  # type: ignore[arg-type]  # asyncio accepts fractions
    )
    with listening(host, port) as opened:
        where = f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}"
        print(f"serving {model['name']} ({model['version']}) at {where}, described at {where}/docs", flush=True)
        if token is None:
            print(f"anyone who can reach {host} can send requests: set {TOKEN} to require a token", flush=True)
        predictor: Predictor = app.state.predictor
        try:
            _Server(config, predictor, grace).run(sockets=[opened])
        except BaseException as stopped:
            vars(stopped).update({UNANSWERED: predictor.unanswered, WORKING: predictor.close()})
            raise
        finally:
            predictor.close()


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        CmkdError: if the address is taken, is malformed, or does not belong to this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number and number in errno.errorcode else error
        raise CmkdError(f"cannot listen on {host}, port {port} ({reason}): choose another --host or --port") from error


def described(about: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Return the name of a model (data, method and seed from its file) and its version (start of the file's SHA-256).

    Args:
        about: metadata of the model's file.
        path: path of the model's file.
    """
    parts = [about.get("data", {}).get("name"), about.get("method"), about.get("seed")]
    name = "-".join(str(part) for part in parts if part is not None)
    return {"name": name or path.stem, "version": checksum(path)[:12]}
