"""Steps of a study: each one's result is one JSON file, written whole, and is never computed twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmkd.io import write_json
from cmkd.provenance import commit, hardware, versions

Step = Mapping[str, Any]
RUNS = Path("runs/studies")
RESULTS = Path(__file__).parent / "results"


def key(step: Step) -> str:
    """Return a short name that depends on everything the step says."""
    text = json.dumps(step, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results that are there, by key."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def work(folder: Path, steps: Sequence[Step], do: Callable[[Step], Mapping[str, Any]], *, until: float = 0.0) -> bool:
    """Do the steps that have no result yet, in order; say whether all are done.

    Args:
        folder: of the results.
        steps: what to do.
        do: returns the result of one step, finite JSON.
        until: `time.monotonic` after which no step begins; 0 for no end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps):
        path = folder / f"{key(step)}.json"
        if path.exists():
            continue
        if until and time.monotonic() > until:
            return False
        began = time.process_time()
        result = do(step)
        write_json(path, {"step": dict(step), "cpu_seconds": round(time.process_time() - began, 2), **result})
        print(f"{number + 1}/{len(steps)} {step} {result.get('says', '')}", flush=True)
    return True


def collect(folder: Path, path: Path, steps: Sequence[Step]) -> dict[str, Any]:
    """Gather the results of a study's steps into the one file that its document is made from.

    What lies there of a former plan is left out.
    """
    have = load(folder)
    results = [have[name] for name in dict.fromkeys(map(key, steps)) if name in have]
    about = {"versions": versions(), "commit": commit(), "hardware": hardware()}
    found = {"about": about, "results": results}
    write_json(path, found)
    return found
