"""Compare the tensors in a file's header with the encoder that the file describes, before that encoder is built.

A file holds the values of its tensors, so an encoder with the same tensors cannot be larger than the file. The encoder
is built on the meta device, and building stops as soon as it has more values than the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cmkd import models
from cmkd.errors import CmkdError
from cmkd.models.base import needs_values
from cmkd.types import Modality

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""
LARGEST_SAMPLE = 2**26
"""Number of values of the largest sample that the model of a file may read: an image of 8192 x 8192 pixels."""


def check_encoder(shapes: Shapes, model: str, *, modality: Modality, size: int | None, prefix: str) -> None:
    """Compare an encoder with the names and shapes of a file's tensors, before memory is allocated for it.

    Args:
        shapes: name -> shape of the tensors of a file.
        model: name of the encoder, as for `cmkd.models.build`.
        modality: modality that the encoder reads.
        size: side to which images are resized, as for `cmkd.models.build`.
        prefix: prefix of the model's tensors in the file.

    Raises:
        CmkdError: if the tensors belong to another model.
    """
    with _no_larger_than(shapes, model):
        try:
            with torch.device("meta"):
                encoder, _ = models.build_encoder(model, modality, size=size)
        except RuntimeError as error:  # some timm models read values while they are built
            if not needs_values(error):
                raise
            encoder, _ = models.build_encoder(model, modality, size=size)
    wanted = {f"{prefix}encoder.{name}": tuple(value.shape) for name, value in encoder.state_dict().items()}
    held = {name: shape for name, shape in shapes.items() if name.startswith(f"{prefix}encoder.")}
    for name in sorted(wanted.keys() | held):
        if wanted.get(name) != held.get(name):
            raise _other(model, f"{name} is {_shown(held, name)}, and the model's {_shown(wanted, name)}")


@contextmanager
def _no_larger_than(shapes: Shapes, model: str) -> Iterator[None]:
    """Raise `CmkdError` as soon as the modules built in the block have more parameters or values than the file."""
    # twice as many are allowed, since a stem may be built and then replaced
    values, tensors = 2 * sum(map(math.prod, shapes.values())) + 2**16, 2 * len(shapes) + 64

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal values, tensors
        if parameter is not None:
            values, tensors = values - parameter.numel(), tensors - 1
        if values < 0 or tensors < 0:
            raise _other(model, "the model has more weights than the file")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _other(model: str, reason: str) -> CmkdError:
    return CmkdError(f"the weights do not fit the model '{model[:80]}' ({reason}); was the file changed?")


def _shown(shapes: Shapes, name: str) -> str:
    return " x ".join(map(str, shapes[name])) or "one value" if name in shapes else "missing"
