"""A model of several modalities accepts any subset, and classifies each pair by the modalities that it has."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from cmkd import CmkdError, load_model, models
from cmkd.distributed import synchronize_batch_norm
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
    assert all(g is not None for g in gradients.values())  # DDP refuses steps with missing gradients
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


def trained(**options: dict[str, Tensor]) -> tuple[FusedModel, dict[str, Tensor]]:
    """Return a model in train mode after one forward pass, and the buffers of its optical encoder."""
    model = fused().train()
    if dist.is_initialized():
        synchronize_batch_norm(model)
    model.classify(**options)
    return model, {name: value.clone() for name, value in model.others[0].named_buffers()}


def pairs(recorded: int, filler: float = 0.0) -> dict[str, dict[str, Tensor]]:
    """Return eight pairs, of which the first `recorded` have an optical image."""
    torch.manual_seed(2)
    inputs = {m.name: torch.randn(8, *m.shape) for m in (RADAR, OPTICAL)}
    optical = torch.arange(8) < recorded
    inputs["optical"][~optical] = filler
    return {"inputs": inputs, "present": {"radar": torch.ones(8, dtype=torch.bool), "optical": optical}}


def test_what_stands_in_for_a_missing_modality_has_no_part_in_batch_statistics() -> None:
    given, other = pairs(5), pairs(5, filler=9.0)
    model, found = trained(**given)
    torch.testing.assert_close(trained(**other)[1], found, rtol=0.0, atol=0.0)
    outputs = [model.classify(**each).logits for each in (given, other)]
    torch.testing.assert_close(*outputs, rtol=0.0, atol=0.0)
    outputs[0].sum().backward()
    assert all(p.grad is not None for p in model.others[0].parameters())
    alone = fused().train()
    alone.others[0](given["inputs"]["optical"][:5])
    torch.testing.assert_close(dict(alone.others[0].named_buffers()), found, rtol=0.0, atol=0.0)
    whole = pairs(8)
    torch.testing.assert_close(trained(**whole)[1], trained(inputs=whole["inputs"])[1], rtol=0.0, atol=0.0)


def test_what_a_training_hides_takes_part_in_batch_statistics() -> None:
    whole = pairs(8)
    hidden = {**whole["present"], "optical": torch.arange(8) < 3}
    _, found = trained(inputs=whole["inputs"], present=hidden, recorded=whole["present"])
    torch.testing.assert_close(found, trained(**whole)[1], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("recorded", [0, 1])
def test_too_few_recordings_leave_the_batch_statistics_as_they_are(recorded: int) -> None:
    model, found = trained(**pairs(recorded))
    torch.testing.assert_close(found, dict(fused().others[0].named_buffers()), rtol=0.0, atol=0.0)
    assert all(module.training for module in model.others[0].modules())


def share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = []
    for recorded in (6, 5):  # two and one of the second process's four pairs
        halves = {part: {n: v.split(4)[rank] for n, v in held.items()} for part, held in pairs(recorded).items()}
        found.append(trained(**halves)[1])
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_share_batch_statistics_of_recordings(tmp_path: Path) -> None:
    mp.spawn(share, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        some, few = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(some, trained(**pairs(6))[1])
        torch.testing.assert_close(few, dict(fused().others[0].named_buffers()))
