"""A pack that grows: old splits stay, groups stay whole, and no moment of a crash costs the old version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cmkd.data import Pack, append, build
from cmkd.errors import CmkdError

Folder = Callable[..., Path]
Rows = list[dict[str, str]]


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
        assert (
            added["split"].tolist() == ["validation"] * 2 + ["test"] * 2 + ["train"] * 20
        )  # the marked pair's vessel too
    for version in (1, 2, 3):
        Pack.open(pack.path, version).verify()
    pd.testing.assert_frame_equal(Pack.open(pack.path, 1).index, before)


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
    """SIGKILL before and after each call that makes an append durable: the old version or the new one is there."""
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
    assert versions == sorted(versions)  # one moment commits
    assert {1, 2} == set(versions)
