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
    """Copy the teacher's layers into the student where names and shapes agree, except those that read the input.

    The layers that read the input are the ``input_layers`` of the student's encoder, by default the module that holds
    its first parameter. Running statistics of normalization layers are not copied: they describe the other modality.

    Args:
        student: model to change in place.
        teacher: model to copy from.
        same_classes: whether both models have the same classes in the same order; if not, the classifier is not copied.

    Returns:
        The names of the copied parameters.

    Raises:
        CmkdError: if no layer agrees, or only the classifier does.

    Example:
        >>> student, teacher = (nn.Sequential(nn.Linear(n, 4), nn.Linear(4, 2)) for n in (3, 5))
        >>> copy_deeper(student, teacher)
        ['1.weight', '1.bias']
    """
    inputs, theirs = _input_layers(student), dict(teacher.named_modules())
    classifier = getattr(student, "classifier", None)
    last = set() if classifier is None else set(classifier.modules())
    copied, deeper = list[str](), False
    for name, layer in student.named_modules():
        own, other = (dict(each.named_parameters(recurse=False)) for each in (layer, theirs.get(name, nn.Identity())))
        agree = {key: p.shape for key, p in own.items()} == {key: p.shape for key, p in other.items()}
        if own and agree and name not in inputs and (same_classes or layer not in last):
            for key, parameter in own.items():
                parameter.copy_(other[key].to(parameter))
            copied += [f"{name}.{key}".lstrip(".") for key in own]
            deeper = deeper or layer not in last
    if not deeper:
        raise CmkdError(
            "teacher_init: no deeper layer of the teacher has the name and shape of one of the student's; "
            "give both the same architecture"
        )
    return copied


def _input_layers(model: nn.Module) -> set[str]:
    """Return the names of the layers that read an input; a fused model has an encoder for each modality."""
    found = set[str]()
    for name, part in model.named_modules():
        if isinstance(encoder := getattr(part, "encoder", None), nn.Module):
            layers = getattr(encoder, "input_layers", None) or _first(encoder)
            found |= {".".join(filter(None, (name, "encoder", layer))) for layer in layers}
    return found or set(_first(model))


def _first(module: nn.Module) -> list[str]:
    """Return the name of the layer that holds the first parameter, in a list; empty if there are no parameters."""
    return [name.rpartition(".")[0] for name, _ in module.named_parameters()][:1]


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
