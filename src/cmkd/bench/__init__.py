"""Suites: studies over data sets, settings, teachers and seeds, from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmkd.bench.report import html, markdown
from cmkd.bench.results import earlier, faults, planned_by, read_suite
from cmkd.bench.rows import collect, complete, left, rising, stored
from cmkd.bench.sources import options, sources
from cmkd.bench.suite import Suite as Suite
from cmkd.bench.suite import expanded
from cmkd.bench.table import statistics
from cmkd.bench.work import train
from cmkd.data.output import results_folder
from cmkd.datasets import open_data
from cmkd.errors import CmkdError
from cmkd.io import locked, write_json, write_text
from cmkd.options import plain
from cmkd.processes import launched
from cmkd.progress import screen
from cmkd.provenance import commit


def bench(
    suite: Path,
    out: Path,
    *,
    method: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Train what a suite lacks, and write a JSON file and a page, named as the suite, after each run.

    An interrupted call is continued, and what is trained is kept. Students in the JSON file need no folder: the file
    alone continues a suite elsewhere, and those of other suites beside it are used where a run is the same. Students
    that depend on code of the user's own that has changed since are left out.

    Args:
        suite: the YAML file of a `Suite`.
        out: folder of the results; runs are in ``out/runs``, and suites that share it share them.
        method: one more method, as in the suite.
        workers: runs at the same time, as for `cmkd.bench.work.train`.
        ray: address of a Ray cluster, or ``local``.
        command: for the report.

    Returns:
        What the JSON file holds: ``suite``, ``command``, ``commit``, ``runs`` (how many are ``complete``, of ``all``),
        ``failures`` (title -> reason of a run that failed), ``packs`` (a checksum of each data set that is a pack or a
        folder of pairs), ``sources`` (of the file of each class of the user's own, and of each teacher in a file),
        ``options`` (the defaults of each method), what
        `cmkd.bench.table.statistics` returns, and the students as `cmkd.bench.rows.stored` writes them, from which the
        statistics can be made again.

    Raises:
        CmkdError: the suite is wrong, another process works in the folder, or torchrun or srun started this one among
            others without `ray`.
    """
    asked = _asked(suite, method)
    if not ray and launched() is not None:
        raise CmkdError("a suite starts its own processes: start it once (srun --ntasks 1), or give --ray ADDRESS")
    runs = asked.runs(out / "runs")
    if ray and (own := [name for planned in runs for name in planned.own_classes]):
        raise CmkdError(f"a cluster cannot import '{own[0]}'; make it a plug-in and install it on every machine")
    results_folder(out)
    out.mkdir(exist_ok=True)
    with locked(out / ".lock") as free:
        if not free:
            raise CmkdError(f"another suite is active in '{out}'; wait for it to end, or choose another --out")
        found: dict[str, Any] = {}
        packs = asked.packs()
        before = earlier(out / f"{suite.stem}.json", asked, packs)
        code, defaults = sources(asked), options(asked.expressions)
        if not ray:  # whose machines may have data that this one lacks
            for data in set(asked.folders) - set(packs):
                if any(left(planned, before) for planned in runs if planned.data == data):
                    open_data(expanded(data))  # says what is wrong with it

        def write(failures: dict[str, str]) -> None:
            rows = collect(runs, before)
            counts = {"complete": len(complete(runs, rows)), "all": len(runs)}
            found.update({"suite": plain(asked), "commit": commit(), "runs": counts}, **statistics(rows, asked))
            found.update(stored(rows), packs=packs, sources=code, options=defaults)
            found.update(failures=dict(failures), command=command)
            write_json(out / f"{suite.stem}.json", found)
            write_text(out / f"{suite.stem}.md", markdown(suite.stem, found))
            write_text(out / f"{suite.stem}.html", html(suite.stem, found))

        with screen() as on:
            train(runs, lambda planned: left(planned, before), workers=workers, ray=ray, on=on, ended=write)
    return found


def _asked(suite: Path, method: str | None) -> Suite:
    """Return a suite of which every method can be trained, with one more method."""
    asked = Suite.load(suite)
    if method is not None:
        asked = asked.with_method(method)
    asked.check_methods()
    return asked


def check(suite: Path, out: Path, *, method: str | None = None) -> str:
    """Check results that someone hands in: the JSON file of a suite and, where they are beside it, its runs.

    Args:
        suite: the YAML file, ours.
        out: folder of the results.
        method: one more method that they must have, as for `bench`.

    Returns:
        What was found, in a line.

    Raises:
        CmkdError: the results are not those of the suite, or do not follow the protocol.
    """
    asked, path = _asked(suite, method), out / f"{suite.stem}.json"
    asked.runs(out / "runs")  # what is wrong with it is not wrong with the file
    content, named, rows = read_suite(path)
    named.check_methods()
    runs = planned_by(path, named, out / "runs")
    again = collect([planned for planned in runs if planned.config.out.exists()])
    if found := faults(asked, content, named, rows, again, runs):
        raise CmkdError(f"'{path}' does not follow the protocol: {'; '.join(found)}")
    return (
        f"{len(rows)} students of {len(runs)} runs, as the suite asks, trained at commit "
        f"{', '.join(rows['commit'].unique())}; {rising(rows)} not converged; "
        f"{len(again)} of them agree with the folders of their runs"
    )
