"""Check of a command's output folder before its results are computed."""

from __future__ import annotations

from pathlib import Path

from cmkd.errors import CmkdError
from cmkd.io import expanded, staged

DATA = ("card.json", "manifest.csv", "manifest.parquet")
"""Files by which a pack or a folder of pairs is recognized."""


def results_folder(out: Path, *, data: str | Path = "") -> None:
    """Check that results can be written to a folder, before the time to compute them is spent.

    Args:
        out: output folder; its parent folders are created.
        data: data set that the results are computed from, as `cmkd.datasets.open.open_data` reads it.

    Raises:
        CmkdError: the folder is a file, holds data that results would spoil, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise CmkdError(f"--out '{out}' is a file; give a folder")
    given = expanded(str(data)) if data else None
    if any((out / name).is_file() for name in DATA) or (
        given is not None and given.is_dir() and given.resolve() == out.resolve()
    ):
        raise CmkdError(f"--out '{out}' is a folder of data, which results would spoil; choose another")
    try:
        with staged(out / "results" if out.is_dir() else out):
            pass
    except OSError as error:
        raise CmkdError(f"cannot write to {out}: {error.strerror or error}") from error
