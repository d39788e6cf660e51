"""The installed package: dependencies match the imports, there is one version, and the wheel works on its own."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cmkd

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn", "mlflow-skinny": "mlflow"}
"""Distributions whose module has another name; in all others a hyphen becomes an underscore."""


def module(name: str) -> str:
    return MODULES.get(name, name.replace("-", "_"))


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0]


def third_party() -> set[str]:
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"cmkd", "__main__"}


def test_every_import_is_a_dependency_and_every_dependency_is_imported() -> None:
    needed = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    single = {distribution(r) for name, rs in EXTRAS.items() if name not in ("all", "dev") for r in rs}
    imported = third_party()
    assert imported <= {module(name) for name in needed | single}
    by_others = {
        "tensorboard",
        "mlflow-skinny",
        "wandb",
        "onnxscript",
    }  # Lightning imports the first three, torch the last
    assert {module(name) for name in (needed | single) - by_others} <= imported


def test_the_extra_all_holds_every_extra() -> None:
    (everything,) = EXTRAS["all"]
    assert everything == f"cmkd[{','.join(name for name in EXTRAS if name not in ('all', 'dev'))}]"


def test_the_oldest_releases_are_the_lower_bounds() -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = [requirements for name, requirements in EXTRAS.items() if name not in ("all", "dev")]
    named = [requirements for requirements in extras if pinned.keys() & set(map(distribution, requirements))]
    bounds = [*PROJECT["dependencies"], *(requirement for requirements in named for requirement in requirements)]
    assert pinned.keys() == {distribution(requirement) for requirement in bounds}
    for requirement in bounds:
        name, bound = requirement.split(">=")
        assert f"{pinned[name]}.".startswith(f"{bound}.")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT], check=True)
    (built,) = folder.glob(f"cmkd-{cmkd.__version__}-*.whl")
    return built


@pytest.mark.slow
@pytest.mark.parametrize("extras", ["", "[all]"])
def test_the_wheel_works_on_its_own(wheel: Path, extras: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CMKD_DATA")}
    environment["CMKD_CACHE"] = str(tmp_path / "cache")

    def run(*command: str | Path, fails: bool = False) -> str:
        done = subprocess.run(
            [tmp_path / "venv" / "bin" / command[0], *command[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == (2 if fails else 0), done.stderr
        return done.stderr if fails else done.stdout

    install = ("python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    run(*install, "torch")  # first and alone, as the Makefile does
    run(*install, f"cmkd{extras} @ {wheel.as_uri()}")
    assert cmkd.__version__ in run("cmkd", "--version")
    assert "digits" in run("cmkd", "data", "list")
    assert "temperature" in run("cmkd", "methods", "kd")
    quick = ("--data", "digits", "--epochs", "1", "--seeds", "1")
    run("cmkd", "run", *quick, "--methods", "none,kd", "--out", "run")
    assert (tmp_path / "run" / "report.html").exists()
    marine = ("cmkd", "simulate", "marine", "--pairs", "8", "--out", "ships")
    loggers = [("cmkd", "run", *quick, "--methods", "none", "--trainer.logger", name, "--out", name)
               for name in ("tensorboard", "mlflow")]  # fmt: skip
    tune = ("cmkd", "run", *quick, "--methods", "kd", "--tune", "2", "--out", "tuned")
    if extras:
        for command in (marine, *loggers, tune):
            run(*command)
    else:
        assert "pip install 'cmkd[marine]'" in run(*marine, fails=True)
        assert "pip install 'cmkd[tensorboard]'" in run(*loggers[0], fails=True)
        assert "pip install 'cmkd[mlflow]'" in run(*loggers[1], fails=True)
        assert "pip install 'cmkd[tune]'" in run(*tune, fails=True)


def test_the_image_has_what_the_server_needs() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (names,) = re.findall(r"requirements-runtime\.txt \\\n +(.+) \\\n", text)
    assert sorted(names.split()) == sorted(distribution(requirement) for requirement in EXTRAS["serve"])
