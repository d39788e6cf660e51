"""Random draws of a method that are the same in a resumed run and in every process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cmkd.distributed import gather
from cmkd.methods.base import Method
from cmkd.types import Batch, Spec


class SteppedMethod(Method):
    """A method whose random draws are determined by a seed and the number of the training step.

    Subclasses draw from `generator`, or by `step_seed`, and call `count_step` at the end of a training step. The seed
    is drawn like the initial weights, so it differs between students; all processes share the seed of the first one.

    Attributes:
        step: number of the step, from 0: the value of the buffer ``steps``, which is saved and restored with the
            method. It is kept as an integer too, because reading a buffer waits for the GPU.
    """

    steps: Tensor
    seed: Tensor

    def __init__(self, student: Spec, teacher: Spec) -> None:
        super().__init__(student, teacher)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.step = 0
        self.register_buffer("seed", torch.randint(2**62, ()))
        self._seed: int | None = None

    @property
    def step_seed(self) -> int:
        """Seed of this step's draws."""
        if self._seed is None:  # at the first step: by then all processes have the buffers of the first one
            self._seed = int(self.seed)
        return self._seed + self.step

    def generator(self) -> torch.Generator:
        """Return the random generator of this step, on the CPU: the same draws on every device and in every process."""
        return torch.Generator().manual_seed(self.step_seed)

    def order(self, batch: Batch) -> Tensor:
        """Return the order of all processes' samples by pair and view, as positions in the output of `gather`.

        Draws for samples in this order do not depend on how the batch is split between processes. Samples of the same
        pair and view keep their order, and so do all samples if a training loop does not number the pairs.

        Args:
            batch: this process's part of the batch.

        Returns:
            ``(samples of all processes,)`` int64.
        """
        index, by_view = gather(batch.index), gather(batch.view).argsort(stable=True)
        return by_view[index[by_view].argsort(stable=True)]

    def count_step(self) -> None:
        """Advance to the next step."""
        self.step += 1
        self.steps.fill_(self.step)

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401  # torch's signature
        super()._load_from_state_dict(*args)
        self.step, self._seed = int(self.steps), None
