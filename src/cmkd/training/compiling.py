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
"""Platform -> compiler that torch calls; elsewhere g++. The environment variable CXX overrides all of them."""


def check_compiler() -> None:
    """Raise an error early if there is no C++ compiler, which ``torch.compile`` would call only minutes later.

    Raises:
        CmkdError: if the compiler is missing.
    """
    name = os.environ.get("CXX") or COMPILERS.get(sys.platform, "g++")
    if shutil.which(name) is None:
        raise CmkdError(
            f"--trainer.compile needs a C++ compiler, but '{name}' was not found; install it, name another in the "
            "environment variable CXX, or leave out --trainer.compile"
        )


Masks = Mapping[str, Tensor] | None
Classify = Callable[[Mapping[str, Tensor], Masks, Masks], Output]
"""The type of `Model.classify`."""


def compiled(model: Model) -> Classify:
    """Return the compiled `classify` of a model; the model itself, its modules and its weights stay as they are.

    Random numbers, such as those of dropout, are the same as without compiling, so results are equal up to rounding.
    """

    def run(inputs: Mapping[str, Tensor], present: Masks, recorded: Masks) -> Output:
        return model.classify(inputs, present, recorded)

    return torch.compile(run, options={"fallback_random": True})
