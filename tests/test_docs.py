"""The Python of README and docs runs as it is printed, and every command in them has the options that it is given."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmkd.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Words of the `cmkd` commands in the blocks of a page."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|[|;] *)cmkd (\w.*)", line.split("  #")[0]) for line in lines)
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_have_their_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        command = words[:2] if words[0] == "data" else words[:1]
        with contextlib.suppress(SystemExit):  # of argparse
            main([*command, "--help"])
        told = re.findall(r"--[\w.]+", capsys.readouterr().out)
        told += [flag.replace("--teacher.", "--student.") for flag in told]  # the help says what both have once
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert set(flags) <= set(told), (words, sorted(set(flags) - set(told)))


def test_readme_is_short_and_begins_as_the_docs_do() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(readme.split()) <= 600
    assert re.findall(r"```python\n(.*?)```", readme, re.DOTALL) == BLOCKS[:1]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    site = tmp_path / "site"
    made = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    assert subprocess.run(made, cwd=ROOT, check=False).returncode == 0
    assert {"index.html", "methods/ds.html", "reference.html"} <= {
        str(p.relative_to(site)) for p in site.rglob("*.html")
    }


@pytest.mark.usefixtures("without_page")
def test_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = BLOCKS[0].replace("epochs=20", "epochs=1, seeds=1")
    assert code != BLOCKS[0]
    made: dict[str, object] = {}
    exec(code, made)
    assert made["about"]["method"] == "ds"  # type: ignore[index]


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
        "cross_entropy": torch.tensor(1.0),
        "optimizer": torch.optim.SGD(student.parameters(), lr=0.1),
    }
    exec(BLOCKS[1], made)
    loss = made["loss"]
    assert isinstance(loss, torch.Tensor) and bool(loss.isfinite())
    loss.backward()
    assert student.weight.grad is not None
    assert len(made["optimizer"].param_groups) == 2  # type: ignore[attr-defined]
