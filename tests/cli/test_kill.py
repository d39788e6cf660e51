"""A run that is interrupted, or has its methods in another order, ends with the same files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmkd.cli import main

OPTIONS = [
    *("--data", "digits", "--methods", "none,ds", "--seeds", "1", "--epochs", "6"),
    *("--trainer.checkpoint_seconds", "0", "--trainer.progress", "none", "--trainer.logger", "none"),
]


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cmkd", "run", *OPTIONS, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.usefixtures("without_page")
def test_students_do_not_depend_on_their_order_nor_on_a_resume(tmp_path: Path, cache: Path) -> None:
    """One of the two methods (`c2kd`) trains its teacher."""

    def run(folder: str, methods: str) -> dict[str, bytes]:
        torch.rand(7)  # another process would have another random state
        options = ["--seeds", "1", "--epochs", "1", "--trainer.progress", "none", "--trainer.logger", "none"]
        small = [o for side in ("teacher", "student") for o in (f"--{side}.model", "thin_resnet(width=4,stages=2)")]
        out = tmp_path / folder
        assert main(["run", "--data", "digits", "--out", str(out), "--methods", methods, *options, *small]) == 0
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("best.safetensors")}

    whole = run("whole", "c2kd,kd")
    assert len(whole) == 3 and run("swapped", "kd,c2kd") == whole
    run("resumed", "c2kd")  # ends like a run of both methods that is stopped after its first student
    assert run("resumed", "c2kd,kd") == whole


@pytest.mark.slow
def test_killed_runs_end_like_whole_ones(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    assert process.wait(300) == 0
    # real processes and real SIGKILLs, at random times
    moment, kills = random.Random(0), 0
    for _ in range(30):
        process = start(killed)
        try:
            # imports take the first seconds, and the run follows
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
