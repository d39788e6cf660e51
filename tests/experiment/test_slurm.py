"""Runs in SLURM jobs, simulated by its variables: stopped by its signal, as tasks of srun, and in a batch script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = "thin_resnet(width=4,stages=2)"
RUN = [
    *("run", "--data", "digits", "--labels", "40", "--methods", "none", "--seeds", "1"),
    *("--teacher.model", SMALL, "--student.model", SMALL, "--trainer.accelerator", "cpu"),
]
BATCH = {
    **{"SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "study", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"},
    **{"SLURM_NODELIST": "localhost", "SLURM_TASKS_PER_NODE": "1"},
    **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
}
"""Variables in a batch script, and therefore in a command that srun did not start."""


def srun(task: int) -> dict[str, str]:
    """Return the variables of one of two tasks that `srun -n 2` starts."""
    return BATCH | {
        **{
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_NTASKS": "2",
            "SLURM_TASKS_PER_NODE": "2",
        },  # the port is derived from the job ID
        **{"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_ID": "0"},
        **{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "2"},
        "SLURM_STEP_NODELIST": "localhost",
    }


def start(out: Path, variables: dict[str, str], *options: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "cmkd", *RUN, "--out", str(out), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        cwd=out.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_the_signal_before_the_time_limit_stops_a_run_that_continues_from_its_own_state(tmp_path: Path) -> None:
    (tmp_path / "hpc_ckpt_1.ckpt").write_text("which Lightning would load")
    out, options = tmp_path / "run", ("--epochs", "5", "--trainer.checkpoint_seconds", "0")
    process = start(out, BATCH, *options)
    state = out / "teacher" / "last.safetensors"
    limit = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 143, error
    assert error.endswith("cmkd: stopped; the same command continues where it was\n")
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["hpc_ckpt_1.ckpt"]
    assert state.exists() and not (out / "results.json").exists()
    process = start(out, BATCH, *options)
    assert process.communicate(timeout=120)[0].count("report:") == 1


@pytest.mark.slow
def test_tasks_of_srun_and_devices_of_a_batch_script_train_as_two_processes_of_torchrun_do(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    runs = {
        "torchrun": lambda out: [start(out, {}, "--epochs", "2", launcher=torchrun)],
        "srun": lambda out: [start(out, srun(task), "--epochs", "2") for task in range(2)],
        "batch": lambda out: [start(out, BATCH | {"SLURM_NTASKS": "2"}, "--epochs", "2", "--trainer.devices", "2")],
    }
    found = {}
    for name, begin in runs.items():
        out = tmp_path / name
        ended = [(*process.communicate(timeout=300), process.returncode) for process in begin(out)]
        assert all(code == 0 for *_, code in ended), ended
        assert "".join(said for said, *_ in ended).count("report:") == 1  # only one process prints
        found[name] = {path.relative_to(out): path.read_bytes() for path in out.rglob("best.safetensors")}
    assert len(found["torchrun"]) == 2
    assert found["srun"] == found["batch"] == found["torchrun"]
