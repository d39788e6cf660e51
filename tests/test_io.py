"""Files are written completely or not at all, and leftovers of killed writers are removed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from cmkd import Experiment, RunConfig
from cmkd.data.huggingface import export_pack, import_folder
from cmkd.data.pack.pack import Pack
from cmkd.data.text_table import read_text_table
from cmkd.datasets import open_data
from cmkd.datasets.digits import Digits
from cmkd.deploy.inputs import find
from cmkd.deploy.writers import table
from cmkd.documents import read_json
from cmkd.errors import CmkdError
from cmkd.evaluation.results import read_predictions
from cmkd.io import atomic, parquet_file, remove_all_stale, write_json, write_text
from cmkd.models.tensor_file import write_tensors
from cmkd.types import Modality

KILLED = """
import os, signal, sys
from pathlib import Path
from cmkd.io import atomic
with atomic(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    temporary.with_name(".tmpAbC123").write_text("a library's own")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_json_never_holds_what_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", {"accuracy": 0.5})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "results.json", {"accuracy": value})
    assert read_json(tmp_path / "results.json") == {"accuracy": 0.5}
    assert len(list(tmp_path.iterdir())) == 1


def test_the_next_writer_of_a_name_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*.csv"  # must not be read as a glob pattern
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*"))) == 3
    write_text(path, "whole")
    assert [p.name for p in tmp_path.rglob("*")] == [path.name]


def test_the_file_of_a_living_writer_stays(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with atomic(path) as temporary:
        save_file({"a": torch.zeros(2)}, temporary)  # replaces the temporary file by a new one
        write_text(path, "another writer of the same name")
        remove_all_stale(tmp_path)
        assert temporary.exists()
    assert path.stat().st_size > 40
    assert [p.name for p in tmp_path.rglob("*")] == [path.name]


def test_what_only_looks_temporary_stays(tmp_path: Path) -> None:
    stale, others = (
        "0123456789ab",
        [".notes.tmp", ".a.txt.123.tmp", ".a.txt.0123456789xy.tmp", "a.txt.0123456789ab.tmp"],
    )
    for name in (f".a.txt.{stale}.tmp", *others):
        (tmp_path / name).mkdir()
    file = tmp_path / f".a.txt.{stale[::-1]}.tmp"  # writers make only temporary folders
    file.write_text("a user's own")
    for sweep in (lambda: write_text(tmp_path / "a.txt", "whole"), lambda: remove_all_stale(tmp_path)):
        (tmp_path / f".a.txt.{stale}.tmp").mkdir(exist_ok=True)
        sweep()
        assert {p.name for p in tmp_path.iterdir()} == {file.name, "a.txt", *others}


def test_a_name_as_long_as_file_systems_allow(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "whole")
    assert [len(p.name) for p in tmp_path.rglob("*")] == [255]


def test_every_file_can_be_read_by_whom_the_folder_can(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "a.txt", "a")
    write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, "about", {})
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_write_that_fails_names_the_file(tmp_path: Path) -> None:
    for hidden in (False, True):  # whether the system's error names the temporary file
        with (
            pytest.raises(OSError, match=r"full: '[^']*[/\\]a\.txt'$") as failed,
            atomic(tmp_path / "a.txt") as temporary,
        ):
            raise OSError(errno.ENOSPC, "full", *[str(temporary)] * hidden)
        assert failed.value.filename == str(tmp_path / "a.txt")


def test_an_error_of_a_library_keeps_its_text(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^band 1 is damaged$"), atomic(tmp_path / "a.txt"):
        raise OSError("band 1 is damaged")


def test_a_folder_whose_name_looks_like_that_of_a_protocol(
    digits: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Path("run:1")
    home.mkdir()
    frame = pd.DataFrame({"id": ["a"], "target": [0], "predicted": [1]})
    frame.to_parquet(home / "test.parquet")
    with parquet_file(home / "test.parquet") as file:
        assert file.metadata.num_rows == 1
    assert (
        len(read_predictions(home / "test.parquet", 2)) == len(read_text_table(home / "test.parquet", "ids").rows) == 1
    )
    with table(home / "table.parquet") as write:
        write({"input": ["a"]})
    item = next(find([str(home / "table.parquet")], Modality("input", "series", (1, 1), "float32")))
    assert item.input == "run:1/a"
    export_pack(digits, home / "hub")
    assert len(import_folder(home / "hub", home / "pack").index) == len(digits)


def test_a_cache_that_cannot_be_written_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "file", "")
    pack = Digits().prepare(None, tmp_path / "digits")
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "file" / "cache"))
    for use in (Experiment(RunConfig(data=pack, out=tmp_path / "out")).run, lambda: open_data("digits")):
        with pytest.raises(
            CmkdError, match=r"^cannot write to .*file/cache/\w+: set CMKD_CACHE to a folder that can be"
        ):
            use()
    assert not (tmp_path / "out" / "teacher").exists()
