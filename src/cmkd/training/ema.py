"""A moving average of a model's weights: steadier than the last weights, and the model that is evaluated and saved."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

WARMUP = 3
"""Default warm-up of the average: our choice, like the decay (compared in ``benchmarks/suites/averaging.yaml``)."""


class ModelEma(nn.Module):
    """Exponential moving average of a model's weights and batch-norm statistics.

    At step ``t = 0, 1, ...`` the average becomes ``d * average + (1 - d) * weights`` with
    ``d = min(decay, (1 + t) / (warmup + t))``. Early in training, the average covers a fraction of the steps so far, so
    the initial weights are soon forgotten and short trainings are not held back. The update draws no random numbers and
    never waits for the GPU.

    Args:
        source: model to average; it is copied.
        decay: largest value of ``d``, from 0 to below 1.
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
        self._infinite = infinite(source)
        self.model = copy.deepcopy(source).requires_grad_(False)
        self._tensors: tuple[list[Tensor], ...] | None = None

    def update(self, source: nn.Module, step: int) -> None:
        """Average the weights after a step.

        Args:
            source: the model that took the step.
            step: number of the step, from 0.
        """
        if self._tensors is None:  # collected once, at the first step: models are on their device by then
            self._tensors = self._aligned(source)
        mine, theirs, counters, sources = self._tensors
        decay = min(self.decay, (1 + step) / (self.warmup + step))
        get_ema_multi_avg_fn(decay)(mine, theirs, step)
        for counter, value in zip(counters, sources, strict=True):
            counter.copy_(value)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": None}  # another process has other tensors

    def _aligned(self, source: nn.Module) -> tuple[list[Tensor], ...]:
        """Return the tensors of both models that are averaged, then those that are copied; tied ones count once.

        Whole numbers are copied, and so are tensors that began with infinite values, whose average would be NaN.
        """
        mine, theirs = (model.state_dict(keep_vars=True) for model in (self.model, source))
        once = {id(value): name for name, value in reversed(mine.items())}.values()
        averaged = [n for n in mine if n in set(once) and mine[n].is_floating_point() and n not in self._infinite]
        others = [n for n in mine if n in set(once) and n not in set(averaged)]
        return tuple([state[n].detach() for n in names] for names in (averaged, others) for state in (mine, theirs))


def infinite(model: nn.Module) -> set[str]:
    """Return the names of state tensors with values that are not finite, such as a transformer's mask."""
    return {name for name, value in model.state_dict().items() if not value.isfinite().all()}
