"""``cmkd run --jobs 2`` in separate processes: stopped, with a killed process, resumed, started from a plain script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = "thin_resnet(width=4,stages=2)"
OPTIONS = [
    *("--data", "digits", "--methods", "none,kd", "--seeds", "2", "--epochs", "10"),
    *("--teacher.model", SMALL, "--student.model", SMALL),
    *("--trainer.checkpoint_seconds", "0", "--trainer.accelerator", "cpu"),
]
pytestmark = pytest.mark.slow


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cmkd", "run", *OPTIONS, "--out", str(out), *options]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a run that must succeed, and return its stderr."""
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said
    return said


def lines_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> None:
    """Read the run's stderr until a line is the `wanted` one."""
    assert process.stderr is not None
    for line in process.stderr:
        if wanted(line):
            return
    pytest.fail(f"the run ended with exit code {process.wait()}")


def both_at_work() -> Callable[[str], bool]:
    seen: set[str] = set()

    def wanted(line: str) -> bool:
        seen.add(line.split("]")[0])
        return {"[2/5", "[3/5"} <= seen

    return wanted


def alive(session: int) -> dict[int, str]:
    """Return the processes of a session that are not zombies, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(status[3]) == session and status[0] != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue
    return found


def none_left(session: int) -> bool:
    limit = time.monotonic() + 10
    while alive(session) and time.monotonic() < limit:
        time.sleep(0.1)
    return not alive(session)


def files(folder: Path) -> dict[str, bytes]:
    kept = ("best.safetensors", "history.csv", "result.json", "results.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.name in kept}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(start(out, "--jobs", "1"))
    return files(out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_no_process_and_continues(
    tmp_path: Path, whole: dict[str, bytes], number: signal.Signals, code: int
) -> None:
    process = start(tmp_path / "out", "--jobs", "2")
    lines_until(process, both_at_work())
    assert len([command for command in alive(process.pid).values() if "spawn_main" in command]) == 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == code
    said = [line for line in error.splitlines() if not line.startswith(("[", "outputs of"))]
    assert said == ["cmkd: stopped; the same command continues where it was"]
    assert none_left(process.pid) and not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "out" / "report.html").exists()

    assert "] teacher" not in finish(start(tmp_path / "out", "--jobs", "2"))
    assert files(tmp_path / "out") == whole


def test_a_process_that_is_killed_costs_one_student_until_the_next_call(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    process = start(tmp_path / "out", "--jobs", "2")
    lines_until(process, both_at_work())
    workers = [number for number, command in alive(process.pid).items() if "spawn_main" in command]
    os.kill(workers[0], signal.SIGKILL)
    error = process.communicate(timeout=600)[1]
    assert process.returncode == 2
    said = [line for line in error.splitlines() if not line.startswith(("[", "outputs of"))]
    assert len(said) == 1 and said[0].startswith("cmkd: error: ")
    assert "seed 0: its process was killed by SIGKILL" in said[0] and "the same command continues" in said[0]
    assert len(list((tmp_path / "out" / "students").rglob("result.json"))) == 3
    assert len(list((tmp_path / "out" / "students").rglob("last.safetensors"))) == 4
    assert (tmp_path / "out" / "report.html").exists() and none_left(process.pid)
    finish(start(tmp_path / "out"))  # one student is left, so no further process starts
    assert files(tmp_path / "out") == whole


def test_a_killed_parent_takes_its_processes_along(tmp_path: Path) -> None:
    process = start(tmp_path / "out", "--jobs", "2")
    lines_until(process, both_at_work())
    process.kill()
    process.communicate()
    assert none_left(process.pid)


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun')\nfrom cmkd import Experiment, RunConfig\n"
        f"config = RunConfig('digits', 'out', 'none', 2, epochs=1, jobs=2, teacher='{SMALL}', student='{SMALL}')\n"
        "print(Experiment(config).run()['complete'])\n"
    )
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.stdout == "begun\nTrue\n" and done.returncode == 0
