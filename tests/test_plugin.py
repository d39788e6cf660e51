"""A package with a method, a data set and an encoder of its own, installed beside cmkd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which pip has installed the package, entry points included."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(PLUGIN)]
    subprocess.run(command, check=True, timeout=120)
    return folder


def test_method_data_set_and_encoder_of_a_plugin_are_used_like_ours(installed: Path, tmp_path: Path) -> None:
    command = (
        "run --data two_moons(pairs=100) --methods none,kd+0.5*cosine_hint,trainer --seeds 1 --epochs 1 --out out "
        "--teacher.model linear(width=8) --method_options.trainer.weight 2 --trainer.batch_size 16"
    )
    done = python(
        installed,
        tmp_path,
        "import cmkd.experiment.runner\n"
        "from cmkd.cli import main\n"
        "cmkd.experiment.runner.write_report = lambda folder: None  # drawing takes most of the time\n"
        f"for words in ({command!r}, 'methods cosine_hint', 'data list', 'data info two_moons(pair=3)'):\n"
        "    print(main(words.split()))",
    )
    assert "Turn the student's embedding" in done.stdout and "\ntwo_moons " in done.stdout, done.stderr
    assert "did you mean 'pairs'" in done.stderr and done.stdout.endswith("2\n")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["complete"] and results["data"]["pairs"] == {"train": 60, "validation": 20, "test": 20}
    assert [s["method"] for s in results["students"]] == ["none", "kd+0.5*cosine_hint", "trainer"]
    own = {"cmkd_example_plugin:CosineHint", "cmkd_example_plugin:LinearEncoder"}
    assert own < set(json.loads((tmp_path / "out" / "settings.json").read_text())["sources"])


def python(installed: Path, cwd: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that sees the installed package."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_two_of_one_name_are_refused_when_asked_for(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[cmkd.encoders]\nlinear = elsewhere:Linear\nmlp = elsewhere:MLP\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from cmkd.models import ENCODERS\n"
        "print(ENCODERS['series_net'].__name__)\n"
        "for name in ('linear', 'mlp'):\n"
        "    try: ENCODERS.find(name)\n"
        "    except ValueError as error: print(error)"
    )
    done = python(installed, tmp_path, code)
    lines = done.stdout.splitlines()
    assert lines[0] == "SeriesEncoder", done.stderr
    assert "cmkd_example_plugin:LinearEncoder and elsewhere:Linear" in lines[1]
    assert "cmkd.models.encoders.mlp and elsewhere:MLP" in lines[2]
