"""A model that reads several modalities as channels of a single input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cmkd import CmkdError, load_model, models
from cmkd.models import StackedModel, stack
from cmkd.models.checkpoint import save_model
from cmkd.types import Modality

OPTICAL = Modality("optical", "image", (3, 8, 8), "uint8", (90.0, 80.0, 70.0), (40.0, 30.0, 20.0))
RADAR = Modality("radar", "image", (1, 8, 8), "float32", (-12.0,), (3.0,))
TRACK, SOUND = (Modality(name, "series", (6, 2), "float32", (1.0, 2.0), (3.0, 4.0)) for name in ("track", "sound"))
SETS = Modality("sets", "points", (5, 3), "float32", (0.0,) * 3, (1.0,) * 3)


def stacked(*modalities: Modality, scaling: str = "linear") -> StackedModel:
    torch.manual_seed(0)
    encoder, _ = models.build_encoder("auto", stack(modalities))
    values = None if scaling == "linear" else np.random.default_rng(0).uniform(0, 9, (99, stack(modalities).channels))
    return StackedModel(modalities, encoder, classes=3, scaling=scaling, values=values).eval()


def samples(*modalities: Modality) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    made = {m.name: torch.randint(0, 99, (4, *m.shape)) for m in modalities}
    return {m.name: made[m.name].to(getattr(torch, m.dtype)) for m in modalities}


@pytest.mark.parametrize("modalities", [(OPTICAL, RADAR), (TRACK, SOUND)])
def test_each_channel_is_standardized_by_its_own_statistics(modalities: tuple[Modality, ...]) -> None:
    model, given = stacked(*modalities), samples(*modalities)
    channel = 1 if modalities[0].kind == "image" else -1
    parts = [models.Preprocess(m)(given[m.name]) for m in modalities]
    embedding, _ = model.encoder(torch.cat(parts, channel))
    torch.testing.assert_close(model.classify(given).logits, model.classifier(embedding))
    assert model.modalities == modalities and model.subsets == (tuple(m.name for m in modalities),)


@pytest.mark.parametrize("scaling", ["linear", "log", "rank"])
def test_each_modality_has_the_scaling_of_its_channels(scaling: str) -> None:
    model, given = stacked(TRACK, SOUND, scaling=scaling), samples(TRACK, SOUND)
    parts = [model.scalings[m.name](given[m.name]) for m in (TRACK, SOUND)]
    both = torch.cat([given["track"], given["sound"]], -1)
    torch.testing.assert_close(torch.cat(parts, -1), model.preprocess(both), rtol=0, atol=0)


def test_a_modality_that_a_pair_lacks_is_replaced_by_its_mean() -> None:
    model, given = stacked(OPTICAL, RADAR), samples(OPTICAL, RADAR)
    there = torch.tensor([True, False, True, False])
    output = model.classify(given, {"optical": torch.ones(4, dtype=torch.bool), "radar": there})
    mean = torch.full_like(given["radar"], RADAR.mean[0])
    for rows, radar in ((there, given["radar"]), (~there, mean)):
        expected = model.classify({"optical": given["optical"], "radar": radar}).logits
        torch.testing.assert_close(output.logits[rows], expected[rows])
    assert not torch.allclose(output.logits[~there], model.classify(given).logits[~there])


@pytest.mark.parametrize("scaling", ["linear", "log", "rank"])
def test_it_is_saved_and_loaded_whole(tmp_path: Path, scaling: str) -> None:
    model, path = stacked(OPTICAL, RADAR, scaling=scaling), tmp_path / "model.safetensors"
    save_model(path, model, name="auto", classes=("a", "b", "c"), extra={})
    loaded, about = load_model(path)
    assert isinstance(loaded, StackedModel) and loaded.modalities == model.modalities
    assert about["modality"]["name"] == "optical" and about["others"][0]["modality"]["name"] == "radar"
    given = samples(OPTICAL, RADAR)
    torch.testing.assert_close(loaded.classify(given).logits, model.classify(given).logits, rtol=0, atol=0)


def test_a_file_that_names_other_channels_is_refused(tmp_path: Path) -> None:
    from cmkd.models.checkpoint import ABOUT, read_about
    from cmkd.models.tensor_file import read_tensors, write_tensors

    path = tmp_path / "model.safetensors"
    save_model(path, stacked(OPTICAL, RADAR), name="auto", classes=("a", "b", "c"), extra={})
    about, tensors = read_about(path), read_tensors(path, ABOUT, fix="")
    (other,) = about["others"]
    for changed, says in (
        ({"others": []}, "do not fit the model"),
        ({"others": [other, other]}, "do not fit the model"),
        ({"classes": ["a", "b"]}, "lacks 2 outputs"),
        ({"others": [other | {"modality": other["modality"] | {"shape": [1, 9, 8]}}]}, "use fusion late"),
    ):  # fmt: skip
        write_tensors(path, tensors, ABOUT, about | changed)
        with pytest.raises(CmkdError, match=says):
            load_model(path)


@pytest.mark.parametrize("other", [replace(RADAR, shape=(1, 8, 9)), TRACK, SETS])
def test_modalities_of_unlike_shape_are_refused(other: Modality) -> None:
    with pytest.raises(CmkdError, match=r"'optical' \(image \(3, 8, 8\)\) and .* differ; use fusion late"):
        stack([OPTICAL, other])
    with pytest.raises(CmkdError, match="series or vectors"):
        stack([SETS, replace(SETS, name="more")])
