"""The evaluation loop: run a model in eval mode over rows of a pack, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from cmkd.data.pack import Pack
from cmkd.models import Model
from cmkd.types import Output


def outputs(
    model: Model,
    pack: Pack,
    rows: np.ndarray,
    *,
    modalities: Sequence[str] = (),
    batch_size: int = 512,
    device: torch.device | str = "cpu",
) -> Iterator[Output]:
    """Yield the outputs of a model in eval mode, batch by batch, in the order of `rows`.

    The model is moved to `device` and left in eval mode there.

    Args:
        model: the model.
        pack: the pairs.
        rows: positions in the pack, ``(n,)`` int64.
        modalities: names of the input modalities, one of `Model.subsets`; by default the first.
        batch_size: pairs per batch.
        device: the device of the model and of the outputs.
    """
    model = model.to(device).eval()
    names = modalities or model.subsets[0]
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = pack.batch(rows[start : start + batch_size], names).to(device)
            yield model.classify(batch.inputs, batch.present)


def operations(model: Model, pack: Pack) -> int:
    """Return the number of multiply-adds of convolutions and matrix products in a forward pass on one pair.

    The model is left in eval mode.
    """
    from torch.utils.flop_counter import FlopCounterMode

    rows = pack.rows("train", modalities=(model.modality.name,))[:1]
    batch = pack.batch(rows, [modality.name for modality in model.modalities])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval().classify(batch.inputs)
    return int(counter.get_total_flops()) // 2


def latency(model: Model, pack: Pack, *, device: torch.device | str = "cpu") -> float:
    """Return the seconds that a model takes for one pair in memory: the median of 20 runs after 2 warm-up runs.

    The model is moved to `device` and left in eval mode there.
    """
    rows = pack.rows("train", modalities=(model.modality.name,))[:1]
    batch = pack.batch(rows, model.subsets[0]).to(device)
    model = model.to(device).eval()
    seconds = []
    with torch.inference_mode():
        for _ in range(22):
            start = time.perf_counter()
            model.classify(batch.inputs, batch.present).logits.cpu()  # waits for the device
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[2:]))


def predict(
    model: Model,
    pack: Pack,
    rows: np.ndarray,
    *,
    modalities: Sequence[str] = (),
    batch_size: int = 512,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Return the float32 logits ``(n, classes)`` of the pairs at `rows`; arguments as in `outputs`."""
    found = outputs(model, pack, rows, modalities=modalities, batch_size=batch_size, device=device)
    parts = [output.logits.float().cpu() for output in found]
    return torch.cat(parts).numpy() if parts else np.zeros((0, model.spec.classes), dtype=np.float32)
