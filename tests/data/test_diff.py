"""The list of differences between two packs is complete and contains nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmkd.cli import data as command
from cmkd.data import CardInfo, Modality, Pack, PackWriter
from cmkd.data.pack.diff import diff
from cmkd.errors import CmkdError

SENSORS = [Modality("optical", "image", (1, 4, 4), "uint8"), Modality("radar", "vector", (3,), "float32")]


def write(path: Path, **changes: Any) -> Pack:  # noqa: ANN401
    generator = np.random.default_rng(0)
    content: dict[str, Any] = {
        "ids": [f"p{k}" for k in range(20)], "labels": [0, 1] * 10, "splits": ["train"] * 14 + ["test"] * 6,
        "groups": [f"g{k}" for k in range(20)],
        "arrays": {"optical": generator.integers(0, 255, (20, 1, 4, 4), dtype=np.uint8),
                   "radar": generator.normal(size=(20, 3)).astype(np.float32)},
    }  # fmt: skip
    classes, sensors = changes.pop("classes", ["cargo", "tanker"]), changes.pop("modalities", SENSORS)
    content |= changes
    with PackWriter(path, CardInfo("toy"), classes=classes, modalities=sensors) as writer:
        writer.add(**content)
    return Pack.open(path)


def test_the_same_content_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    assert diff(one, two).same
    command.main(["diff", str(one.path), str(two.path)])
    assert "are equal" in capsys.readouterr().out


def test_every_kind_of_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(tmp_path / "one")
    order = np.random.default_rng(1).permutation(np.arange(1, 20))  # without p0, and in another order
    ids = [f"p{k}" for k in order] + ["new"]
    labels = [{5: 0, 6: -1}.get(int(k), int(k) % 2) for k in order] + [2]
    splits = ["test" if k >= 14 or k == 7 else "train" for k in order] + ["validation"]
    groups = ["other" if k == 8 else f"g{k}" for k in order] + [""]
    arrays = {name: np.concatenate([one.array(name)[order], one.array(name)[:1]]) for name in one.modalities}
    arrays["optical"][list(order).index(9)] += 1
    present = {"radar": np.array([*(k != 10 for k in order), True])}
    two = write(tmp_path / "two", ids=ids, labels=labels, splits=splits, groups=groups, arrays=arrays, present=present,
                classes=["cargo", "tanker", "ferry"])  # fmt: skip
    found = diff(one, two)
    assert (found.added, found.removed, found.pairs) == (["new"], ["p0"], (20, 20))
    assert set(found.relabeled) == {("p5", "tanker", "cargo"), ("p6", "cargo", "")}
    assert found.moved == [("p7", "train", "test")]
    assert found.regrouped == [("p8", "g8", "other")]
    assert (found.groups, found.split_counts) == (
        ["-g0 (train)", "-g8 (train)", "+other (train)"],
        {"train": (14, 12), "test": (6, 7), "validation": (0, 1)},
    )
    assert found.class_counts == {"cargo": (10, 9), "tanker": (10, 9), "ferry": (0, 1), "": (0, 1)}
    assert found.changed == {"optical": ["p9"], "radar": ["p10"]}
    assert (found.classes, found.modalities) == (["+ferry"], [])
    assert {(change.modality, change.channel) for change in found.statistics} == {
        ("optical", 0), ("radar", 0), ("radar", 1), ("radar", 2)
    }  # fmt: skip
    back = diff(two, one)
    assert (back.added, back.removed, back.moved) == (["p0"], ["new"], [("p7", "test", "train")])
    command.main(["diff", str(one.path), str(two.path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["moved"] == [{"id": "p7", "before": "train", "after": "test"}]
    assert told["same"] is False
    command.main(["diff", str(one.path), str(two.path)])
    lines = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert {"removed 1 p0", "changed optical 1 p9", "moved split 1 p7 train -> test"} <= lines


def test_changed_values_are_named_in_every_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmkd.data.pack.diff.CHUNK_BYTES", 16 * 3)  # three images at a time
    one = write(tmp_path / "one")
    arrays = {name: np.array(one.array(name)) for name in one.modalities}
    arrays["optical"][[4, 11, 19]] += 1
    assert diff(one, write(tmp_path / "two", arrays=arrays)).changed == {"optical": ["p4", "p11", "p19"], "radar": []}


def test_other_metadata_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speeds = [str(k) for k in range(20)]
    one = write(tmp_path / "one", metadata={"speed": speeds, "port": ["Oslo"] * 20})
    two = write(tmp_path / "two", metadata={"speed": [*speeds[:19], "999"], "flag": [""] * 19 + ["NO"]})
    found = diff(one, two)
    assert found.metadata == {"speed": ["p19"], "port": [f"p{k}" for k in range(20)], "flag": ["p19"]}
    assert not found.same and diff(one, one).same
    command.main(["diff", str(one.path), str(two.path)])
    assert "metadata speed" in capsys.readouterr().out


def test_other_sensors(tmp_path: Path) -> None:
    one = write(tmp_path / "one")
    sensors = [Modality("optical", "image", (1, 4, 4), "float32"), Modality("lidar", "vector", (3,), "float32")]
    arrays = {"optical": one.array("optical").astype(np.float32), "lidar": one.array("radar")}
    two = write(tmp_path / "two", modalities=sensors, arrays=arrays)
    found = diff(one, two)
    assert found.modalities == ["-optical (image 1x4x4 uint8)", "-radar (vector 3 float32)",
                                "+optical (image 1x4x4 float32)", "+lidar (vector 3 float32)"]  # fmt: skip
    assert (found.changed, found.same) == ({}, False)


def test_versions_of_one_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write(tmp_path / "pack")
    with PackWriter.append(pack.path) as writer:
        arrays = {name: pack.array(name)[:2] for name in pack.modalities}
        writer.add(["q0", "q1"], [0, 1], ["train", "train"], ["", ""], arrays)
    command.main(["diff", f"{pack.path}@1", str(pack.path)])
    told = capsys.readouterr().out
    assert "20 -> 22" in told
    assert "q0, q1" in told
    found = diff(Pack.open(pack.path, 1), Pack.open(pack.path))
    assert (found.added, found.removed, found.moved, found.changed) == (
        ["q0", "q1"],
        [],
        [],
        {"optical": [], "radar": []},
    )
    with pytest.raises(CmkdError, match="has no version 3"):
        command.main(["diff", f"{pack.path}@3", str(pack.path)])
