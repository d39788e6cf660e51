"""Training time and latency of a model, in ``cost.json`` in its folder; no result depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd.documents import read_json, record
from cmkd.io import write_json

NAME = "cost.json"
AGAIN = "delete it; the times are then unknown"


@dataclass(frozen=True)
class _Cost:
    """Schema of ``cost.json``."""

    training_seconds: float | None = None
    latency_seconds: float | None = None


def read_cost(folder: Path) -> dict[str, Any]:
    """Return the training time and latency of a model.

    Args:
        folder: folder of the model; runs of older versions have no ``cost.json`` there.

    Returns:
        ``training_seconds``, validation included, and ``latency_seconds`` per pair; either may be missing.

    Raises:
        CmkdError: the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    content = read_json(path, fix=AGAIN)
    record(_Cost, content, f"'{path}'", fix=AGAIN)
    return content


def add_cost(folder: Path, **seconds: float) -> None:
    """Add times to ``cost.json`` of a model; other entries are kept."""
    write_json(folder / NAME, read_cost(folder) | seconds)
