"""Planted faults are found and named, sound pairs are left alone, and nothing is dropped."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cmkd.cli import data as command
from cmkd.cli import main
from cmkd.data import CardInfo, Modality, Pack, PackWriter, build
from cmkd.data.quality import KINDS, FaultReport, FolderSource, PackSource, check, find_shortcuts, open_source
from cmkd.errors import CmkdError
from cmkd.report.faults import write_faults_page
from data.quality.planting import Captures, make, plant

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(os.environ.get("CMKD_DATA", ""))
EUROSAT = ROOT / "eurosat" / "EuroSAT-subset.zip"
Planted = tuple[Captures, dict[str, tuple[str, str]], FaultReport]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """48 pairs with one fault of each kind; the limits were chosen on other seeds."""
    captures = make(tmp_path_factory.mktemp("small"), 48, seed=11)
    planted = plant(captures, 1, seed=11)
    return captures, planted, check(FolderSource(captures.folder, co_registered=[("optical", "infrared")]))


def named(report: FaultReport) -> set[tuple[str, str, str]]:
    return {(fault.id, fault.kind, fault.modality) for fault in report.faults}


def test_one_fault_of_each_kind(small: Planted) -> None:
    _, planted, report = small
    assert named(report) == {(name, kind, modality) for name, (kind, modality) in planted.items()}
    assert all(count == (kind not in ("unreadable", "missing")) for kind, count in report.counts.items())
    assert "10 of 48 pairs flagged" in report.summary()


def test_the_page_in_a_browser(small: Planted, tmp_path: Path, browser: Browser) -> None:
    from browsing import faults

    captures, _, report = small
    write_faults_page(report, FolderSource(captures.folder), tmp_path / "faults.html")
    assert faults(browser, tmp_path / "faults.html") == []


@pytest.mark.slow
def test_fifty_faults_in_a_thousand_pairs(tmp_path: Path) -> None:
    planted = plant(captures := make(tmp_path, 1000, seed=7), 5, seed=7)
    report = check(FolderSource(captures.folder, co_registered=[("optical", "infrared")]))
    wanted = {(name, kind, modality) for name, (kind, modality) in planted.items()}
    assert len(wanted) == 50
    missed = wanted - named(report)  # a small shift, on some processors, which simulate slightly different images
    assert len(missed) <= 1 and {kind for _, kind, _ in missed} <= {"misregistered"}, missed
    flagged = set(report.flagged) - planted.keys()
    assert len(flagged) <= 0.01 * (1000 - 50), flagged


def test_files_of_the_check(small: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captures, planted, report = small
    before = {path: path.read_bytes() for path in captures.folder.rglob("*") if path.is_file()}
    flags = ["--out", str(tmp_path / "out"), "--co_registered", "optical+infrared"]
    command.main(["check", str(captures.folder), *flags])
    assert {path: path.read_bytes() for path in captures.folder.rglob("*") if path.is_file()} == before
    assert FaultReport.read(tmp_path / "out" / "faults.json").faults == report.faults
    page = (tmp_path / "out" / "faults.html").read_text(encoding="utf-8")
    assert all(f"<h3>{name}" in page for name in planted)
    assert "http" not in page.replace("https://www.w3.org", "")  # self-contained
    assert page.count("data:image/png;base64") >= 3 * len(planted)
    assert "10 of 48 pairs flagged" in capsys.readouterr().out
    with pytest.raises(CmkdError, match=r"is damaged .*: make it with `cmkd data check`"):
        FaultReport.read(tmp_path / "out" / "faults.html")


def test_a_missing_file_and_one_of_another_format(make_folder, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    folder = make_folder(lambda rows: rows[6].update(optical="files/o6.npy"))
    (folder / "files" / "o3.png").unlink()
    (folder / "files" / "o4.png").write_bytes(b"BM" + bytes(100))
    (folder / "files" / "r5.tif").write_bytes(b"")
    np.save(folder / "files" / "o6.npy", np.zeros((4, 4, 64), np.uint8))  # sound, but which axis is the channels?
    report = check(open_source(folder))
    assert named(report) == {
        ("p03", "unreadable", "optical"), ("p04", "unreadable", "optical"), ("p05", "truncated", "radar"),
        ("p06", "unreadable", "optical"),
    }  # fmt: skip
    assert next("--channels NAME=first" in fault.message for fault in report.faults if fault.id == "p06")


def test_sizes_that_will_be_resized_and_files_that_pairs_share_are_no_fault(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(lambda rows: rows[1].update(optical=rows[0]["optical"]))  # of one vessel
    Image.open(folder / "files" / "o5.png").resize((20, 30)).save(folder / "files" / "o5.png")
    (folder / "files" / "o7.png").write_bytes((folder / "files" / "o6.png").read_bytes())
    copied = {("p07", "exact_duplicate", "optical")}
    assert named(check(open_source(folder))) == copied | {("p05", "wrong_shape", "optical")}
    command.main(["check", str(folder), "--size", "optical=8x8", "--out", str(tmp_path / "out")])
    assert "optical: 1 pairs share a sample with another pair of their group" in capsys.readouterr().out
    assert named(FaultReport.read(tmp_path / "out" / "faults.json")) == copied
    (folder / "manifest.yaml").write_text("modalities: {optical: {size: [8, 8]}}")
    assert named(check(open_source(folder))) == copied


def test_sizes_that_build_refuses_are_told(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder()
    sides = [8, 8, 9, 10, 11]
    for k in range(24):
        path = folder / "files" / f"o{k}.png"
        Image.open(path).resize((8, sides[k % 5])).save(path)
    said = "optical has 4 sizes, 8x8 to 11x8: state one with --size optical=8x8 of cmkd data build, or in manifest.yaml"
    assert main(["data", "check", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert f"note: {said}\n" in capsys.readouterr().out
    assert f"{said}." in (tmp_path / "out" / "faults.html").read_text(encoding="utf-8")
    with pytest.raises(CmkdError, match="as in cmkd data build --size optical=8x8"):
        build(folder, tmp_path / "pack")
    (folder / "manifest.yaml").write_text("modalities: {optical: {size: [8, 8]}}")
    assert not any("sizes" in note for note in check(open_source(folder)).notes)
    assert len(build(folder, tmp_path / "pack")) == 24


def test_links_to_one_file_are_no_duplicates(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(lambda rows: [rows[k].update(optical=f"files/{k}.png") for k in (1, 2)])
    (folder / "files" / "1.png").symlink_to(folder / "files" / "o0.png")
    (folder / "files" / "2.png").symlink_to("o3.png")
    assert not named(check(open_source(folder)))


def test_finite_values_are_told_from_infinite_ones(tmp_path: Path) -> None:
    """Values near the largest of 32 bits are no fault, larger ones are to be rescaled, and infinite ones are named."""
    generator, rows = np.random.default_rng(0), ["id,label,radar"]
    for k in range(120):
        values = generator.uniform(-3e38, 3e38, (1, 8, 8))
        values[0, 0, 0] = {0: 4e38, 1: np.inf}.get(k, 0.0)
        np.save(tmp_path / f"{k}.npy", values if k < 2 else values.astype(np.float32))
        rows.append(f"p{k},{'ab'[k % 2]},{k}.npy")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    source = open_source(tmp_path)
    found = [(fault.id, fault.kind, fault.message) for fault in check(source).faults]
    assert found == [
        ("p0", "unreadable", "holds 4e+38, which float32 cannot hold: rescale it"),
        ("p1", "not_finite", "1.6 % of its values are infinite"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_shortcuts(source).found) == 1


def test_duplicates_across_the_splits_of_a_pack(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    sensor = Modality("optical", "image", (1, 24, 24), "uint8")
    images = generator.integers(0, 255, (60, 1, 24, 24), dtype=np.uint8)
    images[50] = images[2]
    images[55] = np.clip(images[3] * 0.8 + 20, 0, 255)
    images[56] = images[4] // 2  # of one group with it: two pictures of one vessel may be alike
    images[57] = images[5]
    groups = [f"g{k}" for k in range(60)]
    groups[56] = groups[4]
    splits = ["train"] * 50 + ["test"] * 10
    splits[4], splits[5] = "test", "test"
    with PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=[sensor]) as writer:
        writer.add([f"p{k}" for k in range(60)], [0, 1] * 30, splits, groups, {"optical": images})
    report = check(PackSource(Pack.open(tmp_path / "pack")))
    found = {fault.id: fault for fault in report.faults}
    assert named(report) == {("p50", "exact_duplicate", "optical"), ("p55", "near_duplicate", "optical"),
                             ("p57", "exact_duplicate", "optical")}  # fmt: skip
    assert (found["p50"].other, found["p50"].leaks) == ("p2", True)
    assert (found["p57"].other, found["p57"].leaks) == ("p5", False)
    assert "2 of the duplicates are in another split" in report.summary()


def test_files_swapped_between_sensors_of_one_format(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rough = generator.normal(size=(60, 1, 24, 24)).astype(np.float32)
    smooth = np.cumsum(np.cumsum(generator.normal(size=(60, 1, 24, 24)), axis=2), axis=3).astype(np.float32)
    rough[7], smooth[7] = smooth[7].copy(), rough[7].copy()
    sensors = [Modality(name, "image", (1, 24, 24), "float32") for name in ("rough", "smooth")]
    with PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=sensors) as writer:
        arrays = {"rough": rough, "smooth": smooth}
        writer.add([f"p{k}" for k in range(60)], [0, 1] * 30, ["train"] * 60, None, arrays)
    assert named(check(open_source(tmp_path / "pack"))) == {("p7", "swapped", "rough+smooth")}


def test_missing_modalities_other_kinds_and_few_pairs(tmp_path: Path) -> None:
    sensors = [Modality("cloud", "points", (6, 3), "float32"), Modality("profile", "vector", (4,), "float64")]
    generator = np.random.default_rng(0)
    arrays = {"cloud": generator.normal(size=(9, 6, 3)).astype(np.float32), "profile": generator.normal(size=(9, 4))}
    arrays["cloud"][3] = arrays["cloud"][1]
    with PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=sensors) as writer:
        present = {"profile": np.arange(9) != 5}
        writer.add([f"p{k}" for k in range(9)], [0] * 5 + [1] * 4, ["train"] * 9, None, arrays, present)
    assert named(check(open_source(tmp_path / "pack"))) == {("p3", "exact_duplicate", "cloud")}


@pytest.mark.slow
def test_a_real_data_set_is_left_alone(digits: Pack) -> None:
    report = check(PackSource(digits))
    assert len(report.flagged) <= 0.01 * len(digits)


@pytest.mark.slow
@pytest.mark.skipif(not EUROSAT.is_file(), reason=f"{EUROSAT.name} is not in $CMKD_DATA")
def test_a_thousand_satellite_images_are_left_alone_but_for_what_was_planted(tmp_path: Path) -> None:
    """JPEG files of ten kinds of land, some of them flat by nature: sea, fields."""
    lines = ["id,label,optical"]
    with zipfile.ZipFile(EUROSAT) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::6]
        for number, name in enumerate(names):
            (tmp_path / f"{number}.jpg").write_bytes(archive.read(name))
            lines.append(f"{number},{name.split('/')[-2]},{number}.jpg")
    with Image.open(tmp_path / "450.jpg") as image:  # a town; what is fainter than compression may be missed
        image.point(lambda value: 0.8 * value + 20).save(tmp_path / "900.jpg", quality=70)
    (tmp_path / "700.jpg").write_bytes((tmp_path / "701.jpg").read_bytes())
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    report = check(open_source(tmp_path))
    planted = {("900", "near_duplicate", "optical"), ("701", "exact_duplicate", "optical")}
    assert planted <= named(report)
    assert len(set(report.flagged) - {"900", "701"}) <= 0.01 * len(names)


def test_a_clean_build_points_to_the_check(make_folder, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    command.build(make_folder(), out=tmp_path / "pack")
    assert f"cmkd data check {tmp_path / 'pack'} --out DIR" in capsys.readouterr().out


def test_wrong_input(make_folder, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    folder = make_folder()
    with pytest.raises(CmkdError, match="nowhere does not exist"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(CmkdError, match="is neither a pack nor a folder with"):
        open_source(folder / "files")
    with pytest.raises(CmkdError, match="did you mean 'radar'"):
        open_source(folder, co_registered=[("optical", "rader")])
    pack = build(folder, tmp_path / "pack")
    with pytest.raises(CmkdError, match="did you mean 'radar'"):
        open_source(pack.path, co_registered=[("optical", "rader")])
    assert len(KINDS) == 12
