"""The commands of ``cmkd data``, as functions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmkd.cli import data as command
from cmkd.data import Pack
from cmkd.datasets import DATASETS
from cmkd.errors import CmkdError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))


def test_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    command.list_data()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(DATASETS)
    assert "https://github.com/SizheAn/MARS" in next(line for line in lines if line.startswith("mars"))


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    command.info("digits")
    lines = capsys.readouterr().out.splitlines()
    optical = next(line.split() for line in lines if line.startswith("optical "))
    assert optical[-3:] == ["1077", "360", "360"]
    assert any(line.split()[:2] == ["rich,", "poor"] and "optical, degraded" in line for line in lines)


def test_prepare_build_append_verify(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.prepare("digits(severity=0.2)", out=tmp_path / "digits")
    command.verify(tmp_path / "digits")
    assert "version 1, 1797 pairs, all files unchanged" in capsys.readouterr().out
    command.build(
        make_folder(), out=tmp_path / "pack", size="optical=6x6,radar=6x6", kind="radar=image",
        co_registered="optical+radar", rich="optical",
    )  # fmt: skip
    captured = capsys.readouterr()
    assert "3 x 6 x 6" in captured.out
    assert "optical, radar" in captured.out
    assert "reading: 24 of 24 pairs" in captured.err
    more = make_folder(lambda rows: [row.update(id=row["id"] + "b", group="") for row in rows], name="more")
    command.append(tmp_path / "pack", more)
    command.verify(tmp_path / "pack")
    assert "version 2, 48 pairs" in capsys.readouterr().out
    (tmp_path / "pack" / "radar.bin").write_bytes(b"")
    with pytest.raises(CmkdError, match=r"radar\.bin is truncated"):
        command.verify(tmp_path / "pack")


def test_flags_of_the_command_line(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    flags = ["--size", "optical=6x6", "--rich", "optical"]
    command.main(["build", str(make_folder()), "--out", str(tmp_path / "pack"), *flags])
    pack = Pack.open(tmp_path / "pack")
    assert pack.modalities["optical"].shape == (3, 6, 6)
    assert pack.card.rich == "optical"
    command.main(["verify", str(tmp_path / "pack")])
    with pytest.raises(CmkdError, match="did you mean 'prepare'"):
        command.main(["prepar", "digits"])
    with pytest.raises(CmkdError, match="did you mean --size"):
        command.main(["build", "folder", "--out", "pack", "--sise", "optical=6x6"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"size": "optical"}, "cannot read --size 'optical': write modality=value, as in optical=64x64"),
        ({"size": "optical=6by6"}, "cannot read --size optical=6by6"),
        ({"kind": "radar=dots"}, "unknown kind 'dots' of radar: use image"),
        ({"co_registered": "optical+sonar"}, "'sonar' is not a modality"),
    ],
)
def test_wrong_flags(make_folder: Callable[..., Path], tmp_path: Path, flags: dict[str, str], says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        command.build(make_folder(), out=tmp_path / "pack", **flags)  # type: ignore[arg-type]
    assert not (tmp_path / "pack").exists()


def test_info_without_files_says_where_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CMKD_DATA", raising=False)
    command.main(["info", "stl10"])
    told = capsys.readouterr().out
    assert "stl10_binary.tar.gz" in told and "stl10:FOLDER" in told and "coates2011" in told


def test_info_imports_no_slow_library() -> None:
    command.info("digits")  # prepares it, which needs scikit-learn
    program = "import sys; from cmkd.cli import data; data.info('digits'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "sklearn", "scipy", "lightning", "timm", "matplotlib"}.isdisjoint(done.stdout.split())
