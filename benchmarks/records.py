"""Shared parts of the benchmarks: rows that are measured once, and the text around a table."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.documents import read_json
from cmkd.evaluation import in_points, interval
from cmkd.io import write_json
from cmkd.markdown import table as table
from cmkd.provenance import commit, hardware

RESULTS = Path(__file__).parent / "results"
"""Tables that the documentation cites. Raw results go to ``runs``, which git ignores."""


class Records:
    """Measured rows in one JSON file, written after each row, so that an interrupted benchmark resumes.

    Args:
        path: the JSON file.
        identity: fields that identify a row. A new row replaces the stored rows with the same values in these fields,
            which were measured with other settings or on other files.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "records.json"
        >>> records = Records(path, identity=("data",))
        >>> records.add("digits, 10 trees", {"data": "digits", "accuracy": 0.9})
        >>> "digits, 10 trees" in Records(path, identity=("data",)).rows
        True
    """

    def __init__(self, path: Path, *, identity: Sequence[str]) -> None:
        self.path, self.identity = path, identity
        self.rows: dict[str, dict[str, Any]] = read_json(path)["rows"] if path.exists() else {}

    @property
    def about(self) -> str:
        """Where the rows were measured: each distinct commit, version and machine once."""
        return "; ".join(dict.fromkeys(row["about"] for row in self.rows.values()))

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Store a row under the key that names everything it depends on."""
        others = {k: r for k, r in self.rows.items() if any(r[field] != row[field] for field in self.identity)}
        self.rows = others | {key: {**row, "about": about()}}
        write_json(self.path, {"rows": self.rows})


def about() -> str:
    """Return commit, versions and hardware, as one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn"))
    machine = hardware()
    processor = f"{machine['machine']}, {machine['threads']} thread(s) of {machine['cores']} cores"
    return f"commit {commit() or 'unknown'}, {versions}, {processor}, {', '.join(machine['gpus']) or 'no GPU'}"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage, or an empty string for None."""
    return "" if value is None else f"{100 * value:.1f}"


def difference(values: Sequence[float]) -> str:
    """Return the mean of paired differences in points, with Student's 95 % interval; bold where it excludes 0.

    Example:
        >>> difference([0.01, 0.02, 0.015]), difference([0.25])
        ('**+1.5 (+0.3 to +2.7)**', '+25.0')
    """
    text, clear = in_points(float(np.mean(values)), interval(values))
    return f"**{text}**" if clear else text


def command(script: str, references: Iterable[str], *options: str) -> str:
    """Return a command quoted for a shell; `references`, from `with_placeholder`, appear once each."""
    return shlex.join(["python", f"benchmarks/{script}", *dict.fromkeys(references), *options])


def with_placeholder(reference: str) -> str:
    """Return a data reference with ``DATA`` in place of the folder of its files.

    Example:
        >>> with_placeholder("mnist(train_pairs=4000):downloads/mnist"), with_placeholder("digits")
        ('mnist(train_pairs=4000):DATA', 'digits')
    """
    call, colon, _ = reference.partition(":")
    return f"{call}:DATA" if colon else call
