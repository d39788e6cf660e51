"""What a model cost in time: ``cost.json`` in its folder. No result depends on it, so it is in no other file."""

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
    """Schema of the file."""

    training_seconds: float | None = None
    latency_seconds: float | None = None


def read_cost(folder: Path) -> dict[str, Any]:
    """Return what a model cost.

    Args:
        folder: of the model; a run of an older version has no such file in it.

    Returns:
        ``training_seconds``, validation included, and ``latency_seconds`` of one pair; either may be missing.

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
    """Write what a model cost, beside what is known already."""
    write_json(folder / NAME, read_cost(folder) | seconds)
