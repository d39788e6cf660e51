"""Suites: studies over data sets, settings, teachers and seeds, from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmkd.bench.report import page
from cmkd.bench.rows import collect, stored
from cmkd.bench.suite import PlannedRun
from cmkd.bench.suite import Suite as Suite
from cmkd.bench.table import statistics
from cmkd.bench.work import complete, train
from cmkd.errors import CmkdError
from cmkd.io import locked, write_json, write_text
from cmkd.options import plain
from cmkd.progress import shown
from cmkd.provenance import commit


def bench(
    suite: Path, out: Path, *, workers: int | None = None, ray: str | None = None, command: str = ""
) -> dict[str, Any]:
    """Train what a suite lacks, and write a JSON file and a page, named as the suite, after each run.

    An interrupted call is continued, and what is trained is kept.

    Args:
        suite: the YAML file of a `Suite`.
        out: folder of the results; runs are in ``out/runs``, and suites that share it share them.
        workers: runs at the same time, as for `cmkd.bench.work.train`.
        ray: address of a Ray cluster, or ``local``.
        command: for the report.

    Returns:
        What the JSON file holds: ``suite``, ``command``, ``commit``, ``runs`` (how many are ``complete``, of ``all``),
        ``failures`` (title -> reason of a run that failed), what `cmkd.bench.table.statistics` returns, and
        the students as `cmkd.bench.rows.stored` writes them, from which the statistics can be made again.

    Raises:
        CmkdError: the suite is wrong, or another process works in the folder.
    """
    asked = Suite.load(suite)
    runs = asked.runs(out / "runs")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock") as free:
        if not free:
            raise CmkdError(f"another suite is at work in '{out}'; wait for it, or choose another --out")
        found: dict[str, Any] = {}

        def write(failures: dict[str, str]) -> None:
            found.update(_results(asked, runs, failures) | {"command": command})
            write_json(out / f"{suite.stem}.json", found)
            write_text(out / f"{suite.stem}.md", page(suite.stem, found))

        with shown("training", "students") as progress:
            train(runs, workers=workers, ray=ray, progress=progress, ended=write)
    return found


def _results(suite: Suite, runs: list[PlannedRun], failures: dict[str, str]) -> dict[str, Any]:
    rows = collect(runs)
    return {
        "suite": plain(suite),
        "commit": commit(),
        "runs": {"complete": sum(map(complete, runs)), "all": len(runs)},
        **statistics(rows, suite),
        "failures": dict(failures),
        **stored(rows),
    }
