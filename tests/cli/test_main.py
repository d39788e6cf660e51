"""The dispatcher of the command line: exit codes and the handling of bugs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from cmkd.cli import COMMANDS, _say_stopped, main
from cmkd.errors import CmkdError, one_line
from cmkd.io import write_text


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in COMMANDS)


def test_no_command_is_bad_input() -> None:
    assert main([]) == 2


def test_a_misspelt_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == 2
    assert "did you mean 'run'" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([command, "--help"])
    except SystemExit as exit:  # raised by argparse after it has printed the help
        code = exit.code or 0
    assert code == 0
    text = capsys.readouterr().out
    assert f"cmkd {command}" in text
    assert not re.search(r" (STR|INT|FLOAT|BOOL|ANY|ANNOTATED|TUPLE\S*)\b", text), "a value is shown as a Python type"


@pytest.mark.parametrize("form", ["--out {}", "--out={}"])
def test_a_bug_keeps_its_traceback(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cmkd.cli.run

    # the last frame is in cmkd, which distinguishes a bug from an error in a user's module
    monkeypatch.setattr(cmkd.cli.run, "main", lambda _: one_line(1))  # type: ignore[arg-type]
    assert main(["run", *form.format(tmp_path).split(" ")]) == 1
    assert "in one_line" in (tmp_path / "error.log").read_text()
    error = capsys.readouterr().err
    assert "error.log" in error and "Traceback" not in error


def test_a_bug_of_a_run_whose_folder_is_in_its_file_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cmkd.experiment import Experiment

    monkeypatch.setattr(Experiment, "run", lambda _: one_line(1))  # type: ignore[arg-type]
    (tmp_path / "run").mkdir()
    write_text(tmp_path / "config.yaml", f"data: digits\nout: {tmp_path / 'run'}\n")
    assert main(["run", "--config", str(tmp_path / "config.yaml")]) == 1
    assert "in one_line" in (tmp_path / "run" / "error.log").read_text()
    (tmp_path / "run" / "error.log").unlink()
    (tmp_path / "run" / "error.log").mkdir()  # so that the log cannot be written
    assert main(["run", "--config", str(tmp_path / "config.yaml")]) == 1
    assert "please report it with the lines above" in capsys.readouterr().err


def test_an_error_in_the_users_own_module_is_not_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_pairs.py").write_text("def pairs():\n    return {}['a']\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["run", "--data", "own_pairs:pairs", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"cmkd: error in {tmp_path / 'own_pairs.py'}, line 2: KeyError: 'a'" in error and "bug" not in error
    log = tmp_path / "run" / "error.log"
    assert "Traceback" in (log.read_text() if log.exists() else error)


def test_an_error_in_compiled_code_is_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cmkd.cli.run

    def fails(_: object) -> None:  # its last frame is in Cython code
        exec(compile("raise KeyError('x')", "numpy/random/mtrand.pyx", "exec"))

    fails.__code__ = fails.__code__.replace(co_filename=str(Path(cmkd.cli.run.__file__)))
    monkeypatch.setattr(cmkd.cli.run, "main", fails)
    assert main(["run", "--out", str(tmp_path)]) == 1


def test_a_method_that_takes_no_specs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cmkd.methods import create
    from cmkd.types import Spec

    lines = ["from cmkd.methods import Method", "class Own(Method):", "    def __init__(self, *, weight: float = 1.0):"]
    lines += ["        pass", "    def forward(self, student, teacher, batch):", "        return {}"]
    (tmp_path / "method_without_specs.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        CmkdError, match=r"method_without_specs:Own cannot be built \(TypeError: too many positional arguments\)"
    ):
        create("method_without_specs:Own", Spec(3, 4), Spec(3, 4))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, cmkd, cmkd.cli; cmkd.cli.usage(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["data", "build", "folder", "--out", "pack", "--seed", "-1"],
        ["data", "build", "folder", "--out", "pack", "--workers", "0"],
        ["evaluate", "run", "--data", "digits", "--out", "out", "--seed", str(2**32)],
        ["analyze", "run", "--data", "digits", "--out", "out", "--pairs", "0"],
        ["predict", "run", "folder", "--top", "-1"],
        ["serve", "run", "--port", "70000"],
        ["simulate", "marine", "--pairs", "3", "--out", "out", "--gap", "nan"],
        ["run", "--data", "digits", "--out", "out", "--seeds", "99999999999"],
        ["run", "--data", "digits", "--out", "out", "--epochs", "three"],
    ],
)
def test_numbers_out_of_range_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "must be" in error and words[-2].lstrip("-") in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["methods", "ds", "--markdown", "pages"], "--markdown writes the pages of all methods; leave out 'ds'"),
        (["simulate", "marine", "--pairs", "2", "--out", "new", "--classes", ""], "--classes is empty; name classes"),
        (["predict", "run", "a.png", "--top", "0"], "--top is 0; it must be at least 1"),
    ],
)
def test_an_option_without_effect_is_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_file_that_reads_as_an_option_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.png").write_text("")
    assert main(["predict", "x.onnx", "-dash.png"]) == 2
    assert capsys.readouterr().err == (
        "cmkd: error: '-dash.png' begins with '-' and reads as an option: write ./-dash.png\n"
    )


@pytest.mark.parametrize("said", ["I/O error: No space left on device (os error 28)", "Detail: [errno 28] No space"])
def test_a_full_disk_is_one_line_whichever_library_met_it(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Error messages are those of safetensors 0.8 and of pyarrow."""
    import cmkd.cli.report

    def fail(_: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(cmkd.cli.report, "main", fail)
    assert main(["report", "x"]) == 2
    assert capsys.readouterr().err == "cmkd: error: cannot read or write a file: No space left on device\n"


def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    words = ["run", "--data", "digits", "--methods", "none", "--out", str(tmp_path / "file" / "out")]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("cmkd: error: cannot read or write ")


def test_signals_end_with_their_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:

    import cmkd.cli.report

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)):
        monkeypatch.setattr(cmkd.cli.report, "main", lambda _, number=number: os.kill(os.getpid(), number))
        assert main(["report", "x"]) == code
        assert capsys.readouterr().err == "cmkd: stopped; no partial file is left\n"


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_callback_where_python_discards_errors_stops_the_command(
    number: signal.Signals, code: int, seconds: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import cmkd.cli.report

    def work(_: object) -> None:
        held = {1}
        seen = weakref.ref(held, lambda _: signal.raise_signal(number))
        del held
        assert seen() is None
        time.sleep(seconds)

    monkeypatch.setattr(cmkd.cli.report, "main", work)
    assert main(["report", "x"]) == code
    assert capfd.readouterr().err == "cmkd: stopped; no partial file is left\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "the same command continues where it was"),
        (["data", "push", "a"], "the same command continues where it was"),
        (["data", "prepare", "marine"], "the same command continues where it was"),
        (["data", "build", "a"], "no partial file is left"),
        (["analyze", "a"], "only whole files are left"),
        (["serve", "a"], "requests in flight were answered"),
    ],
)
def test_a_stop_says_what_is_left(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _say_stopped(words, signal.SIGTERM) == 143
    assert capsys.readouterr().err == f"cmkd: stopped; {said}\n"


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_a_name_that_is_not_utf8_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff folder")
    assert main(["simulate", "marine", "--pairs", "1", "--out", odd]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\\udcff" in error and "rename" in error


def test_the_method_named_none_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "none"]) == 0
    assert capsys.readouterr().out.startswith("none (control)\n")


def test_an_error_is_one_line_whatever_the_names_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a\nb").write_text("a file")
    assert main(["methods", "--markdown", str(tmp_path / "a\nb" / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_pack_named_by_the_current_folder_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["simulate", "marine", "--pairs", "2", "--out", "."]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["simulate", "marine", "--pairs", "9" * 20, "--out", "new"]) == 2
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


@pytest.mark.parametrize("error", [ValueError("Invalid affine transformation matrix"), CmkdError("it is damaged")])
def test_a_stop_that_other_code_turns_into_another_error_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    import cmkd.cli.methods  # noqa: F401  # the module that is patched

    def interrupted(arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise error from None

    monkeypatch.setattr("cmkd.cli.methods.main", interrupted)
    assert main(["methods"]) == 143
    assert capsys.readouterr().err.startswith("cmkd: stopped; ")
    monkeypatch.setattr("cmkd.cli.methods.main", lambda arguments: one_line(1))  # type: ignore[arg-type]
    assert main(["methods"]) == 1
