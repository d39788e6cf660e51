"""Appending to a pack: old splits stay, groups stay whole, and no crash at any moment loses the old version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.io import wavfile

from cmkd.data import CardInfo, Modality, Pack, PackWriter, append, build
from cmkd.data.huggingface import export_pack, import_folder
from cmkd.data.manifest.reading import Reading
from cmkd.data.pack.card import CardFile
from cmkd.data.split import hashed_splits
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.io import lock

Folder = Callable[..., Path]
Rows = list[dict[str, str]]


def test_an_interrupt_after_the_commit_keeps_the_new_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, path, write = Modality("x", "vector", (2,), "float32"), tmp_path / "pack", CardFile.write
    with PackWriter(path, CardInfo("t"), classes=["a", "b"], modalities=[sensor]) as writer:
        writer.add(["0", "1"], [0, 1], ["train", "test"], None, {"x": np.eye(2, dtype=np.float32)})

    def interrupted(card: CardFile, folder: Path) -> None:
        write(card, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(CardFile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt), PackWriter.append(path) as writer:
        writer.add(["2"], [0], ["train"], None, {"x": np.ones((1, 2), np.float32)})
    monkeypatch.undo()
    Pack.open(path).verify()
    assert len(Pack.open(path)) == 3


def delivery(make_folder: Folder, name: str, *, known: str = "", split: str = "") -> Path:
    """Return a folder with 24 new pairs: two of a known vessel, one marked with a split, the others new."""

    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row.update(id=f"{name}{k:02d}", group=f"{name}{k // 2}", split="")
        rows[0]["group"] = rows[1]["group"] = known or f"{name}0"
        rows[2]["split"] = split

    return make_folder(edit, name=name)


def test_old_splits_stay_and_groups_stay_whole(make_folder: Folder, tmp_path: Path) -> None:
    pack = build(make_folder(), tmp_path / "pack")
    before = pack.index.copy()
    known = before[before["split"] == "validation"]["group"].iloc[0]
    for number, name in enumerate(("second", "third")):
        longer = append(pack.path, delivery(make_folder, name, known=known, split="test"))
        assert (len(longer), longer.card.version) == (48 + 24 * number, 2 + number)
        pd.testing.assert_frame_equal(longer.index.iloc[:24], before)
        assert longer.index.groupby("group")["split"].nunique().max() == 1
        added = longer.index.iloc[-24:]
        assert added["split"].tolist()[:4] == ["validation"] * 2 + ["test"] * 2  # the marked pair's vessel too
    for version in (1, 2, 3):
        Pack.open(pack.path, version).verify()
    pd.testing.assert_frame_equal(Pack.open(pack.path, 1).index, before)


def test_damage_is_not_sealed_by_new_checksums(make_folder: Folder, tmp_path: Path) -> None:
    pack = build(make_folder(), tmp_path / "pack")
    array = tmp_path / "pack" / next(iter(pack.modalities.values())).file
    array.write_bytes(bytes([array.read_bytes()[0] ^ 1]) + array.read_bytes()[1:])
    for reseal in (lambda: PackWriter.append(pack.path), lambda: export_pack(Pack.open(pack.path), tmp_path / "hub")):
        with pytest.raises(CmkdError, match="has changed since the pack was made"):
            reseal()


def test_a_changed_index_of_an_earlier_version_is_found(make_folder: Folder, tmp_path: Path) -> None:
    folder = make_folder()
    pack = build(folder, tmp_path / "pack")
    with PackWriter.append(pack.path) as writer:
        values = {name: pack.array(name)[:1] for name in pack.modalities}
        writer.add(["new"], [0], ["train"], None, values)
    Pack.open(pack.path).verify()
    index = tmp_path / "pack" / pack.card.index_file
    index.write_bytes(index.read_bytes()[:-1] + b"?")
    with pytest.raises(CmkdError, match=r"index.* is missing or has changed"):
        Pack.open(pack.path).verify()


def test_a_vessel_cannot_be_moved_to_another_split(make_folder: Folder, tmp_path: Path) -> None:
    pack = build(make_folder(), tmp_path / "pack")
    trained = pack.index[pack.index["split"] == "train"]["group"].iloc[0]
    files = {path.name: path.read_bytes() for path in pack.path.iterdir()}

    def edit(rows: Rows) -> None:
        for row in rows:
            row.update(id=f"{row['id']}b", group="", split="")
        rows[5].update(group=trained, split="test")

    with pytest.raises(CmkdError, match=f"group '{trained}' is in both train and test"):
        append(pack.path, make_folder(edit, name="more"))
    assert {path.name: path.read_bytes() for path in pack.path.iterdir()} == files


def test_a_vessel_that_pandas_wrote_as_a_float_is_the_same_vessel(make_folder: Folder, tmp_path: Path) -> None:
    """A column of integers with one empty cell is written by pandas as floats, such as 219000001.0."""

    def numbers(rows: Rows, ids: str, end: str) -> None:
        for k, row in enumerate(rows):
            row.update(id=f"{ids}{k}", group=f"{219000000 + k}{end}", label=f"{k % 2}{end}")

    pack = build(make_folder(lambda rows: numbers(rows, "a", ""), name="first"), tmp_path / "pack")
    longer = append(pack.path, make_folder(lambda rows: numbers(rows, "b", ".0"), name="second"))
    assert longer.index.groupby("group")["split"].nunique().tolist() == [1] * 24 and longer.classes == ("0", "1")


def test_a_delivery_without_groups_needs_splits(make_folder: Folder, tmp_path: Path) -> None:
    pack = build(make_folder(), tmp_path / "pack")

    def without(rows: Rows, **cells: str) -> None:
        for row in rows:
            del row["group"]
            row.update(id=f"{row['id']}{len(cells)}", **cells)

    with pytest.raises(CmkdError, match="has no column 'group', but pairs of the pack have groups"):
        append(pack.path, make_folder(without, name="none"))

    def sharing(rows: Rows) -> None:
        without(rows)
        rows[1]["optical"] = rows[0]["optical"]

    with (
        pytest.warns(CmkdWarning, match="rows that share files are one group"),
        pytest.raises(CmkdError, match="has no column 'group', but pairs of the pack have groups"),
    ):
        append(pack.path, make_folder(sharing, name="sharing"))
    assert len(Pack.open(pack.path)) == 24
    longer = append(pack.path, make_folder(lambda rows: without(rows, split="test"), name="splits"))
    assert len(append(pack.path, make_folder(lambda rows: without(rows, group="", split=""), name="empty"))) == 72
    assert set(longer.index["split"][24:]) == {"test"}


def nodata_in_the_first_rows(folder: Path) -> Path:
    for path in (folder / "files").glob("*.tif"):
        radar = tifffile.imread(path)
        radar[:, :2] = -9999
        tifffile.imwrite(path, radar, photometric="minisblack", planarconfig="separate")
    return folder


def test_what_is_stated_of_a_delivery_is_followed(make_folder: Folder, tmp_path: Path) -> None:
    build(make_folder(), tmp_path / "pack")
    more = nodata_in_the_first_rows(delivery(make_folder, "more"))
    (more / "manifest.yaml").write_text("modalities: {radar: {nodata: -9999, unit: dB, channels: first}}")
    longer = append(tmp_path / "pack", more)
    assert longer.card.invalid["radar"] == (24 * 2 * 2 * 8, 24)
    added = longer.array("radar")[24:]
    assert np.isnan(added[:, :, :2]).all() and np.nanmin(added) > -100


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("{radar: {unit: amplitude}}", "unit of 'radar' is stated as amplitude, but in the pack it is dB"),
        ("{radar: {size: [9, 9]}}", r"size of 'radar' is stated as \(9, 9\), but in the pack it is \(10, 8\)"),
        ("{radar: {kind: points}}", "kind of 'radar' is stated as points, but in the pack it is image"),
        ("{sonar: {unit: dB}}", "unknown modality 'sonar'"),
    ],
)
def test_what_is_stated_of_a_delivery_and_does_not_fit_is_refused(
    make_folder: Folder, tmp_path: Path, said: str, says: str
) -> None:
    build(make_folder(), tmp_path / "pack", readings={"radar": Reading(unit="dB")})
    more = delivery(make_folder, "more")
    (more / "manifest.yaml").write_text(f"modalities: {said}")
    with pytest.raises(CmkdError, match=says):
        append(tmp_path / "pack", more)
    assert len(Pack.open(tmp_path / "pack")) == 24


def recordings(folder: Path, rate: int) -> Path:
    folder.mkdir()
    lines = ["id,label,sound,profile"]
    for k in range(12):
        wavfile.write(folder / f"s{k}.wav", rate, np.arange(50, dtype=np.int16) + k)
        np.save(folder / f"v{k}.npy", np.arange(4.0) + k)
        lines.append(f"{folder.name}{k},{'ab'[k % 2]},s{k}.wav,v{k}.npy")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def test_recordings_of_another_rate_are_refused(tmp_path: Path) -> None:
    pack = build(recordings(tmp_path / "first", 8000), tmp_path / "pack")
    assert (pack.modality("sound").rate, pack.modality("profile").rate) == (8000, 0)
    other = recordings(tmp_path / "other", 16000)
    with pytest.raises(CmkdError, match=r"rate of 'sound' is stated as 16000, but in the pack it is 8000: resample"):
        append(pack.path, other)
    longer = append(pack.path, recordings(tmp_path / "second", 8000))
    assert (len(longer), longer.modality("sound").rate) == (24, 8000)
    card = CardFile.read(pack.path)  # a card as an older release wrote it
    del card.header["modalities"]["sound"]["rate"]
    card.write(pack.path)
    assert len(append(pack.path, other)) == 36


def tables(folder: Path, columns: str, offset: int = 0) -> Path:
    folder.mkdir()
    lines = ["id,label,motion"]
    for k in range(12):
        (folder / f"m{k}.csv").write_text(f"{columns}\n" + "\n".join(f"{k}.5,{row}.25" for row in range(5)))
        lines.append(f"{k + offset},{'ab'[k % 2]},m{k}.csv")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def test_tables_with_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    pack = build(tables(tmp_path / "first", "x,y"), tmp_path / "pack")
    assert pack.modality("motion").columns == ("x", "y")
    says = "columns of 'motion' in another order, such as 'y' in place of 'x', which it is in the pack: save them alike"
    with pytest.raises(CmkdError, match=says):
        append(pack.path, tables(tmp_path / "other", "y,x", 12))
    assert len(append(pack.path, tables(tmp_path / "second", "x,y", 12))) == 24
    from cmkd.deploy.new_sample import sample_of_file

    with pytest.raises(CmkdError, match=r"m0\.csv has columns of 'motion' in another order"):
        sample_of_file(pack.modality("motion"), tmp_path / "other" / "m0.csv")


def test_a_version_that_another_writer_added_meanwhile_is_kept(
    make_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = build(make_folder(), tmp_path / "pack")
    first = delivery(make_folder, "first")

    def overtaken(folder: Path) -> int | None:
        monkeypatch.undo()
        append(pack.path, first, new_classes="allow")
        return lock(folder)

    monkeypatch.setattr("cmkd.data.pack.writer.lock", overtaken)
    with pytest.raises(CmkdError, match="got version 2 meanwhile: repeat the command"):
        append(pack.path, delivery(make_folder, "second"))
    monkeypatch.setattr("cmkd.data.pack.writer.remove_all_stale", lambda _: os.close(-1))  # an error of the system
    with pytest.raises(OSError, match="Bad file descriptor"):
        append(pack.path, delivery(make_folder, "third"))
    monkeypatch.undo()
    longer = append(pack.path, tmp_path / "second")  # the pack is no longer locked
    assert (len(longer), longer.card.version) == (72, 3)
    longer.verify()


def test_unlabeled_pairs_of_version_1_do_not_change_the_shares(make_folder: Folder, tmp_path: Path) -> None:
    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row.update(group="", split=("train", "test", "validation")[k % 3] if k < 6 else "")
            row["label"] = row["label"] if k < 6 else ""

    pack = build(make_folder(edit), tmp_path / "pack")
    assert pack.index["split"].tolist()[6:] == ["train"] * 18
    more = make_folder(lambda rows: [row.update(id=f"{row['id']}b", group="") for row in rows], name="more")
    splits = append(pack.path, more).index["split"][24:]
    names = [f"pair p{k:02d}b" for k in range(24)]
    assert splits.tolist() == hashed_splits(names, {"train": 1 / 3, "validation": 1 / 3, "test": 1 / 3}, 0)


def test_a_column_of_metadata_may_be_empty_in_a_delivery(make_folder: Folder, tmp_path: Path) -> None:
    build(make_folder(lambda rows: [row.update(speed="3.5") for row in rows]), tmp_path / "pack")
    more = make_folder(lambda rows: [row.update(id=f"{row['id']}b", speed="") for row in rows], name="more")
    longer = append(tmp_path / "pack", more)
    assert longer.index["speed"].tolist() == ["3.5"] * 24 + [""] * 24


CRASHING = """
import os, signal, sys
from pathlib import Path
from cmkd.data import append

real = {name: getattr(os, name) for name in ("fsync", "replace", "open")}
folder, more, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def crash_at(step):
    # every call that touches the disk by way of the operating system is a moment to die at, before and after it
    left = [step]
    def dying(name):
        def call(*arguments, **options):
            for done in (False, True):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                if not done:
                    result = real[name](*arguments, **options)
            return result
        return call
    for name in real:
        setattr(os, name, dying(name))
    append(folder / str(step), more)
    os._exit(0)

for step in range(1, count + 1):  # children of a parent that has started no thread yet
    if (child := os.fork()) == 0:
        try:
            crash_at(step)
        finally:
            os._exit(9)
    _, status = os.waitpid(child, 0)
    print(step, "killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_moment_of_an_append(make_folder: Folder, tmp_path: Path) -> None:
    """After SIGKILL before or after each call that makes an append durable, the old or the new version is intact."""
    pack = build(make_folder(), tmp_path / "pack")
    more, steps = delivery(make_folder, "more"), 40
    for step in range(1, steps + 1):
        shutil.copytree(pack.path, tmp_path / "copies" / str(step))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CRASHING, str(tmp_path / "copies"), str(more), str(steps)],
        capture_output=True, text=True, check=True, env=environment, timeout=300,
    )  # fmt: skip
    ends = dict(line.split() for line in done.stdout.splitlines())
    assert set(ends.values()) == {"killed", "0"}, done.stderr
    killed = [int(step) for step, end in ends.items() if end == "killed"]
    assert len(killed) >= 10
    assert sorted(killed) == list(range(1, len(killed) + 1))
    versions = []
    for step in killed:
        found = Pack.open(tmp_path / "copies" / str(step))
        found.verify()
        old = Pack.open(found.path, 1)
        old.verify()
        assert old.card.sha256 == pack.card.sha256
        versions.append(found.card.version)
        if found.card.version == 1:
            assert len(append(found.path, more)) == 48
            assert not list(found.path.glob(".*"))
    assert versions == sorted(versions)  # there is one moment of commit
    assert {1, 2} == set(versions)


def test_new_vessels_are_divided_and_the_order_of_deliveries_does_not_matter(
    make_folder: Folder, tmp_path: Path
) -> None:
    folder = make_folder()
    packs = [build(folder, tmp_path / name, seed=3) for name in ("one", "two")]
    deliveries = [delivery(make_folder, name) for name in ("second", "third", "fourth")]
    for pack, order in zip(packs, (deliveries, deliveries[::-1]), strict=True):
        for folder in order:
            append(pack.path, folder)
    first, second = (dict(Pack.open(pack.path).index[["id", "split"]].to_numpy().tolist()) for pack in packs)
    assert first == second
    new = Pack.open(packs[0].path).index.iloc[24:]
    by_group = new.groupby("group")["split"].agg(["nunique", "first"])
    assert len(by_group) == 36 and by_group["nunique"].max() == 1
    assert set(by_group["first"]) == {"train", "validation", "test"}
    assert 0.5 < (by_group["first"] == "train").mean() < 0.9  # 0.67 in the first version


def test_hashed_splits_have_their_shares_and_depend_on_the_name_alone() -> None:
    names = [f"vessel {k}" for k in range(2000)]
    shares = {"train": 0.6, "validation": 0.1, "test": 0.3}
    found = hashed_splits(names, shares, 1)
    assert {split: found.count(split) / 2000 for split in shares} == pytest.approx(shares, abs=0.03)
    assert hashed_splits(names[::-1], shares, 1) == found[::-1]
    assert hashed_splits(names, shares, 2) != found
    assert set(hashed_splits(names, {"train": 1.0, "validation": 0.0, "test": 0.0}, 1)) == {"train"}


def test_a_delivery_of_one_class_or_without_labels(make_folder: Folder, tmp_path: Path) -> None:
    pack = build(make_folder(), tmp_path / "pack")
    for number, label in enumerate(("tanker", "")):

        def edit(rows: Rows, number: int = number, label: str = label) -> None:
            for row in rows:
                row.update(id=f"{number}-{row['id']}", group="", label=label)

        longer = append(pack.path, make_folder(edit, name=f"more{number}"))
        assert longer.classes == pack.classes
    assert longer.index["label"].tolist()[24:48] == [1] * 24
    assert longer.index[["label", "split"]].to_numpy().tolist()[48:] == [[-1, "train"]] * 24


def test_metadata_is_kept_in_the_index_and_across_the_hub(make_folder: Folder, tmp_path: Path) -> None:
    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row.update(sea_state=str(k % 5), operator="NA")

    pack = build(make_folder(edit), tmp_path / "pack")
    longer = append(pack.path, delivery(make_folder, "second"))  # a delivery without these columns
    assert longer.index["sea_state"].tolist() == [str(k % 5) for k in range(24)] + [""] * 24
    assert longer.index["operator"].tolist() == ["NA"] * 24 + [""] * 24
    again = import_folder(export_pack(longer, tmp_path / "hub"), tmp_path / "again")
    pd.testing.assert_frame_equal(again.index, longer.index)
    assert set(again.card.sha256.values()) == set(longer.card.sha256.values())


@pytest.mark.parametrize(
    ("said", "message"), [("kind: vector", "kind of 'radar'"), ("unit: linear power", "unit of 'radar'")]
)
def test_what_is_stated_otherwise_is_refused(make_folder: Folder, tmp_path: Path, said: str, message: str) -> None:
    pack = build(make_folder(), tmp_path / "pack", readings={"radar": Reading(unit="dB")})
    new = delivery(make_folder, "new")
    (new / "manifest.yaml").write_text(f"modalities: {{radar: {{{said}}}}}")
    with pytest.raises(CmkdError, match=f"{message} is stated as .*, but in the pack it is"):
        append(pack.path, new)
