"""Packs are written completely or not at all, append-only, versioned, and equal to what was added."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cmkd.data import CardInfo, Kind, Modality, Pack, PackExistsError, PackWriter
from cmkd.data.pack.labels import hidden_labels
from cmkd.data.pack.statistics import ChannelStatistics
from cmkd.errors import CmkdError
from cmkd.io import locked
from cmkd.types import UNLABELED

SENSORS = [
    Modality("optical", "image", (3, 6, 5), "uint8"),
    Modality("radar", "point_series", (4, 7, 5), "float32"),
]


def arrays(count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    radar = generator.normal(3, 2, (count, 4, 7, 5)).astype(np.float32)
    radar[:, :, 5:] = 0  # padding
    return {"optical": generator.integers(0, 255, (count, 3, 6, 5), dtype=np.uint8), "radar": radar}


def write(path: Path, count: int = 30, *, groups: list[str] | None = None) -> dict[str, NDArray[Any]]:
    data = arrays(count)
    splits = ["train", "validation", "test"] * (count // 3)
    with PackWriter(path, CardInfo("toy", license="CC0"), classes=["a", "b"], modalities=SENSORS) as writer:
        for start in range(0, count, 9):
            part = slice(start, start + 9)
            ids = [f"p{k}" for k in range(count)][part]
            labels = [-1 if k % 5 == 4 else k % 2 for k in range(count)][part]
            present = {"radar": np.array([k % 4 != 3 for k in range(count)][part])}
            chunk = {name: values[part] for name, values in data.items()}
            writer.add(ids, labels, splits[part], groups[part] if groups else None, chunk, present)
    return data


def add(writer: PackWriter, names: list[str], **changes: object) -> None:
    count = len(names)
    content: dict[str, Any] = {
        "ids": names,
        "labels": [0] * count,
        "splits": ["train"] * count,
        "groups": None,
        "arrays": arrays(count),
    }
    writer.add(**(content | changes))


def test_round_trip(tmp_path: Path) -> None:
    data = write(tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    rows = np.array([5, 0, 7, 7])
    batch = pack.batch(torch.from_numpy(rows))
    assert torch.equal(batch.inputs["optical"], torch.from_numpy(data["optical"][rows]))
    assert batch.inputs["optical"].dtype == torch.uint8
    assert batch.target.tolist() == [1, 0, 1, 1]
    assert batch.index.tolist() == rows.tolist()
    assert batch.present["radar"].tolist() == [True, True, False, False]
    assert not batch.inputs["radar"][2].any()
    assert torch.equal(batch.inputs["radar"][0], torch.from_numpy(data["radar"][5]))
    assert list(pack.batch(rows, ["radar"]).inputs) == ["radar"]
    batch.inputs["optical"].zero_()  # a batch is a copy that the caller may change
    assert pack.batch(rows).inputs["optical"].any()
    pack.verify()


def test_rows_filter(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    assert pack.rows("train").tolist() == list(range(0, 30, 3))
    assert pack.rows("train", modalities=["radar"]).tolist() == [k for k in range(0, 30, 3) if k % 4 != 3]
    assert pack.rows("test", labeled=False).tolist() == [k for k in range(2, 30, 3) if k % 5 == 4]
    both = [*pack.rows("test", labeled=True), *pack.rows("test", labeled=False)]
    assert sorted(both) == pack.rows("test").tolist()
    assert pack.rows("train").dtype == np.int64


def test_statistics_are_those_of_the_train_rows_that_are_present(tmp_path: Path) -> None:
    data = write(tmp_path / "pack")
    card = Pack.open(tmp_path / "pack").card
    train = np.arange(0, 30, 3)
    optical = data["optical"][train].astype(np.float64)
    np.testing.assert_allclose(card.modalities["optical"].mean, optical.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(card.modalities["optical"].std, optical.std((0, 2, 3)), rtol=1e-12)
    radar = data["radar"][train[train % 4 != 3]][:, :, :5].reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(card.modalities["radar"].mean, radar.mean(0), rtol=1e-10)
    np.testing.assert_allclose(card.modalities["radar"].std, radar.std(0), rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 6), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_streamed_statistics_equal_those_at_once(seed: int, chunks: list[int], offset: float) -> None:
    values = np.random.default_rng(seed).normal(offset, 1.0, (sum(chunks), 4, 3))
    statistics = ChannelStatistics(Modality("s", "series", (4, 3), "float64"))
    for part in np.split(values, np.cumsum(chunks)[:-1]):
        statistics.update(part)
    mean, std = statistics.result()
    np.testing.assert_allclose(mean, values.mean((0, 1)), rtol=1e-9)
    np.testing.assert_allclose(std, values.std((0, 1)), rtol=1e-6)


def test_constant_channel_has_deviation_one() -> None:
    statistics = ChannelStatistics(Modality("v", "vector", (2,), "float32"))
    for _ in range(7):
        statistics.update(np.array([[0.1, 1.0], [0.1, 2.0]], dtype=np.float32))
    assert statistics.result()[1] == (1.0, 0.5)


def test_append_makes_a_version_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    write(path)
    first = Pack.open(path)
    before = first.batch(np.arange(30))
    with PackWriter.append(path, classes=["a", "b", "c"]) as writer:
        add(writer, ["new0", "new1"], labels=[2, 1])
    second, again = Pack.open(path), Pack.open(path, version=1)
    assert (len(second), second.card.version, second.classes) == (32, 2, ("a", "b", "c"))
    assert (len(again), again.card.version, again.classes) == (30, 1, ("a", "b"))
    assert again.card == first.card
    assert second.card.modalities["optical"].mean != first.card.modalities["optical"].mean
    for name, values in again.batch(np.arange(30)).inputs.items():
        assert torch.equal(values, before.inputs[name])
        assert torch.equal(second.batch(np.arange(30)).inputs[name], values)
    assert [v.rows for v in second.card.history] == [30, 32]
    first.verify()
    second.verify()
    with pytest.raises(CmkdError, match="has no version 3: choose 1 to 2"):
        Pack.open(path, version=3)


def test_failed_append_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    write(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(CmkdError, match="id 'p3' occurs twice"), PackWriter.append(path) as writer:
        add(writer, ["new0"])
        add(writer, ["p3"])
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


@pytest.mark.parametrize("name", ["id", "label", "split", "group", "position"])
def test_a_modality_cannot_be_named_as_a_column_of_the_index(name: str, tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match=f"a modality cannot be named '{name}': name it as its sensor"):
        PackWriter(
            tmp_path / "pack",
            CardInfo("t"),
            classes=["a", "b"],
            modalities=[Modality(name, "vector", (1,), "float32")],
        )


KILLED = """
import sys
from pathlib import Path
import numpy as np
from cmkd.data import PackWriter
writer = PackWriter.append(Path(sys.argv[1]))
zeros = {"optical": np.zeros((1, 3, 6, 5), np.uint8), "radar": np.zeros((1, 4, 7, 5), np.float32)}
for number in range(10**6):
    writer.add([f"new{number}"], [0], ["train"], None, zeros)
    if number == 2000:
        print("adding", flush=True)
"""


def test_kill_in_the_middle_of_an_append(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    write(path)
    size = (path / "optical.bin").stat().st_size
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"adding"
    with pytest.raises(CmkdError, match="written by another process"):
        PackWriter.append(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (path / "optical.bin").stat().st_size > size  # it did leave a tail
    (path / ".card.json.0123456789ab.tmp").mkdir()  # leftover of a kill while the card is written
    pack = Pack.open(path)
    assert (len(pack), pack.card.version) == (30, 1)
    pack.verify()
    with PackWriter.append(path) as writer:
        add(writer, ["after"])
    assert (path / "optical.bin").stat().st_size == size + 90
    assert not list(path.glob(".*"))
    after = Pack.open(path)
    after.verify()
    assert torch.equal(after.batch(np.array([30])).inputs["optical"], torch.from_numpy(arrays(1)["optical"]))


def test_crash_before_the_commit_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pack"
    write(path)
    real = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "card.json":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CmkdError, match=r"cannot write .*pack: No space left"), PackWriter.append(path) as writer:
        add(writer, ["new"])
    monkeypatch.undo()
    assert not list(path.glob(".*"))
    Pack.open(path).verify()
    assert len(Pack.open(path)) == 30
    with PackWriter.append(path) as writer:  # overwrites the index that was not committed
        add(writer, ["other"])
    assert Pack.open(path).index["id"].iloc[-1] == "other"
    Pack.open(path).verify()


def test_new_pack_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="halfway"),
        PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=SENSORS) as writer,
    ):
        add(writer, ["x"])
        assert not (tmp_path / "pack").exists()
        raise RuntimeError("halfway")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    abandoned, working = tmp_path / ".pack.0123456789ab.tmp", tmp_path / ".pack.ba9876543210.tmp"
    for folder in (abandoned, working):
        folder.mkdir()
    with locked(working):
        write(tmp_path / "pack")
        assert not abandoned.exists()
        assert working.exists()


def test_two_writers_of_one_pack(tmp_path: Path) -> None:
    slow = PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=SENSORS)
    add(slow, ["slow"])
    write(tmp_path / "pack")
    with pytest.raises(PackExistsError, match="appeared meanwhile"):
        slow.close()
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    assert len(Pack.open(tmp_path / "pack")) == 30
    with pytest.raises(PackExistsError, match="exists: remove it"):
        write(tmp_path / "pack")


def test_pickles_by_path(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    with PackWriter.append(tmp_path / "pack") as writer:
        add(writer, ["new"])
    pack = Pack.open(tmp_path / "pack", version=1)
    pack.batch(np.arange(3))
    content = pickle.dumps(pack)
    assert len(content) < 500
    copy = pickle.loads(content)
    assert len(copy) == 30
    assert torch.equal(copy.batch(np.arange(3)).inputs["radar"], pack.batch(np.arange(3)).inputs["radar"])


def test_withheld_labels(digits: Pack) -> None:
    few, fewer = digits.withhold(0.2), digits.withhold(0.05)
    for pack, share in ((few, 0.2), (fewer, 0.05)):
        known = pack.rows("train", labeled=True)
        counts, all_counts = (
            np.bincount(p.index["label"].to_numpy()[p.rows("train", labeled=True)]) for p in (pack, digits)
        )
        assert np.array_equal(counts, np.ceil(share * all_counts))  # the same fraction of each class
        assert len(pack.rows("train")) == len(digits.rows("train")) and pack.batch(known).target.min() >= 0
        for split in ("validation", "test"):
            assert np.array_equal(pack.rows(split, labeled=True), digits.rows(split))
    assert set(fewer.rows("train", labeled=True)) <= set(few.rows("train", labeled=True))
    there = pickle.loads(pickle.dumps(few))  # another process sees the same labels
    assert np.array_equal(there.index["label"], few.index["label"]) and not few.index.equals(digits.index)
    again = pickle.loads(pickle.dumps(few.withhold(0.5)))
    assert np.array_equal(again.index["label"], few.withhold(0.5).index["label"])
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(CmkdError, match="above 0 and at most 1"):
            digits.withhold(share)


def test_a_number_of_labels_is_spread_over_the_classes(tmp_path: Path) -> None:
    """Classes of 60, 20 and 2 pairs; every fifth pair lacks radar, except in the rarest class."""
    labels = [0] * 60 + [1] * 20 + [2] * 2
    values = np.zeros((82, 1), dtype=np.float32)
    modalities = [Modality(name, "vector", (1,), "float32") for name in ("optical", "radar")]
    with PackWriter(tmp_path / "pack", CardInfo("rare"), classes=["a", "b", "c"], modalities=modalities) as writer:
        lacking = [None if row % 5 == 0 and row < 80 else values[row] for row in range(82)]
        writer.add_samples(
            list(map(str, range(82))), labels, ["train"] * 82, None, {"optical": values, "radar": lacking}
        )
    pack = Pack.open(tmp_path / "pack")
    before: set[int] = set()
    for number in range(3, 83):
        known = pack.withhold(labels=number).rows("train", labeled=True)
        assert len(known) == number and before < set(known)  # one more label each time, and all earlier ones
        before = set(known)
        counts = np.bincount(pack.index["label"].to_numpy()[known])
        assert counts.min() >= 1 and np.all(np.abs(counts - number * np.array([60, 20, 2]) / 82) < 2)
    both = pack.withhold(labels=40)
    assert len(both.rows("train", modalities=("optical", "radar"), labeled=True)) == 40  # all have both modalities
    assert set(both.rows("train", labeled=True)) < set(pack.withhold(0.6).rows("train", labeled=True))
    there = pickle.loads(pickle.dumps(both))
    assert np.array_equal(there.index["label"], both.index["label"])


def test_wrong_labels_are_few_differ_and_are_the_same_in_every_process(digits: Pack) -> None:
    few, noisy, noisier = digits.withhold(0.3), digits.withhold(0.3).mislabel(0.1), digits.withhold(0.3).mislabel(0.4)
    rows = few.rows("train", labeled=True)
    right, wrong, more = (pack.index["label"].to_numpy()[rows] for pack in (few, noisy, noisier))
    assert [(right != wrong).sum(), (right != more).sum()] == [round(0.1 * len(rows)), round(0.4 * len(rows))]
    assert np.array_equal(wrong[right != wrong], more[right != wrong]) and more.min() >= 0 and more.max() < 10
    assert len(set((more - right)[right != more] % 10)) == 9  # wrong labels are from all other classes
    elsewhere = few.index.index.difference(rows)
    assert noisier.index.loc[elsewhere].equals(few.index.loc[elsewhere])
    assert pickle.loads(pickle.dumps(noisy)).index.equals(noisy.index)
    assert digits.mislabel(0.0) is digits
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(CmkdError, match="give at least 0 and below 1"):
            digits.mislabel(share)


def test_pairs_without_a_label_are_left_out_those_that_lack_a_modality_first(tmp_path: Path) -> None:
    """10 of 60 training pairs have a label, and 20 of the others lack radar."""
    values, modalities = np.zeros((80, 1), np.float32), [Modality(n, "vector", (1,), "float32") for n in ("o", "r")]
    labels, splits = [0, 1] * 5 + [UNLABELED] * 50 + [0, 1] * 10, ["train"] * 60 + ["validation"] * 10 + ["test"] * 10
    radar = [None if 10 <= row < 30 else values[row] for row in range(80)]
    with PackWriter(tmp_path / "pack", CardInfo("few"), classes=["a", "b"], modalities=modalities) as writer:
        writer.add_samples(list(map(str, range(80))), labels, splits, None, {"o": values, "r": radar})
    pack = Pack.open(tmp_path / "pack")
    before: set[int] = set()
    for ratio in (0, 0.5, 2, 3, 4.9):
        less = pack.limit_unlabeled(ratio)
        kept = less.rows("train", labeled=False)
        assert len(kept) == 10 * ratio and before <= set(kept) and (ratio > 3 or kept.min(initial=30) >= 30)
        before = set(kept)
        for split in ("validation", "test"):
            assert np.array_equal(less.rows(split), pack.rows(split))
        assert np.array_equal(less.rows("train", labeled=True), pack.rows("train", labeled=True))
        assert pickle.loads(pickle.dumps(less)).index.equals(less.index)
    assert pack.limit_unlabeled(5) is pack and pack.limit_unlabeled(50) is pack
    for ratio in (-1, float("nan"), float("inf")):
        with pytest.raises(CmkdError, match="must be at least 0 and finite"):
            pack.limit_unlabeled(ratio)


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_fraction_of_a_class_is_rounded_up_from_its_exact_value(percent: int) -> None:
    ids, partial = list(map(str, range(100))), np.zeros(100, np.bool_)
    assert len(hidden_labels(np.zeros(100, np.int64), ids, partial, percent / 100, None)) == 100 - percent


def test_a_number_of_labels_that_cannot_be_kept_is_refused(digits: Pack) -> None:
    with pytest.raises(CmkdError, match="labels is 9, fewer than the 10 classes; give at least one label per class"):
        digits.withhold(labels=9)
    with pytest.raises(CmkdError, match="labels is 1078, but only 1077 training pairs have a label"):
        digits.withhold(labels=1078)
    with pytest.raises(CmkdError, match=r"labels is 20 and label_fraction is 0\.5; give one of them"):
        digits.withhold(0.5, labels=20)
    assert len(digits.withhold(labels=1077).rows("train", labeled=True)) == 1077
    counted = digits.rows("train").dtype.type(40)  # a numpy integer, such as a count of rows
    assert len(digits.withhold(labels=counted).rows("train", labeled=True)) == 40


@pytest.mark.parametrize("file", ["optical.bin", "radar.bin", "index-0001.parquet", "card.json"])
def test_damage_is_named(tmp_path: Path, file: str) -> None:
    write(tmp_path / "pack")
    path = tmp_path / "pack" / file
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(CmkdError, match=f"{file}.*(truncated|damaged)") as caught:
        Pack.open(tmp_path / "pack")
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(CmkdError, match=f"{file}.*make"):
        Pack.open(tmp_path / "pack")


def test_changed_byte_is_found_by_verify(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    with (tmp_path / "pack" / "radar.bin").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    pack.verify(deep=False)
    with pytest.raises(CmkdError, match=r"radar\.bin has changed"):
        pack.verify()


def test_newer_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    card = tmp_path / "pack" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"format": 99}))
    with pytest.raises(CmkdError, match=r"format 99.*upgrade"):
        Pack.open(tmp_path / "pack")


def test_format_1_is_read_and_upgraded(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "format_1" / "pack", tmp_path / "pack")
    expected = CardInfo(
        "ships", title="Six pairs", rich="optical", poor="radar", co_registered=[("optical", "radar")], mirror=True,
        license="CC0", citation="@misc{ships}", sources=["https://example.org/ships"],
    )  # fmt: skip
    pack = Pack.open(tmp_path / "pack")
    pack.verify()
    assert CardInfo.from_dict(pack.card.to_dict()) == expected
    assert (pack.card.notes, len(pack)) == ("None real.", 6)
    with PackWriter.append(tmp_path / "pack") as writer:
        writer.add(["new"], [0], ["train"], None, {name: pack.array(name)[:1] for name in pack.modalities})
    content = json.loads((tmp_path / "pack" / "card.json").read_text())
    assert content["format"] == 2 and "licence" not in content["header"]
    assert CardInfo.from_dict(Pack.open(tmp_path / "pack").card.to_dict()) == expected


def test_another_value_that_stands_for_no_data_makes_other_data(tmp_path: Path) -> None:
    write(tmp_path / "pack")
    card = Pack.open(tmp_path / "pack").card
    changed = {**card.modalities, "optical": replace(card.modalities["optical"], nodata=0)}
    assert replace(card, modalities=changed).identity != card.identity


def test_missing_pack_and_names(tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match="is not a pack"):
        Pack.open(tmp_path / "nowhere")
    write(tmp_path / "pack")
    pack = Pack.open(tmp_path / "pack")
    with pytest.raises(CmkdError, match="did you mean 'radar'"):
        pack.rows("train", modalities=["rader"])
    with pytest.raises(CmkdError, match="did you mean 'validation'"):
        pack.rows("val")
    for outside in (-1, 30):
        with pytest.raises(IndexError, match="within 0 to 29"):
            pack.batch(np.array([3, outside]))


def nan_radar(count: int) -> dict[str, NDArray[Any]]:
    data = arrays(count)
    data["radar"][1, 0, 0, 0] = np.nan
    return data


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": [0, 2]}, "label 2 of pair 'y' is outside the 2 classes"),
        ({"labels": [-2, 0]}, "label -2 of pair 'x'"),
        ({"labels": [0]}, "one value of labels per id, got 1 for 2 ids"),
        ({"splits": ["train", "val"]}, "unknown split 'val'"),
        ({"ids": ["x", "x"]}, "id 'x' occurs twice"),
        ({"groups": ["g", "g"], "splits": ["train", "test"]}, "group 'g' is in both train and test"),
        ({"arrays": {"optical": np.zeros((2, 3, 6, 5), np.float32)}}, "expects .* uint8, got .* float32"),
        ({"arrays": {"optical": np.zeros((2, 3, 5, 6), np.uint8)}}, "expects"),
        ({"arrays": {"sonar": np.zeros((2, 3), np.uint8)}}, "'sonar' was not declared"),
        ({"arrays": nan_radar(2)}, "'radar' of pair 'y' holds NaN"),
        ({"present": {"radar": np.array([True])}}, "presence mask of 'radar'"),
    ],
)
def test_bad_chunks_are_refused_whole(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=SENSORS) as writer:
        with pytest.raises(CmkdError, match=says):
            add(writer, ["x", "y"], **changes)
        add(writer, ["x", "z"])
    assert Pack.open(tmp_path / "pack").index["id"].tolist() == ["x", "z"]
    Pack.open(tmp_path / "pack").verify()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (None, "nothing was added"),
        ({"splits": ["test"]}, "no pair is in the train split"),
        ({"arrays": {"optical": np.zeros((1, 3, 6, 5), np.uint8)}}, "'radar' is missing from every train pair"),
    ],
)
def test_useless_packs_are_refused(tmp_path: Path, changes: dict[str, Any] | None, says: str) -> None:
    with (
        pytest.raises(CmkdError, match=says),
        PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=SENSORS) as writer,
    ):
        if changes is not None:
            add(writer, ["x"], **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": ["a"]}, "at least two different classes"),
        ({"classes": ["a", "a"]}, "at least two different classes"),
        ({"modalities": []}, "at least one modality, with unique names"),
        ({"modalities": [SENSORS[0], SENSORS[0]]}, "at least one modality, with unique names"),
        ({"info": CardInfo("toy", rich="sonar")}, "'sonar' is not a modality"),
        ({"info": CardInfo("toy", co_registered=[("optical", "radar")])}, "co-registered modalities must be images"),
        (
            {
                "modalities": [Modality(name, "image", (1, 2, 2), "uint8") for name in "abc"],
                "info": CardInfo("toy", co_registered=[("a", "b"), ("b", "c")]),
            },
            r"'b' is in two groups of co-registered modalities: join them, as in a\+b\+c",
        ),
    ],
)
def test_names_are_checked(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        PackWriter(
            tmp_path / "pack", **({"info": CardInfo("toy"), "classes": ["a", "b"], "modalities": SENSORS} | changes)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "shape", "dtype", "says"),
    [
        ("a/b", "vector", (1,), "uint8", "must be a word"),
        ("a", "video", (1,), "uint8", "unknown kind"),
        ("a", "image", (8, 8), "uint8", r"channels, height, width"),
        ("a", "vector", (3,), "complex64", "cannot be stored as complex64"),
    ],
)
def test_modality_is_checked(name: str, kind: Kind, shape: tuple[int, ...], dtype: str, says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        Modality(name, kind, shape, dtype)


def test_append_keeps_groups_apart_across_versions(tmp_path: Path) -> None:
    groups = ["g1", "g2", "g3"] * 10
    write(tmp_path / "pack", groups=groups)
    with (
        pytest.raises(CmkdError, match="group 'g1' is in both train and test"),
        PackWriter.append(tmp_path / "pack") as writer,
    ):
        add(writer, ["new"], groups=["g1"], splits=["test"])
    with pytest.raises(CmkdError, match="only add classes at the end"):
        PackWriter.append(tmp_path / "pack", classes=["b", "a"])


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float16", "float64"])
def test_every_dtype_comes_back(tmp_path: Path, dtype: str) -> None:
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    with PackWriter(
        tmp_path / "pack", CardInfo("t"), classes=["a", "b"], modalities=[Modality("v", "vector", (4,), dtype)]
    ) as writer:
        writer.add(["0", "1", "2"], [0, 1, 0], ["train"] * 3, None, {"v": values})
    batch = Pack.open(tmp_path / "pack").batch(np.array([2, 0]))
    assert batch.inputs["v"].dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(batch.inputs["v"].numpy(), values[[2, 0]])
    assert batch.select(torch.tensor([1])).inputs["v"].float().tolist() == [[0, 1, 2, 3]]
