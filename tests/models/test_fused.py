"""A model of several modalities: any subset of them, each pair by those that it has."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch

from cmkd import CmkdError, load_model, models
from cmkd.models import FusedModel, Model
from cmkd.models.checkpoint import save_model
from cmkd.types import Modality

RADAR = Modality("radar", "image", (1, 8, 8), "float32", (1.0,), (2.0,))
OPTICAL = Modality("optical", "image", (3, 12, 12), "float32", (0.0,) * 3, (1.0,) * 3)
TRACK = Modality("track", "series", (6, 2), "float32", (0.0,) * 2, (1.0,) * 2)


def fused() -> FusedModel:
    torch.manual_seed(0)
    first = models.build("auto", RADAR, classes=3)
    others = [models.build("auto", other, classes=first.spec.dim) for other in (OPTICAL, TRACK)]
    return FusedModel(first, others).eval()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {m.name: torch.randn(5, *m.shape) for m in (RADAR, OPTICAL, TRACK)}


def test_a_missing_modality_has_no_part_whether_left_out_or_marked(inputs: dict[str, torch.Tensor]) -> None:
    model = fused()
    assert [set(names) for names in model.subsets] == [
        set(names) for size in (1, 2, 3) for names in combinations(("radar", "optical", "track"), size)
    ]
    seen = []
    for names in model.subsets:
        left_out = model.classify({name: inputs[name] for name in names})
        present = {name: torch.full((5,), name in names) for name in inputs}
        marked = model.classify({n: v if n in names else v * 9 for n, v in inputs.items()}, present)
        torch.testing.assert_close(marked.logits, left_out.logits)
        torch.testing.assert_close(model.classifier(left_out.embedding), left_out.logits)
        assert left_out.logits.shape == (5, 3) and bool(left_out.feature_maps) == ("radar" in names)
        seen.append(left_out.logits)
    assert all(not torch.allclose(a, b) for a, b in combinations(seen, 2))


def test_each_pair_is_classified_by_what_it_has(inputs: dict[str, torch.Tensor]) -> None:
    model, has = fused(), {"radar": [1, 0, 1, 0, 0], "optical": [1, 1, 0, 0, 0], "track": [0, 1, 1, 1, 0]}
    mixed = model.classify(inputs, {name: torch.tensor(v, dtype=torch.bool) for name, v in has.items()})
    for row in range(4):
        alone = model.classify({name: inputs[name][row : row + 1] for name in inputs if has[name][row]})
        torch.testing.assert_close(mixed.logits[row : row + 1], alone.logits)
    torch.testing.assert_close(mixed.logits[4], model.classifier.bias)


def test_with_the_first_modality_alone_it_is_an_ordinary_model(inputs: dict[str, torch.Tensor]) -> None:
    model = fused()
    torch.manual_seed(0)
    ordinary = models.build("auto", RADAR, classes=3).eval()
    expected, output = ordinary(inputs["radar"]), model(inputs["radar"])
    assert model.spec == ordinary.spec == output.spec()
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(model.classify({"radar": inputs["radar"]}).logits, expected.logits, rtol=0, atol=0)


def test_a_hidden_modality_gets_no_gradient_and_all_others_do(inputs: dict[str, torch.Tensor]) -> None:
    model = fused().train()
    present = {name: torch.full((5,), name != "optical") for name in inputs}
    model.classify(inputs, present).logits.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None for g in gradients.values())  # or DDP would refuse the step
    assert not any(g.any() for name, g in gradients.items() if name.startswith("others.0"))
    assert gradients["others.1.classifier.weight"].any() and gradients["encoder.stem.0.weight"].any()


def test_it_is_saved_and_loaded_whole(tmp_path: Path, inputs: dict[str, torch.Tensor]) -> None:
    model, path = fused(), tmp_path / "model.safetensors"
    save_model(path, model, name="auto", classes=("a", "b", "c"), extra={})
    loaded, about = load_model(path)
    assert about["modality"]["name"] == "radar" and [o["modality"]["name"] for o in about["others"]] == [
        "optical",
        "track",
    ]
    assert loaded.modalities == model.modalities and loaded.spec.class_names == ("a", "b", "c")
    for names in model.subsets:
        part = {name: inputs[name] for name in names}
        torch.testing.assert_close(loaded.classify(part).logits, model.classify(part).logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ([(OPTICAL, 64), (OPTICAL, 64)], "one model per modality"),
        ([(RADAR, 64)], "one model per modality"),
        ([(OPTICAL, 3)], "gives 3 values, but the embedding of 'radar' has 64; build it with classes=64"),
    ],
)
def test_parts_that_do_not_fit_are_refused(others: list[tuple[Modality, int]], says: str) -> None:
    made: list[Model] = [models.build("auto", modality, classes=width) for modality, width in others]
    with pytest.raises(CmkdError, match=says):
        FusedModel(models.build("auto", RADAR, classes=3), made)


def test_a_modality_may_have_the_name_of_an_attribute_of_torch(tmp_path: Path) -> None:
    depth = Modality("values", "vector", (4,), "float32", (0.0,) * 4, (1.0,) * 4)
    model = FusedModel(models.build("auto", RADAR, classes=3), [models.build("auto", depth, classes=64)]).eval()
    save_model(tmp_path / "model.safetensors", model, name="auto", classes=("a", "b", "c"), extra={})
    loaded, _ = load_model(tmp_path / "model.safetensors")
    part = {"values": torch.randn(2, 4)}
    torch.testing.assert_close(loaded.classify(part).logits, model.classify(part).logits, rtol=0, atol=0)


def test_inputs_of_other_modalities_alone_are_refused() -> None:
    with pytest.raises(CmkdError, match="one or more of radar, optical, track, got sonar"):
        fused().classify({"sonar": torch.zeros(2, 3)})
