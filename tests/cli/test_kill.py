"""A run that is killed, and run again, ends as one that was not: real processes, real SIGKILLs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = [
    *("--data", "digits", "--methods", "none,ds", "--seeds", "1", "--epochs", "6"),
    *("--trainer.checkpoint_seconds", "0", "--trainer.progress", "none", "--trainer.logger", "none"),
]


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cmkd", "run", *OPTIONS, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.slow
def test_killed_runs_end_like_whole_ones(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    assert process.wait(300) == 0
    moment, kills = random.Random(0), 0
    for _ in range(30):
        process = start(killed)
        try:
            # the first seconds go into imports; what follows is the run
            assert process.wait(moment.uniform(4.0, 9.0)) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        if (killed / "results.json").exists():
            json.loads((killed / "results.json").read_text())
    else:
        process = start(killed)
        assert process.wait(300) == 0
    assert kills > 0
    names = sorted(p.relative_to(whole) for p in whole.rglob("best.safetensors"))
    assert len(names) == 3
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
        history = name.with_name("history.csv")
        assert (whole / history).read_text() == (killed / history).read_text()
    assert not list(killed.rglob("*.tmp"))
    first, second = (json.loads((p / "results.json").read_text()) for p in (whole, killed))
    assert first == second
