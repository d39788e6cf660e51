"""Output that a user sees: on a pseudo-terminal, in a pipe, as JSON, and by completion."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cmkd.cli import main, tables
from cmkd.cli.run import _print

SHORT = ["--epochs", "1", "--seeds", "1", "--labels", "40", "--jobs", "1", "--trainer.logger", "none"]
SMALL = [word for side in ("teacher", "student") for word in (f"--{side}.model", "thin_resnet(width=4,stages=2)")]
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def command(out: Path, *more: str) -> list[str]:
    return ["run", "--data", "digits", "--methods", "none,kd", *SHORT, *SMALL, "--out", str(out), *more]


def read_all(descriptor: int, found: list[bytes], seen: Callable[[bytes], object] = lambda _: None) -> None:
    """Read a terminal until its other end is closed, which Linux reports as an error."""
    while True:
        try:
            found.append(os.read(descriptor, 65536))
        except OSError:
            return
        if not found[-1]:
            return
        seen(b"".join(found))


@pytest.fixture(scope="module")
def on_terminal(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, str]:
    """Run once with stderr on a pseudo-terminal; return the folder and what was written to it."""
    out, found = tmp_path_factory.mktemp("runs") / "digits", list[bytes]()
    ours, theirs = pty.openpty()
    reader = threading.Thread(target=read_all, args=(ours, found))
    reader.start()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(theirs, "w") as stderr:
        patch.setattr("cmkd.experiment.runner.write_report", lambda _: None)
        patch.setattr(sys, "stderr", stderr)
        patch.setattr("cmkd.progress.REFRESHES", 20)  # a training takes less than half a second
        for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}.items():
            patch.setenv(name, value)
        assert main(command(out)) == 0
    reader.join()
    os.close(ours)
    return out, b"".join(found).decode()


def test_one_screen_shows_a_run_and_leaves_the_terminal_whole(on_terminal: tuple[Path, str]) -> None:
    _, text = on_terminal
    assert text.startswith(HIDE_CURSOR) and "cmkd run: digits, methods none,kd: loading PyTorch" in text
    for words in ("teacher sees 40 of", "of 3 trained", "waiting", "seed 0 "):
        assert words in text
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1, "there is more than one display"
    assert text.endswith(f"\x1b[2K{SHOW_CURSOR}") or text.endswith(f"{SHOW_CURSOR}\r\x1b[1A\x1b[2K")
    assert "v_num" not in text, "Lightning shows a bar of its own"


@pytest.mark.usefixtures("without_page")
def test_json_is_all_that_stdout_holds(on_terminal: tuple[Path, str], capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = on_terminal
    assert main(command(out, "--json")) == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == json.loads((out / "results.json").read_text())
    assert "found 3 of 3 trainings: teacher; none, seed 0; kd, seed 0\n" in said.err


@pytest.mark.usefixtures("without_page")
def test_quiet_leaves_the_results(on_terminal: tuple[Path, str], capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = on_terminal
    assert main(command(out, "--quiet")) == 0
    said = capfd.readouterr()
    assert said.err == "" and str(out / "student.safetensors") in "".join(said.out.split())


@pytest.mark.parametrize("name", ["pairs [old]", "a[/b]", "fog :dog:"])
def test_names_are_shown_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"name": name, "rich": name, "poor": name, "pairs": {"test": 9}, "same_test_pairs": True, "labels": {}}
    row = {"method": "none", "mean": 0.5, "sd": None, "n": 1}
    results = {"data": data, "epochs": 2, "teacher": {"test_accuracy": 0.5}, "summary": [row], "tuned": []}
    students = [{"method": "none", "subsets": {name: {"test_accuracy": 0.5}}}]
    _print(results | {"students": students, "recommended": None}, Path("out"))
    assert capsys.readouterr().out.count(name) == 5  # two titles, two cells and a column
    made = tables.table(name)
    made.add_row(name)
    tables.show(made)
    assert capsys.readouterr().out.count(name) == 2


def test_what_a_process_prints_is_no_json() -> None:
    code = "import os; from cmkd.cli.run import _results_alone as alone\n"
    code += "with alone(): print('a'); os.system('echo b')\nprint('{}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n" and sorted(done.stderr.split()) == ["a", "b"]


def test_the_first_line_comes_before_the_imports_and_ctrl_c_leaves_a_whole_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cmkd", *command(tmp_path / "run")],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    found: list[bytes] = []

    def interrupt(text: bytes) -> None:
        if b"loading PyTorch" in text and not stopped:
            stopped.append(True)
            process.send_signal(signal.SIGINT)

    stopped: list[bool] = []
    read_all(ours, found, interrupt)
    os.close(ours)
    assert process.wait(60) == 130
    text = b"".join(found).decode()
    assert text.rstrip().endswith("cmkd: stopped; the same command continues where it was")
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("cmkd r", {"run", "report"}),
        ("cmkd data p", {"prepare", "pair", "push"}),
        ("cmkd run --data digits --trainer.prec", {"--trainer.precision "}),
        ("cmkd run --trainer.precision ", {"32-true", "bf16-mixed", "16-mixed"}),
    ],
)
def test_tab_completes_a_line(line: str, answers: set[str]) -> None:
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    ours, theirs = os.pipe()
    code = f"import os; os.dup2({theirs}, 8); import cmkd.cli; cmkd.cli.main()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | asked, pass_fds=[theirs], timeout=60)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        assert set(answer.read().split("\n")) == answers
