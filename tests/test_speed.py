"""The speed benchmarks run, and compare what they state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gpu
import overhead
import peers
import precision
import scaling
import step
from timing import in_turns, random_pack, ratios


def rows(out: Path) -> list[dict[str, Any]]:
    """Return the rows of the JSON beside a table."""
    return [row for section in json.loads(out.with_suffix(".json").read_text())["sections"] for row in section["rows"]]


def test_sides_take_turns_and_ratios_are_of_one_round() -> None:
    calls: list[str] = []
    results = iter([9.0, 9.0, 2.0, 1.0, 6.0, 2.0])

    def side(name: str) -> float:
        calls.append(name)
        return next(results)

    found = in_turns({"a": lambda: side("a"), "b": lambda: side("b")}, rounds=2)
    assert calls == ["a", "b"] * 3 and found == {"a": [2.0, 6.0], "b": [1.0, 2.0]}
    assert ratios(found["a"], found["b"]) == [2.0, 3.0]


def test_step_leaves_out_the_teacher_where_its_output_is_known(tmp_path: Path) -> None:
    out = tmp_path / "step.md"
    step.main(["--methods", "kd", "c2kd", "--rounds", "2", "--batch", "8", "--side", "16", "--out", str(out)])
    none, kd, c2kd = rows(out)
    assert none["time / none"] == [1.0, 1.0]
    assert 2 * kd["ms, cached"] < kd["ms"]
    assert "ms, cached" not in c2kd and c2kd["memory / none"] > 2  # its teacher trains along
    assert "| kd | " in out.read_text()


def test_precision_compares_the_same_step(tmp_path: Path) -> None:
    out = tmp_path / "precision.md"
    precision.main(["--rounds", "2", "--batch", "8", "--sides", "8", "16", "--out", str(out)])
    first, second = rows(out)
    assert first["pixels"] == "8 x 8" and len(second["bfloat16 / float32"]) == 2
    assert "instruction sets for bfloat16:" in out.read_text()


def test_overhead_compares_equal_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "overhead.md"
    overhead.main(["--quick", "--out", str(out)])
    assert [row["what"] for row in rows(out)][:2] == ["`fit`", "`fit` with TensorBoard"]
    assert "The progress bar takes" in out.read_text()


def test_overhead_refuses_to_compare_different_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = overhead.Setting(8, 16, "none", steps=2)
    pack, whole = random_pack(tmp_path / "pack", 32, 8, held_out=8), overhead.bare
    monkeypatch.setattr(overhead, "bare", lambda setting, made: whole(setting, made, ["seed", "average", "schedule"]))
    with pytest.raises(SystemExit, match="different weights"):
        overhead.compare(setting, pack, "none")


def test_gpu_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main([])


@pytest.mark.slow
def test_scaling_trains_on_more_than_it_may_hold(tmp_path: Path) -> None:
    out = tmp_path / "scaling.md"
    sizes = ["--pairs", "300", "--usual", "256", "--large", "400", "--limit", "256"]
    scaling.main([*sizes, "--rounds", "1", "--out", str(out)])
    assert [(row["pairs"], row["processes"]) for row in rows(out)] == [
        ("300", "1"), ("300", "2"), ("256", "1"), ("256", "2"),
    ]  # fmt: skip
    assert "A copy of the pack into memory fails" in out.read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_peers_train_the_same_student(tmp_path: Path) -> None:
    out = tmp_path / "peers.md"
    sizes = ["--rounds", "1", "--epochs", "2", "--teacher-epochs", "2", "--batch", "32"]
    peers.main(["--data", "marine(pairs=100,size=16)", *sizes, "--out", str(out)])
    assert [row["side"] for row in rows(out)][:4] == ["cmkd", "cmkd, a whole run", "cmkd, no cache", "textbook"]
    assert all(row["images/s"][0] > 0 for row in rows(out))
