"""``cmkd report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cmkd.cli.parsing import call


def report(run: Path) -> None:
    """Write the report of a run again.

    Args:
        run: the --out folder of a run, complete or not.
    """
    from cmkd.report import write_report

    print(f"report: {write_report(run)}")


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(report, arguments, prog="cmkd report")
