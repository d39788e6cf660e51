"""Packs are exported to the hub's layout and imported again byte for byte; the hub's own library reads them."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from cmkd.cli import data as command
from cmkd.data import CardInfo, Modality, Pack, PackWriter
from cmkd.data.huggingface import export_pack, import_folder, writing
from cmkd.data.huggingface.columns import PICTURE, picture, to_arrow
from cmkd.data.pack.card import CardFile
from cmkd.data.pack.diff import diff
from cmkd.errors import CmkdError, CmkdWarning

SENSORS = [
    Modality("optical", "image", (3, 6, 5), "uint8"),
    Modality("deep", "image", (1, 6, 5), "uint16"),
    Modality("radar", "image", (2, 6, 5), "float32"),
    Modality("sound", "series", (7, 2), "int16"),
    Modality("cloud", "point_series", (2, 4, 3), "float64"),
    Modality("profile", "vector", (4,), "float32"),
]
INFO = CardInfo(
    "toy", title="Toy: pairs", description="Made up.", rich="optical", poor="radar", mirror=True, cropped=True,
    co_registered=[("optical", "radar")], license="CC BY 4.0", citation="@misc{toy}", sources=["a field trip"],
    group="a vessel", unsound="All of it.",
)  # fmt: skip


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    generator = np.random.default_rng(0)
    arrays = {}
    for sensor in SENSORS:
        values = generator.normal(0, 50, (30, *sensor.shape))
        arrays[sensor.name] = (np.abs(values) if sensor.dtype.startswith("u") else values).astype(sensor.dtype)
    with PackWriter(
        tmp_path / "pack",
        INFO,
        classes=["tug, small", "ferry"],
        modalities=SENSORS,
        split={"method": "given", "seed": 3},
        notes="none",
    ) as writer:
        splits = ["train", "test", "train", "validation", "train"] * 6
        present = {"radar": np.arange(30) % 4 != 3, "optical": np.arange(30) % 7 != 6, "profile": np.arange(30) != 2}
        groups = [f"g{k}" if k % 3 else "" for k in range(30)]
        writer.add([f"p{k}" for k in range(30)], [-1 if k == 8 else k % 2 for k in range(30)], splits, groups, arrays,
                   present)  # fmt: skip
    return Pack.open(tmp_path / "pack")


def test_there_and_back(pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["export", str(pack.path), "--format", "huggingface", "--out", str(tmp_path / "hub")])
    assert sorted(p.relative_to(tmp_path / "hub").as_posix() for p in (tmp_path / "hub").rglob("*") if p.is_file()) == [
        "README.md", "cmkd.json", "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    ]  # fmt: skip
    command.main(["import", str(tmp_path / "hub"), "--out", str(tmp_path / "again")])
    command.main(["verify", str(tmp_path / "again")])
    said = capsys.readouterr()
    assert "30 pairs in" in said.out and "all files unchanged" in said.out
    for line in ("writing: 30 of 30 pairs", "reading: 30 of 30 pairs", "reading: "):
        assert line in said.err
    again = Pack.open(tmp_path / "again")
    assert diff(pack, again).same
    assert again.card.sha256 == pack.card.sha256  # arrays and index are equal, byte for byte
    for field in fields(CardInfo):
        assert getattr(again.card, field.name) == getattr(INFO, field.name) != field.default
    assert (again.card.split, again.card.notes) == (pack.card.split, pack.card.notes)
    again.verify()


def test_an_invalid_value_that_no_sample_has_yet_is_kept(tmp_path: Path) -> None:
    sensors = [
        Modality("optical", "vector", (3,), "float32"),
        Modality("radar", "vector", (3,), "float32", nodata="nan"),
    ]
    with PackWriter(tmp_path / "pack", CardInfo("toy"), classes=["a", "b"], modalities=sensors) as writer:
        values = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32)
        names, splits = [f"p{k}" for k in range(30)], ["train", "validation", "test"] * 10
        writer.add(names, [k % 2 for k in range(30)], splits, [""] * 30, {"optical": values[0], "radar": values[1]})
    export_pack(Pack.open(tmp_path / "pack"), tmp_path / "hub")
    import_folder(tmp_path / "hub", tmp_path / "again")
    before, after = (CardFile.read(tmp_path / name).header["modalities"] for name in ("pack", "again"))
    assert before["radar"]["nodata"] == "nan" and before == after


def test_an_export_of_format_1_is_read_and_a_newer_one_refused(tmp_path: Path) -> None:
    old = Path(__file__).parent / "format_1"
    made = import_folder(old / "hub", tmp_path / "pack")
    assert made.card.license == "CC0" and made.card.co_registered == (("optical", "radar"),)
    assert diff(made, Pack.open(old / "pack")).same
    shutil.copytree(old / "hub", tmp_path / "hub")
    (tmp_path / "hub" / "cmkd.json").write_text('{"format": 99}')
    with pytest.raises(CmkdError, match=r"format 99.*upgrade"):
        import_folder(tmp_path / "hub", tmp_path / "x")
    (tmp_path / "hub" / "cmkd.json").write_text('{"format": 2, "name": "ships"}')
    with pytest.raises(CmkdError, match=r"cmkd\.json' is damaged"):
        import_folder(tmp_path / "hub", tmp_path / "x")


def test_several_files_a_split_and_an_old_version(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SHARD_BYTES", 2000)
    with PackWriter.append(pack.path) as writer:
        writer.add(["new"], [0], ["train"], None, {name: pack.array(name)[:1] for name in pack.modalities})
    command.main(["export", f"{pack.path}@1", "--out", str(tmp_path / "hub")])
    assert len(list((tmp_path / "hub" / "data").glob("train-*"))) > 2
    assert import_folder(tmp_path / "hub", tmp_path / "again").card.sha256 == pack.card.sha256


def test_the_data_card(pack: Pack, tmp_path: Path) -> None:
    text = (export_pack(pack, tmp_path / "hub") / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["license"] == "cc-by-4.0"
    assert told["pretty_name"] == "Toy: pairs"
    assert told["size_categories"] == ["n<1K"]
    assert told["configs"][0]["data_files"][1] == {"split": "validation", "path": "data/validation-*"}
    counts = pack.index[(pack.index["label"] == 0)]["split"].value_counts()
    assert f"| tug, small | {counts['train']} | {counts['validation']} | {counts['test']} |" in body
    assert "| (no label) |" in body
    assert "@misc{toy}" in body


READ = """
import json, sys
import numpy as np
from datasets import ClassLabel, Image, load_dataset
found = load_dataset(sys.argv[1], cache_dir=sys.argv[2])
train = found["train"]
assert isinstance(train.features["label"], ClassLabel) and isinstance(train.features["optical"], Image)
rows = [{name: row[name] if row[name] is None or isinstance(row[name], (str, int)) else np.asarray(row[name]).tolist()
         for name in row} for row in train]
splits = {name: len(split) for name, split in found.items()}
print(json.dumps({"rows": rows, "splits": splits, "names": train.features["label"].names}))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the library `datasets` is not installed")
def test_the_hubs_own_library_reads_it(pack: Pack, tmp_path: Path) -> None:
    folder = export_pack(pack, tmp_path / "hub")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder), str(tmp_path / "cache")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["splits"] == {"train": 18, "validation": 6, "test": 6}
    assert told["names"] == list(pack.classes)
    for row in told["rows"]:
        place = row["position"]
        assert (row["id"], row["label"]) == (pack.index["id"][place], pack.index["label"][place])
        for name in pack.modalities:
            assert (row[name] is not None) == pack.index[f"has_{name}"][place]
            if row[name] is not None:
                array = np.asarray(row[name])
                shaped = np.moveaxis(array, -1, 0) if name == "optical" else array[None] if name == "deep" else array
                np.testing.assert_array_equal(shaped, pack.array(name)[place])


def other_hub(folder: Path, pictures: pa.Array | None = None) -> None:
    """Write a data set as others on the hub look: without description, with images and a class label."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        random = generator.integers(0, 255, (count, 3, 8, 8), dtype=np.uint8)
        drawn = to_arrow(Modality("optical", "image", (3, 8, 8), "uint8"), random, np.ones(count, bool), ["x"] * count)
        optical = drawn if pictures is None else pictures[:count]
        cells = {"optical": optical, "label": pa.array([k % 2 for k in range(count)])}
        features = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}, "optical": {"_type": "Image"}}
        schema = pa.table(cells).schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(pa.table(cells, schema=schema), folder / f"{split}-00000-of-00001.parquet")


def test_a_data_set_of_someone_else(tmp_path: Path) -> None:
    other_hub(tmp_path / "hub")
    made = import_folder(tmp_path / "hub", tmp_path / "pack")
    assert (made.classes, made.modalities["optical"].shape, made.card.name) == (("a", "b"), (3, 8, 8), "hub")
    assert made.index["split"].value_counts().to_dict() == {"train": 10, "validation": 4, "test": 2}
    assert (made.card.split["given"], made.card.split["made"]) == (["train", "validation"], ["test"])
    assert made.index["id"][12] == "validation-000001" and set(made.index["split"][12:]) == {"validation"}


def test_a_drawn_split_takes_whole_groups(tmp_path: Path) -> None:
    other_hub(tmp_path / "hub")
    train, validation = sorted((tmp_path / "hub").glob("*.parquet"))
    edit(train, lambda table: table.append_column("group", pa.array([f"vessel {k // 4}" for k in range(12)])))
    validation.unlink()
    index = import_folder(tmp_path / "hub", tmp_path / "pack").index
    assert index["split"].value_counts().to_dict() == {"train": 4, "validation": 4, "test": 4}
    assert index.groupby("group")["split"].nunique().eq(1).all()


def test_columns_that_may_be_a_sensor_are_not_left_out_silently(tmp_path: Path) -> None:
    other_hub(tmp_path / "hub")
    for path in (tmp_path / "hub").glob("*.parquet"):
        edit(path, lambda table: table.append_column("sar", pa.array([[[0.5] * 4] * 4] * len(table))))
    with pytest.warns(CmkdWarning, match=r"left out that are no embedded pictures: sar \(list<.*cmkd data build"):
        assert list(import_folder(tmp_path / "hub", tmp_path / "pack").modalities) == ["optical"]


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def test_a_split_without_labels_or_pictures_and_columns_of_ones_own(tmp_path: Path) -> None:
    other_hub(tmp_path / "hub")
    train, validation = sorted((tmp_path / "hub").glob("*.parquet"))
    edit(train, lambda table: table.append_column("position", pa.array(range(12, 0, -1))))
    edit(validation, lambda table: table.append_column("position", pa.array(["bow", None, "aft", None])))
    shutil.copy(validation, validation.with_name("test-0.parquet"))
    edit(validation, lambda table: table.drop_columns("label"))
    edit(validation.with_name("test-0.parquet"), lambda table: table.drop_columns("optical"))
    shutil.copy(train, train.with_name("train-1.parquet"))
    edit(train.with_name("train-1.parquet"), lambda table: table.drop_columns(["label"]))
    made = import_folder(tmp_path / "hub", tmp_path / "pack")
    labels = made.index.groupby("split")["label"].agg(list).to_dict()
    assert labels == {"test": [0, 1] * 2, "train": [0, 1] * 6 + [-1] * 12, "validation": [-1] * 4}
    assert made.index.groupby("split")["has_optical"].mean().to_dict() == {"test": 0.0, "train": 1.0, "validation": 1.0}
    assert made.index["id"][:2].tolist() == ["train-000001", "train-000002"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.set_column(1, "label", pa.array(["a"] * len(table))), "column 'label' holds string"),
        (
            lambda table: table.set_column(0, "optical", pa.array(["a.png"] * len(table))),
            "column 'optical' holds string",
        ),
        (
            lambda table: table.replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["b", "a"]}}}})}
            ),
            "names other classes",
        ),
    ],
)
def test_a_file_unlike_the_first_is_named(tmp_path: Path, change: Callable[[pa.Table], pa.Table], says: str) -> None:
    other_hub(tmp_path / "hub")
    path = next((tmp_path / "hub").glob("val*"))
    edit(path, change)
    with pytest.raises(CmkdError, match=f"{path.name}.* {says}"):
        import_folder(tmp_path / "hub", tmp_path / "pack")


def test_an_animation_and_a_picture_above_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(CmkdError, match="x is an animation: save one frame"):
        picture(buffer.getvalue(), "x")
    monkeypatch.setenv("CMKD_MAX_PIXELS", "50")
    with pytest.raises(CmkdError, match="x has 64 pixels; the limit is 50"):
        picture(buffer.getvalue(), "x")


def test_a_download_that_lacks_a_part_is_refused(pack: Pack, tmp_path: Path) -> None:
    folder = export_pack(pack, tmp_path / "hub")
    path = next(folder.glob("data/train-*.parquet"))
    path.rename(path.with_name("train-00001-of-00002.parquet"))
    with pytest.raises(CmkdError, match="lacks part 0 of 2 of train: download"):
        import_folder(folder, tmp_path / "again")


def test_an_exported_pair_without_a_position_is_refused(pack: Pack, tmp_path: Path) -> None:
    folder = export_pack(pack, tmp_path / "hub")
    path = next(folder.glob("data/train-*.parquet"))
    edit(path, lambda table: table.set_column(
        table.column_names.index("position"), "position", pa.array([None] + [1] * (len(table) - 1), pa.int64())
    ))  # fmt: skip
    with pytest.raises(CmkdError, match="column 'position' holds None, which is no row number"):
        import_folder(folder, tmp_path / "again")


def encoded(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    if values.dtype.kind == "f":
        tifffile.imwrite(buffer, values, photometric="minisblack" if values.ndim == 2 else "rgb")
        return buffer.getvalue()
    return imagecodecs.png_encode(values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_depth_keep_their_values(tmp_path: Path, dtype: str, channels: int) -> None:
    values = np.random.default_rng(0).normal(120, 20, (12, 8, 8, channels)).astype(dtype)
    values *= 100 if dtype == "uint16" else 1
    if dtype == "float32":
        values[3, 2] = np.nan
    pictures = [{"bytes": encoded(one[..., 0] if channels == 1 else one), "path": None} for one in values]
    other_hub(tmp_path / "hub", pa.array(pictures, PICTURE))
    made = import_folder(tmp_path / "hub", tmp_path / "pack")
    np.testing.assert_array_equal(made.array("optical")[:12], np.moveaxis(values, -1, 1))
    pictures[5]["bytes"] = encoded(values[5, ..., 0].astype("uint16" if dtype == "uint8" else "uint8"))
    shutil.rmtree(tmp_path / "hub")
    other_hub(tmp_path / "hub", pa.array(pictures, PICTURE))
    with pytest.raises(CmkdError, match=rf"optical of train-000006 holds uint\d+, but optical is {dtype}: convert"):
        import_folder(tmp_path / "hub", tmp_path / "mixed")


def test_what_cannot_be_imported_is_one_line(pack: Pack, tmp_path: Path) -> None:
    folder = export_pack(pack, tmp_path / "hub")
    with pytest.raises(CmkdError, match="exists: remove it"):
        export_pack(pack, folder)
    with pytest.raises(CmkdError, match="has no Parquet files"):
        import_folder(tmp_path / "nowhere", tmp_path / "x")
    first = next((folder / "data").glob("train-*"))
    shutil.copytree(folder, tmp_path / "less")
    edit(tmp_path / "less" / "data" / first.name, lambda table: table.drop_columns("label"))
    with pytest.raises(CmkdError, match=r"train-.* has no column 'label', which cmkd\.json lists"):
        import_folder(tmp_path / "less", tmp_path / "x")
    content = first.read_bytes()
    first.write_bytes(content[:-50])
    with pytest.raises(CmkdError, match="is truncated or not a Parquet file"):
        import_folder(folder, tmp_path / "x")
    first.unlink()
    with pytest.raises(CmkdError, match="has no train split"):
        import_folder(folder, tmp_path / "x")
    first.with_name("extra.parquet").write_bytes(content)
    with pytest.raises(CmkdError, match="has no split"):
        import_folder(folder, tmp_path / "x")
    other_hub(tmp_path / "plain")
    for path in (tmp_path / "plain").iterdir():
        pq.write_table(pq.read_table(path).drop_columns("label"), path)
    with pytest.raises(CmkdError, match="has no column 'label' of class labels"):
        import_folder(tmp_path / "plain", tmp_path / "x")
    for features in ([], {"label": "names"}):
        schema = pa.schema([("label", pa.int64())], {"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(pa.table({"label": pa.array([0, 1])}, schema=schema), tmp_path / "plain" / "train.parquet")
        with pytest.raises(CmkdError, match="has no column 'label' of class labels"):
            import_folder(tmp_path / "plain", tmp_path / "x")
    other_hub(tmp_path / "dash")
    named = ["left-image", "label"]
    for path in (tmp_path / "dash").iterdir():
        edit(path, lambda table: table.rename_columns(named).replace_schema_metadata(table.schema.metadata))
    with pytest.raises(
        CmkdError, match=r"train-.*parquet' is damaged \(modality name 'left-image'.*rename the columns"
    ):
        import_folder(tmp_path / "dash", tmp_path / "x")
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "x").exists()
