"""How long to train: warm-up, a constant rate until validation has leveled off, then a cooldown to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRESETS = {"quick": 3_000, "full": 16_000}
"""Preset -> the largest number of steps."""
BATCHES = (128, 64, 32)
"""Batch sizes to choose from, the usual first. Small ones make more steps of the same passes, which is what training on
few pairs lacks; the smallest still leaves the correlations and similarities that methods estimate from a batch."""
EPOCH_STEPS = 500
"""Largest number of steps in an epoch: validation is then measured often enough, however large the data set."""
TOLERANCE = 0.0035
"""Rise of the validation accuracy, between a third of a training and the next, that counts as still rising."""
FIRST_ASKED = 4000
"""Steps after which validation is asked whether it rises, or a quarter of the limit where that is less; then again at
each doubling. Were it asked after every epoch, noise alone would end some trainings early, and the students of a
comparison would differ in length by chance."""
COOLDOWN = 0.25
"""Steps of the cooldown, as a fraction of the steps before it."""


def still_rising(accuracies: Sequence[float], tolerance: float = TOLERANCE) -> bool:
    """Return whether validation is still rising: the mean of the last third exceeds that of the third before.

    The means are over many epochs, so that the noise of a single one decides nothing. Where accuracy grows with the
    logarithm of the steps and `TOLERANCE` is not exceeded, four times the steps give less than 1 point more.

    Args:
        accuracies: validation accuracy after each epoch, at a constant learning rate.
        tolerance: the difference that counts.

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
    """The factor of the learning rate at each step, and when to stop.

    Args:
        limit: largest number of steps.
        warmup: steps of the warm-up.
        epoch: steps of an epoch; a training ends with one.
        cooldown_start: first step of the cooldown, once it is decided.
        leveled: whether validation has leveled off, as of the last epoch before the cooldown. If not, the limit decided
            the cooldown.

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
        """Note, at the end of an epoch, whether validation has leveled off, and start the cooldown if it is asked then.

        Args:
            step: steps that are done.
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
    """Return the largest number of epochs and the batch size of a training; what is given is kept.

    An epoch is a pass over the pairs, or `EPOCH_STEPS` steps where a pass is longer. The batch is a function of the
    number of pairs alone: not of the epochs asked for, nor of the number of devices, so that a shorter run is the same
    training cut short, and more devices give what one gives.

    Args:
        pairs: that the students train on.
        preset: one of `PRESETS`.
        epochs: largest number of epochs, if chosen.
        batch_size: pairs a step, if chosen.

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
    """Return the steps of an epoch: those of a pass over the pairs, and at most `EPOCH_STEPS`."""
    return min(EPOCH_STEPS, max(1, pairs // batch_size))
