"""Augmentation of a batch on its device, as a function of (seed, index, view) alone.

Every random number is a hash of the seed, the pair's index, the view and a counter. A run can therefore be repeated, or
resumed within an epoch on any number of processes, and a teacher's outputs can be cached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cmkd.config import AugmentationConfig
from cmkd.models import Preprocess
from cmkd.types import Batch, Modality

DROPOUT_STREAM = 5000
"""Stream of the random numbers of `drop_modalities`; the streams of inputs have smaller numbers."""
CUTOUT_STREAM = 6000
"""First stream of the squares that are cut out."""
STRONG = {"shift": 0.3, "rotate": 30.0, "scale": 0.3, "noise": 0.2, "drop": 0.3}
"""Smallest strengths of a strong view (our choice): the operations of RandAugment that they can imitate, strongly."""


def hashed_uniform(index: Tensor, count: int, *, seed: int, view: Tensor | int, stream: int = 0) -> Tensor:
    """Return uniform numbers in [0, 1) that depend on the arguments alone.

    Args:
        index: ``(batch,)`` int64, index of each pair.
        count: numbers per index.
        seed: random seed of the run.
        view: number of the view, an integer or ``(batch,)`` int64.
        stream: numbers of different streams are independent.

    Returns:
        ``(batch, count)`` float32: the upper 24 bits of a splitmix64 hash (Steele et al. 2014).

    Example:
        >>> a = hashed_uniform(torch.tensor([3, 4]), 2, seed=0, view=1)
        >>> b = hashed_uniform(torch.tensor([4]), 2, seed=0, view=1)
        >>> bool((a[1] == b[0]).all())
        True
    """
    views = torch.as_tensor(view, dtype=torch.int64, device=index.device).expand(len(index))
    # products wrap around modulo 2^64, which is all that a hash needs
    key = _mix(((_signed(seed * 1_000_003) + views) * 1_000_003 + stream) * 1_000_003)[:, None]
    counter = torch.arange(count, device=index.device, dtype=torch.int64) * _signed(0xD1B54A32D192ED03)
    x = _mix((index[:, None] * _signed(0x9E3779B97F4A7C15) + counter) ^ key)
    return _shift(x, 40).float() / 2**24


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift; torch's is arithmetic


def _mix(x: Tensor) -> Tensor:
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def augment(
    batch: Batch,
    modalities: Mapping[str, Modality],
    strengths: AugmentationConfig,
    *,
    seed: int,
    co_registered: Sequence[Sequence[str]] = (),
    cutout: bool = False,
    scalings: Mapping[str, Preprocess] = MappingProxyType({}),
) -> Batch:
    """Return the batch with randomly changed inputs; images keep their dtype, except uint16.

    Images of uint16 and all other inputs that are changed become float32.

    Args:
        batch: stored values of any dtype; `Batch.view` selects the view of each pair.
        modalities: descriptions of all modalities of the data; an image is shifted by whole pixels of the coarsest
            image that is co-registered with it.
        strengths: resolved strengths; if all are zero or false, the values stay as they are.
        seed: random seed of the views.
        co_registered: groups of modalities that share a pixel grid and therefore get the same geometry.
        cutout: set a square of each image to the channels' means (DeVries and Taylor 2017, arXiv 1708.04552). Its
            center is anywhere, and its side is up to half of the image's side.
        scalings: preprocessing of the models that read the inputs. Vectors, series and points are changed in its scaled
            units, so that a few large values of a heavy tail do not determine the size of all other changes.
    """
    stream = {name: 1 + min(i for i, g in enumerate(co_registered) if name in g) for g in co_registered for name in g}
    images = {name: modality.shape[1:] for name, modality in modalities.items() if modality.kind == "image"}
    # numbered among all modalities: a batch with cached outputs lacks the teacher's but must be changed the same way
    apart, inputs = {name: 1000 + place for place, name in enumerate(sorted(modalities))}, {}
    for name, value in batch.inputs.items():
        modality, own = modalities[name], stream.get(name, apart[name])
        if modality.kind == "image":
            sizes = [size for other, size in images.items() if other == name or stream.get(other, 0) == own]
            coarsest = min(sizes, key=math.prod)
            inputs[name] = _image(value, batch.index, strengths, coarsest, seed=seed, view=batch.view, stream=own)
            if cutout:
                draw = hashed_uniform(batch.index, 3, seed=seed, view=batch.view, stream=CUTOUT_STREAM + apart[name])
                inputs[name] = _cut_out(inputs[name], modality, draw)
        else:
            scaling = scalings.get(name) or Preprocess(modality).to(value.device)
            inputs[name] = _values(value, scaling, batch.index, strengths, seed=seed, view=batch.view, stream=own)
    return replace(batch, inputs=inputs)


def stronger(strengths: AugmentationConfig) -> AugmentationConfig:
    """Return the strengths of a strong view (`cmkd.methods.fixmatch`): those of `STRONG`, or the given ones if larger.

    Example:
        >>> stronger(AugmentationConfig(flip=True, rotate=90.0))
        AugmentationConfig(flip=True, shift=0.3, rotate=90.0, scale=0.3, noise=0.2, drop=0.3)
    """
    larger: dict[str, Any] = {name: max(least, getattr(strengths, name) or 0.0) for name, least in STRONG.items()}
    return replace(strengths, **larger)


def _cut_out(value: Tensor, modality: Modality, draw: Tensor) -> Tensor:
    size, down, right = draw.T[..., None, None]
    height, width = ((torch.arange(side, device=value.device) + 0.5) / side for side in value.shape[2:])
    cut = ((height[:, None] - down).abs() < size / 4) & ((width - right).abs() < size / 4)
    mean = torch.tensor(modality.mean or (0.0,) * modality.channels, device=value.device)
    mean = mean if value.is_floating_point() else mean.round()
    return torch.where(cut[:, None], mean.to(value.dtype).view(-1, 1, 1), value)


def drop_modalities(batch: Batch, names: Sequence[str], probability: float, *, seed: int) -> dict[str, Tensor]:
    """Return `Batch.present` with modalities hidden at random (ModDrop, Neverova et al. 2016).

    Each modality that a pair has is hidden with this probability, but never all: the one with the largest draw stays.

    Args:
        batch: pairs to change; `Batch.view` selects the draw of each pair.
        names: modalities that may be hidden.
        probability: probability of hiding, 0 to 1; with 1, each pair keeps exactly one of them.
        seed: random seed of the run.

    Example:
        >>> pairs = Batch({"optical": torch.zeros(3, 1), "radar": torch.zeros(3, 1)}, torch.zeros(3), torch.arange(3))
        >>> kept = drop_modalities(pairs, ["optical", "radar"], 1.0, seed=0)
        >>> (kept["optical"] ^ kept["radar"]).tolist()
        [True, True, True]
    """
    present = torch.stack([batch.present[name] for name in names], 1)
    draw = hashed_uniform(batch.index, len(names), seed=seed, view=batch.view, stream=DROPOUT_STREAM)
    draw = draw.masked_fill(~present, -1.0)
    kept = present & ((draw >= probability) | (draw == draw.amax(1, keepdim=True)))
    return {**batch.present, **dict(zip(names, kept.T, strict=True))}


def _image(
    value: Tensor,
    index: Tensor,
    strengths: AugmentationConfig,
    coarsest: Sequence[int],
    *,
    seed: int,
    view: Tensor,
    stream: int,
) -> Tensor:
    if not (strengths.flip or strengths.shift or strengths.rotate or strengths.scale):
        return value
    draw = hashed_uniform(index, 5, seed=seed, view=view, stream=stream)
    turn, zoom, right, down, mirror = (2.0 * draw - 1.0).T[..., None, None]
    height, width = value.shape[2:]
    # the source of each pixel: rows and columns from the center, which broadcast to (batch, height, width)
    y = torch.arange(height, device=value.device).view(1, -1, 1) - (height - 1) / 2
    x = torch.arange(width, device=value.device).view(1, 1, -1) - (width - 1) / 2
    if strengths.flip:
        x = torch.where(mirror < 0.0, -x, x)
    rows, columns = y, x
    if strengths.rotate:
        angle = turn * (torch.pi * strengths.rotate / 180.0)
        rows, columns = angle.sin() * x + angle.cos() * y, angle.cos() * x - angle.sin() * y
    size = 1.0 + zoom * strengths.scale
    rows, columns = size * rows, size * columns
    if strengths.shift:
        # whole pixels: interpolation would average noise (speckle) away, but images in use contain it
        moved = [
            (way * max(strengths.shift * side, 1.0)).round() for way, side in zip((down, right), coarsest, strict=True)
        ]
        rows, columns = rows + moved[0] * (height / coarsest[0]), columns + moved[1] * (width / coarsest[1])
    # the border is repeated: a black edge would show the network which samples were shifted
    rows, columns = (
        (place + (side - 1) / 2).round().clamp(0, side - 1).long() for place, side in ((rows, height), (columns, width))
    )
    place = (rows * width + columns).view(len(index), 1, -1).expand(-1, value.shape[1], -1)
    source = value.float() if value.dtype == torch.uint16 else value  # torch cannot gather uint16
    return source.flatten(2).gather(2, place).view(value.shape)


def _values(
    value: Tensor,
    scaling: Preprocess,
    index: Tensor,
    strengths: AugmentationConfig,
    *,
    seed: int,
    view: Tensor,
    stream: int,
) -> Tensor:
    if not (strengths.scale or strengths.noise or strengths.drop):
        return value
    mean, std, curve = scaling.mean, scaling.std, scaling.curve
    values = value.float()
    padding = (values == 0).all(-1, keepdim=True) if scaling.padded else None
    if curve is not None:
        values = curve(values, -1)
    each = [len(index)] + [1] * (values.dim() - 1)
    factor = 1.0 + strengths.scale * (2.0 * hashed_uniform(index, 1, seed=seed, view=view, stream=stream) - 1.0)
    changed = (values - mean) * factor.view(each) + mean
    if strengths.noise:
        count = values[0].numel()
        half = -(-count // 2)
        uniform = hashed_uniform(index, 2 * half, seed=seed, view=view, stream=stream + 2000)
        radius = (-2.0 * (1.0 - uniform[:, :half]).log()).sqrt()  # Box and Muller 1958
        angle = 2.0 * torch.pi * uniform[:, half:]
        normal = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]
        changed = changed + strengths.noise * std * normal.view(values.shape)
    if curve is not None:
        changed = curve.inverse(changed)
    if padding is not None:
        changed = changed.masked_fill(padding, 0.0)
    if strengths.drop and values.dim() > 2:
        rows = values.shape[1:-1]
        draw = hashed_uniform(index, int(torch.Size(rows).numel()), seed=seed, view=view, stream=stream + 3000)
        dropped = (draw < strengths.drop).view(len(index), *rows, 1)
        changed = changed.masked_fill(dropped, 0.0) if padding is not None else _hold(changed, dropped)
    return changed


def _hold(values: Tensor, dropped: Tensor) -> Tensor:
    """Return series in which a dropped step repeats the previous one; a jump to the mean would look like motion.

    Args:
        values: ``(batch, time, features)``.
        dropped: ``(batch, time, 1)`` bool; the first step is always kept.
    """
    steps = torch.arange(values.shape[1], device=values.device).view(1, -1, 1)
    kept = steps.masked_fill(dropped, 0).cummax(1).values
    return values.gather(1, kept.expand_as(values))
