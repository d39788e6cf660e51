"""Data sets with a degraded view: what their loaders read, how they split, and what they refuse."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from cmkd.data import Pack
from cmkd.datasets import DATASETS
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.idx import read_idx
from cmkd.datasets.formats.records import Records
from cmkd.datasets.mnist import Mnist
from cmkd.datasets.transformed import TransformedImages
from cmkd.errors import CmkdError
from data.tiny import tiny_source
from data.tiny.files import idx_bytes

NAMES = [name for name, kind in DATASETS.items() if issubclass(kind, TransformedImages)]
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
Made = Callable[[str], tuple[Path, Pack]]


def prepared(name: str, source: Path, out: Path, **options: object) -> Pack:
    return DATASETS.find(name)(**{"check": False, **options}).prepare(source, out)


def stored(pack: Pack, name: str) -> np.ndarray:
    row = pack.index.index[pack.index["id"] == name]
    return pack.array("optical")[int(row[0])]


def member(archive: Path, name: str) -> np.ndarray:
    with tarfile.open(archive) as file:
        opened = file.extractfile(name)
        assert opened is not None
        return np.frombuffer(opened.read(), np.uint8)


def in_file(name: str, source: Path) -> tuple[str, np.ndarray, int]:
    """Return id, pixels and label of one image, read here independently of the loaders."""
    match name:
        case "mnist" | "fashion_mnist":
            content = gzip.decompress((source / TEST).read_bytes())
            label = gzip.decompress((source / "t10k-labels-idx1-ubyte.gz").read_bytes())[8 + 7]
            return "test00007", np.frombuffer(content[16 + 7 * 784 : 16 + 8 * 784], np.uint8).reshape(1, 28, 28), label
        case "cifar10":
            record = member(source / "cifar-10-binary.tar.gz", "cifar-10-binary/data_batch_2.bin")[5 * 3073 :]
            return "train00045", record[1:3073].reshape(3, 32, 32), int(record[0])
        case "cifar100":
            record = member(source / "cifar-100-binary.tar.gz", "cifar-100-binary/test.bin")[33 * 3074 :]
            return "test00033", record[2:3074].reshape(3, 32, 32), int(record[1])
        case "stl10":
            images = member(source / "stl10_binary.tar.gz", "stl10_binary/test_X.bin").reshape(-1, 3, 96, 96)
            labels = member(source / "stl10_binary.tar.gz", "stl10_binary/test_y.bin")
            return "test0004", images[4].transpose(0, 2, 1), int(labels[4]) - 1
        case "svhn":
            content = loadmat(source / "test_32x32.mat")
            return "test00020", content["X"][:, :, :, 20].transpose(2, 0, 1), int(content["y"][20, 0]) % 10
        case "eurosat":
            with zipfile.ZipFile(source / "EuroSAT_RGB.zip") as file:
                picture = Image.open(io.BytesIO(file.read("EuroSAT_RGB/River/River_3.jpg")))
            return "River_3", np.asarray(picture).transpose(2, 0, 1), 8
    raise AssertionError(f"no independent reader for {name}: write one here")


@pytest.mark.parametrize("name", NAMES)
def test_images_and_labels_are_the_published_ones(name: str, made: Made) -> None:
    source, pack = made(name)
    which, image, label = in_file(name, source)
    np.testing.assert_array_equal(stored(pack, which), image)
    assert pack.index.loc[pack.index["id"] == which, "label"].tolist() == [label]
    assert f"of severity {DATASETS.find(name)().severity}" in pack.card.notes  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_fewer_train_pairs_are_the_same_pairs(name: str, made: Made, tmp_path: Path) -> None:
    source, whole = made(name)
    count = len(whole.classes) * 2
    part = prepared(name, source, tmp_path / "part", train_pairs=count)
    assert np.bincount(part.index["label"][part.rows("train")]).max() == 2
    assert len(part.rows("test")) == len(whole.rows("test"))
    joined = part.index.reset_index().merge(whole.index.reset_index(), on="id", suffixes=("", "_whole"))
    assert len(joined) == len(part)
    assert (joined["split"] == joined["split_whole"]).all()
    np.testing.assert_array_equal(
        part.array("degraded")[joined["index"]], whole.array("degraded")[joined["index_whole"]]
    )
    harsher = prepared(name, source, tmp_path / "harsh", train_pairs=count, severity=0.95, seed=1)
    assert harsher.index.equals(part.index)
    assert (harsher.array("degraded") != part.array("degraded")).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_refused_unless_asked_for(name: str, made: Made, tmp_path: Path) -> None:
    source, pack = made(name)
    with pytest.raises(
        CmkdError, match=r"is not the published file .*: get it again from https?://.*check=false"
    ) as caught:
        DATASETS.find(name)().prepare(source, tmp_path / "pack")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pack").exists()
    assert "not compared with its published checksum" in pack.card.notes


def rewrite_tar(change: Callable[[str, bytes], bytes]) -> Callable[[Path], Path]:
    def damage(source: Path) -> Path:
        path = next(source.glob("*.tar.gz"))
        with tarfile.open(path) as file:
            content = {m.name: file.extractfile(m).read() for m in file.getmembers()}  # type: ignore[union-attr]
        with tarfile.open(path, "w:gz") as file:
            for member_name, value in content.items():
                info = tarfile.TarInfo(member_name)
                value = change(member_name, value)
                info.size = len(value)
                file.addfile(info, io.BytesIO(value))
        return source

    return damage


def cut(file: str, keep: float) -> Callable[[Path], Path]:
    def damage(source: Path) -> Path:
        content = (source / file).read_bytes()
        (source / file).write_bytes(content[: int(keep * len(content))])
        return source

    return damage


def swap(one: str, other: str) -> Callable[[Path], Path]:
    def damage(source: Path) -> Path:
        (source / one).rename(source / "aside")
        (source / other).rename(source / one)
        (source / "aside").rename(source / other)
        return source

    return damage


def remove(file: str) -> Callable[[Path], Path]:
    def damage(source: Path) -> Path:
        (source / file).unlink()
        return source

    return damage


def bad_labels(source: Path) -> Path:
    content = loadmat(source / "train_32x32.mat")
    savemat(source / "train_32x32.mat", {"X": content["X"], "y": content["y"] + 1})
    return source


def bad_picture(kind: str) -> Callable[[Path], Path]:
    def damage(source: Path) -> Path:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64) if kind == "cut" else (65, 64)).save(buffer, "JPEG")
        content = buffer.getvalue()[:-300] if kind == "cut" else buffer.getvalue()
        with zipfile.ZipFile(source / "EuroSAT_RGB.zip", "a") as file:
            file.writestr("EuroSAT_RGB/River/River_99.jpg", content)
        return source

    return damage


DAMAGED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("mnist", cut(TRAIN, 0.6), "is truncated or damaged"),
    ("mnist", cut(TRAIN, 0.0), "is not an IDX file"),
    ("mnist", remove(TEST), "t10k-images-idx3-ubyte.gz does not exist"),
    ("mnist", swap(TRAIN, "train-labels-idx1-ubyte.gz"), "1 axes, expected 3: is it another file with this name"),
    ("mnist", swap(TRAIN, TEST), "200 labels for the 50 images of train-images-idx3-ubyte.gz"),
    ("mnist", lambda source: source / TRAIN, "is not a folder with train-images"),
    ("cifar10", cut("cifar-10-binary.tar.gz", 0.5), "is truncated or not an archive"),
    (
        "cifar10",
        rewrite_tar(lambda n, c: c[:-1] if "batch_3" in n else c),
        "data_batch_3.bin .* not a whole number of records",
    ),
    (
        "cifar10",
        rewrite_tar(lambda n, c: b"\xff" + c[1:] if "batch_1" in n else c),
        "holds a label 255, expected 0 to 9",
    ),
    ("cifar100", rewrite_tar(lambda n, c: c[3074:] + c[: 100 * 3074 - 1]), "not a whole number of records"),
    ("stl10", rewrite_tar(lambda n, c: c[:-1] if n.endswith("train_y.bin") else c), "59 labels for 60 images"),
    (
        "stl10",
        rewrite_tar(lambda n, c: c[::-1] if n.endswith("test_X.bin") else c[:30]),
        "train_y.bin .* one is truncated",
    ),
    ("svhn", cut("test_32x32.mat", 0.7), "test_32x32.mat is truncated or damaged"),
    ("svhn", bad_labels, "holds labels 2 to 11, expected 1 to 10"),
    ("eurosat", cut("EuroSAT_RGB.zip", 0.5), "is truncated or not an archive"),
    ("eurosat", bad_picture("cut"), "River_99.jpg in .* is truncated or damaged"),
    ("eurosat", bad_picture("large"), "has 65 x 64 pixels, expected 64 x 64"),
]


@pytest.mark.parametrize(("name", "damage", "says"), DAMAGED, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(DAMAGED)])
def test_damaged_files_are_refused(name: str, damage: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    source = damage(tiny_source(name, tmp_path / "source"))
    with pytest.raises(CmkdError, match=says) as caught:
        prepared(name, source, tmp_path / "out" / "pack")
    assert "\n" not in str(caught.value)
    assert "http" in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_copies_of_test_images_are_left_out(tmp_path: Path) -> None:
    source = tiny_source("mnist", tmp_path / "source")
    before = prepared("mnist", source, tmp_path / "before")
    images, tests = (read_idx(source / file, axes=3, address="").copy() for file in (TRAIN, TEST))
    train, validation = (before.index["id"][before.rows(split)].tolist() for split in ("train", "validation"))
    number = [int(name[-5:]) for name in (*train[:3], validation[0])]
    images[number[0]] = tests[4]  # an equal image
    images[number[1]] = np.clip(tests[9].astype(int) + 2, 0, 255)  # a little brighter
    images[number[2]] = np.clip(tests[9].astype(int) + 40, 0, 255)  # a different image
    images[number[3]] = tests[30]
    (source / TRAIN).write_bytes(gzip.compress(idx_bytes(images)))
    after = prepared("mnist", source, tmp_path / "after")
    assert set(before.index["id"]) - set(after.index["id"]) == {train[0], train[1], validation[0]}
    assert after.card.split["left_out_as_copies"] == {"train": 2, "validation": 1, "test": 0}


def test_folders_and_other_archives_are_read(tmp_path: Path) -> None:
    source = tiny_source("eurosat", tmp_path / "source")
    packed = prepared("eurosat", source, tmp_path / "packed")
    with zipfile.ZipFile(source / "EuroSAT_RGB.zip") as file:
        file.extractall(tmp_path / "folder")
    unpacked = prepared("eurosat", tmp_path / "folder", tmp_path / "unpacked")
    assert unpacked.card.sha256 == packed.card.sha256
    assert "read from unpacked or renamed files in place of the published EuroSAT_RGB.zip" in unpacked.card.notes
    (source / "EuroSAT_RGB.zip").rename(source / "part.zip")
    renamed = DATASETS.find("eurosat")().prepare(
        source, tmp_path / "renamed"
    )  # a file of another name has no known checksum
    assert "read from part.zip (sha256 " in renamed.card.notes
    plain = tiny_source("mnist", tmp_path / "plain")
    expected = prepared("mnist", plain, tmp_path / "mnist").card.sha256
    for path in plain.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert prepared("mnist", plain, tmp_path / "plain_pack").card.sha256 == expected


def test_jpeg_folders_of_cifar10(tmp_path: Path) -> None:
    kind = DATASETS.find("cifar10")
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for name in kind.classes:  # type: ignore[attr-defined]
            folder = tmp_path / "source" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                picture.save(folder / f"{number:04d}.jpg")
    pack = prepared("cifar10", tmp_path / "source", tmp_path / "pack")
    assert len(pack.rows("test")) == 30
    assert set(pack.index["id"][pack.rows("test")].str.split("/").str[0]) == {"test"}
    shutil.rmtree(tmp_path / "source" / "test" / "frog")
    with pytest.raises(CmkdError, match=r"holds no images in a folder test/frog: get it from https"):
        prepared("cifar10", tmp_path / "source", tmp_path / "other")


def test_labels_of_records_are_read_without_holding_images(tmp_path: Path) -> None:
    size = 8000 * 3073
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(size))
    with Archive(tmp_path, address="https://example.org") as archive:
        records = Records(archive, ["data_batch_1.bin"], 1, (3, 32, 32))
        tracemalloc.start()
        try:
            assert len(records.labels(0, 10)) == 8000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < size / 4


def test_progress_ends_at_the_number_of_pairs(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    data_set = Mnist(check=False)
    data_set.progress = lambda done, total: told.append((done, total))
    pack = data_set.prepare(tiny_source("mnist", tmp_path / "source"), tmp_path / "pack")
    assert told[-1] == (len(pack), len(pack))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"degradation": "blurr"}, "unknown degradation 'blurr': did you mean 'blur'"),
        ({"severity": 2.0}, r"severity 2.0 is outside 0 to 1"),
        ({"train_pairs": 9}, "train_pairs 9 of mnist is fewer than one per class"),
    ],
)
def test_options_are_checked(options: dict[str, object], says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        DATASETS.find("mnist")(**options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "eurosat"])
def test_real_files(name: str, published: Callable[[str], Path], tmp_path: Path) -> None:
    """Check published files: checksums, counts, balance, no image in train and test, and a gap between the views."""
    from sklearn.linear_model import RidgeClassifier

    pack = DATASETS.find(name)(train_pairs=1000).prepare(published(name), tmp_path / "pack")  # type: ignore[call-arg]
    assert np.bincount(pack.index["label"][pack.rows("train")]).tolist() == [100] * 10
    tests = {"mnist": 10000, "fashion_mnist": 10000, "cifar10": 3000, "eurosat": 1260}
    assert len(pack.rows("test")) == tests[name]
    images = pack.array("optical")
    seen = {image.tobytes() for image in images[pack.rows("test")]}
    assert not seen & {image.tobytes() for image in images[np.r_[pack.rows("train"), pack.rows("validation")]]}
    train, validation, labels = pack.rows("train"), pack.rows("validation"), pack.index["label"].to_numpy()
    scores = {}
    for view in ("optical", "degraded"):
        # blocks of 4 x 4 pixels are averaged, since a linear model of all pixels would memorize a thousand images
        values = pack.array(view)[np.r_[train, validation]].astype(np.float32)
        values = values.reshape(*values.shape[:2], values.shape[2] // 4, 4, -1, 4).mean((3, 5)).reshape(len(values), -1)
        model = RidgeClassifier(alpha=1e4).fit(values[: len(train)], labels[train])
        scores[view] = float(model.score(values[len(train) :], labels[validation]))
    assert scores["optical"] > scores["degraded"] + 0.02
