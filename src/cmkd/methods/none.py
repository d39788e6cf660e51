"""The student alone: the control in every comparison."""

from __future__ import annotations

from torch import Tensor

from cmkd.methods.base import Method
from cmkd.types import Batch, Output


class NoDistillation(Method):
    """The student without a teacher; no terms."""

    name = "none"
    kind = "control"
    uses_teacher = False

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return no terms."""
        return {}
