"""Augmentation is a function of seed, pair and view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cmkd.config import AugmentationConfig
from cmkd.models import Preprocess
from cmkd.training.augment import augment, drop_modalities, hashed_uniform, stronger
from cmkd.types import Batch, Modality

OPTICAL = Modality("optical", "image", (3, 16, 16), "float32", (0.0,) * 3, (1.0,) * 3)
RADAR = Modality("radar", "image", (1, 8, 8), "float32", (0.0,), (1.0,))
CLOUD = Modality("cloud", "points", (10, 3), "float32", (1.0,) * 3, (2.0,) * 3)
SERIES = Modality("steps", "series", (8, 2), "float32", (4.5,) * 2, (2.0,) * 2)
EVERYTHING = AugmentationConfig(flip=True, shift=0.2, rotate=20.0, scale=0.2, noise=0.1, drop=0.2)
NOTHING = AugmentationConfig(flip=False, shift=0.0, rotate=0.0, scale=0.0, noise=0.0, drop=0.0)


def batch(n: int = 6) -> Batch:
    torch.manual_seed(0)
    cloud = torch.randn(n, 10, 3) + 1
    cloud[:, 8:] = 0.0
    optical = torch.rand(n, 3, 16, 16)
    inputs = {"optical": optical, "radar": optical[:, :1, ::2, ::2].contiguous(), "cloud": cloud}
    return Batch(inputs, torch.zeros(n, dtype=torch.int64), torch.arange(n) * 7)


def changed(
    given: Batch, strengths: AugmentationConfig = EVERYTHING, *, seed: int = 0, view: int | torch.Tensor = 0
) -> Batch:
    modalities = {m.name: m for m in (OPTICAL, RADAR, CLOUD)}
    seen = replace(given, view=torch.as_tensor(view).expand(len(given)))
    return augment(seen, modalities, strengths, seed=seed, co_registered=[("optical", "radar")])


def test_numbers_are_uniform_and_independent() -> None:
    draw = hashed_uniform(torch.arange(4000), 50, seed=1, view=2).double()
    assert abs(float(draw.mean()) - 0.5) < 0.003
    assert abs(float(draw.var()) - 1 / 12) < 0.001
    off = torch.corrcoef(draw.T) - torch.eye(50)
    assert float(off.abs().max()) < 0.08  # 4.9 standard errors of 1/sqrt(4000)
    neighbors = torch.corrcoef(torch.stack([draw[:-1].flatten(), draw[1:].flatten()]))[0, 1]
    assert abs(float(neighbors)) < 0.01


@pytest.mark.parametrize("other", [{"seed": 1}, {"view": 1}, {"stream": 1}])
def test_each_argument_matters(other: dict[str, int]) -> None:
    index, base = torch.arange(500), {"seed": 0, "view": 0, "stream": 0}
    first, second = (hashed_uniform(index, 4, **options).flatten() for options in (base, base | other))
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.1


def test_a_sample_is_changed_alike_in_any_batch() -> None:
    whole = changed(batch())
    part = changed(batch().select(torch.tensor([4, 1])))
    for name, value in whole.inputs.items():
        torch.testing.assert_close(value[[4, 1]], part.inputs[name])


def test_seed_and_view_change_it() -> None:
    for other in (changed(batch(), seed=1), changed(batch(), view=1)):
        assert all(not torch.equal(v, other.inputs[n]) for n, v in changed(batch()).inputs.items())


def test_each_pair_of_a_batch_has_a_view_of_its_own() -> None:
    mixed = changed(batch(), view=torch.tensor([0, 1, 2, 0, 1, 2]))
    for view in range(3):
        for name, value in changed(batch(), view=view).inputs.items():
            torch.testing.assert_close(mixed.inputs[name][view::3], value[view::3], rtol=0, atol=0)


@pytest.mark.parametrize("co_registered", [(), [("optical", "radar")]])
def test_a_modality_is_changed_alike_whatever_else_is_read(co_registered: Sequence[Sequence[str]]) -> None:
    """With a cache, the student's batches lack the teacher's modality, and the cache is filled without the other."""
    given, modalities = batch(), {m.name: m for m in (OPTICAL, RADAR, CLOUD)}
    whole = augment(given, modalities, EVERYTHING, seed=0, co_registered=co_registered)
    for name in modalities:
        alone = replace(given, inputs={name: given.inputs[name]})
        found = augment(alone, modalities, EVERYTHING, seed=0, co_registered=co_registered)
        torch.testing.assert_close(found.inputs[name], whole.inputs[name], rtol=0, atol=0)


def test_nothing_changes_nothing() -> None:
    assert all(torch.equal(v, batch().inputs[n]) for n, v in changed(batch(), NOTHING).inputs.items())


def test_registered_modalities_share_their_geometry() -> None:
    shift = AugmentationConfig(flip=True, shift=0.25, rotate=0.0, scale=0.0, noise=0.0, drop=0.0)
    ramp = torch.linspace(0, 1, 16).expand(16, 16)
    wide = Batch(
        {
            "optical": ramp.expand(20, 3, 16, 16),
            "radar": torch.nn.functional.avg_pool2d(ramp[None, None], 2).expand(20, 1, 8, 8),
        },
        torch.zeros(20, dtype=torch.int64),
        torch.arange(20),
    )
    done = changed(wide, shift)
    small = torch.nn.functional.avg_pool2d(done.inputs["optical"][:, :1], 2)
    inner = (slice(None), slice(None), slice(3, 5), slice(3, 5))  # away from the repeated border
    torch.testing.assert_close(small[inner], done.inputs["radar"][inner])
    assert float(done.inputs["radar"][:, 0, 4, 4].std()) > 0.05  # the images were moved


def test_a_shift_moves_values_and_does_not_average_them() -> None:
    shift = AugmentationConfig(flip=False, shift=0.05, rotate=0.0, scale=0.0, noise=0.0, drop=0.0)
    speckle = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = Batch({"radar": speckle}, torch.zeros(40, dtype=torch.int64), torch.arange(40))
    done = changed(images, shift).inputs["radar"]
    moved = (done != speckle).flatten(1).any(1)
    assert 10 < int(moved.sum()) < 40  # 0.05 of 8 pixels is less than one pixel, the smallest shift
    assert bool(torch.isin(done, speckle).all())


SIDE = 65
PLACES = Modality("places", "image", (2, SIDE, SIDE), "float32", (0.0,) * 2, (1.0,) * 2)


def origins(**strengths: float) -> tuple[Tensor, Tensor]:
    """Return the source column and row of each pixel of 300 augmented images, and the pixel's own, from the center."""
    ticks = torch.arange(SIDE) - SIDE // 2.0
    own = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"))
    given = Batch({"places": own.expand(300, -1, -1, -1)}, torch.zeros(300, dtype=torch.int64), torch.arange(300))
    return augment(given, {"places": PLACES}, replace(NOTHING, **strengths), seed=0).inputs["places"], own  # type: ignore[arg-type]


def linear_maps(found: Tensor, own: Tensor) -> Tensor:
    """Return least-squares linear maps from pixels near the center, which no border cuts, to their sources."""
    inner = own.norm(dim=0) < 16
    x, y = own[:, inner].double(), found[:, :, inner].double()
    maps: Tensor = y @ x.T @ torch.linalg.inv(x @ x.T)
    return maps


def test_a_rotation_keeps_distances_and_reaches_the_largest_angle_both_ways() -> None:
    maps = linear_maps(*origins(rotate=30.0))
    torch.testing.assert_close(maps @ maps.mT, torch.eye(2, dtype=torch.double).expand_as(maps), atol=0.02, rtol=0)
    assert bool((torch.linalg.det(maps) > 0).all())
    angle = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert 27 < float(angle.max()) < 31 and -31 < float(angle.min()) < -27
    assert abs(float(angle.mean())) < 3  # three standard errors of 30 / sqrt(3 * 300)


def test_a_zoom_has_the_factors_asked_for() -> None:
    maps = linear_maps(*origins(scale=0.2))
    factor = maps[:, 0, 0]
    torch.testing.assert_close(maps, factor[:, None, None] * torch.eye(2, dtype=torch.double), atol=0.02, rtol=0)
    assert 1.17 < float(factor.max()) < 1.22 and 0.78 < float(factor.min()) < 0.83
    assert abs(float(factor.mean()) - 1) < 0.03


def test_half_of_the_images_are_mirrored_left_to_right() -> None:
    found, own = origins(flip=True)
    same, mirrored = ((found == other).flatten(1).all(1) for other in (own, torch.stack([-own[0], own[1]])))
    assert bool((same ^ mirrored).all()) and 0.4 < float(mirrored.double().mean()) < 0.6


def test_shifts_down_and_right_are_independent() -> None:
    found, _ = origins(shift=0.1)
    right, down = found[:, :, SIDE // 2, SIDE // 2].T
    assert abs(float(torch.corrcoef(torch.stack([right, down]))[0, 1])) < 0.2
    for shift in (right, down):
        assert float(shift.max()) in (6.0, 7.0) and float(shift.min()) in (-6.0, -7.0)  # 0.1 of 65 pixels


def test_vectors_are_scaled_about_their_mean() -> None:
    vector = Modality("v", "vector", (3,), "float32", (10.0, -4.0, 0.5), (1.0,) * 3)
    mean = torch.tensor(vector.mean)
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) + mean
    given = Batch({"v": values}, torch.zeros(500, dtype=torch.int64), torch.arange(500))
    factor = (augment(given, {"v": vector}, replace(NOTHING, scale=0.2), seed=0).inputs["v"] - mean) / (values - mean)
    one = factor.median(1, keepdim=True).values
    torch.testing.assert_close(factor, one.expand_as(factor), atol=1e-2, rtol=1e-2)
    assert 1.18 < float(one.max()) < 1.21 and 0.79 < float(one.min()) < 0.82


def test_padding_points_stay_padding_and_some_points_go() -> None:
    done = changed(batch()).inputs["cloud"]
    gone = (done == 0).all(-1)
    assert bool(gone[:, 8:].all())
    assert 0 < int(gone[:, :8].sum()) < 6 * 8


def test_noise_has_the_standard_deviation_asked_for() -> None:
    only = AugmentationConfig(flip=False, shift=0.0, rotate=0.0, scale=0.0, noise=0.1, drop=0.0)
    points = torch.ones(3000, 10, 3)
    given = Batch({"cloud": points}, torch.zeros(3000, dtype=torch.int64), torch.arange(3000))
    difference = augment(given, {"cloud": CLOUD}, only, seed=0).inputs["cloud"] - points
    assert abs(float(difference.std()) - 0.1 * 2.0) < 0.005
    assert abs(float(difference.mean())) < 0.005


@pytest.mark.parametrize("scaling", ["log", "rank"])
def test_changes_have_the_units_of_a_models_scaling(scaling: str) -> None:
    heavy = 10 ** np.random.default_rng(0).uniform(-2, 4, (3000, 2))  # noise in linear units would hide most values
    seen = Preprocess(SERIES, scaling=scaling, values=heavy)
    values = torch.tensor(heavy, dtype=torch.float32).view(-1, 1, 2).expand(-1, 8, 2)
    given = Batch({"steps": values}, torch.zeros(3000, dtype=torch.int64), torch.arange(3000))
    only = AugmentationConfig(flip=False, shift=0.0, rotate=0.0, scale=0.0, noise=0.1, drop=0.0)
    done = augment(given, {"steps": SERIES}, only, seed=0, scalings={"steps": seen}).inputs["steps"]
    inside = (seen(values).abs() < 1.2).all(-1).all(-1)  # ranks end at 0 and 1
    difference = (seen(done) - seen(values))[inside]
    assert abs(float(difference.std()) - 0.1) < 0.005 and abs(float(difference.mean())) < 0.005
    still = augment(given, {"steps": SERIES}, replace(only, noise=1e-9), seed=0, scalings={"steps": seen})
    torch.testing.assert_close(still.inputs["steps"], values, rtol=1e-3, atol=1e-3)


def test_a_dropped_time_step_repeats_the_one_before() -> None:
    only = AugmentationConfig(flip=False, shift=0.0, rotate=0.0, scale=0.0, noise=0.0, drop=0.5)
    series = torch.arange(1.0, 9.0).view(1, 8, 1).expand(50, 8, 2)
    given = Batch({"steps": series}, torch.zeros(50, dtype=torch.int64), torch.arange(50))
    done = augment(given, {"steps": SERIES}, only, seed=0).inputs["steps"][..., 0]
    jumps = torch.diff(done, dim=1)
    assert bool((done[:, 0] == 1.0).all()) and bool((jumps >= 0).all())  # never the mean, never back in time
    assert bool((jumps == 0).any()) and set(done.flatten().tolist()) <= set(range(1, 9))


NAMES = ("optical", "radar", "cloud")


def pairs(n: int, *, view: int = 0) -> Batch:
    """Return pairs of three modalities; every fourth pair lacks the first one, and every sixth the second."""
    index = torch.arange(n)
    present = {"optical": index % 4 != 0, "radar": index % 6 != 0, "cloud": torch.ones(n, dtype=torch.bool)}
    inputs = {name: torch.zeros(n, 1) for name in NAMES}
    return Batch(inputs, torch.zeros(n, dtype=torch.int64), index, present, torch.full((n,), view))


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_modalities_are_hidden_with_the_probability_given_but_never_all(probability: float) -> None:
    given = pairs(12000)
    kept = drop_modalities(given, NAMES, probability, seed=0)
    left = torch.stack([kept[name] for name in NAMES])
    assert bool(left.any(0).all())
    assert not any(bool((kept[name] & ~given.present[name]).any()) for name in NAMES)
    whole = left[:, torch.stack([given.present[name] for name in NAMES]).all(0)]
    # each is hidden with the given probability, minus a third of the probability that all three would be hidden
    expected = 1 - probability + probability**3 / 3
    for share in whole.double().mean(1):
        assert abs(float(share) - expected) < 0.02  # four standard errors of 0.5 / sqrt(7000)


def test_what_is_hidden_depends_on_seed_pair_and_view_alone() -> None:
    kept, part = (drop_modalities(b, NAMES, 0.5, seed=3) for b in (pairs(60), pairs(60).select(torch.tensor([41, 7]))))
    others = [drop_modalities(pairs(60), NAMES, 0.5, seed=4), drop_modalities(pairs(60, view=1), NAMES, 0.5, seed=3)]
    for name in NAMES:
        assert kept[name][[41, 7]].tolist() == part[name].tolist()
        assert all(kept[name].tolist() != other[name].tolist() for other in others)


def test_cutout_sets_a_square_of_each_image_to_its_mean() -> None:
    radar = replace(RADAR, dtype="uint8", mean=(6.6,))
    given = Batch({"radar": torch.full((400, 1, 8, 8), 200, dtype=torch.uint8)}, torch.zeros(400), torch.arange(400))
    cut = augment(given, {"radar": radar}, NOTHING, seed=0, cutout=True).inputs["radar"]
    assert cut.dtype == torch.uint8 and set(cut.unique().tolist()) == {7, 200}
    gone = (cut == 7)[:, 0]
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    assert bool((gone.sum((1, 2)) == heights * widths).all())  # one rectangle, a square unless the border cuts it
    assert int(heights.max()) == 4 and len(gone.unique(dim=0)) > 50


def test_a_strong_view_is_never_weaker_than_asked_for() -> None:
    assert stronger(EVERYTHING) == replace(EVERYTHING, shift=0.3, rotate=30.0, scale=0.3, noise=0.2, drop=0.3)
    assert stronger(replace(EVERYTHING, rotate=90.0)).rotate == 90.0
