"""Compiled models train to the same weights up to rounding, and are saved as if they were not compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cmkd import methods, models
from cmkd.config import AugmentationConfig, OptimizerConfig, RunConfig, TrainerConfig
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.experiment.resolve import resolve
from cmkd.training.fit import TrainingJob, fit


def train(folder: Path, pack: Pack, *, compile: bool) -> dict[str, dict[str, Tensor]]:
    """Train a student with dropout by plain SGD, whose steps do not magnify rounding; return what is saved."""
    torch.manual_seed(0)
    teacher = models.build("thin_resnet(width=4,stages=2)", pack.modalities["optical"], classes=10).eval()
    student = models.build("thin_resnet(width=4,stages=2)", pack.modalities["degraded"], classes=10)
    student.encoder.stem.append(nn.Dropout(0.5))  # type: ignore[union-attr, operator]
    method = methods.create("at", student.spec, teacher.spec)
    job = TrainingJob(
        folder, pack, student, "thin_resnet(width=4,stages=2)", epochs=2, seed=0, teacher=teacher, method=method
    )
    plain = OptimizerConfig("sgd", learning_rate=0.01, momentum=0.0)
    settings = TrainerConfig(256, compile=compile, accelerator="cpu", progress="none")
    fit(job, plain, AugmentationConfig(), settings)
    return {name: load_file(folder / f"{name}.safetensors") for name in ("best", "last")}


@pytest.mark.slow
def test_compiled_models_train_to_the_same_weights(tmp_path: Path, digits: Pack) -> None:
    expected, found = (train(tmp_path / str(compile), digits, compile=compile) for compile in (False, True))
    for name, tensors in expected.items():
        assert found[name].keys() == tensors.keys()
        different = [key for key, value in tensors.items() if not torch.equal(value, found[name][key])]
        assert different  # compiled kernels ran, which round differently
        for key in different:
            torch.testing.assert_close(found[name][key], tensors[key], rtol=1e-3, atol=1e-4)


def test_a_missing_compiler_is_one_line_before_the_data_are_read(
    tmp_path: Path, digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    config = RunConfig("no_such_data", tmp_path / "run", trainer=TrainerConfig(compile=True))
    with pytest.raises(CmkdError, match=r"--trainer.compile needs a C\+\+ compiler, but '.*' was not found"):
        resolve(config)
    with pytest.raises(CmkdError, match="needs a C"):
        train(tmp_path / "fit", digits, compile=True)
    monkeypatch.setenv("CXX", "/bin/sh")
    with pytest.raises(CmkdError, match="no_such_data"):
        resolve(config)
