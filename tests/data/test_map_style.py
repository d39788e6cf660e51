"""A map-style data set of dictionaries becomes a pack, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from cmkd.data import CardInfo, from_dataset
from cmkd.data.pack import writer
from cmkd.errors import CmkdError

Item = dict[str, Any]


class Ships(Dataset[Item]):
    """Data set of forty pairs; `edit(index, item)` changes an item."""

    def __init__(self, edit: Callable[[int, Item], object] | None = None) -> None:
        self.edit, self.read = edit, 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401  # a tuple in one of the tests
        generator = np.random.default_rng(index)
        self.read += 1
        item: Item = {
            "optical": Image.fromarray(generator.integers(0, 255, (8, 9, 3), dtype=np.uint8)),
            "radar": torch.from_numpy(generator.normal(size=(2, 8, 9)).astype(np.float32)),
            "label": index % 3,
            "heading": 12.5,
        }
        if self.edit is not None:
            item = self.edit(index, item) or item  # type: ignore[assignment]
        return item


def test_values_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 4000)  # so that there are several chunks
    ships, told = Ships(lambda k, item: item.update(radar=None) if k % 4 == 3 else None), []
    pack = from_dataset(ships, tmp_path / "pack", progress=lambda done, total: told.append((done, total)))
    assert (pack.card.name, pack.classes, ships.read) == ("Ships", ("0", "1", "2"), 80)
    assert len(told) > 2 and told[-1] == (40, 40)
    assert [str(m.shape) + m.dtype for m in pack.modalities.values()] == ["(3, 8, 9)uint8", "(2, 8, 9)float32"]
    batch = pack.batch(np.arange(40))
    assert batch.target.tolist() == [k % 3 for k in range(40)]
    assert batch.present["radar"].tolist() == [k % 4 != 3 for k in range(40)]
    item = Ships()[17]
    assert torch.equal(batch.inputs["radar"][17], item["radar"])
    np.testing.assert_array_equal(batch.inputs["optical"][17].permute(1, 2, 0), np.asarray(item["optical"]))
    assert set(pack.index["split"]) == {"train", "validation", "test"}


def test_ids_splits_and_groups_of_the_items(tmp_path: Path) -> None:
    def edit(index: int, item: Item) -> None:
        item |= {"name": f"ship{index}", "part": "val" if index >= 30 else "train", "vessel": index // 2}
        item["kind"] = None if index == 4 else "ab"[index % 2]

    info = CardInfo("ships", rich="optical", poor="radar", license="CC0")
    pack = from_dataset(
        Ships(edit), tmp_path / "pack", label="kind", id="name", split="part", group="vessel", info=info,
        modalities=["radar", "optical"], classes=["b", "a"],
    )  # fmt: skip
    assert pack.classes == ("b", "a") and list(pack.modalities) == ["radar", "optical"]
    assert pack.index["label"].tolist()[:6] == [1, 0, 1, 0, -1, 0]
    assert pack.index["id"][7] == "ship7" and pack.index["group"][7] == "3"
    assert set(pack.index["split"][30:]) == {"validation"} and (pack.card.license, pack.card.name) == ("CC0", "ships")


def test_classes_of_the_data_set_and_kinds(tmp_path: Path) -> None:
    ships = Ships(lambda k, item: item.update(optical=np.zeros((5, 2)), label=np.int64(k % 3)))
    ships.classes = ["tug", "ferry", "tanker", "yacht"]  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="lacks 1 of 4 classes"):
        pack = from_dataset(ships, tmp_path / "pack", kinds={"optical": "series"})
    assert pack.classes == ("tug", "ferry", "tanker", "yacht")
    assert (pack.modalities["optical"].kind, pack.modalities["optical"].dtype) == ("series", "float32")
    numbers = from_dataset(Ships(lambda k, item: item.update(label=10 * (k % 3))), tmp_path / "numbers")
    assert numbers.classes == ("0", "10", "20")


def at(place: int, **changes: object) -> Callable[[int, Item], object]:
    return lambda index, item: item.update(changes) if index == place else None


@pytest.mark.parametrize(
    ("edit", "options", "says"),
    [
        (at(7, radar=torch.zeros(2, 8, 8)), {}, r"item 7: 'radar' is image \(2, 8, 8\) float32, but of item 0 .*9\)"),
        (at(7, radar=torch.zeros(2, 8, 9, dtype=torch.int16)), {}, "item 7: 'radar' is .*int16"),
        (at(7, radar="radar.tif"), {}, "item 7: 'radar' is a str, not an array"),
        (at(7, radar=torch.full((2, 8, 9), torch.nan)), {}, "pair '000007' has no valid value"),
        (at(7, radar=np.zeros((2, 8, 9), complex)), {}, "item 7: 'radar' is complex"),
        (at(0, radar=np.zeros((8, 9, 3))), {}, "item 0: 'radar' has shape .* looks like channels last"),
        (at(0, radar=np.zeros((16, 16, 13))), {}, "item 0: 'radar' has shape .* looks like channels last"),
        (at(0, radar=np.zeros((8, 9, 2))), {}, "item 0: 'radar' has shape .* looks like channels last"),
        (at(0, radar=np.zeros((2, 2, 8, 9))), {}, "item 0: 'radar' has shape .*does not fit the kind image"),
        (at(7, label=1.5), {}, "item 7: the label 1.5 is neither a string nor a whole number"),
        (at(7, label="tug"), {}, "labels mix strings and numbers, such as 'tug' and 0"),
        (at(7, label=5), {"classes": ["a", "b", "c"]}, "item 7: the label 5 is outside the 3 classes"),
        (at(7, id="000001"), {}, "id '000001' occurs twice"),
        (at(7, split="held out"), {}, "unknown split 'held out'"),
        (None, {"modalities": ["optical", "rader"]}, "no item has the modality 'rader': its keys are optical, radar"),
        (None, {"kinds": {"rader": "image"}}, "no item has the modality 'rader': its keys are optical, radar"),
        (None, {"label": "class"}, "no item has a label under 'class': its keys are optical, radar, label"),
        (lambda k, item: (1, 2), {}, "item 0 is a tuple: return a dict"),
        (lambda k, item: {}["x"], {}, "item 0 cannot be read .KeyError: 'x'"),
        (lambda k, item: {"label": k % 2}, {}, "no item holds an array, tensor or image: its keys are label"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    tmp_path: Path, edit: Callable[[int, Item], object] | None, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        from_dataset(Ships(edit), tmp_path / "pack", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "was"), [("label", 1), ("id", "7"), ("split", "train"), ("group", "3")])
def test_an_item_that_changes_between_its_two_reads_is_refused(tmp_path: Path, key: str, was: object) -> None:
    def edit(index: int, item: Item) -> None:
        item |= {"label": index % 2, "id": str(index), "split": "val" if index >= 30 else "train", "group": index // 2}
        if index == 7 and ships.read > 40:
            item[key] = 0 if key in ("label", "group") else "test"

    ships = Ships(edit)
    with pytest.raises(CmkdError, match=f"item 7 changed between two reads: its {key} was {was!r}, now .*; return"):
        from_dataset(ships, tmp_path / "pack")
    assert not list(tmp_path.iterdir())


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match="object has no length"):
        from_dataset(object(), tmp_path / "pack")  # type: ignore[arg-type]
    with pytest.raises(CmkdError, match="list is empty"):
        from_dataset([], tmp_path / "pack")


def test_a_missing_group_is_none_at_all(tmp_path: Path) -> None:
    groups = [None, float("nan"), np.float64("nan"), "", 0, 1.0, "b"]
    pack = from_dataset(Ships(lambda k, item: item.update(group=groups[k % 7])), tmp_path / "pack")
    assert pack.index["group"].tolist()[:7] == ["", "", "", "", "0", "1", "b"]
