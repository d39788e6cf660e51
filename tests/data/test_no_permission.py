"""A file without read or write permission is reported as such, not as damaged."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

from cmkd.data.manifest.readers import inspect
from cmkd.data.pairing.tracks import read_tracks
from cmkd.data.text_table import read_text_table
from cmkd.errors import CmkdError
from cmkd.evaluation.results import read_history, read_predictions
from cmkd.io import write_text

AIS = "mmsi,basedatetime,lat,lon\n219000001,2026-01-01T00:00:00,1,1\n"
TABLE = pd.DataFrame({"id": ["a"], "label": ["tug"]})
FILES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "1.png": (lambda path: Image.new("L", (4, 4)).save(path), inspect),
    "1.tif": (lambda path: Image.new("L", (4, 4)).save(path), inspect),
    "1.npy": (lambda path: np.save(path, np.zeros((1, 4, 4))), inspect),
    "1.csv": (lambda path: path.write_text("x,y\n1,2\n3,4\n"), inspect),
    "1.wav": (lambda path: wavfile.write(path, 8000, np.zeros(80, np.int16)), inspect),
    "manifest.csv": (lambda path: TABLE.to_csv(path), lambda path: read_text_table(path, "an id")),
    "manifest.parquet": (lambda path: TABLE.to_parquet(path), lambda path: read_text_table(path, "an id")),
    "ais.csv": (lambda path: path.write_text(AIS), lambda path: read_tracks(path, (0.0, 2e9))),
    "history.csv": (lambda path: path.write_text("epoch\n0\n"), lambda path: read_history(path, [])),
}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's right to read every file within the context."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.mark.skipif(os.name == "nt", reason="files have no such mode there")
@pytest.mark.parametrize("name", FILES)
def test_it_is_not_called_damaged(name: str) -> None:
    write, read = FILES[name]
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)  # pytest's folders are closed to others
        path = Path(home) / name
        write(path)
        read(path)
        path.chmod(0)
        with as_nobody(), pytest.raises(CmkdError, match=r"cannot be read \(Permission denied\)$"):
            read(path)


def test_a_file_of_a_run_that_is_not_there_is_not_called_damaged(tmp_path: Path) -> None:
    for read in (lambda path: read_history(path, []), lambda path: read_predictions(path, 2)):
        with pytest.raises(CmkdError, match="does not exist: restore the file"):
            read(tmp_path / "missing")


@pytest.mark.skipif(os.name == "nt", reason="files have no such mode there")
def test_a_folder_that_cannot_be_written_is_said_of_the_file_asked_for() -> None:
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o555)
        with as_nobody(), pytest.raises(PermissionError) as caught:
            write_text(Path(home) / "made.csv", "")
        assert caught.value.filename == str(Path(home) / "made.csv")
        Path(home).chmod(0o755)
