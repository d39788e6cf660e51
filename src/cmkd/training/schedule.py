"""How long to train: warm-up, a constant rate until validation has leveled off, then a cooldown to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRESETS = {"quick": 3_000, "full": 16_000}
"""Preset -> largest number of steps."""
BATCHES = (128, 64, 32)
"""Batch sizes to choose from, the usual one first. Smaller batches give more steps per pass, which training on few
pairs lacks; the smallest is still large enough for the correlations and similarities that methods estimate."""
EPOCH_STEPS = 500
"""Largest number of steps in an epoch, so that validation is measured often enough, however large the data set is."""
TOLERANCE = 0.0035
"""Rise of the mean validation accuracy, from one third of a training to the next, above which it is still rising."""
FIRST_ASKED = 4000
"""Number of steps after which validation is first tested for a plateau, or a quarter of the limit if that is less; the
test is repeated at each doubling. If it were done after every epoch, noise alone would end some trainings early, and
the students of a comparison would differ in length by chance."""
COOLDOWN = 0.25
"""Number of steps of the cooldown, as a fraction of the steps before it."""


def still_rising(accuracies: Sequence[float], tolerance: float = TOLERANCE) -> bool:
    """Return whether validation is still rising: the mean of the last third exceeds that of the third before.

    The means are over many epochs, so that the noise of a single epoch decides nothing. If accuracy grows with the
    logarithm of the steps and `TOLERANCE` is not exceeded, four times the steps give less than 1 point more.

    Args:
        accuracies: validation accuracy after each epoch, at a constant learning rate.
        tolerance: difference of the means above which validation is still rising.

    Example:
        >>> still_rising([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), still_rising([0.1, 0.5, 0.6, 0.6, 0.6, 0.6])
        (True, False)
    """
    third = len(accuracies) // 3
    if third == 0:
        return True
    last, before = accuracies[-third:], accuracies[-2 * third : -third]
    return sum(last) / third - sum(before) / third > tolerance


@dataclass
class PlateauSchedule:
    """Factor of the learning rate at each step, and the step at which to stop.

    Args:
        limit: largest number of steps.
        warmup: steps of the warm-up.
        epoch: steps per epoch; a training ends at the end of an epoch.
        cooldown_start: first step of the cooldown; None until it is decided.
        leveled: whether validation had leveled off at the last epoch before the cooldown. If not, the step limit
            decided the cooldown.

    Example:
        >>> schedule = PlateauSchedule(2000, warmup=10, epoch=250)
        >>> schedule.observe(750, [0.3, 0.7, 0.7])
        >>> schedule.leveled, schedule.stop
        (True, 2000)
        >>> schedule.observe(1000, [0.3, 0.7, 0.7, 0.7])
        >>> schedule.leveled, schedule.stop, schedule.factor(5), schedule.factor(900), schedule.factor(1125)
        (True, 1250, 0.6, 1.0, 0.5)
    """

    limit: int
    warmup: int = 1
    epoch: int = 1
    cooldown_start: int | None = None
    leveled: bool = False

    @property
    def latest(self) -> int:
        """Latest step at which the cooldown starts."""
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
        """Record at the end of an epoch whether validation has leveled off, and start the cooldown if a test is due.

        Args:
            step: number of steps done.
            accuracies: validation accuracy after each epoch so far.
            early_stop: whether the cooldown may start before the latest step for it.
        """
        asked = max(min(FIRST_ASKED, self.limit // 4), self.warmup)
        if self.cooldown_start is not None or not asked <= step <= self.latest:
            return
        self.leveled = not still_rising(accuracies)
        while 2 * asked <= step:
            asked *= 2
        if self.leveled and early_stop and step - self.epoch < asked:
            self.cooldown_start = step


def training_length(
    pairs: int, preset: str = "quick", *, epochs: int | None = None, batch_size: int | None = None
) -> tuple[int, int]:
    """Return the largest number of epochs and the batch size of a training; values that are given are kept.

    An epoch is a pass over the pairs, or `EPOCH_STEPS` steps if a pass is longer. The batch size depends only on the
    number of pairs, not on the number of epochs or of devices. A shorter run is therefore the same training cut short,
    and several devices give the same result as one.

    Args:
        pairs: number of pairs that the students train on.
        preset: one of `PRESETS`.
        epochs: largest number of epochs, if chosen.
        batch_size: pairs per step, if chosen.

    Example:
        >>> training_length(50_000), training_length(2000), training_length(200)
        ((8, 128), (49, 32), (500, 32))
        >>> training_length(2000, "full"), training_length(2000, epochs=2), training_length(2000, batch_size=128)
        ((259, 32), (2, 32), (200, 128))
    """
    if batch_size is None:
        batch_size = next((size for size in BATCHES if pairs // size >= 50), BATCHES[-1])
    return epochs or math.ceil(PRESETS[preset] / epoch_steps(pairs, batch_size)), batch_size


def epoch_steps(pairs: int, batch_size: int) -> int:
    """Return the number of steps per epoch: a pass over the pairs, but at most `EPOCH_STEPS`."""
    return min(EPOCH_STEPS, max(1, pairs // batch_size))
