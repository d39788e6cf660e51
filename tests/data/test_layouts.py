"""Loaders of official layouts: the pack holds the content of synthetic files, and groups do not cross splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from cmkd.data import Pack
from cmkd.data.manifest.resize import fit
from cmkd.datasets import DATASETS, nyu_depth
from cmkd.datasets.bigearthnet import CLASSES, first_level
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.pictures import square
from cmkd.datasets.formats.sound import read_wav
from cmkd.errors import CmkdError
from data.tiny import tiny_source
from data.tiny.files import wav_bytes

Made = Callable[[str], tuple[Path, Pack]]
ADDRESS = "https://example.org"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(name: str) -> tuple[Path, Pack]:
        source = tiny_source(name, tmp_path / "source")
        return source, DATASETS.find(name)().prepare(source, tmp_path / "pack")

    return make


def test_so2sat(made: Made) -> None:
    source, pack = made("so2sat")
    row = int(np.flatnonzero(pack.index["id"] == "test000005")[0])
    with h5py.File(source / "testing.h5") as file:
        raw = file["sen1"][5]
        np.testing.assert_allclose(pack.array("sentinel2")[row], file["sen2"][5].transpose(2, 0, 1), rtol=1e-6)
    vv = 10 * np.log10(np.maximum(raw[..., 2] ** 2 + raw[..., 3] ** 2, 1e-6))
    np.testing.assert_allclose(pack.array("sentinel1")[row, 1], vv, rtol=1e-4)
    assert pack.index["label"].iloc[row] == 5


def test_sen12ms(made: Made) -> None:
    source, pack = made("sen12ms")
    row = int(np.flatnonzero(pack.index["id"] == "ROIs1158_spring_3_p2")[0])
    path = source / "ROIs1158_spring" / "s1_3" / "ROIs1158_spring_s1_3_p2.tif"
    expected = fit(tifffile.imread(path).transpose(2, 0, 1), "image", (64, 64))
    np.testing.assert_allclose(pack.array("sentinel1")[row], expected, rtol=1e-5)
    held = {f"ROIs1158_spring_{scene}" for scene in (7, 8)}
    assert set(pack.index.loc[pack.index["split"] == "test", "group"]) == held
    assert not held & set(pack.index.loc[pack.index["split"] != "test", "group"])


def test_eurosat_sar_pairs_by_name(made: Made) -> None:
    source, pack = made("eurosat_sar")
    row = int(np.flatnonzero(pack.index["id"] == "River_4")[0])
    for name, folder in (("sentinel2", "EuroSAT_MS"), ("sentinel1", "EuroSAT-SAR")):
        values = tifffile.imread(source / folder / "River" / "River_4.tif")
        np.testing.assert_array_equal(pack.array(name)[row], values.transpose(2, 0, 1))
    (source / "EuroSAT-SAR" / "River" / "River_4.tif").unlink()
    fewer = DATASETS.find("eurosat_sar")().prepare(source, source.parent / "fewer")
    assert len(fewer) == len(pack) - 1


def test_bigearthnet(made: Made) -> None:
    source, pack = made("bigearthnet")
    patch = str(pack.index["id"].iloc[0])
    path = source / "BigEarthNet-S1-v1.0" / patch / f"{patch}_VH.tif"
    expected = fit(tifffile.imread(path)[None].astype(np.float32), "image", (60, 60))[0]
    np.testing.assert_allclose(pack.array("sentinel1")[0, 1], expected, rtol=1e-5)
    about = path.parent / f"{patch}_labels_metadata.json"
    content = json.loads(about.read_text())
    about.write_text(json.dumps(content | {"labels": ["Pastures", "Sea and ocean"]}))
    assert len(DATASETS.find("bigearthnet")().prepare(source, source.parent / "fewer")) == len(pack) - 1
    about.write_text(json.dumps(content | {"labels": ["Atlantis"]}))
    with pytest.raises(CmkdError, match=r"labels_metadata.json in .* is truncated or damaged"):
        DATASETS.find("bigearthnet")().prepare(source, source.parent / "none")


def test_bigearthnet_has_no_ground_in_two_splits(made: Made) -> None:
    source, pack = made("bigearthnet")

    def about(split: str) -> tuple[str, Path]:
        patch = str(pack.index.loc[pack.index["split"] == split, "id"].iloc[0])
        return patch, source / "BigEarthNet-S1-v1.0" / patch / f"{patch}_labels_metadata.json"

    (train, first), (test, second) = about("train"), about("test")
    one, other = json.loads(first.read_text()), json.loads(second.read_text())
    corner = {"ulx": one["coordinates"]["ulx"] + 900, "uly": one["coordinates"]["uly"] - 900}
    second.write_text(json.dumps(other | {"projection": one["projection"], "coordinates": corner}))
    fewer = DATASETS.find("bigearthnet")().prepare(source, source.parent / "fewer")
    assert set(pack.index["id"]) - set(fewer.index["id"]) == {train}
    assert test in set(fewer.index["id"])
    assert "later split: 1" in fewer.card.split["method"]
    second.write_text(json.dumps(other | {"projection": "PROJCS[]"}))
    with pytest.raises(CmkdError, match=r"labels_metadata.json in .* is truncated or damaged"):
        DATASETS.find("bigearthnet")().prepare(source, source.parent / "none")


def test_corine_has_five_first_levels() -> None:
    names = ["Airports", "Agro-forestry areas", "Moors and heathland", "Salt marshes", "Coastal lagoons"]
    assert [first_level([name]) for name in names] == list(range(len(CLASSES)))


def test_crema_d_leaves_silence_out(made: Made) -> None:
    source, pack = made("crema_d")
    assert pack.index["group"].nunique() == 5
    assert "1005_IEO_SAD_X" in set(pack.index["id"])  # like 1040_ITH_SAD_X, an official clip
    (source / "AudioWAV" / "1003_IEO_SAD_XX.wav").write_bytes(wav_bytes(np.zeros(8000), 16000))
    fewer = DATASETS.find("crema_d")().prepare(source, source.parent / "fewer")
    assert set(pack.index["id"]) - set(fewer.index["id"]) == {"1003_IEO_SAD_XX"}


def test_ave_keeps_a_video_in_one_list(made: Made) -> None:
    source, pack = made("ave")
    lines = (source / "trainSet.txt").read_text().split()
    assert len(lines) > len(pack.rows("train"))
    assert pack.index.groupby("group")["split"].nunique().max() == 1
    (source / "valSet.txt").write_text("Bark&only three&good\n")
    with pytest.raises(CmkdError, match=r"valSet.txt in .* line 1 is not Category&VideoID"):
        DATASETS.find("ave")().prepare(source, source.parent / "none")


def test_nyu_depth_leaves_rooms_of_test_out(made: Made) -> None:
    source, pack = made("nyu_depth")
    assert "view0080" in set(pack.index["id"])  # the only view of its room, in the test split
    assert not {"view0077", "view0078", "view0079"} & set(pack.index["id"])
    row = int(np.flatnonzero(pack.index["id"] == "view0001")[0])
    with h5py.File(source / "nyu_depth_v2_labeled.mat") as file:
        depth = file["depths"][0].T[None]
    np.testing.assert_allclose(pack.array("depth")[row], square(depth, 64), rtol=1e-5)


def test_sun_rgbd_turns_depth_into_meters(made: Made) -> None:
    _, pack = made("sun_rgbd")
    meters = pack.array("depth").reshape(len(pack), -1).mean(1)
    np.testing.assert_allclose(meters, 1.25 + 0.5 * pack.index["label"].map({0: 0, 1: 1, 2: 2, 3: 3}), atol=0.05)
    test = pack.index.loc[pack.index["split"] == "test", "id"]
    assert set(test) == {f"kv1/NYUdata/NYU{number:04d}" for number in range(16, 24)}


@pytest.mark.parametrize(("place", "error"), [("_divide", IndexError), ("read_pairs", MemoryError)])
def test_a_bug_of_nyu_depth_is_not_called_damage(
    place: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise error("ours")

    monkeypatch.setattr(nyu_depth, place, fail)
    source = tiny_source("nyu_depth", tmp_path / "source")
    with pytest.raises(error, match="ours"):
        DATASETS.find("nyu_depth")().prepare(source, tmp_path / "pack")


def test_nyu_depth_names_files_that_do_not_belong_together(tmp_path: Path) -> None:
    source = tiny_source("nyu_depth", tmp_path / "source")
    savemat(source / "splits.mat", {"testNdxs": np.array([[1], [121]])})
    with pytest.raises(CmkdError, match=r"splits.mat names view 121 of 120; get it .*from https"):
        DATASETS.find("nyu_depth")().prepare(source, tmp_path / "pack")
    with h5py.File(source / "nyu_depth_v2_labeled.mat", "a") as file:
        depths = file["depths"][:60]
        del file["depths"]
        file["depths"] = depths
    with pytest.raises(CmkdError, match=r"labeled.mat holds .* depths \(60, 32, 24\) of 120 views, expected"):
        DATASETS.find("nyu_depth")().prepare(source, tmp_path / "pack")


@pytest.mark.parametrize("name", ["sen12ms", "eurosat_sar", "bigearthnet", "crema_d", "ave", "sun_rgbd"])
def test_an_empty_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(CmkdError, match=r"(holds no|lacks) .*https?://"):
        DATASETS.find(name)().prepare(tmp_path / "source", tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "name", ["so2sat", "sen12ms", "eurosat_sar", "bigearthnet", "crema_d", "nyu_depth", "sun_rgbd"]
)
def test_truncated_files_are_named(name: str, tmp_path: Path) -> None:
    source = tiny_source(name, tmp_path / "source")
    kinds = {
        path.suffix: path
        for path in sorted(source.rglob("*.*"))
        if path.is_file() and path.suffix not in (".txt", ".json")
    }
    assert kinds
    for path in kinds.values():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 3])
        with pytest.raises(CmkdError, match=path.name):
            DATASETS.find(name)().prepare(source, tmp_path / "pack")
        path.write_bytes(content)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_wav_files(tmp_path: Path) -> None:
    samples = np.linspace(-0.5, 0.5, 400)

    def read(content: bytes) -> tuple[int, np.ndarray]:
        (tmp_path / "a.wav").write_bytes(content)
        with Archive(tmp_path, address=ADDRESS) as archive:
            return read_wav(archive, "a.wav")

    rate, found = read(wav_bytes(samples, 16000))
    assert rate == 16000
    np.testing.assert_allclose(found, samples, atol=1e-4)
    for content in (b"", b"RIFF", wav_bytes(samples, 16000)[:-9], wav_bytes(samples[:0], 16000)):
        with pytest.raises(CmkdError, match=r"a.wav .*get it (again )?from https"):
            read(content)
