"""Commands work with standard streams that are closed or that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmkd.data import build


def command(words: str, redirected: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONUNBUFFERED": "1"}
    line = f"{sys.executable} -m cmkd {words} {redirected}"
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("redirected", ["2>&1 | true", "2>&-", ">&-", "<&-"])
def test_work_is_done_whoever_listens(make_folder: Callable[..., Path], tmp_path: Path, redirected: str) -> None:
    done = command(f"data build {make_folder()} --out {tmp_path / 'pack'}", redirected)
    assert done.returncode == 0 and (tmp_path / "pack" / "card.json").is_file()
    assert not (tmp_path / "pack" / "error.log").exists()


def test_a_fault_is_the_exit_code_whoever_listens(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    pack = build(make_folder(), tmp_path / "pack")
    array = tmp_path / "pack" / next(iter(pack.modalities.values())).file
    array.write_bytes(b"\xff" * array.stat().st_size)
    assert command(f"data verify {pack.path}", "2>&1 | true").returncode == 2


def test_names_that_the_terminal_cannot_encode_are_shown_escaped(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(lambda rows: [row.update(label=f"船{row['label']}") for row in rows])
    pack = build(folder, tmp_path / "pack")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = command(f"data info {pack.path}", "")
    assert done.returncode == 0 and "\\u8239" in done.stdout
