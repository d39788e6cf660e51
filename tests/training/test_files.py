"""Files of a training: intact, damaged, or of another kind."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cmkd import models
from cmkd.errors import CmkdError
from cmkd.io import atomic
from cmkd.models.checkpoint import load_model, read_about, save_model
from cmkd.training.checkpointing import SafeCheckpointIO
from cmkd.types import Modality
from mutations import documents, flipped

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
    with pytest.raises(CmkdError, match="not a model saved by cmkd"):
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
    with pytest.raises(CmkdError, match="training, callbacks, Mine, best, holds object: a checkpoint keeps"):
        SafeCheckpointIO().save_checkpoint({"callbacks": {"Mine": {"best": object()}}}, tmp_path / "last")
    SafeCheckpointIO().save_checkpoint({"best": np.float32(0.5), "step": np.int64(3)}, tmp_path / "last")
    assert SafeCheckpointIO().load_checkpoint(tmp_path / "last") == {"best": 0.5, "step": 3}


def described(path: Path, about: str) -> None:
    """Replace the description in a checkpoint, as an edit of its header would."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"about": about})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "thin_resnet(width=6000)"}, "more weights than the file"),
        ({"model": "thin_resnet(width=4,blocks=64)"}, "more weights than the file"),
        ({"model": "vit_giant_patch14_224"}, "more weights than the file"),
        ({"model": "thin_resnet(width=5)"}, "is 4 x 4 x 3 x 3, and the model's 5 x 5 x 3 x 3"),
        ({"model": "thin_resnet(width=0)"}, "it must be at least 1"),
        ({"classes": ["a", "b"]}, "classifier.weight lacks 2 outputs"),
        ({"modality": {**asdict(RADAR), "shape": [1, 9000, 9000]}}, "more than 67108864 values"),
        ({"modality": {**asdict(RADAR), "mean": [0.0, 0.0]}}, "1 channels, but statistics of 2"),
        ({"classes": None}, "classes must be a list, each item text, got None"),
    ],
)
def test_a_description_of_another_model_is_refused_from_the_header(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    path = saved(tmp_path)
    described(path, json.dumps(read_about(path) | changes))
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CmkdError, match=f"best.safetensors.*({says})"):
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun < 200_000  # kB


def test_an_image_of_the_largest_size_takes_no_memory_before_it_is_seen() -> None:
    large = replace(RADAR, shape=(1, 8192, 8192))
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert models.build("thin_resnet(width=16)", large, classes=2).spec.map_shapes[0] == (16, 2048, 2048)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun < 200_000


def test_every_edit_of_a_description_and_flipped_bits_are_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path)
    about, whole = read_about(path), path.read_bytes()
    for _, text in documents(about, every=7):
        path.write_bytes(whole)
        described(path, text)
        refused_or_loaded(path)
    accepted = 0
    for _, content in flipped(whole, 60):
        path.write_bytes(content)
        accepted += refused_or_loaded(path)
    assert accepted <= 2  # only bits in the name of the checksum's own key may pass


def refused_or_loaded(path: Path) -> bool:
    """Load a model, and return whether it was accepted; a refusal must be an error of one line."""
    try:
        load_model(path)
    except CmkdError as error:
        assert "\n" not in str(error)
        return False
    return True


def test_a_damaged_state_is_refused_before_lightning_sees_it(tmp_path: Path) -> None:
    state = {"epoch": 3, "best": float("-inf"), "weights": torch.ones(5), "pair": (1, [None, "x"])}
    path = tmp_path / "last.safetensors"
    SafeCheckpointIO().save_checkpoint(state, path)
    loaded, whole = SafeCheckpointIO().load_checkpoint(path), path.read_bytes()
    assert torch.equal(loaded.pop("weights"), state.pop("weights")) and loaded == state
    for name, content in flipped(whole, 60):
        path.write_bytes(content)
        try:
            assert SafeCheckpointIO().load_checkpoint(path)["epoch"] == 3, name
        except CmkdError as error:
            assert "delete it to train this model again" in str(error)
