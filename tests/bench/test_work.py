"""How many runs of a suite train at the same time, and with how many jobs each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmkd.bench import work
from cmkd.bench.suite import PlannedRun, Suite


@pytest.mark.parametrize(
    ("missing", "workers", "count", "jobs"), [(10, None, 8, 1), (10, 2, 2, 4), (3, None, 3, 2), (1, 4, 1, 8)]
)
def test_runs_side_by_side_share_the_cores(
    missing: int, workers: int | None, count: int, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def run(planned: PlannedRun, jobs: int | None, running: object) -> work.Ended:
        asked.append(jobs)
        return work.Ended()

    monkeypatch.setattr(work, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(work, "run", run)
    (planned,) = Suite(("digits",), "kd").runs(tmp_path)
    with work._here(missing, workers) as (submit, side_by_side):
        submit(planned).result()
    assert (side_by_side, asked) == (count, [jobs])
