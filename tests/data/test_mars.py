"""MARS, from the published files or from tiny ones in the same layout."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from cmkd.data import Pack
from cmkd.datasets.mars import Mars
from cmkd.errors import CmkdError
from data.tiny import tiny_source


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tiny_source("mars", tmp_path / "source")
    assert folder is not None
    return folder


def starts(pack: Pack) -> pd.DataFrame:
    parts = pack.index["id"].str.extract(r"(?P<recording>person\d-movement\d+)-frame(?P<start>\d+)")
    return pack.index.assign(recording=parts["recording"], start=parts["start"].astype(int))


def test_windows_hold_the_frames_of_the_source(tiny: Path, tmp_path: Path) -> None:
    pack = Mars(window=5, stride=3).prepare(tiny, tmp_path / "pack")
    home = tiny / "synced_data" / "wooutlier" / "subject2"
    kinect = pd.read_csv(home / "timesplit" / "kinect_data_train.csv").to_numpy()[24:48]  # movement 2, ceil(0.6 * 40)
    with h5py.File(home / "radar_data2.mat") as file:
        table = np.asarray(file["radar_data_cropped"])
    row = int(np.flatnonzero(pack.index["id"] == "person2-movement2-frame0006")[0])
    window = kinect[6:11].reshape(5, 3, 25)
    expected = window - window[:, :, :1].mean(axis=0, keepdims=True)
    across = (window[:, :, 16] - window[:, :, 12]).mean(axis=0)  # from the left hip to the right one
    plane = (expected[:, 0] + 1j * expected[:, 2]) * np.exp(-1j * np.angle(across[0] + 1j * across[2]))
    expected[:, 0], expected[:, 2] = plane.real, plane.imag
    np.testing.assert_allclose(pack.array("kinect")[row], expected.reshape(5, 75), atol=1e-5)
    for frame in range(5):
        cloud = table[2:7, table[0] == 106 + frame].T
        np.testing.assert_allclose(pack.array("radar")[row, frame, : len(cloud)], cloud, rtol=1e-6)
        assert not pack.array("radar")[row, frame, len(cloud) :].any()
    assert pack.index["label"].iloc[row] == 1


def test_the_last_recording_of_person_4_is_movement_10(tiny: Path, tmp_path: Path) -> None:
    found = {}
    for published in (False, True):
        pack = Mars(window=5, published_labels=published).prepare(tiny, tmp_path / str(published))
        of = pack.index["id"].str.startswith("person4-movement9-")
        found[published] = set(pack.index["label"][of])
        assert set(pack.index["label"][pack.index["id"].str.startswith("person3-movement9-")]) == {8}
    assert found == {False: {9}, True: {8}}


def test_strongest_points_are_kept(tiny: Path, tmp_path: Path) -> None:
    every = Mars(window=5).prepare(tiny, tmp_path / "every").array("radar")
    few = Mars(window=5, points=2).prepare(tiny, tmp_path / "few").array("radar")
    intensity = np.where(every.any(-1), every[..., 4], -np.inf)
    strongest = -np.sort(-intensity, axis=-1)[..., :2]
    kept = np.where(few.any(-1), few[..., 4], -np.inf)
    np.testing.assert_array_equal(-np.sort(-kept, axis=-1), strongest)


@pytest.mark.parametrize("protocol", ["person", "time"])
def test_windows_never_cross_splits(tiny: Path, tmp_path: Path, protocol: str) -> None:
    pack = Mars(protocol=protocol, window=5, stride=2).prepare(tiny, tmp_path / "pack")  # type: ignore[arg-type]
    table = starts(pack)
    for _, recording in table.groupby("recording"):
        frames = {
            split: {k for start in part["start"] for k in range(start, start + 5)}
            for split, part in recording.groupby("split")
        }
        assert not frames.get("train", set()) & frames.get("validation", set())
        assert not frames.get("validation", set()) & frames.get("test", set())
        assert not frames.get("train", set()) & frames.get("test", set())
        for split in ("validation", "test"):
            ordered = sorted(recording.loc[recording["split"] == split, "start"])
            assert all(b - a >= 5 for a, b in pairwise(ordered))
    assert pack.index.groupby("group")["split"].nunique().max() == 1
    people = table["recording"].str[:7]
    if protocol == "person":
        assert set(people[table["split"] == "test"]) == {"person4"}
        assert set(people[table["split"] == "validation"]) == {"person3"}
        gap = table[people == "person3"].groupby(["recording", "split"])["start"].agg(["min", "max"])
        for recording in gap.index.get_level_values(0).unique():
            assert gap.loc[(recording, "validation"), "min"] - (gap.loc[(recording, "train"), "max"] + 5) >= 5


def test_person_without_a_kinect_train_file(tiny: Path, tmp_path: Path) -> None:
    pack = Mars(protocol="time", window=4, stride=4).prepare(tiny, tmp_path / "pack")
    first = pack.index[pack.index["id"].str.startswith("person1")]
    assert set(first["split"]) == {"validation", "test"}


def test_zip_and_folder_are_one(tiny: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "MARS-synced"), "zip", tiny)
    from_zip = Mars(window=5).prepare(Path(archive), tmp_path / "a")
    beside_zip = Mars(window=5).prepare(tmp_path, tmp_path / "b") if not (tmp_path / "source").exists() else from_zip
    from_folder = Mars(window=5).prepare(tiny, tmp_path / "c")
    assert from_zip.card.sha256 == from_folder.card.sha256 == beside_zip.card.sha256


def damage_zip(folder: Path) -> Path:
    path = Path(shutil.make_archive(str(folder.parent / "MARS-synced"), "zip", folder))
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def cut(file: str, keep: float) -> object:
    def damage(folder: Path) -> Path:
        path = folder / "synced_data" / "wooutlier" / file
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        return folder

    return damage


def remove(file: str) -> object:
    def damage(folder: Path) -> Path:
        (folder / "synced_data" / "wooutlier" / file).unlink()
        return folder

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_zip, "is truncated or not an archive .*: get it again from https"),
        (
            cut("subject2/radar_data4.mat", 0.5),
            r"radar_data4.mat in .* is truncated or damaged: get it again from https",
        ),
        (cut("subject3/timesplit/kinect_data_test.csv", 0.5), r"kinect_data_test.csv in .* (frames where|not a table)"),
        (remove("subject4/radar_data9.mat"), r"lacks wooutlier/subject4/radar_data9.mat"),
        (remove("subject1/timesplit/kinect_data_test.csv"), r"lacks wooutlier/subject1/timesplit/kinect_data_test.csv"),
        (lambda folder: folder.parent / "nowhere", "nowhere does not exist: get the files of mars from https"),
        (lambda folder: shutil.rmtree(folder / "synced_data") or folder, "holds no folder synced_data/wooutlier"),
    ],
)
def test_bad_sources_are_named(tiny: Path, tmp_path: Path, damage: object, says: str) -> None:
    assert callable(damage)
    with pytest.raises(CmkdError, match=says) as caught:
        Mars(window=5).prepare(damage(tiny), tmp_path / "pack")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pack").exists()
    assert not list(tmp_path.glob(".*"))


def test_damage_inside_a_zip(tiny: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "MARS-synced"), "zip", tiny))
    with zipfile.ZipFile(archive) as file:
        info = file.getinfo("synced_data/wooutlier/subject2/radar_data1.mat")
    content = bytearray(archive.read_bytes())
    content[info.header_offset + 200] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(CmkdError, match=r"subject2/radar_data1.mat in .* damaged"):
        Mars(window=5).prepare(archive, tmp_path / "pack")


@pytest.mark.parametrize("options", [{"protocol": "persons"}, {"test_person": 5}, {"window": 0}])
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(CmkdError, match="of mars"):
        Mars(**options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_published_files(published: Callable[[str], Path], tmp_path: Path) -> None:
    real = published("mars")
    every_frame_is_there_once(Mars(protocol="time", window=1, stride=1, points=8).prepare(real, tmp_path / "time"))
    last_recording_moves_the_right_side(Mars(published_labels=True).prepare(real, tmp_path / "labels"))
    both_sensors_tell_the_movements_of_a_new_person(Mars().prepare(real, tmp_path / "person"))


def every_frame_is_there_once(pack: Pack) -> None:
    assert len(pack) == 32936
    assert pack.card.split["counts"] == {"train": 16944, "validation": 8020, "test": 7972}
    table = starts(pack)
    assert table["recording"].nunique() == 39
    assert set(table.loc[table["recording"] == "person4-movement9", "label"]) == {9}


def last_recording_moves_the_right_side(pack: Pack) -> None:
    joints = pack.array("kinect").reshape(-1, 10, 3, 25)
    left, right = (joints[..., ankle].std(axis=1).mean(axis=1) for ankle in (14, 18))
    recording = pack.index["id"].str.rpartition("-")[0]
    moves_left = {
        name: bool(left[recording == name].mean() > right[recording == name].mean()) for name in set(recording)
    }
    assert [moves_left[f"person{p}-movement9"] for p in (1, 2, 3, 4)] == [True, True, True, False]
    assert not any(moves_left[f"person{p}-movement10"] for p in (1, 2, 3))


def both_sensors_tell_the_movements_of_a_new_person(pack: Pack) -> None:
    from sklearn.ensemble import RandomForestClassifier

    radar = pack.array("radar")
    seen = radar.any(-1, keepdims=True)
    mean = radar.sum(2) / seen.sum(2).clip(1)
    spread = np.sqrt(np.square((radar - mean[:, :, None]) * seen).sum(2) / seen.sum(2).clip(1))
    views = {"kinect": pack.array("kinect"), "radar": np.concatenate([mean, spread], -1)}
    train, test, labels = pack.rows("train"), pack.rows("test"), pack.index["label"].to_numpy()
    scores = {}
    for name, values in views.items():
        flat = values.reshape(len(pack), -1)
        scores[name] = (
            RandomForestClassifier(40, random_state=0).fit(flat[train], labels[train]).score(flat[test], labels[test])
        )
    assert scores["kinect"] > 0.8  # measured 0.87
    assert 0.5 < scores["radar"] < scores["kinect"] - 0.1  # measured: 0.6 to 0.7, depending on the features
