"""Models compiled by ``torch.compile``, for training."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.models import Model
from cmkd.types import Output

COMPILERS = {"darwin": "clang++", "win32": "cl"}
"""What torch calls by platform; elsewhere g++, and the one that the variable CXX names before all of them."""


def check_compiler() -> None:
    """Refuse to start without the C++ compiler that ``torch.compile`` calls minutes later.

    Raises:
        CmkdError: there is none.
    """
    name = os.environ.get("CXX") or COMPILERS.get(sys.platform, "g++")
    if shutil.which(name) is None:
        raise CmkdError(
            f"--trainer.compile needs a C++ compiler, but '{name}' was not found; install it, name another in the "
            "environment variable CXX, or leave out --trainer.compile"
        )


Masks = Mapping[str, Tensor] | None
Classify = Callable[[Mapping[str, Tensor], Masks, Masks], Output]
"""What `Model.classify` is."""


def compiled(model: Model) -> Classify:
    """Return a model's `classify` compiled; the model itself, its modules and its weights stay as they are.

    Random numbers, as of dropout, are those of the model that is not compiled, so results are equal up to rounding.
    """

    def run(inputs: Mapping[str, Tensor], present: Masks, recorded: Masks) -> Output:
        return model.classify(inputs, present, recorded)

    return torch.compile(run, options={"fallback_random": True})
