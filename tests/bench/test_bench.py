"""Suites run end to end in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from cmkd.bench.resampling import decoded
from cmkd.bench.results import read_suite
from cmkd.bench.suite import Suite
from cmkd.bench.work import Ended, run, run_in
from cmkd.cli import main
from cmkd.documents import read_json
from cmkd.io import checksum, write_bytes, write_text

SUITE = """
data: [digits]
settings:
  all: {{}}
  few: {{labels: {labels}}}
methods: kd
seeds: 1
run:
  epochs: {epochs}
  optimizer: {{early_stop: false}}
  student: {{model: "thin_resnet(width=4, stages=2)"}}
  teacher: {{model: "thin_resnet(width=4)"}}
"""


def die(*_: object) -> None:
    os._exit(5)


def suite(folder: Path, *, labels: int = 40, epochs: int = 1) -> Path:
    write_text(folder / "few.yaml", SUITE.format(labels=labels, epochs=epochs))
    return folder / "few.yaml"


def weights(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): checksum(p) for p in sorted(folder.glob("runs/*/students/**/best.safetensors"))}


METHOD = """
from cmkd.methods.kd import KD


class Twice(KD):
    name = "twice"
"""


def test_a_process_that_dies_before_it_says_why_is_told_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Suite.load(suite(tmp_path)).runs(tmp_path)[0]
    monkeypatch.setattr("cmkd.bench.work._run", die)
    for before in (None, "what an earlier run said\n"):
        if before:
            write_text(planned.config.out / "run.log", before)
        assert run(planned, None) == Ended("its process ended with exit code 5")


def test_a_machine_of_a_cluster_works_in_the_folder_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = Suite.load(suite(tmp_path)).runs(Path("runs"))[0]
    monkeypatch.setattr("cmkd.bench.work._run", die)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run_in(tmp_path, planned) == Ended("its process ended with exit code 5")
    assert (tmp_path / planned.config.out / "run.log").exists()
    assert (
        "nowhere (No such file or directory): share the folder among the machines"
        in run_in(tmp_path / "nowhere", planned).reason
    )


@pytest.mark.filterwarnings("always::cmkd.errors.CmkdWarning")
def test_a_failed_run_is_told_and_the_others_are_kept_with_a_method_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "mine_of_bench.py", METHOD)
    out, own = tmp_path / "out", "mine_of_bench:Twice(weight=2.0)"
    command = ["bench", str(suite(tmp_path, labels=5)), "--out", str(out)]
    assert main([*command, "--method", own]) == 3
    assert "digits, few, teacher 1: labels is 5, fewer than the 10 classes" in capsys.readouterr().err
    _, _, rows = read_suite(out / "few.json")
    assert len(decoded(rows["right"].iloc[0])) == len(decoded(rows["groups"].iloc[0])) == 360  # each pair is a group
    methods = ["none", "kd", own]
    assert list(zip(rows["setting"], rows["method"], strict=True)) == [("all", method) for method in methods]
    assert list(read_json(out / "few.json")["failures"]) == ["digits, few, teacher 1"]
    assert main([*command, "--check"]) == 2
    assert "kd on digits, few, teacher 1, seed 0 is missing" in capsys.readouterr().err
    assert main([*command, "--method", own, "--ray", "local"]) == 2
    assert "make it a plug-in" in capsys.readouterr().err

    # after its code changes, no student of the old code counts, neither from the run folder nor from the results file
    write_text(tmp_path / "mine_of_bench.py", METHOD.replace("twice", "three times"))
    assert main([*command, "--method", own]) == 3
    said = capsys.readouterr().err
    assert "few.json' do not count (1): mine_of_bench:Twice has changed since" in said
    assert "digits, all, teacher 1: " in said and "was started with sources.mine_of_bench:Twice=" in said
    assert list(read_suite(out / "few.json")[2]["method"]) == ["none", "kd"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_bytes(elsewhere / "few.json", (out / "few.json").read_bytes())
    assert main([*command[:-1], str(elsewhere), "--method", own]) == 3
    assert list(read_suite(elsewhere / "few.json")[2]["method"]) == methods
    assert not list(elsewhere.glob("runs/*all*/students/kd/*/result.json"))

    command = ["run", "--data", "digits", "--epochs", "1", "--seeds", "1", "--methods", f"none,kd+{own}", "--out"]
    assert main([*command, str(tmp_path / "run")]) == 0
    (student,) = (tmp_path / "run" / "students").glob("kd+mine_of_bench_Twice(weight=2.0)-*/seed-0/history.csv")
    assert {"train_kd", "train_kd_2"} <= set(pd.read_csv(student)), student


def test_tasks_of_srun_are_refused_and_a_worker_that_srun_started_trains_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"STEP_NUM_TASKS": "2", "STEP_NUM_NODES": "1", "STEP_TASKS_PER_NODE": "2", "STEP_NODELIST": "localhost"}
    for name, value in {"JOB_ID": "42", "STEP_ID": "0", "PROCID": "1", "LOCALID": "1", "NODEID": "0", **step}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    few = suite(tmp_path)
    assert main(["bench", str(few), "--out", str(tmp_path / "out")]) == 2
    assert "start it once (srun --ntasks 1), or give --ray ADDRESS" in capsys.readouterr().err
    # a worker of Ray calls this directly; as the second of two tasks, it would wait for the first
    assert run(Suite.load(few).runs(tmp_path / "runs")[1], 1) == Ended()
    assert len(weights(tmp_path)) == 2


@pytest.mark.slow
def test_a_suite_that_changes_trains_only_what_is_new(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["bench", str(suite(tmp_path, labels=5)), "--out", str(out)]) == 3
    before, started = weights(out), time.time()
    assert main(["bench", str(suite(tmp_path)), "--out", str(out)]) == 0
    assert len(weights(out)) == 4
    assert before.items() <= weights(out).items()
    assert all(path.stat().st_mtime < started for path in out.glob("runs/digits-all-*/students/**/best.safetensors"))
    assert read_json(out / "few.json")["failures"] == {}

    # elsewhere, with the results file alone: the changed setting is trained again, and students of the other are kept
    elsewhere, names = tmp_path / "elsewhere", ["setting", "method", "test", "right"]
    elsewhere.mkdir()
    (elsewhere / "few.json").write_bytes((out / "few.json").read_bytes())
    assert main(["bench", str(suite(tmp_path, labels=30)), "--out", str(elsewhere)]) == 0
    assert [path.name.rsplit("-", 2)[0] for path in (elsewhere / "runs").glob("digits-*")] == ["digits-few"]
    (_, _, first), (content, _, second) = (read_suite(place / "few.json") for place in (out, elsewhere))
    assert content["runs"] == {"complete": 2, "all": 2}
    pd.testing.assert_frame_equal(first[names][:2], second[names][:2])
    assert list(second["setting"]) == ["all", "all", "few", "few"]

    # an additional method: only its runs have files, and its students learn from an equal teacher
    given = ["bench", str(suite(tmp_path)), "--out", str(elsewhere), "--method", "self_training"]
    (elsewhere / "few.json").write_bytes((out / "few.json").read_bytes())
    assert main(given) == 0
    assert {path.parts[-3] for path in (elsewhere / "runs").glob("*all-*/students/*/*/result.json")} == {
        *("none", "self_training")
    }
    _, _, third = read_suite(elsewhere / "few.json")
    assert list(third["method"]) == ["none", "kd", "self_training"] * 2


@pytest.mark.slow
def test_every_method_of_a_suite_is_tuned_by_the_same_number_of_trials(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = (
        SUITE.format(labels=40, epochs=1)
        .replace("methods: kd", "methods: kd,sp")
        .replace("  epochs: 1\n", "  epochs: 1\n  tune: 2\n")
    )
    write_text(tmp_path / "tuned.yaml", text.replace("  all: {}\n", ""))
    assert main(["bench", str(tmp_path / "tuned.yaml"), "--out", str(tmp_path)]) == 0
    (run,) = tmp_path.glob("runs/digits-few-*/results.json")
    assert [(row["method"], row["trials"]) for row in read_json(run)["tuned"]] == [("kd", 2), ("sp", 2)]


KILLED_ONCE = """
import os
import signal
from pathlib import Path

from cmkd.methods.kd import KD


class KilledOnce(KD):
    name = "killed_once"

    def forward(self, student, teacher, batch):
        marker = Path(__file__).with_suffix(".killed")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(student, teacher, batch)
"""


@pytest.mark.slow
def test_a_student_whose_process_is_killed_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "killed_of_bench.py", KILLED_ONCE)
    write_text(suite(tmp_path), SUITE.format(labels=40, epochs=1).replace("  all: {}\n", ""))
    command = ["bench", str(tmp_path / "few.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--method", "killed_of_bench:KilledOnce"]) == 0
    assert (tmp_path / "killed_of_bench.killed").exists()
    methods = list(read_suite(tmp_path / "out" / "few.json")[2]["method"])
    assert methods == ["none", "kd", "killed_of_bench:KilledOnce"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_suite_leaves_no_process_and_continues_to_the_same_weights(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "cmkd", "bench", str(suite(tmp_path))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], env=environment, start_new_session=True)
    limit = time.time() + 120
    while not list(tmp_path.glob("out/runs/*/teacher/history.csv")) and time.time() < limit:
        time.sleep(0.05)
    process.send_signal(number)
    code = process.wait(60)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 128 + signal.SIGTERM)
    limit = time.time() + 20
    while time.time() < limit:
        try:
            os.killpg(process.pid, 0)  # the group exists as long as one of its processes does
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("processes outlived the suite by 20 s")
    for folder in ("out", "fresh"):
        subprocess.run([*command, "--out", str(tmp_path / folder)], env=environment, check=True)
    assert weights(tmp_path / "out") == weights(tmp_path / "fresh") != {}


@pytest.mark.slow
def test_a_cluster_of_two_machines_that_loses_a_worker_gives_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-m", "cmkd", "bench", str(suite(tmp_path))]
        away = [*command, "--out", str(tmp_path / "away"), "--ray", cluster.address]
        process = subprocess.Popen(away, env=environment)
        limit = time.time() + 240
        while not list(tmp_path.glob("away/runs/*/teacher/history.csv")) and time.time() < limit:
            time.sleep(0.05)
        workers = subprocess.run(["pgrep", "-f", "^ray::run"], capture_output=True, text=True, check=True)
        os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
        assert process.wait(300) == 0
    finally:
        cluster.shutdown()
    subprocess.run([*command, "--out", str(tmp_path / "here")], env=environment, check=True)
    assert weights(tmp_path / "away") == weights(tmp_path / "here") != {}


@pytest.mark.slow
def test_a_cluster_whose_head_is_killed_and_started_again_continues_to_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    ray = [str(Path(sys.executable).with_name("ray"))]
    start = [*ray, "start", "--head", "--port", "6398", "--num-cpus", "2", "--include-dashboard=false"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "cmkd", "bench", str(suite(tmp_path, epochs=140))]  # more than a minute
    away = [*command, "--out", "away", "--ray", "127.0.0.1:6398"]  # relative to another folder than Ray's
    try:
        subprocess.run(start, env=environment, check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen(away, env=environment, cwd=tmp_path, start_new_session=True)
        limit = time.time() + 240
        while not list(tmp_path.glob("away/runs/*/teacher/history.csv")) and time.time() < limit:
            time.sleep(0.05)
        subprocess.run(["pkill", "-KILL", "-f", "gcs_server.*6398"], check=True)
        assert process.wait(300) != 0  # Ray ends a process that cannot reach the head for a minute
        subprocess.run([*ray, "stop", "--force"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(start, env=environment, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(away, env=environment, cwd=tmp_path, check=True)
    finally:
        subprocess.run([*ray, "stop", "--force"], check=False, stdout=subprocess.DEVNULL)
    subprocess.run([*command, "--out", str(tmp_path / "here")], env=environment, check=True)
    assert weights(tmp_path / "away") == weights(tmp_path / "here") != {}
