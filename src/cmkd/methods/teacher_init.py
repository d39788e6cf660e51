"""Initialization of the student with the teacher's deeper weights: a control."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.methods.base import Method
from cmkd.types import Batch, Output


@torch.no_grad()
def copy_deeper(student: nn.Module, teacher: nn.Module, *, same_classes: bool = True) -> list[str]:
    """Copy the teacher's parameters into the student where names and shapes agree, except in the input layer.

    The input layer is the module that holds the student's first parameter. Running statistics of normalization layers
    are not copied: they describe the other modality.

    Args:
        student: changed in place.
        teacher: read.
        same_classes: whether both tell the same classes apart, in one order; else the classifier is left as it is.

    Returns:
        The names of the copied parameters.

    Raises:
        CmkdError: if no parameter agrees.

    Example:
        >>> student, teacher = (nn.Sequential(nn.Linear(n, 4), nn.Linear(4, 2)) for n in (3, 5))
        >>> copy_deeper(student, teacher)
        ['1.weight', '1.bias']
    """
    theirs = dict(teacher.named_parameters())
    ours = dict(student.named_parameters())
    first = next(iter(ours), "").rpartition(".")[0]
    copied = []
    for name, parameter in ours.items():
        kept = name.rpartition(".")[0] == first or (name.startswith("classifier.") and not same_classes)
        if not kept and name in theirs and theirs[name].shape == parameter.shape:
            parameter.copy_(theirs[name].to(parameter))
            copied.append(name)
    if not copied:
        raise CmkdError(
            "teacher_init: no deeper layer of the teacher has the name and shape of one of the student's; "
            "give both the same architecture"
        )
    return copied


class TeacherInit(Method):
    """Start the student from the teacher's deeper weights, then train it alone, without terms."""

    name = "teacher_init"
    kind = "control"
    uses_teacher = False
    required_hooks: Mapping[str, str] = {"setup": "it copies the teacher's weights into the student"}

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Copy the teacher's deeper weights into the student."""
        copy_deeper(student, teacher, same_classes=self.student_spec.same_classes(self.teacher_spec))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return no terms."""
        return {}
