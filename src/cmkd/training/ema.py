"""A moving average of a model's weights: steadier than the last step's, and what is evaluated and saved."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

WARMUP = 3
"""Our choice, as is the decay, which ``benchmarks/suites/averaging.yaml`` compares with others."""


class ModelEma(nn.Module):
    """Exponential moving average of a model's weights and batch-norm statistics.

    At step ``t = 0, 1, ...`` the average becomes ``d * average + (1 - d) * weights`` with
    ``d = min(decay, (1 + t) / (warmup + t))``. Early on it covers a fraction of the steps so far, so the initial
    weights are soon forgotten and short trainings are not held back. It draws no random numbers and never waits for
    the GPU.

    Args:
        source: the model to average; it is copied.
        decay: the largest ``d``, from 0 to below 1.
        warmup: how slowly ``d`` rises; with 3, ``2 / ((t + 2)(t + 3))`` of the initial weights remain after step ``t``.

    Example:
        >>> import torch
        >>> source = nn.Linear(1, 1)
        >>> average = ModelEma(source, 0.99)
        >>> with torch.no_grad():
        ...     _ = source.weight.copy_(average.model.weight + 1.0)
        >>> average.update(source, step=1)  # d = 2 / 4
        >>> round((source.weight - average.model.weight).item(), 4)
        0.5
    """

    def __init__(self, source: nn.Module, decay: float, *, warmup: int = WARMUP) -> None:
        super().__init__()
        self.decay, self.warmup = decay, warmup
        self.model = copy.deepcopy(source).requires_grad_(False)
        self._tensors: tuple[list[Tensor], ...] | None = None

    def update(self, source: nn.Module, step: int) -> None:
        """Average the weights after a step.

        Args:
            source: the model that took the step.
            step: its number, from 0.
        """
        if self._tensors is None:  # collected once, at the first step: models are on their device by then
            self._tensors = _aligned(self.model, source)
        mine, theirs, counters, sources = self._tensors
        decay = min(self.decay, (1 + step) / (self.warmup + step))
        get_ema_multi_avg_fn(decay)(mine, theirs, step)
        for counter, value in zip(counters, sources, strict=True):
            counter.copy_(value)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": None}  # those of another process are others


def _aligned(average: nn.Module, source: nn.Module) -> tuple[list[Tensor], ...]:
    """Return the tensors of both models that are averaged, then those that are copied; tied ones count once.

    Copied are whole numbers, and buffers with infinite values, such as the mask of a transformer, whose average is NaN.
    """
    weights = {name for name, _ in average.named_parameters()}
    mine, theirs = (dict((*model.named_parameters(), *model.named_buffers())) for model in (average, source))
    floating = {name for name, value in mine.items() if value.is_floating_point()}
    averaged = [name for name in mine if name in floating and (name in weights or bool(mine[name].isfinite().all()))]
    others = [name for name in mine if name not in set(averaged)]
    return tuple([state[name] for name in names] for names in (averaged, others) for state in (mine, theirs))
