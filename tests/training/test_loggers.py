"""Each training of a run is a separate run in the stores of MLflow, W&B and TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from cmkd import Experiment, RunConfig, StudentConfig, TeacherConfig, TrainerConfig
from cmkd.data import Pack

MODEL = "thin_resnet(width=4,stages=1)"
ENVIRONMENT = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT")


def run(pack: Pack, out: Path, logger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(logger)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    config = RunConfig(
        data=pack, out=out, methods="none", seeds=2, epochs=1, jobs=1, teacher=TeacherConfig(model=MODEL),
        student=StudentConfig(model=MODEL), trainer=TrainerConfig(progress="none", logger=logger),  # type: ignore[arg-type]
    )  # fmt: skip
    Experiment(config, page=False).run()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # mlflow and wandb warn about their own dependencies
def test_mlflow(digits: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):  # in one process: the second run must not log into the store of the first
        run(digits, tmp_path / name, "mlflow", monkeypatch)
        found = [yaml.safe_load(path.read_text()) for path in (tmp_path / name / "mlflow").glob("*/*/meta.yaml")]
        assert {about["run_name"] for about in found} == {"teacher", "none, seed 0", "none, seed 1"}
        assert len(found) == 3 and all(about["status"] == 3 for about in found)  # finished
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_wandb(digits: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(digits, tmp_path, "wandb", monkeypatch)
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 3


def test_tensorboard(digits: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(digits, tmp_path, "tensorboard", monkeypatch)
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) == 3
