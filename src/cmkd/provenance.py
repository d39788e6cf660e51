"""Versions, commit and hardware that results depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import cmkd


def versions() -> dict[str, str]:
    """Return the versions of Python, cmkd and the libraries that results depend on."""
    names = ("torch", "lightning", "timm", "numpy", "scikit-learn")
    return {"cmkd": cmkd.__version__, "python": platform.python_version(), **{name: version(name) for name in names}}


@cache
def commit() -> str | None:
    """Return the commit of the source tree at the time of the first call; None outside git.

    The text ends in ``-dirty`` if the tree had uncommitted changes.
    """
    here = Path(__file__).parent
    if not (here.parent.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]  # no tags
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def hardware() -> dict[str, Any]:
    """Return the machine type, its number of cores, the number of threads that torch uses, and the GPUs."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}
