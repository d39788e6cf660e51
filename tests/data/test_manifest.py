"""Folders with a manifest: valid ones become a pack, and others are refused in one line."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from scipy.io import wavfile

from cmkd.cli.data import info
from cmkd.data import Pack, append, build
from cmkd.data.manifest.reading import Reading
from cmkd.data.manifest.shared_files import shared_files, united
from cmkd.errors import CmkdError, CmkdWarning

Folder = Callable[..., Path]
Rows = list[dict[str, str]]


def test_build(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    calls: list[tuple[int, int]] = []
    pack = build(
        folder, tmp_path / "pack", co_registered=[("optical", "radar")], rich="optical", poor="radar",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert pack.classes == ("cargo", "tanker")
    assert (pack.modalities["optical"].shape, pack.modalities["optical"].dtype) == ((3, 10, 8), "uint8")
    assert (pack.modalities["radar"].shape, pack.modalities["radar"].dtype) == ((2, 10, 8), "float32")
    assert (pack.card.rich, pack.card.poor, pack.card.name) == ("optical", "radar", "ships")
    assert calls[-1] == (24, 24)
    batch = pack.batch(np.arange(24))
    for k in (0, 11, 23):
        expected = np.asarray(Image.open(folder / "files" / f"o{k}.png")).transpose(2, 0, 1)
        np.testing.assert_array_equal(batch.inputs["optical"][k].numpy(), expected)
        np.testing.assert_array_equal(batch.inputs["radar"][k].numpy(), tifffile.imread(folder / "files" / f"r{k}.tif"))
    assert batch.target.tolist() == [1, 0] * 12
    assert pack.index.groupby("group")["split"].nunique().max() == 1
    assert set(pack.index["split"]) == {"train", "validation", "test"}
    pack.verify()


def test_threads_change_nothing(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    one, four = build(folder, tmp_path / "one"), build(folder, tmp_path / "four", workers=4)
    assert one.card.sha256 == four.card.sha256
    assert build(folder, tmp_path / "other", seed=7).index["split"].tolist() != one.index["split"].tolist()


def test_missing_modalities_and_given_splits(make_folder: Folder, tmp_path: Path) -> None:
    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row["split"] = ["train", "val", "test"][k // 2 % 3]
        rows[3]["optical"] = rows[4]["radar"] = ""

    pack = build(make_folder(edit), tmp_path / "pack")
    batch = pack.batch(np.array([3, 4]))
    assert batch.present["optical"].tolist() == [False, True]
    assert batch.present["radar"].tolist() == [True, False]
    mean = torch.tensor(pack.modality("optical").mean).round().view(-1, 1, 1)
    assert (batch.inputs["optical"][0] == mean).all()  # a missing image does not stand out: it is the mean
    assert pack.index["split"].tolist() == [["train", "validation", "test"][k // 2 % 3] for k in range(24)]
    assert pack.card.split["method"] == "given"


def test_an_empty_label_is_a_pair_without_one(
    make_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(rows: Rows) -> None:
        for row in rows[:4]:
            row["label"] = ""

    folder = make_folder(edit)
    pack = build(folder, tmp_path / "pack")
    assert pack.rows("train", labeled=False).tolist() == [0, 1, 2, 3]
    info(str(pack.path))
    assert "no label                  4 in train, 0 in validation, 0 in test" in capsys.readouterr().out


def test_numeric_labels_sort_as_numbers(make_folder: Folder, tmp_path: Path) -> None:
    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row["label"] = ["10", "9"][k % 2]

    assert build(make_folder(edit), tmp_path / "pack").classes == ("9", "10")


def test_parquet_manifest(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    frame = pd.read_csv(folder / "manifest.csv")
    frame["label"] = [1, 2] * 12
    frame.loc[5, "radar"] = None
    frame.to_parquet(folder / "manifest.parquet")
    refused(folder, tmp_path, "has both manifest.csv and manifest.parquet")
    (folder / "manifest.csv").unlink()
    pack = build(folder, tmp_path / "pack")
    assert pack.classes == ("1", "2")
    assert not pack.index["has_radar"].iloc[5]


def test_sizes_and_kinds(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    Image.fromarray(np.zeros((20, 16, 3), np.uint8)).save(folder / "files" / "o5.png")
    with pytest.raises(CmkdError, match=r"line 7, optical: .*o5.png has size 20x16, .*--size optical=10x8"):
        build(folder, tmp_path / "pack")
    pack = build(folder, tmp_path / "pack", readings={"optical": Reading(size=(16, 16))})
    assert pack.modalities["optical"].shape == (3, 16, 16)


def test_points_series_and_vectors(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["id,label,cloud,sound,profile"]
    for k in range(12):
        np.save(folder / f"c{k}.npy", generator.normal(size=(5 + k % 3, 3)).astype(np.float32))
        wavfile.write(folder / f"s{k}.wav", 8000, generator.integers(-99, 99, 50 + k, dtype=np.int16))
        np.save(folder / f"v{k}.npy", generator.normal(size=4))
        lines.append(f"{k},{'ab'[k % 2]},c{k}.npy,s{k}.wav,v{k}.npy")
    (folder / "manifest.csv").write_text("\n".join(lines))
    readings = {"cloud": Reading(kind="points", size=(7,)), "sound": Reading(size=(40,))}
    pack = build(folder, tmp_path / "pack", readings=readings)
    assert {name: (m.kind, m.shape, m.dtype) for name, m in pack.modalities.items()} == {
        "cloud": ("points", (7, 3), "float32"),
        "sound": ("series", (40, 1), "int16"),
        "profile": ("vector", (4,), "float32"),
    }
    assert not pack.batch(np.array([0])).inputs["cloud"][0, 5:].any()
    wavfile.write(folder / "s3.wav", 16000, np.zeros(60, np.int16))
    with pytest.raises(CmkdError, match="has 16000 samples per second"):
        build(folder, tmp_path / "again", readings=readings)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_a_series_have_one_order(tmp_path: Path, suffix: str) -> None:
    table, rows = pd.DataFrame({"ax": [1.0, 1.1], "ay": [2.0, 2.1], "{z}": [9.8, 9.9]}), ["id,label,imu,profile"]

    def save(k: int) -> None:
        path = tmp_path / f"i{k}{suffix}"
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)

    for k in range(12):
        save(k)
        np.save(tmp_path / f"v{k}.npy", np.arange(4.0) + k)
        rows.append(f"{k},{'ab'[k % 2]},i{k}{suffix},v{k}.npy")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    assert build(tmp_path, tmp_path / "pack").array("imu")[5, 0].tolist() == pytest.approx([1, 2, 9.8])
    for names, how in ((["{z}", "ay", "ax"], "in another order"), (["bx", "ay", "{z}"], "with other names")):
        table.columns = pd.Index(names)
        save(7)
        says = (
            rf"line 9, imu: .*i7{suffix} has the columns of .*i0{suffix} {how}, such as '{names[0]}' in place of 'ax'"
        )
        refused(tmp_path, tmp_path / "out", says)


def set_cell(row: int, column: str, value: str) -> Callable[[Rows], None]:
    return lambda rows: rows[row].update({column: value})


def set_all(column: str, value: str) -> Callable[[Rows], None]:
    return lambda rows: [row.update({column: value}) for row in rows] and None


def rename(old: str, new: str) -> Callable[[Rows], None]:
    def edit(rows: Rows) -> None:
        for row in rows:
            row[new] = row.pop(old)

    return edit


def two_missing(rows: Rows) -> None:
    rows[2]["radar"] = rows[9]["optical"] = "files/nowhere.png"


def crossing(rows: Rows) -> None:
    for k, row in enumerate(rows):
        row["split"] = "test" if k % 2 else "train"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (two_missing, r"line 4, radar: .*nowhere.png does not exist \(2 missing in total\)"),
        (
            lambda rows: [row.update(product=f"S1A_{row['id']}.tif") for row in rows],
            r"line 2, product: .*\(24 missing in total\): .*; if 'product' is metadata, remove the suffix",
        ),
        (set_cell(4, "id", "p01"), "id 'p01' is in manifest.csv line 3 and manifest.csv line 6"),
        (set_cell(4, "id", ""), "line 6 has no id"),
        (set_all("label", "ship"), "at least two classes"),
        (
            lambda rows: [row.update(label=str(k % 3 - 1)) for k, row in enumerate(rows)],
            "manifest.csv has the label -1: leave the cell empty for a pair without a label",
        ),
        (
            lambda rows: [row.update(label=f"{k % 3 - 1}.0") for k, row in enumerate(rows)],
            "manifest.csv has the label -1: leave the cell empty for a pair without a label",
        ),
        (set_cell(4, "label", "Tanker"), "classes 'Tanker' and 'tanker' differ only in case: name them alike"),
        (crossing, "group 'vessel0' is in both train and test"),
        (set_all("split", "test"), "no pair is in the train split"),
        (set_all("split", "training"), "unknown split 'training': did you mean 'train'"),
        (rename("group", "grup"), "unknown column 'grup': did you mean 'group'"),
        (rename("group", "GROUP"), "unknown column 'GROUP': did you mean 'group'"),
        (set_all("SPLIT", "train"), "unknown column 'SPLIT': did you mean 'split'"),
        (rename("label", "class"), "has no column 'label'"),
        (rename("radar", "my radar"), "modality 'my radar' must be a word"),
        (set_cell(3, "optical", "../../etc/passwd.png"), "line 5, optical: '../../etc/passwd.png' leaves the folder"),
        (set_cell(3, "optical", "/etc/passwd.png"), "leaves the folder"),
        (set_cell(3, "optical", "files/../../x.png"), "leaves the folder"),
        (set_cell(3, "optical", "files/r3.tif"), "r3.tif has 2 channels, .*o0.png has 3"),
        (lambda rows: [row.update(radar="", optical="") for row in rows], "lists no files"),
        (
            lambda rows: [row.update({"radar" if k % 2 else "optical": ""}) for k, row in enumerate(rows)],
            "no row of .*manifest.csv has files of two modalities: put both files of a pair in one row",
        ),
        (set_all("radar", ""), "'radar' is missing from every train pair: remove its column"),
        (lambda rows: [(row.pop("radar"), row.pop("optical")) for row in rows], "no column of files"),
    ],
)
def test_bad_tables_are_one_line(make_folder: Folder, tmp_path: Path, edit: Any, says: str) -> None:  # noqa: ANN401
    folder = make_folder(edit)
    refused(folder, tmp_path, says)


@pytest.mark.parametrize("place", ["", "files", ".."])
def test_the_folder_of_the_data_is_not_said_to_be_removed(make_folder: Folder, place: str) -> None:
    folder = make_folder()
    with pytest.raises(CmkdError, match=r"holds data of .*ships: choose another path"):
        build(folder, folder / place)


def test_a_group_of_no_value_is_told(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder(lambda rows: [row.update(group="NA") for row in rows[:3]])
    with pytest.warns(CmkdWarning, match="'NA' is read as a group of 3 pairs; leave the cell empty where there is no"):
        build(folder, tmp_path / "pack")


def share(rows: Rows) -> None:
    """Let each optical image be in two rows of one label, each with its own radar image."""
    for k, row in enumerate(rows):
        row["optical"] = rows[k - k % 4 + k % 2]["optical"]
        del row["group"]


def test_rows_that_share_a_file_stay_in_one_split(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder(share)
    with pytest.warns(
        CmkdWarning, match=r"o0\.png is in manifest\.csv line 2 and manifest\.csv line 4: rows that share"
    ):
        packs = [build(folder, tmp_path / str(seed), seed=seed) for seed in range(4)]
    for pack in packs:
        assert pack.index["group"].tolist() == [f"pair p{k - k % 4 + k % 2:02d}" for k in range(24)]
        assert pack.index.groupby("group")["split"].nunique().max() == 1

    def stated(rows: Rows) -> None:
        share(rows)
        for k, row in enumerate(rows):
            row["split"] = "test" if k == 6 else "val" if k > 12 else "train"

    with pytest.raises(
        CmkdError, match=r"o4\.png is in manifest\.csv line 6 \(train\) and manifest\.csv line 8 \(test\)"
    ):
        build(make_folder(stated, name="stated"), tmp_path / "pack")


def test_groups_that_share_a_file_stay_in_one_split(make_folder: Folder, tmp_path: Path) -> None:
    def grouped(rows: Rows) -> None:
        share(rows)
        for k, row in enumerate(rows):
            row["group"] = f"day {k // 2}" if k else ""  # both images of a day are also on the next day

    with pytest.warns(CmkdWarning, match=r"o0\.png is in manifest\.csv line 2 and .* line 4: rows that share"):
        folder = make_folder(grouped)
        packs = [build(folder, tmp_path / str(seed), seed=seed) for seed in range(4)]
    for pack in packs:
        assert pack.index["group"].tolist() == [f"day {k // 4 * 2}" for k in range(24)]
        assert pack.index.groupby("group")["split"].nunique().max() == 1


def test_an_id_may_be_the_name_of_a_group() -> None:
    alike = [(Path("1.png"), 0, 1)]
    assert united(alike, ["7", "8", "9"], ["", "", "7"]) == ["pair 7", "pair 7", "7"]


def test_classes_of_single_letters_may_differ_in_case(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder(lambda rows: [row.update(label="aA"[k % 2]) for k, row in enumerate(rows)])
    assert build(folder, tmp_path / "pack").classes == ("A", "a")


def refused(folder: Path, tmp_path: Path, says: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CmkdError, match=says) as caught:
        build(folder, tmp_path / "pack")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before  # no partial files remain


@pytest.mark.parametrize("file", ["files/o7.png", "files/r7.tif"])
@pytest.mark.parametrize("keep", [0, 60, -20])
def test_truncated_file_leaves_nothing_behind(make_folder: Folder, tmp_path: Path, file: str, keep: int) -> None:
    folder = make_folder()
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:keep])
    refused(folder, tmp_path, f"{file}.*truncated.*`cmkd data check .*ships --out faults` finds all damaged files")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty: it needs the columns"),
        (b"id,label,optical\n", "has a header and no rows"),
        ("id,label,optical\n1,Sch\xf6n,a.png\n".encode("latin-1"), "is not UTF-8"),
        (b"id;label;optical\n1;a;a.png\n", "separated by semicolons"),
        (b"id,label,optical\n1,a\n", "line 2 has 2 cells, but the header has 3"),
        (b'id,label,optical\n1,"a,a.png\n', "cannot be read as CSV"),
        (b"id,label,label\n1,a,a\n", "two columns 'label'"),
    ],
)
def test_unreadable_csv(make_folder: Folder, tmp_path: Path, content: bytes, says: str) -> None:
    folder = make_folder()
    (folder / "manifest.csv").write_bytes(content)
    refused(folder, tmp_path, says)


def test_other_bad_input(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    tifffile.imwrite(folder / "files" / "r9.tif", np.zeros((2, 10, 8), np.uint16), planarconfig="separate",
                     photometric="minisblack")  # fmt: skip
    refused(folder, tmp_path, r"r9.tif holds uint16, .*r0.tif holds float32: convert them to one")
    tifffile.imwrite(folder / "files" / "r9.tif", np.full((2, 10, 8), np.nan, np.float32), planarconfig="separate",
                     photometric="minisblack")  # fmt: skip
    refused(folder, tmp_path, r"r9.tif has no valid value")
    (folder / "manifest.csv").unlink()
    refused(folder, tmp_path, "has no manifest.csv or manifest.parquet")
    (folder / "manifest.parquet").write_bytes(b"PAR1")
    refused(folder, tmp_path, "truncated or not a Parquet file")
    refused(tmp_path / "nowhere", tmp_path, "nowhere does not exist")


def test_wrong_options(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    with pytest.raises(CmkdError, match="did you mean 'optical'"):
        build(folder, tmp_path / "pack", readings={"optcal": Reading(size=(8, 8))})
    with pytest.raises(CmkdError, match="a size for image needs 2 positive numbers"):
        build(folder, tmp_path / "pack", readings={"optical": Reading(size=(8,))})
    with pytest.raises(CmkdError, match="'sonar' is not a modality"):
        build(folder, tmp_path / "pack", rich="sonar")
    with pytest.raises(CmkdError, match="'radar' is given as the rich and as the poor modality; name two"):
        build(folder, tmp_path / "pack", rich="radar", poor="radar")
    build(folder, tmp_path / "pack")
    with pytest.raises(CmkdError, match="exists: remove it"):
        build(folder, tmp_path / "pack")


def test_class_without_test_pairs_is_warned_of(make_folder: Folder, tmp_path: Path) -> None:
    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row["group"] = ""
            row["split"] = ["train", "validation"][k % 2] if k < 20 else "test"
            row["label"] = "ab"[k // 2 % 2] if k < 20 else "a"

    with pytest.warns(UserWarning, match="the test split lacks 1 of 2 classes, such as 'b'"):
        build(make_folder(edit), tmp_path / "pack")


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_append_a_second_delivery(make_folder: Folder, tmp_path: Path) -> None:
    first = make_folder()
    pack = build(first, tmp_path / "pack")
    known = pack.index[pack.index["split"] == "test"].iloc[0]

    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row["id"] = f"new{k}"
            row["group"] = f"later{k}"
        rows[0]["label"] = "ferry"
        rows[1]["group"] = known["group"]

    second = make_folder(edit, name="delivery")
    with pytest.raises(
        CmkdError, match=r"labels that are not classes of .*: ferry; correct them, or .*--new_classes al"
    ):
        append(tmp_path / "pack", second)
    with pytest.warns(CmkdWarning, match="the train split lacks 1 of 3 classes, such as 'ferry'"):
        longer = append(tmp_path / "pack", second, new_classes="allow")
    assert (len(longer), longer.card.version) == (48, 2)
    assert longer.classes == ("cargo", "tanker", "ferry")
    assert longer.index["split"].iloc[25] == "test"
    assert longer.index["label"].iloc[24] == 2
    assert len(Pack.open(tmp_path / "pack", version=1)) == 24
    longer.verify()
    with pytest.raises(CmkdError, match=r"has 'new0' \(24 of 24 ids\): if these are other pairs, give them new ids"):
        append(tmp_path / "pack", second)
    assert len(Pack.open(tmp_path / "pack")) == 48


def test_a_new_class_may_not_differ_from_an_old_one_in_case_alone(make_folder: Folder, tmp_path: Path) -> None:
    build(make_folder(), tmp_path / "pack")

    def edit(rows: Rows) -> None:
        for row in rows:
            row.update(id=f"{row['id']}b", label=row["label"].upper(), group=f"{row['group']}b")

    with pytest.raises(CmkdError, match="classes 'cargo' and 'CARGO' differ only in case"):
        append(tmp_path / "pack", make_folder(edit, name="more"), new_classes="allow")


def test_append_of_another_sensor_is_refused(make_folder: Folder, tmp_path: Path) -> None:
    build(make_folder(), tmp_path / "pack")
    other = make_folder(lambda rows: [row.update(id=row["id"] + "b") for row in rows], name="other")
    for k in range(24):
        tifffile.imwrite(other / "files" / f"r{k}.tif", np.zeros((10, 8), np.float32))
    with pytest.raises(CmkdError, match=r"radar in .* is .*but the pack has"):
        append(tmp_path / "pack", other)
    shutil.rmtree(other)
    other = make_folder(
        lambda rows: [row.update(id=row["id"] + "b", rader=row.pop("radar")) for row in rows], name="other"
    )
    with pytest.raises(CmkdError, match="did you mean 'radar'"):
        append(tmp_path / "pack", other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Pack.open(tmp_path / "pack")) == 24


def test_a_file_is_known_by_whatever_path_names_it(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "0.npy").touch()
    (tmp_path / "link.npy").symlink_to(tmp_path / "r" / "0.npy")
    (tmp_path / "folder").symlink_to(tmp_path / "r")
    paths = [tmp_path / name for name in ("r/0.npy", "r/../r/0.npy", "link.npy", "folder/0.npy", "r/1.npy")]
    assert [rows for _, *rows in shared_files({"radar": paths})] == [[0, 1], [0, 2], [0, 3]]
