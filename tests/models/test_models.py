"""Models for every kind of modality."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmkd import models
from cmkd.errors import CmkdError
from cmkd.models.checkpoint import load_model, save_model
from cmkd.models.timm_backbone import TimmEncoder
from cmkd.types import Modality


def modality(kind: str, shape: tuple[int, ...], dtype: str = "float32") -> Modality:
    channels = shape[0] if kind == "image" else shape[-1]
    return Modality("radar", kind, shape, dtype, (0.5,) * channels, (2.0,) * channels)  # type: ignore[arg-type]


CASES = [
    ("auto", "image", (1, 8, 8)),
    ("thin_resnet(width=8, stages=2, blocks=2)", "image", (3, 32, 32)),
    ("auto", "image", (2, 64, 48)),
    ("auto", "image", (1, 224, 224)),
    ("auto", "vector", (7,)),
    ("auto", "series", (10, 75)),
    ("auto", "series", (3, 18)),
    ("auto", "series", (97, 6)),
    ("auto", "series", (8000, 1)),
    ("auto", "points", (64, 5)),
    ("auto", "point_series", (10, 64, 5)),
    ("resnet10t", "image", (2, 8, 8)),
    ("resnet18", "image", (2, 32, 32)),
    ("convnext_atto", "image", (1, 64, 64)),
    ("vit_tiny_patch16_224", "image", (1, 24, 24)),
]


@pytest.mark.parametrize(("name", "kind", "shape"), CASES)
def test_spec_says_what_comes_out(name: str, kind: str, shape: tuple[int, ...]) -> None:
    model = models.build(name, modality(kind, shape), classes=4)
    output = model.eval()(torch.randn(2, *shape))
    assert output.spec() == model.spec
    assert len(model.spec.map_shapes) >= 2
    assert all(m.dim() == 4 and m.isfinite().all() for m in output.feature_maps)
    torch.testing.assert_close(model.classifier(output.embedding), output.logits)


@pytest.mark.parametrize(("name", "kind", "shape"), [c for c in CASES if c[0] == "auto"])
def test_a_batch_may_be_empty(name: str, kind: str, shape: tuple[int, ...]) -> None:
    output = models.build(name, modality(kind, shape), classes=4).eval()(torch.randn(0, *shape))
    assert (output.logits.shape, output.embedding.shape[0]) == ((0, 4), 0)


def test_narrow_shortcuts_are_the_same_convolution() -> None:
    narrow, wide = (
        models.build(f"thin_resnet(width={width})", modality("image", (1, 9, 9)), classes=4) for width in (4, 8)
    )
    shortcuts = [layer for layer in narrow.modules() if isinstance(layer, torch.nn.Conv2d) and layer.stride == (2, 2)]
    own = [layer for layer in shortcuts if layer.kernel_size == (1, 1) and type(layer) is not torch.nn.Conv2d]
    assert len(own) == 1 and own[0].in_channels == 4
    assert all(type(layer) is torch.nn.Conv2d for layer in wide.modules() if isinstance(layer, torch.nn.Conv2d))
    x = torch.randn(3, 4, 9, 7)
    torch.testing.assert_close(own[0](x), torch.nn.functional.conv2d(x, own[0].weight, stride=2))


NARROW = """
import torch
from cmkd.models.encoders.thin_resnet import ThinResNet
for width in range(1, 8):
    network = ThinResNet((1, 8, 8), width=width)
    for _ in range(25):
        network(torch.randn(32, 1, 8, 8))[0].square().mean().backward()
"""


def test_narrow_networks_do_not_damage_memory() -> None:
    environment = os.environ | {"MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", NARROW], env=environment, check=False).returncode == 0


@pytest.mark.parametrize(("name", "kind", "shape"), [c for c in CASES if c[0] == "auto"])
def test_every_parameter_learns(name: str, kind: str, shape: tuple[int, ...]) -> None:
    model = models.build(name, modality(kind, shape), classes=4)
    for block in model.modules():  # the last norm of a residual block starts at zero, which blocks gradients
        if isinstance(block, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.ones_(block.weight)
    model(torch.randn(4, *shape)).logits.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
def test_preprocessing_standardizes_any_dtype(dtype: torch.dtype) -> None:
    prepare = models.Preprocess(modality("image", (2, 4, 4)))
    x = torch.full((1, 2, 4, 4), 3.0).to(dtype)
    torch.testing.assert_close(prepare(x), torch.full((1, 2, 4, 4), 1.25))


def test_points_are_a_set_and_padding_is_nothing() -> None:
    model = models.build("auto", modality("points", (6, 3)), classes=2).eval()
    points = torch.randn(1, 6, 3)
    points[:, 4:] = 0.0
    shuffled = points[:, [3, 5, 0, 2, 4, 1]]
    torch.testing.assert_close(model(points).logits, model(shuffled).logits)
    with torch.no_grad():
        model.encoder.first.bias += 1.0  # would change the output if padding were used
    alone = models.build("auto", modality("points", (4, 3)), classes=2).eval()
    alone.load_state_dict(model.state_dict())
    torch.testing.assert_close(alone(points[:, :4]).logits, model(points).logits)


def test_the_embedding_of_many_steps_says_in_which_part_of_the_series_something_happens() -> None:
    encoder = models.build("auto", modality("series", (96, 6)), classes=2).eval().encoder
    calm, late = torch.zeros(2, 1, 96, 6)
    late[:, 90:] = torch.randn(6, 6)
    with torch.no_grad():
        parts = (encoder(late)[0] - encoder(calm)[0]).view(5, 128).abs().amax(1)
    assert (parts[:3] == 0).all()
    assert parts[3] > 0


def test_a_series_has_no_more_parts_than_steps() -> None:
    model = models.build("series_net(parts=9)", modality("series", (3, 6)), classes=2).eval()
    assert model.spec.dim == 128 * (3 + 1)
    assert model(torch.randn(2, 3, 6)).logits.isfinite().all()


def test_an_image_is_resized_to_the_size_asked_for() -> None:
    model = models.build("thin_resnet", modality("image", (1, 40, 30)), classes=2, size=16)
    assert model.spec.map_shapes[0][1:] == (16, 16)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("thin_resnt", "image", "unknown model 'thin_resnt': did you mean 'thin_resnet'.* Known: "),
        ("mlp", "image", "reads vector"),
        ("resnet18", "vector", "not an encoder for vector"),
        ("thin_resnet(widht=3)", "image", "did you mean 'width'"),
        ("resnet18.a1_in2k", "image", "did you mean 'resnet18.a1_in1k'"),
        ("inception_v3", "image", "cannot be built for images of 32 pixels a side; try a larger size"),
    ],
)
def test_a_wrong_name_is_one_clear_line(name: str, kind: str, says: str) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        models.build(name, modality(kind, (1, 8, 8) if kind == "image" else (8,)), classes=2)
    assert "\n" not in str(caught.value)


def test_a_timm_model_may_name_its_weights() -> None:
    assert models.build("resnet18.a1_in1k", modality("image", (1, 8, 8)), classes=2).spec.dim == 512


def test_pretrained_weights_are_never_silently_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CmkdError, match="no pretrained weights"):
        models.build("auto", modality("image", (1, 8, 8)), classes=2, pretrained=True)
    with pytest.raises(CmkdError, match="let your own module load its weights itself"):
        models.build(torch.nn.Linear(4, 2), modality("vector", (4,)), classes=2, pretrained=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CmkdError, match="cannot load the pretrained weights"):
        models.build("resnet18", modality("image", (3, 64, 64)), classes=2, pretrained=True)
    with pytest.raises(CmkdError, match="unknown model 'resnet81'"):
        TimmEncoder("resnet81", 3, 64, pretrained=True)


@pytest.mark.parametrize("built_for", [32, 64])
def test_a_small_image_is_read_by_the_stem_that_was_trained(built_for: int, tmp_path: Path) -> None:
    radar = modality("image", (1, 32, 32))
    encoder = TimmEncoder("resnet18", 1, built_for)  # with 64, the original stem stays
    model, path = models.Model(radar, encoder=encoder, classes=2).eval(), tmp_path / "best.safetensors"
    save_model(path, model, name="resnet18", classes=("tug", "ferry"), extra={})
    loaded, _ = load_model(path)
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(loaded(x).logits, model(x).logits)
    assert loaded.encoder.backbone.conv1.kernel_size == ((7, 7) if built_for == 64 else (3, 3))


def test_images_of_one_channel_are_in_the_layout_of_the_weights_from_the_first_layer_on() -> None:
    model = models.build("auto", modality("image", (1, 8, 8)), classes=2)
    stem = model.encoder.stem
    seen: list[torch.Tensor] = []
    stem.register_forward_hook(lambda _, inputs, output: seen.append(output))
    model(torch.zeros(2, 1, 8, 8))
    assert seen[0].stride() == torch.empty(seen[0].shape, device="meta", memory_format=torch.channels_last).stride()
