"""Opening data by reference: names, options, sources, folders, and the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmkd import RunConfig, StudentConfig, TeacherConfig
from cmkd.bench.suite import Suite
from cmkd.cli.capture import open_version
from cmkd.data import Pack, append, build
from cmkd.data.manifest.reading import Reading
from cmkd.datasets import DATASETS, open_data
from cmkd.datasets.open import without_files
from cmkd.errors import CmkdError
from cmkd.experiment.resolve import resolve
from cmkd.nested import differences
from cmkd.simulators.marine import modes
from cmkd.training.teacher_outputs import inputs_key
from data.tiny import tiny_source


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CMKD_DATA", raising=False)
    return tmp_path / "cache"


def test_name_and_options(cache: Path) -> None:
    plain, same, other = (
        open_data("digits"),
        open_data("digits(severity=0.5)"),
        open_data("digits(severity=0.3, seed=2)"),
    )
    assert plain.path == same.path
    assert plain.path != other.path
    assert plain.path.parent == cache / "packs"
    assert len(list((cache / "packs").iterdir())) == 2
    assert "severity 0.3, seed 2" in other.card.notes


def test_no_name_is_not_the_current_folder() -> None:
    with pytest.raises(CmkdError, match="name of the data is empty"):
        open_data("")


def _renamed(rows: list[dict[str, str]]) -> None:
    for row in rows:
        row |= {"id": f"new {row['id']}", "group": f"new {row['group']}"}


def test_pack_is_opened_where_it_is(
    make_folder: Callable[..., Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(make_folder(), tmp_path / "pack")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_data("~/pack").path == Pack.open("~/pack").path == open_version("~/pack@1").path == tmp_path / "pack"
    assert open_data(tmp_path / "pack").path == tmp_path / "pack"
    assert open_data(str(tmp_path / "pack"), version=1).card.version == 1
    append(tmp_path / "pack", make_folder(_renamed, name="more"))
    assert [open_data(f"{tmp_path}/pack{of}").card.version for of in ("@1", "@2", "")] == [1, 2, 2]
    with pytest.raises(CmkdError, match="version"):
        open_data(f"{tmp_path}/pack@9")
    with pytest.raises(CmkdError, match="digits@1 does not exist"):
        open_data("digits@1")
    assert not cache.exists()


def test_manifest_is_built_once(make_folder: Callable[..., Path], cache: Path) -> None:
    folder = make_folder()
    first = open_data(folder)
    inode = (first.path / "optical.bin").stat().st_ino
    assert (open_data(folder).path / "optical.bin").stat().st_ino == inode
    assert open_data(folder, seed=5).path != first.path
    assert open_data(folder, readings={"optical": Reading(size=(4, 4))}).modalities["optical"].shape == (3, 4, 4)
    file = folder / "files" / "o3.png"
    os.utime(file, (1, 1))  # as if the file had been replaced
    assert open_data(folder).path != first.path
    (folder / "manifest.csv").write_text((folder / "manifest.csv").read_text().replace("tanker", "ferry"))
    assert open_data(folder).classes == ("cargo", "ferry")


def test_a_damaged_cache_is_made_again() -> None:
    pack = open_data("digits")
    (pack.path / "optical.bin").write_bytes(b"short")
    again = open_data("digits")
    assert again.path == pack.path
    again.verify()


def test_source_behind_a_colon_and_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_source("mars", tmp_path / "data" / "mars")
    named = open_data(f"mars(window=5):{source}")
    assert named.modalities["kinect"].shape == (5, 75)
    monkeypatch.setenv("CMKD_DATA", str(tmp_path / "data"))
    assert open_data("mars(window=5)").path == named.path


def test_files_that_were_fetched_are_not_missing(cache: Path) -> None:
    assert without_files("mnist") is DATASETS["mnist"]
    fetched = cache / "sources" / "mnist"
    fetched.mkdir(parents=True)
    for file in DATASETS["mnist"].sources:
        (fetched / file.name).touch()
    assert without_files("mnist") is None


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("digts", "unknown data set 'digts': did you mean 'digits'"),
        ("digts(severity=0.1)", "unknown data set 'digts'"),
        ("digits(severty=0.1)", "unknown option of digits 'severty': did you mean 'severity'"),
        ("digits(severity=high)", "option severity of digits must be a number, got 'high'"),
        ("digits(seed=0.5)", "option seed of digits must be a whole number, got 0.5"),
        ("digits(seed=true)", "option seed of digits must be a whole number"),
        ("digits(severity=3)", "outside 0 to 1"),
        ("digits(", "cannot read 'digits\\('"),
        ("mars(protocol=people):x", "must be 'person' or 'time', got 'people'"),
        ("mars:no/such/place", "no/such/place, where the files of mars should be, does not exist: get it from https"),
        ("mars", "mars needs its files: download https.* pass their folder: --data mars:PATH"),
        ("~nobody2/ships", "~nobody2/ships does not exist: give a data set"),
        ("mars:~nobody2/x", "~nobody2/x, where the files of mars should be, does not exist"),
        ("no/such/folder", "no/such/folder does not exist: give a data set"),
    ],
)
def test_errors_name_the_fix(reference: str, says: str) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        open_data(reference)
    assert "\n" not in str(caught.value)


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match="neither a pack"):
        open_data(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("reference", "pairs"), [("digits", 1797), ("marine(pairs=24,size=16)", 24)])
def test_two_processes_race(reference: str, pairs: int, cache: Path) -> None:
    program = f"from cmkd.datasets import open_data; p = open_data('{reference}'); p.verify(); print(len(p))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) for _ in range(2)
    ]
    assert [racer.communicate()[0].strip() for racer in racers] == [str(pairs).encode()] * 2
    assert [path.name.split("-")[0] for path in (cache / "packs").iterdir()] == [reference.split("(")[0]]


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_a_changed_file_of_an_option_makes_another_pack(tmp_path: Path) -> None:
    text = (Path(modes.__file__).parent / "iw.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    reference = f"marine(pairs=2,size=16,mode='{tmp_path / 'mine.yaml'}')"
    first = open_data(reference)
    (tmp_path / "mine.yaml").write_text(re.sub(r"nesz:.*", "nesz: [10, 11]", text))
    second = open_data(reference)
    assert first.modality("radar").mean[0] < 0 < second.modality("radar").mean[0]


def test_files_behind_links_to_folders_are_seen(tmp_path: Path) -> None:
    for name in ("first", "second"):
        tiny_source("mars", tmp_path / f"disk-{name}" / "mars")
        (tmp_path / name).mkdir()
        (tmp_path / name / "mars").symlink_to(tmp_path / f"disk-{name}" / "mars")
        (tmp_path / name / "mars" / "loop").symlink_to(tmp_path / name)
    first, second = (open_data(f"mars(window=5):{tmp_path / name}") for name in ("first", "second"))
    assert first.path != second.path and len(first) == len(second) > 0


def test_the_loser_of_a_race_uses_the_winners_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    from cmkd.datasets.digits import Digits

    real = Digits.prepare

    def overtaken(self: Digits, source: Path | None, destination: Path) -> Pack:
        real(self, source, destination)
        return real(self, source, destination)  # the second process finds the pack of the first

    monkeypatch.setattr(Digits, "prepare", overtaken)
    assert len(open_data("digits")) == 1797


def test_settings_tell_how_the_bytes_of_a_pack_are_read(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder, packs = make_folder(), list[Pack]()
    for name, nodata in (("a", None), ("b", 0)):
        packs.append(build(folder, tmp_path / name, readings={"optical": Reading(nodata=nodata)}))
    assert packs[0].card.sha256 == packs[1].card.sha256
    models = {"teacher": TeacherConfig(modality="optical"), "student": StudentConfig(modality="radar")}
    runs = [RunConfig(data=str(pack.path), out=tmp_path / "out", methods="none", **models) for pack in packs]
    settings = [resolve(run).settings() | {"data": ""} for run in runs]
    assert list(differences(settings[0], settings[1], {})) == ["pack.modalities.optical.nodata"]
    assert inputs_key(packs[0], ["optical"]) != inputs_key(packs[1], ["optical"])
    checksums = Suite(tuple(str(pack.path) for pack in packs), "none").packs()
    assert len(set(checksums.values())) == 2
