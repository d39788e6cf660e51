"""Deliveries and parts give the bytes of one run, and no crash loses a version or makes it twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trimesh

from cmkd.cli import data as data_command
from cmkd.cli import simulate as command
from cmkd.data import Pack
from cmkd.data.pack.merge import merge
from cmkd.data.pack.writer import PackWriter
from cmkd.datasets.marine import Marine
from cmkd.errors import CmkdError
from cmkd.simulators.marine import modes, packing
from cmkd.simulators.marine.growing import Shard, continued
from cmkd.simulators.marine.packing import append_pack, write_pack
from cmkd.simulators.marine.recipe import Recipe, Slot
from cmkd.simulators.marine.vessels import CLASSES

pytestmark = pytest.mark.filterwarnings("ignore:the .* split lacks")
RECIPE = Recipe(8, seed=3, size=16, chunk=2)


def write(path: Path, recipe: Recipe = RECIPE, shard: Shard | None = None) -> Pack:
    return write_pack(recipe, path, Marine.info(), shard=shard, workers=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Make the run that all others must equal."""
    return write(tmp_path_factory.mktemp("whole") / "pack")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write(tmp_path_factory.mktemp("half") / "pack", replace(RECIPE, pairs=4))


@pytest.fixture
def pack(half: Pack, tmp_path: Path) -> Pack:
    """Copy the pack of the first half of the run, to append to it."""
    shutil.copytree(half.path, tmp_path / "pack")
    return Pack.open(tmp_path / "pack")


def assert_same(ours: Pack, theirs: Pack) -> None:
    """Check that arrays, index, statistics, and the card's statements about all pairs are equal."""
    assert sorted(ours.card.sha256.values()) == sorted(theirs.card.sha256.values())
    assert (ours.card.modalities, ours.card.split) == (theirs.card.modalities, theirs.card.split)
    assert ours.card.recipe == theirs.card.recipe
    ours.verify()


def run(arguments: Sequence[object]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen([sys.executable, "-m", "cmkd", *map(str, arguments)], env=environment)


def test_an_append_gives_the_bytes_of_one_run(whole: Pack, pack: Pack) -> None:
    longer = append_pack(continued(pack, 4), pack.path, workers=1)
    assert_same(longer, whole)
    assert (longer.card.version, longer.card.notes) == (2, f"{pack.card.notes.rstrip('.')}; version 2 adds 4 pairs.")
    sheets = [(p.path / "contact_sheet.png").read_bytes() for p in (longer, whole, pack)]
    assert sheets[0] == sheets[1]
    assert "Made in part by" in (longer.path / "CARD.md").read_text()
    assert Pack.open(pack.path, 1).card.sha256 == pack.card.sha256


def test_an_append_follows_pairs_that_were_not_simulated(pack: Pack) -> None:
    with PackWriter.append(pack.path) as writer:
        values = {name: pack.array(name)[:1] for name in pack.modalities}
        writer.add(["mine"], [0], ["train"], ["my ship"], values)
    longer = append_pack(continued(Pack.open(pack.path), 4), pack.path, workers=1)
    assert len(longer) == 9 and (longer.path / "CARD.md").read_text().count("| NESZ, dB |") == 1


def test_an_append_may_name_its_mode_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    built_in = Path(modes.__file__).with_name("iw.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(built_in)
    monkeypatch.chdir(tmp_path)
    words = ["marine", "--seed", "3", "--size", "16", "--workers", "1", "--pairs"]
    command.main([*words, "2", "--mode", "mine.yaml", "--out", "pack"])
    monkeypatch.chdir(tmp_path / "other")
    command.main(["marine", "--append", "../pack", "--pairs", "2", "--workers", "1", "--mode", "../mine.yaml"])
    assert len(Pack.open("../pack")) == 4
    (tmp_path / "mine.yaml").write_text(built_in.replace("frequency: 5.405", "frequency: 5.3"))
    with pytest.raises(CmkdError, match="other values in the mode"):
        command.main(["marine", "--append", "../pack", "--pairs", "2", "--mode", "../mine.yaml"])


def test_merged_parts_give_the_bytes_of_one_run(whole: Pack, tmp_path: Path) -> None:
    parts = [write(tmp_path / str(n), shard=Shard(n, 3)) for n in (3, 1, 2)]
    assert sorted(map(len, parts)) == [2, 3, 3]
    merged = merge(parts, tmp_path / "merged")
    assert_same(merged, whole)
    assert merged.card.notes == whole.card.notes
    with pytest.raises(CmkdError, match=r"missing of 3 parts: 1/3, 2/3; make them with --shard"):
        merge([parts[0], whole], tmp_path / "other")
    with pytest.raises(CmkdError, match=r"[/]2 and .*[/]2 are both part 2/3"):
        merge([parts[2], parts[2]], tmp_path / "other")
    other = write(tmp_path / "other run", replace(RECIPE, pairs=2), Shard(2, 2))
    with pytest.raises(CmkdError, match=r"different runs \(parts 3 and 2, pairs 8 and 2\)"):
        merge([parts[1], other], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_killed_append_leaves_the_pack_and_resumes(whole: Pack, pack: Pack) -> None:
    recipe = replace(continued(pack, 4), chunk=1)
    script = (
        "from pathlib import Path; from cmkd.simulators.marine.packing import append_pack\n"
        "from cmkd.simulators.marine.recipe import Recipe\n"
        f"append_pack({recipe!r}, Path({str(pack.path)!r}), workers=1)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    chunks, limit = pack.path.with_name(".pack.chunks"), time.time() + 60
    while not list(chunks.glob("chunk-*.npz")) and time.time() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in chunks.glob("chunk-*.npz")}
    assert 0 < len(kept) < 4
    Pack.open(pack.path).verify()
    assert Pack.open(pack.path).card.version == 1
    with pytest.raises(CmkdError, match="unfinished run with other settings"):
        append_pack(continued(pack, 2), pack.path, workers=1)
    made = []
    assert_same(append_pack(recipe, pack.path, workers=1, progress=lambda done, _: made.append(done)), whole)
    assert made[0] == len(kept)  # progress starts at the pairs that existed
    assert not chunks.exists()


def test_an_append_that_ends_after_its_commit_is_not_made_twice(
    whole: Pack, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packing, "_illustrate", end)
        append_pack(continued(pack, 4), pack.path, workers=1)
    assert len(Pack.open(pack.path)) == 8
    again = append_pack(continued(pack, 4), pack.path, workers=1)
    assert_same(again, whole)
    assert again.card.version == 2
    assert "Made in part by" in (pack.path / "CARD.md").read_text()


def test_numbers_continue_and_new_vessels_come_first() -> None:
    import pandas as pd

    def index(slots: Sequence[Slot]) -> pd.DataFrame:
        groups = [f"{CLASSES[s.pair % 8].replace(' ', '-')}-{s.vessel:03d}" for s in slots]
        return pd.DataFrame({"id": [f"marine-0-{s.pair:06d}" for s in slots], "group": groups})

    first = Recipe(64, vessels=4)
    made = first.slots()
    assert made == [Slot(n, n // 8 % 4) for n in range(64)]
    tugs = replace(first, pairs=3, classes=("tugboat",)).slots(index(made))
    assert tugs == [Slot(70, 0), Slot(78, 1), Slot(86, 2)]
    more = replace(first, pairs=30).slots(index([*made, *tugs]))
    assert len({slot.pair for slot in [*made, *tugs, *more]}) == 97
    assert [slot.pair for slot in more][:8] == [64, 65, 66, 67, 68, 69, 71, 72]
    assert all(slot.vessel == slot.pair // 8 % 4 for slot in more)  # as in one full run
    new = replace(first, pairs=16, vessels=6).slots(index([*made, *tugs, *more]))
    assert Counter(slot.vessel for slot in new) == {4: 8, 5: 8}


def test_deliveries_of_some_classes_and_of_new_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "pack"
    small = ["marine", "--size", "16", "--workers", "1"]
    command.main([*small, "--pairs", "6", "--out", str(pack), "--classes", "tugboat,ferry"])
    grow = ["marine", "--workers", "1", "--append", str(pack), "--pairs"]
    with pytest.raises(CmkdError, match=r"not classes of .*pack: tanker; .*--new_classes allow"):
        command.main([*grow, "2", "--classes", "tanker"])
    command.main([*grow, "2", "--classes", "tugboat"])
    command.main([*grow, "1", "--classes", "tanker", "--new_classes", "allow"])
    assert "1 pairs in" in capsys.readouterr().out
    grown = Pack.open(pack)
    assert (grown.classes, grown.card.version) == (("ferry", "tugboat", "tanker"), 3)
    assert grown.index["label"].tolist() == [0, 1] * 3 + [1, 1] + [2]
    assert grown.index["group"].tolist()[-3:] == ["tugboat-003", "tugboat-004", "tanker-000"]
    data_command.main(["history", str(pack)])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert " 8 (+2) " in lines[2] and lines[2].endswith(" tugboat +2 2 version 2 adds 2 pairs of tugboat.")
    assert " 9 (+1) " in lines[3] and lines[3].endswith(" tanker (new) +1 1 version 3 adds 1 pair of tanker.")
    data_command.main(["diff", f"{pack}@1", f"{pack}@2"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("groups 2 +tugboat-003 (") for line in lines)
    assert "pairs by class 1 tugboat 3 -> 5" in lines


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--gap", "0.7"], r"made with --gap 0\.0, now 0\.7: leave --gap out, or make another pack with --out"),
        (["--mode", "stripmap"], "made with --mode iw, now stripmap"),
        (["--seed", "4"], "made with --seed 3, now 4"),
        (["--vessels", "100"], "has 240 vessels of each class, but now 100: give 240 or more"),
        (["--classes", "tugbot"], "did you mean 'tugboat'"),
        (["--shard", "1/2"], "--append cannot be combined with"),
    ],
)
def test_another_recipe_is_refused(half: Pack, words: list[str], reason: str) -> None:
    with pytest.raises(CmkdError, match=reason):
        command.main(["marine", "--append", str(half.path), "--pairs", "8", *words])
    assert Pack.open(half.path).card.version == 1


def test_wrong_parts_and_other_packs_are_refused(half: Pack) -> None:
    for text in ("0/3", "4/3", "1", "a/b", "1/" + "9" * 5000):
        with pytest.raises(CmkdError, match="is not a part"):
            Shard.read(text)
    with pytest.raises(CmkdError, match="2 pairs cannot be made in 3 parts"):
        Shard(1, 3).of(range(2))
    for recipe, reason in (
        ({}, "does not record how it was simulated"),
        ({"version": 0}, "simulator version 0"),
        ({"version": 5}, "simulator version 5, but this is version 6"),
        ({"version": 6}, "simulator version 6, but this is version 4"),
        ({"sensors": {}}, "other values in the mode iw"),
    ):
        known = {**half.card.recipe, **recipe} if recipe else {}
        with pytest.raises(CmkdError, match=reason):
            continued(Pack(half.path, replace(half.card, recipe=known), half.index), 8)
    with pytest.raises(CmkdError, match="give --out PACK for a new pack"):
        command.main(["marine", "--pairs", "8"])


@pytest.mark.slow
def test_parts_of_two_processes_at_once(whole: Pack, tmp_path: Path) -> None:
    words = ["simulate", "marine", "--pairs", 8, "--seed", 3, "--size", 16, "--workers", 1]
    parts = [run([*words, "--shard", f"{n}/2", "--out", tmp_path / str(n)]) for n in (1, 2)]
    assert [part.wait(120) for part in parts] == [0, 0]
    assert run(["data", "merge", tmp_path / "2", tmp_path / "1", "--out", tmp_path / "merged"]).wait(120) == 0
    assert_same(Pack.open(tmp_path / "merged"), whole)


def test_meshes_of_ones_own_become_classes_and_a_changed_one_stops_an_append(tmp_path: Path) -> None:
    for name, size in (("barge", (60, 12, 6)), ("launch", (14, 4, 3))):
        for number in range(3):
            home = tmp_path / "fleet" / name
            home.mkdir(parents=True, exist_ok=True)
            trimesh.creation.box((size[0] + number, *size[1:])).export(home / f"{number}.stl")
    fleet = str(tmp_path / "fleet")
    recipe = Recipe(12, size=16, fleet=fleet)
    pack = write_pack(recipe, tmp_path / "pack", Marine.info(), workers=1)
    assert pack.classes == ("barge", "launch") and pack.index["label"].tolist() == [0, 1] * 6
    assert set(pack.index["group"]) == {f"{name}-{number:03d}" for name in pack.classes for number in range(3)}
    grown = append_pack(continued(pack, 2), pack.path, workers=1)
    assert len(grown) == 14
    trimesh.creation.box((80, 12, 6)).export(tmp_path / "fleet" / "barge" / "0.stl")
    with pytest.raises(CmkdError, match=r"other meshes in .*fleet"):
        continued(grown, 2)
