"""Python code in README and docs runs as printed, and every command there has the options that it is given."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cmkd.cli import main
from cmkd.data import Pack
from cmkd.data.huggingface import export_pack
from cmkd.experiment.tuning import ACCURACY, LOSS, Trials, ranges

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = ["--teacher.model", "thin_resnet(width=4)", "--student.model", "thin_resnet(width=4)"]
NOTEBOOK_SECONDS = 120
"""Most CPU seconds that a notebook may take."""
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page, with trainings shortened."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        code.replace("epochs=20", "epochs=1, seeds=1") for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ]


def commands(page: Path) -> list[list[str]]:
    """Return the words of each `cmkd` command in the code blocks of a page."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|[|;] *)cmkd (\w.*)", line.split("  #")[0]) for line in lines)
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_have_their_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        command = words[:2] if words[0] == "data" else words[:1]
        with contextlib.suppress(SystemExit):  # raised by argparse
            main([*command, "--help"])
        told = re.findall(r"--[\w.]+", capsys.readouterr().out)
        told += [flag.replace("--teacher.", "--student.") for flag in told]  # the help lists shared options once
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert set(flags) <= set(told), (words, sorted(set(flags) - set(told)))


def test_readme_is_short() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(readme.split()) <= 600


def intervals(page: Path) -> set[frozenset[float]]:
    """Return differences with their intervals on a page, such as "3.8 points below `kd` (2.6 to 5.0)", unsigned."""
    text = " ".join(page.read_text(encoding="utf-8").replace("\N{MINUS SIGN}", "-").split()).replace("95 % CI ", "")
    found = re.findall(r"(\d+\.\d)\b[^()|\d]{0,40}\([-+]?(\d+\.\d) to [-+]?(\d+\.\d)\)", text)
    return {frozenset(map(float, numbers)) for numbers in found}


def test_prose_quotes_intervals_that_a_table_has() -> None:
    tables = set().union(*map(intervals, [ROOT / "docs/results.md", *(ROOT / "benchmarks/results").glob("*.md")]))
    for page in ("which_method", "theory"):
        quoted = intervals(ROOT / "docs" / f"{page}.md")
        assert quoted and not quoted - tables, (page, sorted(map(sorted, quoted - tables)))


def test_no_piece_of_python_is_forgotten() -> None:
    pages = {page.relative_to(ROOT).as_posix(): len(blocks(page.relative_to(ROOT).as_posix())) for page in PAGES}
    assert {page: count for page, count in pages.items() if count} == {
        "README.md": 1, "docs/python.md": 1, "docs/quick_start.md": 1, "docs/theory.md": 1, "docs/extending.md": 3,
        "docs/ecosystem.md": 3,
    }  # fmt: skip  # each has a test below


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for package in ("mkdocs", "jupytext", "nbclient", "nbconvert", "ipykernel"):
        pytest.importorskip(package)
    site = tmp_path / "site"
    made = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    assert subprocess.run(made, cwd=ROOT, check=False).returncode == 0
    assert {"index.html", "methods/ds.html", "commands.html", "changelog.html", "notebooks/few_labels.html"} <= {
        str(p.relative_to(site)) for p in site.rglob("*.html")
    }


@pytest.mark.usefixtures("without_page")
def test_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(blocks("README.md")[0], made)
    assert made["student"].about["method"] == made["results"]["recommended"]["method"]


def test_a_loop_of_ones_own() -> None:
    student, teacher = torch.nn.Linear(5, 64), torch.nn.Linear(5, 128)
    features = student(torch.randn(6, 5))
    made = {
        "student": student,
        "teacher": teacher,
        "student_features": features,
        "student_logits": features[:, :10],
        "student_map": torch.randn(6, 64, 8, 8, requires_grad=True),
        "teacher_features": torch.randn(6, 128),
        "teacher_logits": torch.randn(6, 10),
        "teacher_map": torch.randn(6, 128, 16, 16),
        "labels": torch.arange(6),
        "indices": torch.arange(6),
        "training_set": range(100),
        "F": torch.nn.functional,
        "optimizer": torch.optim.SGD(student.parameters(), lr=0.1),
    }
    exec(blocks("docs/python.md")[0], made)
    loss = made["loss"]
    assert isinstance(loss, torch.Tensor) and bool(loss.isfinite())
    loss.backward()
    assert student.weight.grad is not None
    assert len(made["optimizer"].param_groups) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["docs/theory.md", "docs/extending.md"])
def test_a_page_of_python(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    for code in blocks(page):
        exec(code, made)


@pytest.mark.usefixtures("without_page")
def test_the_quick_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    run = next(words for words in commands(ROOT / "docs" / "quick_start.md") if words[0] == "run")
    run[run.index("--epochs") + 1] = "1"
    assert main([*run, *SMALL]) == 0
    capsys.readouterr()
    exec(blocks("docs/quick_start.md")[0], {})
    assert len(capsys.readouterr().out.splitlines()) == 4  # a header and three predictions


@pytest.mark.usefixtures("without_page")
def test_callbacks_and_loggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    exec(blocks("docs/ecosystem.md")[0], made)
    trainings = {"teacher", "none, seed 0", "kd, seed 0"}
    assert made["epochs"].seen == dict.fromkeys(trainings, 1)  # type: ignore[attr-defined]
    for name in trainings:
        (metrics,) = (tmp_path / "logs" / name).rglob("metrics.csv")
        assert "validation_accuracy" in metrics.read_text()
    (told,) = (tmp_path / "logs" / "kd, seed 0").rglob("hparams.yaml")
    assert "method: kd" in told.read_text()


def test_an_exported_pack_in_datasets(tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    export_pack(digits, tmp_path / "ships-hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made: dict[str, object] = {}
    exec(blocks("docs/ecosystem.md")[1], made)
    assert len(made["ships"]["train"]) == len(digits.rows("train"))  # type: ignore[index]


def test_trials_as_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    trials = Trials(Path("runs/tuned/tuning/kd"), "kd", ranges("kd", {}), 3)
    for number in range(3):
        trials.run(number, lambda _, number=number: {ACCURACY: number / 10, LOSS: 1.0})  # type: ignore[misc]
    exec(blocks("docs/ecosystem.md")[2], {})
    assert capsys.readouterr().out.strip() == str(trials.chosen())


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(notebook: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([sys.executable, notebook], check=True, env=os.environ | {"MPLBACKEND": "Agg"})
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < NOTEBOOK_SECONDS
