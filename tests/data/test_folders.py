"""Pairs in folders by class, without a manifest, are found by class and name, or refused in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmkd import Experiment, RunConfig
from cmkd.cli import data as command
from cmkd.cli import main
from cmkd.data import Pack, append, build
from cmkd.data.quality import check, open_source
from cmkd.datasets import open_data
from cmkd.errors import CmkdError, CmkdWarning


def write(folder: Path, *names: str) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, generator.normal(size=(1, 6, 5)).astype(np.float32))
        elif path.suffix.lower() in (".png", ".jpg"):
            Image.fromarray(generator.integers(0, 255, (6, 5, 3), dtype=np.uint8)).save(path)
        else:
            path.write_text("x")
    return folder


def ships(folder: Path, *, home: str = "", count: int = 12) -> Path:
    names = [(kind, k) for kind in ("tanker", "tug") for k in range(count)]
    write(folder, *(f"{home}optical/{kind}/{k:04d}.PNG" for kind, k in names))
    return write(folder, *(f"{home}radar/{kind}/{k:04d}.npy" for kind, k in names))


def test_accents_pair_however_they_are_composed(tmp_path: Path) -> None:
    composed, apart = "\u00e9", "e\u0301"
    names = [(kind, k) for kind in ("tanker", "tug") for k in range(12)]
    write(tmp_path / "ships", *(f"optical/{kind}{composed}/{k}{composed}.png" for kind, k in names))
    write(tmp_path / "ships", *(f"radar/{kind}{apart}/{k}{apart}.npy" for kind, k in names))
    pack = build(tmp_path / "ships", tmp_path / "pack")
    assert pack.classes == (f"tanker{composed}", f"tug{composed}") and len(pack) == 24
    assert pack.index["has_optical"].all() and pack.index["has_radar"].all()


def test_names_pair_files_within_a_class(tmp_path: Path) -> None:
    folder = ships(tmp_path / "ships")
    (folder / "radar" / "tug" / "0003.npy").unlink()
    write(folder, "radar/tug/.DS_Store", "radar/tug/1.tif.aux.xml", "radar/Thumbs.db", "README.txt", ".git/config")
    with pytest.warns(CmkdWarning, match="1 of 24 samples have no partner, such as optical/tug/0003.PNG: if they"):
        pack = build(folder, tmp_path / "pack")
    assert pack.classes == ("tanker", "tug") and list(pack.modalities) == ["optical", "radar"]
    assert len(pack) == 24 and pack.card.title == "made from folders by class"
    row = pack.index.set_index("id").loc["tug/0003"]
    assert (row["label"], row["has_optical"], row["has_radar"]) == (1, True, False)
    place = pack.index["id"].tolist().index("tanker/0007")
    expected = np.load(folder / "radar" / "tanker" / "0007.npy")
    np.testing.assert_array_equal(pack.array("radar")[place], expected)
    assert set(pack.index["split"]) == {"train", "validation", "test"}
    with pytest.warns(CmkdWarning, match="1 of 24 samples have no partner"):
        sources = open_source(folder), open_source(pack.path)
    for source in sources:
        assert "radar: 1 of 24 pairs lack it, such as 'tug/0003'" in check(source).notes


@pytest.mark.parametrize("kinds", [("tanker",), ("tanker", "tug")])
def test_samples_without_a_partner_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kinds: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))
    folder = ships(tmp_path / "ships")
    for path in [path for kind in kinds for path in sorted((folder / "radar" / kind).iterdir())[:8]]:
        path.rename(path.with_name(f"sar_{path.name}"))
    said = (
        f"{16 * len(kinds)} of {24 + 8 * len(kinds)} samples have no partner, such as optical/tanker/0000.PNG and "
        "radar/tanker/sar_0000.npy: if they have one, give both files one class and name, or write a manifest"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["data", "info", str(folder)]) == 0
    assert capsys.readouterr().err.count("samples have no partner") == 1
    with pytest.warns(CmkdWarning) as caught:
        build(folder, tmp_path / "pack")
    assert [str(one.message) for one in caught] == [f"{folder}: {said}"]


def test_a_class_that_a_modality_lacks_is_told(tmp_path: Path) -> None:
    folder = ships(tmp_path / "ships")
    write(folder, *(f"optical/ferry/{k}.png" for k in range(12)))
    with pytest.warns(CmkdWarning, match="12 of 36 samples have no partner, such as optical/ferry/0.png: if they"):
        build(folder, tmp_path / "pack")


def test_folders_of_splits(tmp_path: Path) -> None:
    folder = tmp_path / "ships"
    for home, count in (("train/", 6), ("val/", 2), ("test/", 2)):
        ships(folder, home=home, count=count)
    pack = build(folder, tmp_path / "pack")
    assert pack.index["split"].value_counts().to_dict() == {"train": 12, "validation": 4, "test": 4}
    assert "val/tug/0001" in set(pack.index["id"])


def test_every_command_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))
    folder = ships(tmp_path / "ships")
    assert open_data(folder).path == open_data(folder).path
    before = open_data(folder).path
    write(folder, "optical/tug/9999.png")
    with pytest.warns(CmkdWarning, match="1 of 25 samples have no partner"):
        assert open_data(folder).path != before
        assert len(open_source(folder).ids) == 25
        command.main(["build", str(folder), "--out", str(tmp_path / "pack")])
    assert len(Pack.open(tmp_path / "pack")) == 25


def test_a_delivery_with_names_of_the_first_one_is_refused(tmp_path: Path) -> None:
    build(ships(tmp_path / "ships"), tmp_path / "pack")
    says = (
        r"^the pack already has 'tanker/0000' \(24 of 26 ids\): if these are other pairs, rename the files or give a "
        "manifest with new ids$"
    )
    with pytest.raises(CmkdError, match=says):
        append(tmp_path / "pack", ships(tmp_path / "more", count=13))
    assert len(Pack.open(tmp_path / "pack")) == 24


def test_what_commands_have_written_is_no_modality(tmp_path: Path) -> None:
    folder = ships(tmp_path / "ships")
    command.main(["check", str(folder), "--out", str(folder / "faults")])
    command.main(["build", str(folder), "--out", str(folder / "pack")])
    write(folder, "run/.lock", "run/config.yaml", "older/settings.json", "older/students/kd/result.json")
    assert len(open_source(folder).ids) == len(Pack.open(folder / "pack")) == 24
    for again in (folder, f"{folder}/../ships"):
        with pytest.raises(CmkdError, match=r"is not of a run and could be lost: move it, or choose another --out$"):
            Experiment(RunConfig(data=str(again), out=folder)).run()


@pytest.mark.filterwarnings("ignore:.*samples have no partner")
@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["optical/tug/1.png", "optical/tug/1.jpg", "radar/tug/1.npy"], "/1.jpg and optical/tug/1.png belong to"),
        (["optical/1.png", "radar/tug/1.npy"], r"optical/1.png is not in a class folder"),
        (["optical/tug/1.png", "optical/ferry/1.png"], r"needs at least two modalities, found \['optical'\]"),
        (["optical/tug/1.png", "radar/tug/2.npy"], "no pair found: optical/tug/1.png and radar/tug/2.npy share no"),
        (["optical/tug/1.bmp", "radar/tug/1.npy"], r"optical/tug/1.bmp is not a file of a supported type \(.png"),
        (["optical/tug/more/1.png", "radar/tug/1.npy"], "optical/tug/more is not a file of"),
        (["train/optical/tug/1.png", "radar/tug/1.npy"], "'radar' may not be beside the split folder 'train'"),
        (["optical/tug/1.png", "radar/tug/1.npy"], "a classifier needs at least two classes"),
        (
            ["optical/tug/1.png", "radar/tug/1.npy", "optical/Ferry/1.png", "radar/ferry/1.npy"],
            "ships: classes 'Ferry' and 'ferry' differ only in case: name them alike",
        ),
        (["optical/a/1.png", "radar/a/1.npy", "optical/b/1.png", "x-ray/b/1.npy"], "modality 'x-ray' must be a word"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_refused(tmp_path: Path, names: list[str], says: str) -> None:
    folder = write(tmp_path / "ships", *names)
    with pytest.raises(CmkdError, match=says) as caught:
        build(folder, tmp_path / "pack")
    assert "\n" not in str(caught.value)


def test_a_link_to_nowhere_is_said_to_be_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "ships", "optical/tug/1.png", "radar/tug/1.npy")
    (folder / "radar" / "tug" / "2.npy").symlink_to(tmp_path / "gone.npy")
    with pytest.raises(CmkdError, match=r"radar/tug/2\.npy is a link to a file that is missing"):
        build(folder, tmp_path / "pack")


def test_files_are_named_by_their_pair(tmp_path: Path) -> None:
    folder = ships(tmp_path / "ships")
    (folder / "radar" / "tug" / "0003.npy").unlink()
    np.save(folder / "radar" / "tug" / "0003.npy", np.zeros((1, 3, 3), np.float32))
    with pytest.raises(CmkdError, match=r"ships pair 'tug/0003', radar: .*0003.npy has size 3x3"):
        build(folder, tmp_path / "pack")
