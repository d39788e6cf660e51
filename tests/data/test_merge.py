"""Merged packs have the bytes of one pack made at once; differences that prevent a merge are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmkd.cli import data as command
from cmkd.data import CardInfo, Modality, Pack, PackWriter
from cmkd.data.pack.history import history
from cmkd.data.pack.merge import merge
from cmkd.data.summary import markdown
from cmkd.errors import CmkdError

SENSORS = [
    Modality("optical", "image", (1, 4, 4), "uint8"),
    Modality("radar", "image", (1, 3, 3), "float32", unit="dB", nodata="nan"),
]
INFO = CardInfo("harbor", "two sensors", rich="optical", poor="radar", group="a vessel", license="CC0-1.0")


def content(rows: slice, ports: str = "port") -> dict[str, Any]:
    """Return the given rows of 60 pairs of 20 vessels; some lack radar, and some radar chips have invalid samples."""
    generator, pairs = np.random.default_rng(0), range(60)[rows]
    optical = generator.integers(0, 255, (60, 1, 4, 4), dtype=np.uint8)
    radar = generator.normal(size=(60, 1, 3, 3)).astype(np.float32)
    radar[::7, 0, 0, 0] = np.nan
    return {
        "ids": [f"p{k}" for k in pairs], "labels": [-1 if k % 11 == 5 else k % 2 for k in pairs],
        "splits": ["test" if k // 3 % 5 == 4 else "train" for k in pairs], "groups": [f"v{k // 3}" for k in pairs],
        "arrays": {"optical": optical[rows], "radar": radar[rows]},
        "present": {"radar": np.array([k % 13 != 3 for k in pairs])},
        "metadata": {ports: [str(k % 4) for k in pairs]},
    }  # fmt: skip


def write(path: Path, rows: slice, info: CardInfo = INFO, **changes: Any) -> Pack:  # noqa: ANN401
    classes, sensors = changes.pop("classes", ["cargo", "tanker"]), changes.pop("modalities", SENSORS)
    split = {"method": "given", "seed": 1, **changes.pop("part", {})}
    with PackWriter(path, info, classes=classes, modalities=sensors, split=split, notes=f"from {path.name}") as writer:
        writer.add(**content(rows, changes.pop("ports", "port")) | changes)
    return Pack.open(path)


def test_merged_packs_have_the_bytes_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write(tmp_path / "whole", slice(0, 60))
    for name, rows in (("a", slice(0, 25)), ("b", slice(25, 26)), ("c", slice(26, 60))):
        write(tmp_path / name, rows)
    places = [str(tmp_path / name) for name in ("a", "b", "c")]
    command.main(["merge", *places, "--out", str(tmp_path / "merged")])
    assert "60 pairs" in capsys.readouterr().out
    merged = Pack.open(tmp_path / "merged")
    assert merged.card.sha256 == whole.card.sha256
    assert (merged.card.modalities, merged.card.invalid) == (whole.card.modalities, whole.card.invalid)
    assert merged.card.split == {"method": "given", "seed": 1, "counts": {"train": 48, "validation": 0, "test": 12}}
    assert merged.card.notes == "from a from b from c"
    merged.verify()


def test_cards_are_joined_and_columns_may_differ(tmp_path: Path) -> None:
    one = write(tmp_path / "one", slice(0, 30), replace(INFO, sources=["https://a.example"], citation="A"))
    two = write(tmp_path / "two", slice(30, 60), replace(INFO, name="bay", sources=["https://b.example"], citation="B"),
                ports="quay")  # fmt: skip
    merged = merge([one, two], tmp_path / "merged")
    assert (merged.card.name, merged.card.citation) == ("harbor", "A\n\nB")
    assert merged.card.sources == ("https://a.example", "https://b.example")
    assert merged.index["quay"].tolist() == [""] * 30 + [str(k % 4) for k in range(30, 60)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ["cargo", "ferry"]}, r"differ in classes: \['cargo', 'tanker'\] and \['cargo', 'ferry'\]"),
        ({"info": replace(INFO, license="MIT")}, "differ in license: CC0-1.0 and MIT"),
        ({"modalities": [SENSORS[0], replace(SENSORS[1], unit="m")]}, "differ in modality radar: unit 'dB' and 'm'"),
        (
            {"splits": ["validation"] * 3 + ["train"] * 27},
            "'v10' is in train of .*one and in validation of .*two",
        ),
        ({"ids": ["p9", *(f"q{k}" for k in range(28)), "p3"]}, "one and .*two overlap in 2 pairs, such as 'p9'"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    one = write(tmp_path / "one", slice(0, 32))
    two = write(tmp_path / "two", slice(30, 60), **{"ids": [f"q{k}" for k in range(30)]} | changes)
    with pytest.raises(CmkdError, match=reason):
        merge([one, two], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_parts_are_merged_by_number_and_all_of_them(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", slice(0, 60))
    first, second, third = (
        write(tmp_path / str(k), rows, part={"part": {"number": k, "parts": 3, "pairs": 60}})
        for k, rows in ((1, slice(0, 25)), (2, slice(25, 40)), (3, slice(40, 60)))
    )
    merged = merge([third, first, second], tmp_path / "merged")
    assert merged.index["id"].tolist() == whole.index["id"].tolist() and merged.card.sha256 == whole.card.sha256
    with pytest.raises(CmkdError, match="missing of 3 parts: 2/3"):
        merge([first, third], tmp_path / "other")


def test_damage_is_not_sealed_by_a_merge(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", slice(0, 30)), write(tmp_path / "two", slice(30, 60))
    content = (two.path / "optical.bin").read_bytes()
    (two.path / "optical.bin").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(CmkdError, match="has changed since the pack was made"):
        merge([one, two], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_card_has_a_changelog(tmp_path: Path) -> None:
    pack = write(tmp_path / "pack", slice(0, 30))
    assert "| version |" not in markdown(pack)
    with PackWriter.append(pack.path, classes=[*pack.classes, "ferry"], notes="from pack; a | second one") as writer:
        writer.add(**content(slice(29, 60)) | {"ids": [f"q{k}" for k in range(31)], "labels": [-1, 2, *[0] * 29]})
    grown = Pack.open(pack.path)
    first, second = history(grown)
    assert [(e.version, e.pairs, e.groups, e.notes) for e in (first, second)] == [
        (1, 30, 10, "from pack"), (2, 61, 10, "a | second one")
    ]  # fmt: skip
    assert (first.new_classes, second.new_classes) == ([], ["ferry"])
    assert second.classes == {"cargo": 29, "ferry": 1, "": 1}
    assert second.added == {"train": 24, "validation": 0, "test": 7}
    assert history(Pack.open(pack.path, 1)) == [first]
    row = next(line for line in markdown(grown).splitlines() if line.startswith("| 2 |"))
    assert "| 61 (+31) | train +24, test +7 | cargo +29, ferry (new) +1, no label +1 | 10 |" in row
    assert "second" in row and row.count("|") == row.replace("\\|", "").count("|") + 1
