"""``cmkd bench``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from cmkd.cli.parsing import call
from cmkd.errors import IncompleteError
from cmkd.options import Count
from cmkd.progress import busy, screen


def bench(
    suite: Path,
    *,
    out: Path,
    method: str | None = None,
    check: bool = False,
    workers: Count | None = None,
    ray: str | None = None,
) -> None:
    """Train a suite of runs, compare its methods, and write a page; repeat the command to continue.

    Args:
        suite: a YAML file: data, settings, methods, teachers, seeds, rivals, and options of all runs.
        out: folder of the results; suites that share it share their runs.
        method: one more method, by name, or as package.module:Name for a class of your own.
        check: train nothing; say whether the results in --out follow the protocol (docs/protocol.md).
        workers: number of runs at the same time, each in its own process; by default one per core, or one on a GPU.
            Remaining cores train more students of each run at a time.
        ray: address of a Ray cluster whose machines share the folder, or local.
    """
    given = [*(["--method", method] if method else []), *(["--ray", ray] if ray else [])]
    command = shlex.join(["cmkd", "bench", str(suite), *given])
    with screen() as on:
        with busy(on, f"cmkd bench {suite}: loading PyTorch"):
            from cmkd.bench import bench as train
            from cmkd.bench import check as checked
        if check:
            print(checked(suite, out, method=method))
            return
        results = train(suite, out, method=method, workers=workers, ray=ray, command=command)
    print(f"{len(results['rows'])} students; page: {out / suite.stem}.html")
    if results["failures"]:
        raise IncompleteError("; ".join(f"{title}: {reason}" for title, reason in results["failures"].items()))


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(bench, arguments, prog="cmkd bench")
