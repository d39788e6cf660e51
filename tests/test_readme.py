"""The Python of the README runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


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
