"""Students in separate processes have the same files, and one that fails does not affect the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from cmkd import CmkdError, Experiment, RunConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.experiment.folder import RunFolder
from cmkd.experiment.plan import PlannedStudent, ready, students
from cmkd.experiment.resolve import resolve
from cmkd.experiment.workers import one_after_another, packed, processes
from cmkd.training.reporting import Report, Tell

SMALL = "thin_resnet(width=4,stages=2)"
QUIET = TrainerConfig(progress="none", accelerator="cpu")


class Diverge(Callback):
    """Callback that makes the loss of one student infinite."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: object, pl_module: torch.nn.Module) -> None:
        if pl_module.job.seed == self.seed and pl_module.job.method is not None:
            with torch.no_grad():
                next(pl_module.objective.model.parameters()).fill_(torch.inf)


def config(out: Path, data: Pack | str = "digits", **changes: object) -> RunConfig:
    given: dict[str, object] = {"methods": "none,kd", "seeds": 1, "epochs": 1, "teacher": SMALL, "student": SMALL}
    return RunConfig(data, out, trainer=QUIET, **given | changes)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    """Return the files that must not depend on how students were trained."""
    kept = ("best.safetensors", "last.safetensors", "history.csv", "result.json", "results.json", "settings.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.name in kept}


@pytest.mark.slow
def test_students_have_the_commit_of_their_code_whatever_is_committed_meanwhile(tmp_path: Path) -> None:
    code, out, root = tmp_path / "code", tmp_path / "out", Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("needs a checkout")
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{root}", str(code)], check=True)
    git = ["git", "-C", str(code), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    first = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    environment = {**os.environ, "PYTHONPATH": str(code / "src")}
    command = ["run", "--data", "digits", "--methods", "none,uniformity", "--seeds=1", "--epochs=15", "--jobs=2"]
    process = subprocess.Popen([sys.executable, "-m", "cmkd", *command, "--out", str(out)], env=environment, cwd=code)
    while process.poll() is None and len(list(out.glob("students/*/*/history.csv"))) < 2:
        time.sleep(0.05)
    assert not list(out.glob("students/*/*/result.json")), "still in training"
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "later"], check=True)
    assert process.wait() == 0
    found = [json.loads(path.read_text())["commit"] for path in out.glob("students/*/*/result.json")]
    assert found == [first, first]


@pytest.mark.usefixtures("without_page")
def test_side_by_side_gives_the_same_bytes_as_one_after_another(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))  # another test may have cached this teacher
    one = Experiment(config(tmp_path / "one", digits, jobs=1)).run()
    assert Experiment(config(tmp_path / "two", digits, jobs=2)).run() == one and one["complete"]
    expected, got = files(tmp_path / "one"), files(tmp_path / "two")
    assert len(expected) == 3 * 4 + 2 and expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []
    assert capfd.readouterr() == ("", "")  # no process prints by itself


@pytest.mark.slow
@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_student_that_diverges_is_named_and_the_others_are_trained(tmp_path: Path, jobs: int) -> None:
    asked = config(tmp_path / "out", jobs=jobs, methods="none", seeds=3)
    with pytest.raises(CmkdError, match=r"^none, seed 1: training diverged near step \d+: .*--optimizer") as caught:
        Experiment(asked, (Diverge(1),)).run()
    assert "\n" not in str(caught.value)
    results = Experiment(asked).run()  # continues with the missing student
    assert results["complete"] and [s["seed"] for s in results["students"]] == [0, 1, 2]


@pytest.mark.usefixtures("without_page")
def test_results_are_complete_with_the_last_student_that_is_asked_for(squares: Pack, tmp_path: Path) -> None:
    asked = config(tmp_path, squares, methods="none", jobs=1)
    assert Experiment(asked).run()["complete"] is True
    for more in (replace(asked, seeds=2), replace(asked, methods="none,kd")):
        assert RunFolder(tmp_path).results(resolve(more))["complete"] is False


def work(folder: Path, student: PlannedStudent, tell: Tell) -> None:
    """Replacement of a training that is quick and can fail in many ways."""
    tell(Report(student.title, 0.0, 0, 1, None))
    with (folder / "begun").open("a") as file:
        file.write(f"{student.seed} {os.getpid()}\n")
    match student.expression:
        case "bug":
            raise LookupError(f"{student.seed} is not there")
        case "file":
            raise FileNotFoundError(2, "No such file or directory", "theirs")
        case "disk":
            raise OSError(28, "No space left on device", "somewhere")
        case "memory":
            raise torch.OutOfMemoryError("of the GPU")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "ended":
            os._exit(3)


def side_by_side(folder: Path, *names: str, jobs: int = 2) -> tuple[list[str], list[int], list[str]]:
    asked, told, ended = [PlannedStudent(name, k) for k, name in enumerate(names)], [], []
    with processes(packed(partial(work, folder)), jobs, 1) as train:
        found = train(
            asked,
            tell=lambda report: told.append(report.title),
            ended=lambda student: ended.append(student.seed),
        )
    return list(map(str, found)), sorted(ended), sorted(told)


@pytest.mark.slow
def test_a_process_that_dies_takes_one_student_with_it(tmp_path: Path) -> None:
    failures, ended, told = side_by_side(tmp_path, "killed", "good", "memory", "good", "good")
    assert ended == [0, 1, 2, 3, 4] and len(told) == 5
    assert len(failures) == 2
    assert any(f.startswith("killed, seed 0: its process was killed by SIGKILL, most likely for") for f in failures)
    assert any(f.startswith("memory, seed 2: the GPU has too little memory") for f in failures)


@pytest.mark.slow
def test_students_that_no_process_is_left_for_are_counted(tmp_path: Path) -> None:
    failures, ended, _ = side_by_side(tmp_path, "ended", "ended", "good", "good")
    assert ended == [0, 1] and failures[-1] == "2 more were not started"
    assert all("its process ended with exit code 3; the same command continues" in f for f in failures[:2])


@pytest.mark.slow
def test_a_bug_takes_one_student_with_it_and_a_full_disk_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures, ended, _ = side_by_side(tmp_path, "bug", "good", "file")
    assert ended == [0, 1, 2]
    where = "its traceback was printed; of a suite, to the run.log of the run"
    assert sorted(failures) == [
        f"bug, seed 0: LookupError: 0 is not there ({where})",
        f"file, seed 2: FileNotFoundError: [Errno 2] No such file or directory: 'theirs' ({where})",
    ]
    printed = capsys.readouterr().err
    assert "in work\n" in printed and "LookupError: 0 is not there" in printed
    (tmp_path / "here").mkdir()
    bug = PlannedStudent("bug", 3)
    alone = one_after_another(partial(work, tmp_path / "here"), [bug], tell=lambda _: None, ended=lambda _: None)
    assert [str(error) for error in alone] == [min(failures).replace("0", "3")]
    with pytest.raises(OSError, match="No space left") as full:
        side_by_side(tmp_path, "disk", jobs=1)
    assert full.value.errno == 28 and full.value.filename == "somewhere"
    for line in (tmp_path / "begun").read_text().splitlines():
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[1]), 0)


def test_what_an_error_was_told_is_passed_on() -> None:
    def fail(planned: PlannedStudent, tell: object) -> None:
        error = KeyError("optical")
        error.add_note("look there")
        raise error

    (failure,) = one_after_another(fail, [PlannedStudent("mine", 0)], tell=lambda _: None, ended=lambda _: None)
    assert "KeyError: 'optical'; look there (" in str(failure)


@pytest.mark.usefixtures("without_page")
def test_a_student_waits_for_the_one_that_teaches_it(tmp_path: Path) -> None:
    chain = students(config(tmp_path, methods="self_training,kd,none", seeds=2))
    assert [s.title for s in chain[:3]] == ["none, seed 0", "self_training, seed 0", "kd, seed 0"]
    assert len(chain) == 6 and {s.after for s in chain if s.expression == "self_training"} == {"none"}
    busy = [chain.pop(0)]
    assert ready(chain, busy) == PlannedStudent("kd", 0)
    assert ready(chain, []) == PlannedStudent("self_training", 0, "none")
    alone = Experiment(config(tmp_path / "out", methods="self_training", jobs=1)).run()
    assert {s["method"] for s in alone["students"]} == {"none", "self_training"}


@pytest.mark.slow
@pytest.mark.usefixtures("without_page")
def test_a_chain_of_students_gives_the_same_bytes_side_by_side(tmp_path: Path) -> None:
    chain = {"methods": "self_training,kd", "seeds": 2, "label_fraction": 0.5}
    for jobs in (1, 2):
        Experiment(config(tmp_path / str(jobs), jobs=jobs, **chain)).run()
    expected, got = files(tmp_path / "1"), files(tmp_path / "2")
    assert len(expected) == 7 * 4 + 2 and expected == got


def test_what_cannot_be_sent_is_one_line_where_processes_were_asked_for(tmp_path: Path) -> None:
    class Local(torch.nn.Flatten):
        pass

    asked = config(tmp_path / "out", student=torch.nn.Sequential(Local(), torch.nn.Linear(64, 10)), jobs=2)
    with pytest.raises(CmkdError, match=r"cannot send the run to other processes .*or use --jobs 1") as caught:
        Experiment(asked).run()
    assert "\n" not in str(caught.value) and not (tmp_path / "out" / "teacher").exists()


def test_what_a_script_defines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "__module__", "__main__")
    monkeypatch.setattr("__main__.work", work, raising=False)
    with pytest.raises(CmkdError, match="move them to a module"):
        packed(partial(work, Path()))


@pytest.mark.usefixtures("without_page")
def test_it_trains_here_where_processes_were_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(torch.nn.Flatten):
        pass

    monkeypatch.setattr("cmkd.experiment.capacity.SHORT_STEPS", 0)
    monkeypatch.setattr("cmkd.experiment.capacity.usable_cores", lambda: 2)
    asked = config(tmp_path / "out", student=torch.nn.Sequential(Local(), torch.nn.Linear(64, 10)))
    assert Experiment(asked).run()["complete"]
