"""Suites: studies over data sets, settings, teachers and seeds, described by one YAML file."""

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
    """Train the missing students of a suite; after each run, write a JSON file and pages named after the suite.

    Repeating an interrupted call resumes it and keeps the trained students. Students in the JSON file need no run
    folder: the file alone suffices to continue a suite on another machine. Students in the JSON files of other suites
    beside it are used if their run is the same. Students that depend on the user's own code are left out if that code
    has changed since.

    Args:
        suite: the YAML file of a `Suite`.
        out: folder of the results; runs are in ``out/runs``, and suites with the same `out` share them.
        method: an additional method, written as in the suite.
        workers: number of runs at the same time, as for `cmkd.bench.work.train`.
        ray: address of a Ray cluster, or ``local``.
        command: command line shown in the report.

    Returns:
        The content of the JSON file: ``suite``, ``command``, ``commit``, ``runs`` (how many are ``complete``, of
        ``all``), ``failures`` (title of each failed run -> reason), ``packs`` (a checksum of each data set that is a
        pack or a folder of pairs), ``sources`` (a checksum of the file of each of the user's own classes, and of each
        teacher in a file), ``options`` (the defaults of each method), the result of `cmkd.bench.table.statistics`, and
        the students as `cmkd.bench.rows.stored` writes them, from which the statistics can be recomputed.

    Raises:
        CmkdError: the suite is invalid, another process is using the folder, or torchrun or srun started this process
            among others and `ray` is not given.
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
        if not ray:  # the machines of a cluster may have data that this one lacks
            for data in set(asked.folders) - set(packs):
                if any(left(planned, before) for planned in runs if planned.data == data):
                    open_data(expanded(data))  # raises an error that says what is wrong

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
    """Load a suite, add `method` if it is given, and check that every method can be trained."""
    asked = Suite.load(suite)
    if method is not None:
        asked = asked.with_method(method)
    asked.check_methods()
    return asked


def check(suite: Path, out: Path, *, method: str | None = None) -> str:
    """Check submitted results: the JSON file of a suite and, if present, the folders of its runs.

    Args:
        suite: our YAML file of the suite.
        out: folder of the submitted results.
        method: an additional method that the results must contain, as for `bench`.

    Returns:
        One line that summarizes the checked results.

    Raises:
        CmkdError: the results do not belong to the suite, or do not follow the protocol.
    """
    asked, path = _asked(suite, method), out / f"{suite.stem}.json"
    asked.runs(out / "runs")  # an error here is in the suite, not in the submitted file
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
