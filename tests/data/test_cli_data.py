"""The commands of ``cmkd data``, called as functions."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from cmkd.cli import data as command
from cmkd.cli import main
from cmkd.data import Pack
from cmkd.data.manifest.table import read_flagged
from cmkd.datasets import DATASETS
from cmkd.errors import CmkdError, CmkdWarning


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
    command.verify(str(tmp_path / "digits"))
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
    command.verify(str(tmp_path / "pack"))
    assert "version 2, 48 pairs" in capsys.readouterr().out
    (tmp_path / "pack" / "radar.bin").write_bytes(b"")
    with pytest.raises(CmkdError, match=r"radar\.bin is truncated"):
        command.verify(str(tmp_path / "pack"))


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
        ({"kind": "radar=dots"}, "cannot read --kind radar=dots: write 'image' or"),
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


def told(words: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Run a command line, and return its exit code and the lines of its errors."""
    capsys.readouterr()
    code = main(["data", *map(str, words)])
    error = capsys.readouterr().err.splitlines()
    return code, [line for line in error if not line.startswith(("reading", "cmkd: warning", "note"))]


def test_wrong_usage_is_one_line(
    make_folder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_folder()
    monkeypatch.chdir(tmp_path)
    assert main(["data", "build", "ships", "--out", "pack"]) == 0
    Path("file").write_text("x")
    Path("none").mkdir()
    Path("list.csv").write_text("path,time\na.png,0\n")
    for kind in ("optical/a", "radar/a"):
        Path("one", kind).mkdir(parents=True)
        Path("one", kind, "1.png").write_bytes(Path("ships/files/o1.png").read_bytes())
    Path("other.json").write_text("[1]")
    rows = {
        "build pack --out new": "pack is already a pack",
        "build file --out new": "file is a file: give the folder that holds it",
        "build none --out new": "none has no manifest.csv",
        "build one --out new": "at least two classes",
        "build ships --out pack": "pack already exists",
        "build ships --out file/new": "cannot write to file",
        f"build ships --out {'n' * 300}": "File name too long",
        "build ships --out new --seed -1": "seed is -1; it must be at least 0",
        "build ships --out new --workers 0": "workers is 0; it must be at least 1",
        "build ships --out new --co_registered optical": "must join different modalities",
        "build ships --out new --exclude none.json": "none.json' does not exist",
        "build ships --out new --exclude other.json": "'other.json' is damaged",
        "append file ships": "file is not a pack",
        "append pack pack": "pack is already a pack",
        "append pack ships": "the pack already has 'p00' (24 of 24 ids): if",
        "verify ships": "ships is not a pack",
        "check pack --out new --kind optical=vector": "pack is a pack, whose card states the kinds",
        "check none --out new": "none is neither a pack nor a folder",
        "check ships --out file": "--out 'file' is a file; give a folder",
        "diff pack pack@2": "pack has no version 2",
        "diff pack ships": "ships is not a pack",
        "pair list.csv none --seconds 5 --out new.csv": "none is a folder",
        "pair list.csv list.csv --seconds 5 --out new.csv --names a,label": "'label' cannot name a modality",
        "export none --out new": "none is not a pack",
        "import none --out new": "none has no Parquet files",
        "info none": "none is neither a pack",
        "card sihps": "unknown data set 'sihps'",
    }
    for words, says in rows.items():
        code, lines = told(list(words.split()), capsys)
        assert (code, len(lines)) == (2, 1) and says in lines[0], (words, lines)
    assert told(["build", "ships", "--out", ""], capsys) == (2, ["cmkd: error: --out is empty: give a path"])
    assert not Path("new").exists()


def test_flagged_pairs_are_left_out(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder()
    for name, content in (("o5.png", (folder / "files" / "o3.png").read_bytes()), ("o7.png", b"no picture")):
        (folder / "files" / name).write_bytes(content)
    out, packs = tmp_path / "faults", [tmp_path / "pack", tmp_path / "longer"]
    assert told(["check", folder, "--out", out], capsys) == (0, [])
    code, lines = told(["check", folder, "--out", out, "--strict"], capsys)
    assert code == 3 and lines[-1].startswith("cmkd: 2 of 24 pairs flagged: 1 unreadable, 1 exact_duplicate; page: ")
    exclude = ["--exclude", out / "faults.json"]
    assert told(["build", folder, "--out", packs[0], *exclude, "--license", "CC BY 4.0"], capsys) == (0, [])
    pack = Pack.open(packs[0])
    assert pack.card.license == "CC BY 4.0" and {"p05", "p07"}.isdisjoint(pack.index["id"]) and len(pack) == 22
    says = (
        "made by cmkd data build from manifest.csv of the folder 'ships', without 2 pairs that cmkd data check flagged "
        "(1 unreadable, 1 exact_duplicate)"
    )
    assert pack.card.notes == says
    more = make_folder(lambda rows: [row.update(id=row["id"] + "b", group="") for row in rows], name="more")
    assert told(["append", packs[0], more], capsys) == (0, [])
    assert main(["data", "card", str(packs[0])]) == 0
    assert f"- **Notes**: {says}; version 2 adds manifest.csv of the folder 'more'." in capsys.readouterr().out
    assert told(["check", packs[0], "--out", out, "--strict"], capsys)[0] == 3  # `more` repeats all images
    third = make_folder(name="third")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, lines = told(["build", third, "--out", packs[1], *exclude], capsys)
    assert code == 2 and "pairs to leave out" in lines[0]
    with pytest.warns(CmkdWarning, match=r"faults.json was made of .*, not of .*third: its ids may be those of other"):
        read_flagged(out / "faults.json", third)


def test_a_card_of_hostile_names(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["label"] = {"tanker": "a|b <img src=x>", "cargo": "[x](http://y) `c`"}[row["label"]]

    assert main(["data", "build", str(make_folder(edit)), "--out", str(tmp_path / "pack")]) == 0
    capsys.readouterr()
    assert main(["data", "card", str(tmp_path / "pack")]) == 0
    text = capsys.readouterr().out
    assert "| a\\|b \\<img src=x\\> | 8 |" in text and "| \\[x\\](http://y) \\`c\\` | 8 |" in text
    assert "- **License**: not stated; state it before you share the data." in text
    assert main(["data", "export", str(tmp_path / "pack"), "--out", str(tmp_path / "hub")]) == 0
    assert "| a\\|b \\<img src=x\\> | 8 |" in (tmp_path / "hub" / "README.md").read_text()
