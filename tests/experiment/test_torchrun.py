"""torchrun sets the number of processes, and a run under it equals a run that starts its own processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cmkd import RunConfig, TrainerConfig
from cmkd.documents import read_json
from cmkd.errors import CmkdError
from cmkd.experiment.resolve import resolve

RUN = [
    *("run", "--data", "digits", "--methods", "none,kd,fitnet", "--seeds", "1", "--epochs", "2"),
    *("--optimizer.learning_rate", "0.001"),  # at a higher rate, rounding differences grow too fast
]


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    printed = []
    for start, name in ((["-m", "cmkd"], "one"), ([*launcher, "-m", "cmkd"], "two")):
        command = [sys.executable, *start, *RUN, "--out", str(tmp_path / name)]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
        )
        printed.append(done.stdout)
    assert printed[1].count("report:") == 1  # only one process prints
    models = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("history.csv")]
    assert len(models) == 4
    for path in models:
        one, two = (pd.read_csv(tmp_path / name / path) for name in ("one", "two"))
        pd.testing.assert_frame_equal(one, two, rtol=1e-2)
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    assert one["data"] == two["data"] and len(two["students"]) == 3


def test_the_launcher_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
        monkeypatch.setenv(name, value)
    config = RunConfig(data="digits", out=tmp_path)
    for given in (TrainerConfig(), TrainerConfig(devices=2, num_nodes=3)):
        found = resolve(replace(config, trainer=given)).config.trainer
        assert (found.devices, found.num_nodes) == (2, 3)
    with pytest.raises(CmkdError, match=r"started 2 processes on each of 3 nodes, but devices is 4 and num_nodes 1"):
        resolve(replace(config, trainer=TrainerConfig(devices=4)))


def test_several_nodes_need_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(data="digits", out=tmp_path, trainer=TrainerConfig(devices=4, num_nodes=2))
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # as in a batch script
    with pytest.raises(CmkdError, match=r"needs a launcher: .*`torchrun --nnodes 2 --nproc-per-node 4 .* -m cmkd run"):
        resolve(config)
    for name, value in {"NUM_TASKS": "8", "NUM_NODES": "2", "TASKS_PER_NODE": "4(x2)"}.items():
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    for given in (TrainerConfig(), config.trainer):
        found = resolve(replace(config, trainer=given)).config.trainer
        assert (found.devices, found.num_nodes) == (4, 2)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "5,3")
    with pytest.raises(CmkdError, match="more tasks on one node than on another; use --ntasks-per-node"):
        resolve(config)
