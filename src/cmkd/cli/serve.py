"""``cmkd serve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cmkd.cli.parsing import call
from cmkd.deploy.server.limits import Limits
from cmkd.errors import needs_extra
from cmkd.options import Bounds, Threads


def serve(
    model: Path,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Bounds(least=0, most=65535)] = 8000,
    device: str = "auto",
    threads: Threads = 1,
    workers: Threads = Limits.workers,
    queue: int = Limits.queue,
    seconds: float = Limits.seconds,
    body_mb: float = Limits.body_mb,
    pixels: int = Limits.pixels,
    batch: int = Limits.batch,
    grace: Annotated[float, Bounds(least=0)] = 10.0,
    module: str = "",
) -> None:
    """Answer predictions of a student over HTTP: POST a file to /predict; /docs describes the API.

    If the environment variable CMKD_TOKEN is set, clients must send its value as a token. Ctrl-C and SIGTERM let the
    requests in flight finish. For TLS, and for a public network, put a reverse proxy in front.

    Args:
        model: folder of a run, .safetensors file of a model, or .onnx file of cmkd export.
        host: address to listen on; 0.0.0.0 for all addresses of this machine.
        port: port to listen on; 0 chooses a free one.
        device: where the student computes: auto, cpu, cuda, ...
        threads: CPU threads of one prediction.
        workers: requests that are decoded and classified at the same time.
        queue: further requests that may wait; beyond them a request gets 503.
        seconds: time limit of one request in seconds; after it, the request gets 408 (the body is late) or 504. A
            connection that has not sent the head of a request by then is closed.
        body_mb: largest body in MB; a larger one gets 413.
        pixels: largest height times width of an image, checked before decoding; a larger one gets 413.
        batch: largest number of samples in one array; more get 413.
        grace: seconds that requests in flight get to finish when the server stops; then they get 503.
        module: package.module:Name of your own network, if the model is one.
    """
    with needs_extra("serve", "the server"):
        from cmkd.deploy.server.launch import serve as run

    limits = Limits(body_mb=body_mb, pixels=pixels, batch=batch, seconds=seconds, workers=workers, queue=queue)
    own = module or None
    run(model, host=host, port=port, device=device, threads=threads, grace=grace, limits=limits, module=own)


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(serve, arguments, prog="cmkd serve")
