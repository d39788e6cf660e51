"""The two studies at a size for tests: they run, continue, and write documents from their results alone."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_a_step_is_done_once_and_says_what_it_was(tmp_path: Path, benchmark: object) -> None:
    steps = benchmark("steps")  # type: ignore[operator]
    done: list[int] = []

    def do(step: dict[str, int]) -> dict[str, int]:
        done.append(step["seed"])
        return {"value": step["seed"]}

    wanted = [{"seed": 0}, {"seed": 1}]
    assert steps.work(tmp_path, wanted[:1], do) and steps.work(tmp_path, wanted, do) and done == [0, 1]
    assert {r["value"]: r["step"] for r in steps.load(tmp_path).values()} == {0: {"seed": 0}, 1: {"seed": 1}}
    assert not steps.work(tmp_path, [{"seed": 2}], do, until=1e-9) and done == [0, 1]
    # a step of a former plan lies there still, and is not gathered
    gathered = steps.collect(tmp_path, tmp_path / "out" / "study.json", [{"seed": 1}, {"seed": 3}])["results"]
    assert [r["value"] for r in gathered] == [1]


def test_the_choice_reads_validation_alone(benchmark: object) -> None:
    ablation = benchmark("ablation")  # type: ignore[operator]
    trials = benchmark("trials")  # type: ignore[operator]
    setting = trials.SETTINGS["digits"].described()
    results = []
    for number, method in enumerate((*trials.KD, *trials.DIST, *trials.DS)):
        for seed in trials.CHOICE:
            step = ablation.step("digits", method, seed, "validation", trials.SETTINGS)
            results.append({"step": step, "validation": number % 6 / 10, "validation_log_loss": 1.0, "test": -number})
    best = ablation.chosen(results, "digits", setting)
    assert best == {"none": "none", "kd": trials.KD[5], "dist": trials.DIST[5], "ds": trials.DS[5]}
    assert ablation.chosen(results[:-4], "digits", setting) is None  # not before every one is there
    assert not set(trials.CHOICE) & set(trials.CONFIRM + trials.MORE)
    assert len(trials.KD) == len(trials.DIST) == len(trials.DS)


def test_one_seed_is_one_start_and_one_training(benchmark: object, cache: Path) -> None:
    lean = benchmark("lean")  # type: ignore[operator]
    setting = lean.Setting("digits", severity=0.5, pairs=128, labeled=30, epochs=1, batch=64, student_width=4)
    data = lean.arrays(setting)
    assert int((data.target["train"] >= 0).sum()) == 30 and len(data.target["validation"]) == 360
    guide = lean.teacher(setting, data, 3)
    for method in ("none", "ds"):
        first, again = (lean.train(setting, data, 3, method=method, guide=guide).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)
    other = lean.train(setting, data, 4).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_one_command_writes_both_documents(tmp_path: Path, cache: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "studies.py"), "--quick", "--out", str(tmp_path / "docs")]
    command += ["--runs", str(tmp_path / "runs")]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    docs = tmp_path / "docs"
    assert "| digits |" in (docs / "ablation.md").read_text()
    observation = (docs / "observation.md").read_text()
    assert "effective rank, embedding" in observation and "nan" not in observation.lower().split()
    assert (docs / "images" / "observation-ladder.svg").stat().st_size > 5000
    stored = json.loads((docs / "ablation.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert {r["step"]["split"] for r in stored["results"]} == {"validation", "test"}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert again.returncode == 0 and len(again.stdout.splitlines()) == 2  # the paths alone: nothing was trained


def test_the_averages_table_compares_with_the_last_weights_and_says_no_place(
    tmp_path: Path, benchmark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaging = benchmark("averaging")  # type: ignore[operator]
    gains = {"none": 0.0, "0.98": 0.01, "0.99": 0.02, "0.995": -0.01, "0.99, 3": 0.03, "0.995, 3": 0.0}
    for fold, (modality, base) in enumerate([("optical", 0.5), ("degraded", 0.3)]):
        step = {
            "data": "toy",
            "place": "toy:some/folder",
            "role": "rich",
            "modality": modality,
            "fold": fold,
            "seed": fold,
        }
        held = {kind: {"accuracy": base + gain} for kind, gain in gains.items()}
        benchmark("steps").work(tmp_path / "runs", [step], lambda _, held=held: {"held_out": held})  # type: ignore[operator]
    monkeypatch.setattr(averaging, "FOLDER", tmp_path / "runs")
    averaging.write(tmp_path / "averaging.json")
    text = (tmp_path / "averaging.md").read_text()
    assert "| toy | optical | 1 | 50.0 | 51.0 | 52.0 | 49.0 | 53.0 | 50.0 |" in text
    last = text.strip().splitlines()[-1]
    assert last.startswith("| mean gain |  | 2 |  | **+1.0") and "**+3.0" in last
    assert "some/folder" not in text + (tmp_path / "averaging.json").read_text()
