"""Files of a training, whole, damaged and foreign."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cmkd import models
from cmkd.errors import CmkdError
from cmkd.io import atomic
from cmkd.models.checkpoint import load_model, save_model
from cmkd.training.checkpointing import SafeCheckpointIO
from cmkd.types import Modality

RADAR = Modality("radar", "image", (1, 16, 16), "uint8", (20.0,), (30.0,))


def saved(folder: Path) -> Path:
    model = models.build("thin_resnet(width=4)", RADAR, classes=3)
    path = folder / "best.safetensors"
    save_model(path, model, name="thin_resnet(width=4)", classes=("a", "b", "c"), extra={"seed": 7})
    return path


def test_a_model_comes_back_with_its_preprocessing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.build("thin_resnet(width=4)", RADAR, classes=3, size=8).eval()
    path = tmp_path / "best.safetensors"
    save_model(path, model, name="thin_resnet(width=4)", classes=("a", "b", "c"), extra={"seed": 7})
    loaded, about = load_model(path)
    x = torch.randint(0, 255, (2, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(loaded(x).logits, model(x).logits)
    assert about["classes"] == ["a", "b", "c"] and about["seed"] == 7 and about["modality"]["name"] == "radar"
    assert json.loads(path.with_suffix(".json").read_text()) == about


def test_a_damaged_model_is_one_clear_line(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CmkdError, match="truncated"):
        load_model(path)
    path.write_bytes(b"")
    with pytest.raises(CmkdError, match="truncated"):
        load_model(path)
    with pytest.raises(CmkdError, match="no checkpoint"):
        load_model(tmp_path / "absent.safetensors")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CmkdError, match="no model saved by cmkd"):
        load_model(tmp_path / "foreign.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_full_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]}],
        "loops": {"a": None, "b": [True, 1.5, "x"], "c": {}},
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    io = SafeCheckpointIO()
    io.save_checkpoint(state, tmp_path / "last")
    back = io.load_checkpoint(tmp_path / "last")
    assert torch.equal(back.pop("half"), state.pop("half"))  # type: ignore[arg-type]
    assert back == state
    assert b"pickle" not in (tmp_path / "last").read_bytes()
    (tmp_path / "last").write_bytes((tmp_path / "last").read_bytes()[:50])
    with pytest.raises(CmkdError, match="is damaged"):
        io.load_checkpoint(tmp_path / "last")


def test_an_object_without_a_json_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        SafeCheckpointIO().save_checkpoint({"x": object()}, tmp_path / "last")
