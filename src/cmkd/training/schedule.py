"""How long to train: warm-up, a constant rate until validation has leveled off, then a cooldown to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.005
"""Rise of the validation accuracy, between a third of a training and the next, that counts as still rising."""
LEAST = 1500
"""Steps that are trained in any case before validation is asked, or a quarter of the limit where that is less."""
COOLDOWN = 0.25
"""Steps of the cooldown, as a fraction of the steps before it."""


def still_rising(accuracies: Sequence[float]) -> bool:
    """Return whether validation is still rising: the mean of the last third exceeds that of the third before.

    The means are over many epochs, so that the noise of a single one decides nothing. `TOLERANCE` is the difference
    that counts; where accuracy approaches its limit as one over the square root of the steps, a training that passes
    is within 1 point of what four times the steps give.

    Args:
        accuracies: validation accuracy after each epoch, at a constant learning rate.

    Example:
        >>> still_rising([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), still_rising([0.1, 0.5, 0.6, 0.6, 0.6, 0.6])
        (True, False)
    """
    third = len(accuracies) // 3
    if third == 0:
        return True
    last, before = accuracies[-third:], accuracies[-2 * third : -third]
    return sum(last) / third - sum(before) / third > TOLERANCE


@dataclass
class PlateauSchedule:
    """The factor of the learning rate at each step, and when to stop.

    Args:
        limit: largest number of steps.
        warmup: steps of the warm-up.
        epoch: steps of an epoch; a training ends with one.
        cooldown_start: first step of the cooldown, once it is decided.
        leveled: whether validation had leveled off when the cooldown was decided. Otherwise the limit decided it.

    Example:
        >>> schedule = PlateauSchedule(1000, warmup=10)
        >>> schedule.observe(400, [0.2, 0.6, 0.7, 0.7, 0.7, 0.7])
        >>> schedule.leveled, schedule.stop, schedule.factor(5), schedule.factor(300), schedule.factor(450)
        (True, 500, 0.6, 1.0, 0.5)
    """

    limit: int
    warmup: int = 1
    epoch: int = 1
    cooldown_start: int | None = None
    leveled: bool = False

    @property
    def latest(self) -> int:
        """The step at which the cooldown starts at the latest."""
        return math.floor(self.limit / (1 + COOLDOWN))

    @property
    def stop(self) -> int:
        """Number of steps of the whole training, as far as it is decided."""
        if self.cooldown_start is None:
            return self.limit
        return min(self.limit, self.epoch * math.ceil((1 + COOLDOWN) * self.cooldown_start / self.epoch))

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate of a step, from 0."""
        start = self.latest if self.cooldown_start is None else self.cooldown_start
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        falling = (self.stop - step) / max(1, self.stop - start)
        return rising * max(0.0, min(1.0, falling))

    def observe(self, step: int, accuracies: Sequence[float], *, early_stop: bool = True) -> None:
        """Note, at the end of an epoch, whether validation has leveled off, and if so start the cooldown.

        Args:
            step: steps that are done.
            accuracies: validation accuracy after each epoch so far.
            early_stop: whether the cooldown may start before the latest step for it.
        """
        if self.cooldown_start is not None or step > self.latest:
            return
        if step >= max(min(LEAST, self.limit // 4), self.warmup) and not still_rising(accuracies):
            self.leveled = True
            if early_stop:
                self.cooldown_start = step
