"""Planted shortcuts to the class are found and named, and nothing is found where there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmkd.cli import data as command
from cmkd.data import CardInfo, Modality, Pack, PackWriter
from cmkd.data.quality import FaultReport, Shortcut, find_shortcuts, open_source
from cmkd.data.quality import shortcuts as module
from cmkd.data.quality.trivial import trivial_features
from cmkd.data.summary import markdown
from cmkd.errors import CmkdWarning

CLASSES = ("ferry", "tanker", "tug")
PAIRS = 210
LABELS = np.arange(PAIRS) % 3
SHAPES: dict[str, tuple[int, ...]] = {
    "image": (1, 8, 8), "vector": (6,), "series": (20, 2), "points": (9, 3), "point_series": (4, 9, 3)
}  # fmt: skip


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TREES", 8)  # for speed; what is planted here needs no more


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(PAIRS, *shape)).astype(np.float32)


def write(
    folder: Path,
    *,
    radar: NDArray[Any] | None = None,
    kind: str = "vector",
    labels: NDArray[np.int64] = LABELS,
    metadata: Mapping[str, Sequence[object]] | None = None,
    groups: Sequence[str] | None = None,
    present: NDArray[np.bool_] | None = None,
    splits: Sequence[str] = ("train",),
) -> Path:
    """Write a pack of random images, or of those given, all of them in the train split by default."""
    values = noise(*SHAPES[kind]) if radar is None else radar
    sensor = Modality("radar", kind, values.shape[1:], "float32", nodata="nan")  # type: ignore[arg-type]
    with PackWriter(folder, CardInfo("toy"), classes=CLASSES, modalities=[sensor]) as writer:
        writer.add(
            [f"p{row}" for row in range(len(labels))],
            labels,
            (list(splits) * len(labels))[: len(labels)],
            groups,
            {"radar": values},
            present=None if present is None else {"radar": present},
            metadata={name: list(map(str, cells)) for name, cells in (metadata or {}).items()},
        )
    return folder


def found(folder: Path) -> dict[str, Shortcut]:
    """Return what was found by modality; empty stands for metadata."""
    return {one.modality: one for one in find_shortcuts(open_source(folder)).found}


def weather(seed: int) -> list[float]:
    return noise(seed=seed).round(3).tolist()


def test_a_speed_by_class_is_found_and_named(tmp_path: Path) -> None:
    speed = (LABELS * 5 + noise(seed=1)).round(2)
    metadata = {"wind": weather(2), "speed": speed, "radar_file": [f"a{k}.tif" for k in range(PAIRS)]}
    folder = write(tmp_path / "leaky", metadata=metadata)
    result = find_shortcuts(open_source(folder))
    image, meta = result.found
    assert (image.modality, image.above_chance) == ("radar", False)
    assert meta.above_chance
    assert meta.accuracy > 0.9
    assert next(iter(meta.columns)) == "speed"
    assert "mostly by speed (" in result.warning
    assert "wind" not in result.warning
    assert result.notes == ["metadata: shortcuts leave out 'radar_file': it has nearly one text per pair"]
    assert find_shortcuts(open_source(folder)) == result  # the same again
    shuffled = np.random.default_rng(3).permutation(speed)
    folder = write(tmp_path / "sound", metadata={"wind": weather(2), "speed": shuffled})
    result = find_shortcuts(open_source(folder))
    assert result.warning == ""
    assert [one.finding for one in result.found] == ["not above chance"] * 2


def test_categories_dates_and_presence_are_read(tmp_path: Path) -> None:
    pairs = np.arange(PAIRS)
    columns = {
        "port": np.array(["Brest", "Kiel", "Oslo"])[LABELS],
        "time": [f"2024-{1 + 4 * label:02d}-{1 + k % 28:02d}T10:00:00Z" for k, label in enumerate(LABELS)],
        "until": [f"{9999 - label}-12-31" for label in LABELS],
        "power": [repr(10.0 ** (300 + label)) for label in LABELS],
        "mark": np.where(LABELS == 1, "", "x"),
    }
    for name, cells in columns.items():
        metadata = {name: cells, "number": pairs}
        result = find_shortcuts(open_source(write(tmp_path / name, metadata=metadata)))
        assert result.found[-1].above_chance, name
        assert list(result.found[-1].columns) == [name]
        assert "metadata: shortcuts leave out 'number': it numbers the pairs" in result.notes
    folder = write(tmp_path / "absent", present=(LABELS != 2) | (pairs % 10 == 0))
    assert list(found(folder)[""].columns) == ["has_radar"]


def test_the_size_of_the_images_of_a_folder_is_found(tmp_path: Path) -> None:
    rows = ["id,label,hour,radar"]
    for number, image in enumerate(noise(1, 8, 8)[:120]):
        np.save(tmp_path / f"{number}.npy", image[:, : 8 - number % 2])
        rows.append(f"p{number},{CLASSES[number % 2]},{number % 2},{number}.npy")
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    result = find_shortcuts(open_source(tmp_path))
    assert [one.accuracy > 0.9 for one in result.found] == [True, True]
    assert "mostly by hour" in result.warning


def test_a_brightness_is_found_and_is_no_warning(tmp_path: Path) -> None:
    radar = noise(1, 8, 8)
    radar[LABELS == 1, 0, 2:4, 2:4] += 6
    result = find_shortcuts(open_source(write(tmp_path / "pack", radar=radar, kind="image")))
    (image,) = result.found
    assert image.above_chance
    assert image.chance == pytest.approx(1 / 3)
    assert result.warning == ""


def test_what_a_group_has_in_common_is_no_shortcut(tmp_path: Path) -> None:
    vessel = np.arange(PAIRS) // 3 % 10 * 3 + LABELS  # ten of each class, with seven pairs each
    length = np.random.default_rng(5).uniform(20, 200, 30)[vessel].round(1)
    name = [f"{CLASSES[own % 3]} {own}" for own in vessel]
    metadata = {"length": length, "name": name}
    grouped = find_shortcuts(open_source(write(tmp_path / "grouped", metadata=metadata, groups=name)))
    assert not grouped.found[-1].above_chance
    assert grouped.found[-1].groups == 30
    assert grouped.notes == ["metadata: shortcuts leave out 'name': it names the group"]
    assert found(write(tmp_path / "alone", metadata=metadata))[""].above_chance  # it is one within the vessels


@pytest.mark.parametrize("kind", SHAPES)
def test_every_kind_with_invalid_values(kind: str, tmp_path: Path) -> None:
    values = noise(*SHAPES[kind])
    values[5:9, ..., 1:] = np.nan
    values[9] = 0
    values[10] = 3e38
    values[LABELS == 2] *= 9
    folder = write(tmp_path / "pack", radar=values, kind=kind)
    assert found(folder)["radar"].above_chance


def test_features_do_not_count_what_is_invalid() -> None:
    clean = np.array([[[1.0, 2, 3], [4, 5, 5]]])
    numbers = trivial_features(clean, "image")
    np.testing.assert_allclose(
        numbers[[0, 2, 3, 4, 5, 6, 7, 8, 9, 10]], [20 / 6, 1, 3, 5, 1 / 6, 2 / 6, 2 / 6, 0, 2, 3]
    )
    gaps = np.ma.masked_equal(np.array([[[1.0, 2, 3, -99], [4, 5, 5, np.inf]]]), -99)
    np.testing.assert_allclose(trivial_features(gaps, "image")[:8], numbers[:8])
    assert trivial_features(gaps, "image")[8] == 0.25
    padded = np.array([[1.0, 2], [3, 0], [0, 0], [0, 0]])
    np.testing.assert_allclose(trivial_features(padded, "points")[[0, 8, 16, 17, 18]], [2, 1, 0.5, 0.5, 4])


def test_what_cannot_be_judged_is_a_line(tmp_path: Path) -> None:
    def notes(name: str, **options: Any) -> list[str]:  # noqa: ANN401
        result = find_shortcuts(open_source(write(tmp_path / name, **options)))
        assert result.warning == ""
        return [*(one.finding for one in result.found), *result.notes]

    few = "shortcuts were not searched for: 100 labeled train pairs are needed, found "
    one_class = "shortcuts were not searched for: all labeled train pairs are of one class"
    none = "metadata: no column to search for shortcuts"
    assert notes("few", radar=noise(6)[:40], labels=LABELS[:40]) == [f"{few}40"]
    assert notes("unlabeled", labels=np.where(np.arange(PAIRS) < 110, LABELS, -1)) == ["not above chance", none]
    assert notes("test", splits=["train", "validation", "test"]) == [f"{few}70"]
    assert notes("none labeled", labels=np.full(PAIRS, -1)) == [f"{few}0"]
    assert notes("one class", labels=np.zeros(PAIRS, np.int64)) == [one_class]
    alone = "the search for shortcuts leaves out classes whose train pairs are in one group: "
    by_class = [CLASSES[label] for label in LABELS]
    assert notes("group by class", groups=by_class) == [f"{alone}ferry, tanker, tug", f"{few}0"]
    tug = [f"g{k % 7}" if label < 2 else "tug" for k, label in enumerate(LABELS)]
    assert notes("lonely class", groups=tug) == ["not above chance", f"{alone}tug", none]
    three = [f"g{k // 70}" for k in range(PAIRS)]
    assert notes("three groups", groups=three) == ["undecided: 3 groups are too few", none]
    lacking = np.arange(PAIRS) % 7 == 0
    assert f"radar: {few}30" in notes("missing modality", present=lacking)


def test_the_command_warns_and_the_card_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"speed": LABELS * 2 + 0.5, "wind": weather(2)}
    folder = write(tmp_path / "pack", radar=noise(1, 8, 8), kind="image", metadata=metadata)
    with pytest.warns(
        CmkdWarning, match=r"metadata alone tells the class \(\d+\.\d % against 33.3 % by chance, mostly by speed"
    ):
        command.main(["check", str(folder), "--out", str(tmp_path / "out"), "--strict"])  # it is no fault of a pair
    printed = capsys.readouterr().out
    assert "metadata alone" in printed
    report = FaultReport.read(tmp_path / "out" / "faults.json")
    assert report.shortcuts == find_shortcuts(open_source(folder))
    assert "metadata alone tells the class" in (tmp_path / "out" / "faults.html").read_text(encoding="utf-8")
    card = markdown(Pack.open(folder))
    assert re.search(r"\| metadata alone \| \d+\.\d % \(s.e. 3.3\) \| 33.3 % \| above chance, mostly by speed \(", card)
