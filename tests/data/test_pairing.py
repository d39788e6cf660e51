"""Captures are paired one to one by time and place, within tolerances, and none is lost silently."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cmkd.cli import data as command
from cmkd.cli import main
from cmkd.data import build
from cmkd.data.pairing.assemble import assemble
from cmkd.data.pairing.captures import Captures, read_captures
from cmkd.data.pairing.clocks import estimate_clock
from cmkd.data.pairing.matching import Gate, match
from cmkd.data.pairing.places import ground_distance, moved
from cmkd.data.pairing.times import Times
from cmkd.errors import CmkdError, CmkdWarning


def captures(name: str, seconds: Any, place: Any = None, *, geographic: bool = True) -> Captures:  # noqa: ANN401
    count = len(seconds)
    ids = [f"{name}{k}" for k in range(count)]
    where = None if place is None else np.asarray(place, float).reshape(count, 2)
    times = Times(np.asarray(seconds, float), "own", daily=False)
    return Captures(name, Path(f"{name}.csv"), ids, ids, times, where, geographic, [""] * count, [""] * count)


def test_distances_along_the_great_circle() -> None:
    places = np.array([[48.8566, 2.3522], [-0.5, 179.99], [60.0, 10.0]])  # Paris; across the date line; a degree east
    others = np.array([[51.5074, -0.1278], [-0.5, -179.99], [60.0, 11.0]])
    found = ground_distance(places, others, geographic=True)
    assert found == pytest.approx([343_560, 2 * 0.01 * 111_195 * np.cos(np.radians(0.5)), 55_597], rel=1e-3)
    np.testing.assert_allclose(ground_distance(places, others, geographic=False)[1], 359.98)


@pytest.mark.parametrize("seed", range(25))
def test_the_assignment_is_the_best_of_all(seed: int) -> None:
    """Compare with every possible assignment, on lists of up to six captures."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 7, 2)
    one, two = (captures(n, generator.uniform(0, 20, k), generator.uniform(0, 50, (k, 2)), geographic=False)
                for n, k in zip("ab", sizes, strict=True))  # fmt: skip
    gate = Gate(6.0, 25.0)
    assert one.place is not None and two.place is not None
    late = np.abs(two.seconds[None, :] - one.seconds[:, None])
    meters = np.linalg.norm(two.place[None] - one.place[:, None], axis=-1)
    cost = np.where((late <= 6) & (meters <= 25), ((late / 6) ** 2 + (meters / 25) ** 2) / 2, 1.0)
    small, large = (cost, sizes) if sizes[0] <= sizes[1] else (cost.T, sizes[::-1])
    best = min(sum(small[k, p[k]] for k in range(large[0])) for p in permutations(range(large[1]), int(large[0])))
    found = match(one, two, gate)
    ours = sum(cost[a, b] for a, b in found.rows) + min(sizes) - len(found.rows)
    assert ours == pytest.approx(best, abs=1e-6)
    assert all((late[a, b] <= 6) and (meters[a, b] <= 25) for a, b in found.rows)
    assert len(set(found.rows[:, 0])) == len(set(found.rows[:, 1])) == len(found.rows)


def test_ships_at_one_time_are_told_apart_by_place_and_one_place_by_time() -> None:
    one = captures("a", [0, 0, 100], [[54.0, 10.0], [54.01, 10.0], [54.0, 10.0]])
    two = captures("b", [101, 1, 0.5], [[54.0, 10.0005], [54.01, 10.0005], [54.0, 10.0005]])
    found = match(one, two, Gate(5, 200))
    assert sorted(map(tuple, found.rows.tolist())) == [(0, 2), (1, 1), (2, 0)]
    assert found.meters == pytest.approx(np.full(3, 32.7), abs=0.2)
    assert len(match(one, two, Gate(5, 30)).rows) == 0
    assert not found.ambiguous.any()
    named = replace(one, vessels=["7", "", "7"]), replace(two, vessels=["8", "8", "7"])
    assert sorted(map(tuple, match(*named, Gate(5, 200)).rows.tolist())) == [(0, 2), (1, 1)]  # 7 and 8 differ
    by_time = match(one, two, Gate(5))  # by time alone, two captures of one instant are ambiguous
    assert dict(zip(by_time.rows[:, 0], by_time.ambiguous, strict=True)) == {0: True, 1: True, 2: False}


@pytest.mark.parametrize("geographic", [True, False])
def test_captures_are_compared_at_one_time(geographic: bool) -> None:
    """A ship moves 50 m in 5 s at 10 m/s; course and speed of either list, or of both, account for it."""
    east = 50 / (111_195 * np.cos(np.radians(60))) if geographic else 50.0
    here, there = ([[60.0, 179.9999]], [[60.0, 179.9999 + east]]) if geographic else ([[0, 0]], [[east, 0]])
    one, two = captures("a", [0], here, geographic=geographic), captures("b", [5], there, geographic=geographic)
    motion, unknown = np.array([[90.0, 10.0]]), np.array([[90.0, np.nan]])
    assert match(one, two, Gate(6, 60)).meters == pytest.approx([50], abs=0.1)
    for motions in ((motion, None), (None, motion), (motion, motion), (motion, unknown)):
        lists = [replace(captures, motion=m) for captures, m in zip((one, two), motions, strict=True)]
        assert match(*lists, Gate(6, 1)).meters == pytest.approx([0], abs=0.1)
    far = replace(one, motion=motion), replace(two, motion=motion, place=two.place + np.array([[0, 2 * east]]))
    assert len(match(*far, Gate(6, 99)).rows) == 0 and len(match(*far, Gate(6, 101)).rows) == 1


def test_dead_reckoning_is_near_the_ellipsoid() -> None:
    """Moves of 1 km north or east agree within 0.6 % with the WGS84 radii of curvature up to 80 degrees of latitude."""
    latitude = np.linspace(-80, 80, 17)
    a, e2 = 6_378_137.0, 0.00669437999014
    part = 1 - e2 * np.sin(np.radians(latitude)) ** 2
    for course, radius in ((0.0, a * (1 - e2) / part**1.5), (90.0, a / part**0.5 * np.cos(np.radians(latitude)))):
        start, motion = np.column_stack([latitude, np.zeros(17)]), np.tile([course, 10.0], (17, 1))
        end = moved(start, motion, np.full(17, 100.0), geographic=True)
        np.testing.assert_allclose(np.radians((end - start)[:, int(course > 0)]) * radius, 1000, rtol=0.006)
        back = moved(end, motion, np.full(17, -100.0), geographic=True)
        assert ground_distance(start, back, geographic=True).max() < 1  # m; 1 km east bends by less at 80 degrees


def test_few_pairs_are_wrong_where_the_tolerance_is_near_the_interval() -> None:
    """Each sensor misses a fifth of the captures, every 10 s: a third of a largest set of pairs would be wrong."""
    generator, times = np.random.default_rng(0), 10.0 * np.arange(2000)
    kept = [np.flatnonzero(generator.random(2000) > 0.2) for _ in range(2)]
    one, two = (captures(n, times[k] + generator.normal(0, 0.7, len(k))) for n, k in zip("ab", kept, strict=True))
    for tolerance in (9.0, 10.0, 12.0, 15.0):
        found = match(one, two, Gate(tolerance))
        right = kept[0][found.rows[:, 0]] == kept[1][found.rows[:, 1]]
        assert right.sum() == len(np.intersect1d(kept[0], kept[1]))
        assert right.mean() > 0.97 and right[~found.ambiguous].mean() > 0.998


def test_a_far_pair_that_nothing_else_claims_is_kept_and_marked() -> None:
    seconds = 100.0 * np.arange(40)
    late = np.where(np.arange(40) == 7, 9.0, 0.1)
    found = match(captures("a", seconds), captures("b", seconds + late), Gate(10.0))
    assert found.rows.tolist() == [[k, k] for k in range(40)]
    assert np.flatnonzero(found.ambiguous).tolist() == [7]


def test_tolerances_are_kept_at_their_edges_and_over_the_date_line() -> None:
    one, two = captures("a", [0.0, 20.0]), captures("b", [5.0, 25.0001])
    assert match(one, two, Gate(5.0)).rows.tolist() == [[0, 0]]
    west, east = captures("a", [0], [[0.0, 179.9995]]), captures("b", [0], [[0.0, -179.9995]])
    assert match(west, east, Gate(1, 112)).meters == pytest.approx([111.2], abs=0.1)
    assert len(match(west, east, Gate(1, 111)).rows) == 0


def stream(seed: int) -> tuple[Captures, Captures, set[tuple[int, int]]]:
    """Return two lists of captures of instants 6 to 14 s apart, and the true pairs of their positions.

    Each sensor misses a fifth of the instants. The second clock is 37.4 s ahead.
    """
    generator = np.random.default_rng(seed)
    times, places = np.cumsum(generator.uniform(6, 14, 300)), generator.uniform((54, 10), (54.1, 10.2), (300, 2))
    kept = [generator.random(300) > 0.2 for _ in range(2)]
    one = captures("a", times[kept[0]] + generator.normal(0, 0.5, kept[0].sum()), places[kept[0]])
    two = captures("b", times[kept[1]] + 37.4 + generator.normal(0, 0.5, kept[1].sum()), places[kept[1]])
    at = [{int(k): place for place, k in enumerate(np.flatnonzero(mask))} for mask in kept]
    return one, two, {(at[0][k], at[1][k]) for k in at[0].keys() & at[1].keys()}


def test_an_offset_of_the_clocks_is_found_and_taken_off() -> None:
    one, two, true = stream(0)
    clock = estimate_clock(one, two, Gate(4, 200))
    assert clock.ahead == pytest.approx(37.4, abs=0.15)
    assert clock.agreeing >= len(true)
    found = match(one, clock.corrected(two), Gate(4, 200))
    assert set(map(tuple, found.rows.tolist())) == true
    assert np.median(found.late) == pytest.approx(0, abs=0.15)
    by_time = estimate_clock(one, two, Gate(4))  # intervals are uneven, so times alone determine the offset
    assert by_time.ahead == pytest.approx(37.4, abs=0.3)


def write_lists(folder: Path, **columns: list[str]) -> None:
    """Write six captures of each of two sensors as files, and their lists."""
    for sensor, mode in (("optical", "RGB"), ("radar", "L")):
        (folder / sensor).mkdir(parents=True)
        for k in range(6):
            Image.new(mode, (8, 8), k * 30 if mode == "L" else (k * 30, 0, 0)).save(folder / sensor / f"{k}.png")
    time = pd.Timestamp("2026-03-01T12:00:00Z") + pd.to_timedelta(np.arange(6) * 60, unit="s")
    content: dict[str, Any] = {"latitude": 54.0, "longitude": 10 + 0.001 * np.arange(6)}
    optical = pd.DataFrame({"id": [f"{k:03d}" for k in range(6)], "path": [f"optical/{k}.png" for k in range(6)],
                            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"), **content})  # fmt: skip
    optical["label"], optical["group"] = ["ferry", "tug"] * 3, [f"ship{k}" for k in range(6)]
    later = (time + pd.to_timedelta([1, 2, 1, 0, 300, 1], unit="s")).tz_convert("Europe/Berlin")
    radar = pd.DataFrame(
        {"path": [f"radar/{k}.png" for k in range(6)], "time": [t.isoformat() for t in later], **content}
    )
    for name, cells in columns.items():
        radar[name] = cells
    optical.to_csv(folder / "optical.csv", index=False)
    radar.to_csv(folder / "radar.csv", index=False)


def run(folder: Path, *flags: str) -> None:
    lists = [str(folder / "optical.csv"), str(folder / "radar.csv")]
    command.main(["pair", *lists, "--seconds", "5", "--out", str(folder / "manifest.csv"), *flags])


def test_from_lists_to_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path)
    run(tmp_path, "--meters", "50")
    told = capsys.readouterr().out
    assert "5 pairs in" in told
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str)
    assert manifest["id"].tolist() == ["000", "001", "002", "003", "005"]
    assert manifest["radar"].tolist() == [f"radar/{k}.png" for k in (0, 1, 2, 3, 5)]
    assert manifest["group"].tolist() == [f"ship{k}" for k in (0, 1, 2, 3, 5)]
    record = pd.read_csv(tmp_path / "manifest.pairing.csv", dtype=str)
    paired = record[record["state"] == "paired"]
    assert paired["seconds"].astype(float).tolist() == [1, 2, 1, 0, 1]
    assert paired["cost"].tolist() == ["0.0200", "0.0800", "0.0200", "0.0000", "0.0200"]
    assert set(paired["ambiguous"]) == {"no"}
    lost = record[record["state"] == "unmatched"]
    assert lost[["list", "id"]].values.tolist() == [["radar", "radar/4.png"], ["optical", "004"]]
    assert lost["seconds"].astype(float).abs().tolist() == [240.0, 60.0]
    assert len(record) == 5 + 2
    with pytest.warns(UserWarning, match="lacks 1 of 2 classes"):
        assert len(build(tmp_path, tmp_path / "pack")) == 5


def test_unmatched_captures_are_kept_on_request(tmp_path: Path) -> None:
    write_lists(tmp_path)
    run(tmp_path, "--meters", "50", "--keep_unmatched")
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert manifest["optical"].tolist()[-2:] == ["optical/4.png", ""]
    assert manifest["radar"].tolist()[-2:] == ["", "radar/4.png"]
    pack = build(tmp_path, tmp_path / "pack")
    assert (len(pack), pack.index["has_radar"].sum()) == (7, 6)


def test_ids_that_two_lists_have_in_common_stay_unique(tmp_path: Path) -> None:
    ids = [f"{k:03d}" for k in range(6)]
    write_lists(tmp_path, id=ids)
    run(tmp_path, "--keep_unmatched")
    assert pd.read_csv(tmp_path / "manifest.csv", dtype=str)["id"].tolist() == [*ids[:4], ids[5], ids[4], "radar:004"]


def test_labels_that_disagree_are_left_empty_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path, label=["ferry", "ferry", "", "tug", "tug", "tug"])
    run(tmp_path, "--names", "light,sar")
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert list(manifest.columns) == ["id", "label", "group", "light", "sar"]
    assert manifest["label"].tolist() == ["ferry", "", "ferry", "tug", "tug"]
    assert "which are left empty: 001" in capsys.readouterr().err


def test_a_vessel_in_pairs_of_several_groups_is_told(tmp_path: Path) -> None:
    vessels = ["219000001", "219000002"] * 3
    write_lists(tmp_path, group=["F1", "F1", "F1", "F2", "F2", "F2"], mmsi=vessels)
    with pytest.warns(CmkdWarning, match="vessels in pairs of several groups: 1, such as 219000002 in ship0 and"):
        run(tmp_path)
    write_lists(tmp_path / "vessels", mmsi=vessels)
    run(tmp_path / "vessels")  # pairs of one vessel are one group: no warning


def test_the_splits_of_the_lists_reach_the_manifest(tmp_path: Path) -> None:
    write_lists(tmp_path, split=["train", "val", "test", "", "test", "train"])
    run(tmp_path)
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert manifest["split"].tolist() == ["train", "validation", "test", "", "train"]


def test_a_pair_in_two_splits_is_refused(tmp_path: Path) -> None:
    write_lists(tmp_path, split=["val", "test", *["train"] * 4])
    optical = pd.read_csv(tmp_path / "optical.csv", dtype=str).assign(split=["validation", *["train"] * 5])
    optical.to_csv(tmp_path / "optical.csv", index=False)
    with pytest.raises(CmkdError, match=r"the split of the pair of '001': train in optical.csv, test in radar.csv"):
        run(tmp_path)
    assert not (tmp_path / "manifest.csv").exists()


def test_the_record_says_why_a_capture_has_no_partner(tmp_path: Path) -> None:
    """Cases: two captures of one instant with different MMSI, an unknown position, a capture too late, and one pair."""
    for name, vessel in (("a", "219000001"), ("b", "219000002")):
        lines = [
            f"{name}/0.png,2026-03-01T12:00:00Z,55.0,10.0,{vessel}",
            f"{name}/1.png,2026-03-01T12:10:00Z,55.0,10.0,",
        ]
        lines += [f"{name}/2.png,2026-03-01T12:20:00Z,56.0,10.0,219000003"] if name == "a" else []
        lines += [f"{name}/3.png,2026-03-01T13:00:00Z,55.0,10.0,"] if name == "b" else []
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,time,latitude,longitude,mmsi", *lines]) + "\n")
        (tmp_path / name).mkdir()
        for line in lines:
            (tmp_path / line.split(",")[0]).touch()
    lists = [read_captures(tmp_path / f"{name}.csv") for name in ("a", "b")]
    assert lists[0].place is not None
    lists[0].place[2] = np.nan  # as for a vessel without a track at that time
    made = assemble(lists, tmp_path / "manifest.csv", Gate(5.0, 100.0))
    record = pd.read_csv(made.record, dtype=str, keep_default_na=False)
    assert record.loc[record["note"] != "", "note"].tolist() == [
        "the nearest of a shows another vessel",
        "the nearest of a is too far",
        "the nearest of b shows another vessel",
        "its place is unknown, or no capture of b has one",
    ]


def test_a_partners_vessel_is_a_reason_too(tmp_path: Path) -> None:
    """The first list has no MMSI; when the third list is paired, its capture has the MMSI of its partner."""
    for name, vessel in (("a", ""), ("b", "219000001"), ("c", "219000002")):
        text = f"path,time,latitude,longitude,mmsi\n{name}.png,2026-03-01T12:00:00Z,55.0,10.0,{vessel}\n"
        (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / f"{name}.png").touch()
    lists = [read_captures(tmp_path / f"{name}.csv") for name in "abc"]
    made = assemble(lists, tmp_path / "manifest.csv", Gate(5.0, 100.0))
    record = pd.read_csv(made.record, dtype=str, keep_default_na=False)
    assert record.loc[record["note"] != "", "note"].tolist() == ["the nearest of a shows another vessel"]


def test_a_file_in_the_records_place_is_kept(tmp_path: Path) -> None:
    write_lists(tmp_path)
    (tmp_path / "manifest.pairing.csv").write_text("precious")
    lists = [read_captures(tmp_path / f"{name}.csv") for name in ("optical", "radar")]
    with pytest.raises(CmkdError, match=r"manifest\.pairing\.csv already exists"):
        assemble(lists, tmp_path / "manifest.csv", Gate(5.0))
    assert (tmp_path / "manifest.pairing.csv").read_text() == "precious"


def test_a_manifest_outside_the_folder_is_told_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for name in ("a", "b"):
        text = f"path,time\n../images/{name}.png,2026-03-01T12:00:00Z\n"
        (tmp_path / "lists" / f"{name}.csv").write_text(text)
    lists = [read_captures(tmp_path / "lists" / f"{name}.csv") for name in ("a", "b")]
    with pytest.raises(CmkdError, match=f"write to {re.escape(str(tmp_path))}/manifest.csv instead"):
        assemble(lists, tmp_path / "lists" / "manifest.csv", Gate(5.0))


def test_ambiguous_pairs_are_dropped_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second radar image is 0.1 s from the first at the same place, so neither is certain."""
    write_lists(tmp_path)
    (tmp_path / "radar" / "6.png").touch()
    with (tmp_path / "radar.csv").open("a") as file:
        file.write("radar/6.png,2026-03-01T12:00:01.1Z,54.0,10.0\n")
    run(tmp_path, "--meters", "50")
    assert "1 pairs of radar are ambiguous" in capsys.readouterr().err
    run(tmp_path, "--meters", "50", "--drop_ambiguous", "--out", str(tmp_path / "sure.csv"))
    assert pd.read_csv(tmp_path / "sure.csv", dtype=str)["id"].tolist() == ["001", "002", "003", "005"]
    record = pd.read_csv(tmp_path / "sure.pairing.csv", dtype=str).set_index("id")
    assert record["note"]["000"] == "the nearest of radar was taken by another or is ambiguous"


def test_groups_of_two_lists_are_united(tmp_path: Path) -> None:
    """Groups of the optical list are flights and those of the radar list are passes, which overlap."""
    write_lists(tmp_path)
    for name, groups in (("optical", "f1 f1 f2 f2 f3 f3"), ("radar", "p1 p2 p2 p3 p4 p4")):
        pd.read_csv(tmp_path / f"{name}.csv").assign(group=groups.split()).to_csv(tmp_path / f"{name}.csv", index=False)
    run(tmp_path, "--meters", "50")
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert manifest["group"].tolist() == ["f1", "f1", "f1", "f1", "f3"]


def test_a_vessel_whose_captures_have_a_group_in_part_stays_in_one(tmp_path: Path) -> None:
    write_lists(tmp_path)
    vessels = [219000000 + k // 2 for k in range(6)]
    for name in ("optical", "radar"):
        table = pd.read_csv(tmp_path / f"{name}.csv").assign(mmsi=vessels)
        groups = ["flight", "", "", "", "", ""] if name == "optical" else [""] * 6
        table.assign(group=groups).to_csv(tmp_path / f"{name}.csv", index=False)
    run(tmp_path, "--meters", "50")
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    of = dict(zip(manifest["optical"].str.extract(r"(\d+)")[0].astype(int), manifest["group"], strict=True))
    assert {of[k] for k in (0, 1)} == {"flight"} and {of[k] for k in (2, 3) if k in of} == {"219000001"}


def test_groups_that_pandas_wrote_as_floats_are_whole_numbers(tmp_path: Path) -> None:
    write_lists(tmp_path)
    for name, end in (("optical", ""), ("radar", ".0")):
        groups = [f"{k // 2}{end}" for k in range(6)]
        pd.read_csv(tmp_path / f"{name}.csv").assign(group=groups).to_csv(tmp_path / f"{name}.csv", index=False)
    found = [read_captures(tmp_path / f"{name}.csv").groups for name in ("optical", "radar")]
    assert found[0] == found[1] == ["0", "0", "1", "1", "2", "2"]


def test_three_lists(tmp_path: Path) -> None:
    write_lists(tmp_path)
    radar = pd.read_csv(tmp_path / "radar.csv").iloc[[0, 3, 4]]
    radar.to_parquet(tmp_path / "thermal.parquet")
    run(tmp_path, "--more", str(tmp_path / "thermal.parquet"))
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert manifest["thermal"].tolist() == ["radar/0.png", "", "", "radar/3.png", ""]


def test_a_row_of_three_lists_shows_one_vessel(tmp_path: Path) -> None:
    """The first list has no MMSI; the others state different ones for three of the captures."""
    write_lists(tmp_path, mmsi=["219000001"] * 6)
    lidar = pd.read_csv(tmp_path / "radar.csv").assign(mmsi=["219000002", "", "219000001"] * 2)
    lidar.to_csv(tmp_path / "lidar.csv", index=False)
    run(tmp_path, "--more", str(tmp_path / "lidar.csv"))
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert manifest["radar"].tolist() == [f"radar/{k}.png" for k in (0, 1, 2, 3, 5)]
    assert manifest["lidar"].tolist() == ["", "radar/1.png", "radar/2.png", "", "radar/5.png"]


def edit(column: str, row: int, value: str) -> Any:  # noqa: ANN401
    def change(folder: Path) -> None:
        table = pd.read_csv(folder / "radar.csv", dtype=str)
        table.loc[row, column] = value
        table.to_csv(folder / "radar.csv", index=False)

    return change


def drop(*columns: str) -> Any:  # noqa: ANN401
    return lambda folder: pd.read_csv(folder / "radar.csv").drop(columns=list(columns)).to_csv(folder / "radar.csv")


def swap_places(folder: Path) -> None:
    table = pd.read_csv(folder / "radar.csv")
    table.rename(columns={"latitude": "longitude", "longitude": "latitude"}).to_csv(folder / "radar.csv", index=False)


def add(*cells: str) -> Any:  # noqa: ANN401
    columns = dict(zip(cells[::2], cells[1::2], strict=True))
    return lambda folder: pd.read_csv(folder / "radar.csv").assign(**columns).to_csv(folder / "radar.csv")


@pytest.mark.parametrize(
    ("change", "flags", "says"),
    [
        (edit("time", 2, "yesterday"), [], "radar.csv line 4: time 'yesterday' is not a date such as"),
        (edit("latitude", 1, "540"), [], "line 3: latitude '540', longitude '10.001' is not a valid place"),
        (edit("path", 1, ""), [], "line 3 has no path"),
        (edit("path", 1, "radar/0.png"), [], "id 'radar/0.png' occurs twice"),
        (edit("path", 1, "../radar/0.png"), [], "leaves the folder of .*: write to .* instead"),
        (
            lambda folder: (folder / "radar").rename(folder / "sar"),
            [],
            r"no file of .*radar\.csv exists, such as radar/0\.png: its paths are relative to .*one_line",
        ),
        (drop("time"), [], "has no column 'time'"),
        (add("mmsi", "NA"), [], "line 2: mmsi 'NA' is not nine digits: leave it empty if it is unknown"),
        (add("mmsi", "0"), [], "line 2: mmsi '0' is not nine digits"),
        (add("speed", "5"), [], "has only the column 'speed': give course"),
        (add("course", "0", "speed", "-1"), [], "line 2: course '0', speed '-1' is not in degrees and m/s"),
        (drop("latitude"), [], "has only the column 'longitude'"),
        (drop("latitude", "longitude"), ["--meters", "50"], "has no latitude and longitude, or x and y"),
        (lambda folder: None, ["--meters", "0"], "tolerances must be positive"),
        (lambda folder: None, ["--offset=-9e11"], "no capture of optical has a partner"),
        (lambda folder: None, ["--offset", "1e300"], "more than 1e\\+12 seconds"),
        (lambda folder: None, ["--names", "a"], "gives 1 names for 2 lists"),
        (lambda folder: None, ["--names", "a,a"], "at least two lists with different names"),
        (lambda folder: None, ["--offset", "3000"], "no capture of optical has a partner within 5 s"),
        (
            add("latitude", "55"),
            ["--meters", "200"],
            "200 m, but 5 match by time alone, the nearest 111 km apart: use a l",
        ),
        (add("latitude", "54.003"), ["--meters", "200"], "the nearest 334 m apart: use a larger --meters, or correct"),
        (
            swap_places,
            ["--meters", "200"],
            "5 match by .* 6,244 km apart: latitude and longitude of optical or radar are",
        ),
        (
            swap_places,
            ["--meters", "200", "--offset", "auto"],
            "or correct the places .are latitude and longitude swap",
        ),
        (lambda folder: (folder / "manifest.csv").write_text(""), [], "manifest.csv already exists"),
        (lambda folder: (folder / "manifest.csv").mkdir(), [], r"is a folder: give a file, such as .*manifest\.csv$"),
        (lambda folder: None, ["--out", "nowhere/a.parquet"], r"is written as CSV: give nowhere/a\.csv$"),
    ],
)
def test_bad_lists_are_one_line(tmp_path: Path, change: Any, flags: list[str], says: str) -> None:  # noqa: ANN401
    write_lists(tmp_path)
    change(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CmkdError, match=says) as caught:
        run(tmp_path, *flags)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_files_that_are_missing_are_counted(tmp_path: Path) -> None:
    write_lists(tmp_path)
    for k in (1, 4):
        (tmp_path / "radar" / f"{k}.png").unlink()
    with pytest.warns(
        CmkdWarning, match=r"2 of 6 files of .*radar\.csv are missing, such as radar/1\.png: its paths are"
    ):
        run(tmp_path)
    assert len(pd.read_csv(tmp_path / "manifest.csv")) == 5


def test_an_offset_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path)
    table = pd.read_csv(tmp_path / "radar.csv")
    table["time"] = (pd.to_datetime(table["time"], utc=True) + pd.Timedelta(seconds=100)).map(lambda t: t.isoformat())
    table.to_csv(tmp_path / "radar.csv", index=False)
    run(tmp_path, "--meters", "50", "--offset", "auto")
    told = capsys.readouterr().out
    assert "radar: clock +101" in told
    assert "5 pairs in" in told


def test_lists_in_other_units_are_refused(tmp_path: Path) -> None:
    for name, place in (("a", "latitude,longitude"), ("b", "x,y")):
        (tmp_path / f"{name}.csv").write_text(f"path,time,{place}\nfile.png,12.5,1,2\n")
    (tmp_path / "c.csv").write_text("path,time,latitude,longitude\nfile.png,2026-01-01T00:00:12.5Z,1,2\n")
    a, b, c = (read_captures(tmp_path / f"{name}.csv") for name in "abc")
    assert a.seconds.tolist() == [12.5]
    with pytest.raises(CmkdError, match="give places in different units"):
        match(a, b, Gate(1, 10))
    with pytest.raises(CmkdError, match=r"one list has dates, but .*a\.csv has seconds of its own clock"):
        match(a, c, Gate(1))
    with pytest.raises(CmkdError, match="does not exist"):
        read_captures(tmp_path / "nowhere.csv")


@pytest.mark.filterwarnings("default::cmkd.errors.CmkdWarning")
def test_places_that_are_not_used_and_ids_like_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path, id=["=1+1", "-3", "@a", "d", "e", "f"])
    path = tmp_path / "radar.csv"
    path.write_text(path.read_text().replace("latitude,longitude", "lat,lon"))
    arguments = ["data", "pair", *(str(tmp_path / f"{name}.csv") for name in ("optical", "radar")), "--seconds", "5"]
    assert main([*arguments, "--keep_unmatched", "--out", str(tmp_path / "manifest.csv")]) == 0
    told = capsys.readouterr().err
    assert "note: the places in optical, radar are used only with --meters" in told
    assert "manifest.pairing.csv: 2 cells that a spreadsheet would run as formulas" in told
    assert pd.read_csv(tmp_path / "manifest.pairing.csv")["id"].tolist()[:3] == ["'=1+1", "-3", "'@a"]
    with pytest.warns(CmkdWarning, match="2 cells that a spreadsheet would run as formulas"):
        run(tmp_path, "--meters", "50", "--out", str(tmp_path / "near.csv"))
    assert len(pd.read_csv(tmp_path / "near.csv")) == 5
