"""Fuzz all targets in turn: ``make fuzz SECONDS=600``.

Each new finding, an input with its traceback, is written to ``runs/fuzz``, which git ignores. ``--adopt`` moves the
inputs to the corpus, which the fast suite runs. Cases and seconds accumulate in ``benchmarks/results/fuzz.json`` and
``fuzz.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from cmkd.io import write_json, write_text
from fuzz.cases import CORPUS, kept
from fuzz.process import CPU_SECONDS, MEMORY, Session
from fuzz.targets import TARGETS
from records import RESULTS, about, table

FOUND = Path("runs/fuzz")
MOST_KEPT = 2**15
"""Largest input that joins the corpus, bytes."""


def main() -> None:
    """Fuzz the targets, and write the table."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all targets together")
    parser.add_argument("--targets", default=",".join(TARGETS), help="names by comma")
    parser.add_argument("--adopt", action="store_true", help="move found inputs to the corpus, and end")
    given = parser.parse_args()
    names = given.targets.split(",")
    if given.adopt:
        _adopt()
        return
    path = RESULTS / "fuzz.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    for name in names:
        session = Session(name, FOUND, seed=time.time_ns())
        session.run(given.seconds / len(names))
        open_now = session.names()
        found = {n for n in (*kept(CORPUS, name), *kept(FOUND, name)) if n.startswith("found-")}
        before = rows.get(name, {"cases": 0, "seconds": 0.0})
        rows[name] = {
            "cases": before["cases"] + session.progress.cases,
            "seconds": round(before["seconds"] + session.seconds, 1),
            "findings": len(found | open_now),
            "fixed": len(found - open_now),
        }
        print(
            f"{name}: {session.progress.cases} cases in {session.seconds:.0f} s; open: {sorted(open_now)}", flush=True
        )
        write_json(path, {"about": about(), "rows": rows})
        write_text(RESULTS / "fuzz.md", _page(rows))


def _adopt() -> None:
    for name in TARGETS:
        for path in sorted((FOUND / name).glob("*.bin")):
            if path.stat().st_size <= MOST_KEPT:
                (CORPUS / name).mkdir(parents=True, exist_ok=True)
                shutil.move(path, CORPUS / name / path.name)


def _page(rows: dict[str, dict[str, float]]) -> str:
    total = {key: sum(row[key] for row in rows.values()) for key in ("cases", "seconds", "findings", "fixed")}
    listed = [(name, row) for name, row in rows.items()] + [("all", total)]
    cells = [
        [name, f"{row['cases']:,}", f"{row['seconds']:,.0f}", f"{row['findings']}", f"{row['fixed']}"]
        for name, row in listed
    ]
    return f"""# Fuzzing

A case is one damaged or drawn input. It may be read, or refused with one line. Anything else is a finding: another
exception, a Python warning, a dead process, more than {CPU_SECONDS} s of CPU time, or more than {MEMORY // 2**20} MiB.
Cases and seconds add up over runs of `make fuzz SECONDS=...`; findings are those with different kinds and places.

{table(("target", "cases", "seconds", "findings", "fixed"), cells)}

{about()}
"""


if __name__ == "__main__":
    main()
