"""AIS archives: both layouts, positions between reports, identities of captures, and use up to a trained student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cmkd.cli import main
from cmkd.data.pairing.captures import read_captures
from cmkd.data.pairing.places import ground_distance
from cmkd.data.pairing.tracks import LONGEST_GAP, REACH, read_tracks
from cmkd.data.pairing.vessels import classes_by_type, identify, read_ship_classes
from cmkd.errors import CmkdError

START = pd.Timestamp("2026-03-01T12:00:00Z").timestamp()
NORTH = 10 / 111_195  # degrees of latitude in 1 s at 10 m/s
MARINE_CADASTRE = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,Cargo,"
    "TransceiverClass"
)
DANISH = (
    "# Timestamp,Type of mobile,MMSI,Latitude,Longitude,Navigational status,ROT,SOG,COG,Heading,IMO,Callsign,Name,"
    "Ship type,Cargo type,Width,Length,Type of position fixing device,Draught,Destination,ETA,Data source type,A,B,C,D"
)


def american(
    mmsi: int | str, seconds: float, latitude: float, longitude: float, kind: str = "70", speed: str = "19.4"
) -> str:
    stamp = pd.Timestamp(START + seconds, unit="s").isoformat()
    return f"{mmsi},{stamp},{latitude:.6f},{longitude:.6f},19.4,0.0,511.0,NAME,,CALL,{kind},0,150,20,8.1,70,A"


def danish(mmsi: int, seconds: float, latitude: float, longitude: float, kind: str = "Cargo") -> str:
    stamp = pd.Timestamp(START + seconds, unit="s").strftime("%d/%m/%Y %H:%M:%S")
    middle = "Under way using engine,0.0,19.4,0.0,0,Unknown,CALL,NAME"
    return f"{stamp},Class A,{mmsi},{latitude:.6f},{longitude:.6f},{middle},{kind},,20,150,GPS,8.1,,,AIS,,,,"


def write(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize(("header", "row", "kind"), [(MARINE_CADASTRE, american, "70"), (DANISH, danish, "cargo")])
def test_both_layouts(tmp_path: Path, header: str, row: type, kind: str) -> None:
    first, second = (row(219000001, s, 55 + NORTH * s, 10.0) for s in (0, 60))
    bad = row(2190064, 0, 55, 10), row(219000002, 0, 91, 181), row(219000003, 9e5, 55, 10), "broken"
    tracks = read_tracks(write(tmp_path / "ais.csv", header, second, *bad, first, first), (START, START + 60))
    assert (tracks.vessels, tracks.types, tracks.rows) == (["219000001"], [kind], 7)
    assert tracks.seconds.tolist() == [START, START + 60]
    assert tracks.motion[:, 1] == pytest.approx([9.98] * 2, abs=0.01)  # knots


@pytest.mark.parametrize(("mmsi", "kind"), [(" 219000001", "70"), ("219000001.0", "70.0"), ("219000001 ", "70.")])
def test_numbers_as_programs_save_them(tmp_path: Path, mmsi: str, kind: str) -> None:
    rows = [american(mmsi, s, 55, 10, kind=kind) for s in (0, 60)]
    tracks = read_tracks(write(tmp_path / "ais.csv", MARINE_CADASTRE, *rows), (START, START + 60))
    assert (tracks.vessels, tracks.types) == (["219000001"], ["70"])
    captures = read_captures(write(tmp_path / "radar.csv", "path,time,mmsi", f"1.png,2026-03-01T12:00:30Z,{mmsi}"))
    found = identify(captures, tracks, 100, classes_by_type())
    assert (found.captures.labels, found.captures.groups) == (["cargo"], ["219000001"])


def test_the_newer_american_names_and_values_that_are_not_available(tmp_path: Path) -> None:
    rows = [f"338000001,2026-03-01 12:00:{s:02d},-90.0,29.7,102.3,360.0,511,NAME,,CALL,,0,,,,,A" for s in (0, 30)]
    names = "mmsi,base_date_time,longitude,latitude,sog,cog,heading,vessel_name,imo,call_sign,vessel_type,status,length"
    tracks = read_tracks(write(tmp_path / "a.csv", f"{names},width,draft,cargo,transceiver", *rows), (START, START))
    assert tracks.place[0].tolist() == [29.7, -90.0] and np.isnan(tracks.motion).all() and tracks.types == [""]


@pytest.mark.parametrize("quoted", [(), (3,), (3, 17)])
def test_a_quotation_mark_in_a_name_takes_no_rows_with_it(tmp_path: Path, quoted: tuple[int, ...]) -> None:
    rows = [danish(219000001, s, 55, 10) for s in range(20)]
    rows = [row.replace("NAME", '"ANNA' if k in quoted else '"B ""2"", C"') for k, row in enumerate(rows)]
    rows[5] = rows[5].replace("CALL", 'CA"LL').replace('"B ""2"", C"', '"D')
    tracks = read_tracks(write(tmp_path / "ais.csv", DANISH, *rows), (START, START + 60))
    assert (len(tracks.seconds), tracks.rows, tracks.types) == (20, 20, ["cargo"])


@pytest.mark.parametrize("header", [DANISH, DANISH[2:], DANISH.lower()])
def test_commas_at_the_end_of_rows_and_headers_of_the_danish_archive(tmp_path: Path, header: str) -> None:
    rows = [f"{danish(219000001, s, 55, 10)}," for s in (0, 60)]
    tracks = read_tracks(write(tmp_path / "ais.csv", header, *rows), (START, START + 60))
    assert tracks.seconds.tolist() == [START, START + 60] and tracks.vessels == ["219000001"]


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    table = pd.read_csv(write(tmp_path / "ais.csv", MARINE_CADASTRE, american(219000001, 0, 55, 10)), dtype=str)
    table.to_csv(tmp_path / "ais.zip", index=False)
    assert read_tracks(tmp_path / "ais.zip", (START, START)).vessels == ["219000001"]


def test_where_a_vessel_is(tmp_path: Path) -> None:
    """Positions exist between reports, across the date line and shortly after the last one; not in gaps or jumps."""
    times = [0, 60, 60 + LONGEST_GAP + 1]
    rows = [american(1 + 366000000, s, 55 + NORTH * s, 10.0) for s in times]
    rows += [american(366000002, 0, 0, 179.999), american(366000002, 60, 0, -179.999)]
    rows += [american(366000003, s, 55 + s / 60, 10.0) for s in (0, 60)]
    tracks = read_tracks(write(tmp_path / "ais.csv", MARINE_CADASTRE, *rows), (START, START + 500))
    late = np.array([0, 30, 60, 60 + REACH, 60 + REACH + 1, times[2] - REACH, times[2] + REACH, times[2] + REACH + 1])
    place, _ = tracks.at(0, START + late)
    known = np.isfinite(place[:, 0])
    assert known.tolist() == [True, True, True, True, False, True, True, False]
    true = np.column_stack([55 + NORTH * late, np.full(len(late), 10.0)])
    assert ground_distance(place[known], true[known], geographic=True).max() < 2  # 0.02 m/s off for 60 s
    over = tracks.at(1, np.array([START + 30]))[0]
    assert ground_distance(over, np.array([[0.0, 180.0]]), geographic=True)[0] < 0.1
    assert np.isnan(tracks.at(2, np.array([START - 61, START + 121]))[0]).all()  # 1 degree/min is too fast for a ship
    assert ground_distance(tracks.at(2, np.array([START + 9]))[0], np.array([[55.0, 10.0]]), geographic=True)[0] < 100


def test_a_report_without_a_course_leaves_that_of_the_list(tmp_path: Path) -> None:
    rows = [american(219000001, s, 55 + NORTH * s, 10.0).replace("19.4,0.0,511", "19.4,360.0,511") for s in (0, 60)]
    tracks = read_tracks(write(tmp_path / "ais.csv", MARINE_CADASTRE, *rows), (START, START + 60))
    line = "1.png,2026-03-01T12:00:30Z,219000001,0,10"
    captures = read_captures(write(tmp_path / "radar.csv", "path,time,mmsi,course,speed", line))
    found = identify(captures, tracks, 100, classes_by_type()).captures
    assert np.isnan(tracks.motion[:, 0]).all() and found.motion is not None and found.motion.tolist() == [[0.0, 10.0]]


def test_course_and_speed_are_those_of_the_nearer_report(tmp_path: Path) -> None:
    rows = [american(219000001, s, 55.0, 10.0).replace("19.4,0.0,511", f"19.4,{course},511")
            for s, course in ((0, 10.0), (60, 50.0))]  # fmt: skip
    tracks = read_tracks(write(tmp_path / "ais.csv", MARINE_CADASTRE, *rows), (START, START + 60))
    motion = tracks.at(0, START + np.array([0.0, 20.0, 40.0, 60.0, 70.0]))[1]
    assert motion[:, 0].tolist() == [10.0, 10.0, 50.0, 50.0, 50.0]


def test_labels_and_groups_of_the_list_stay(tmp_path: Path) -> None:
    rows = [american(219000001, s, 55.0, 10.0) for s in (0, 60)]
    tracks = read_tracks(write(tmp_path / "ais.csv", MARINE_CADASTRE, *rows), (START, START + 60))
    lines = ["1.png,2026-03-01T12:00:10Z,219000001,ferry,flight 7", "2.png,2026-03-01T12:00:20Z,219000001,,"]
    captures = read_captures(write(tmp_path / "radar.csv", "path,time,mmsi,label,group", *lines))
    found = identify(captures, tracks, 100, classes_by_type()).captures
    assert (found.labels, found.groups) == (["ferry", "cargo"], ["flight 7", "219000001"])


def test_captures_are_identified_one_to_one_at_an_instant(tmp_path: Path) -> None:
    """Cases: two chips of an image near two ships, a ship in many images, a chip near no ship, a chip between two."""
    rows = [american(219000001 + k, s, 55 + 0.01 * k, 10.0, kind) for k, kind in enumerate(("70", "52", "99")) for s in
            (0, 60)]  # fmt: skip
    tracks = read_tracks(write(tmp_path / "ais.csv", MARINE_CADASTRE, *rows), (START, START + 60))
    lines = [f"{name}.png,2026-03-01T12:00:{s}Z,{latitude},10.0" for name, s, latitude in (
        ("a", "00", 55.001), ("b", "00", 55.006), ("c", "30", 55.001), ("d", "30", 56.0), ("e", "10", 55.005),
        ("f", "20", 55.021))]  # fmt: skip
    captures = read_captures(write(tmp_path / "list.csv", "path,time,lat,lon", *lines))
    found = identify(captures, tracks, 1000.0, classes_by_type())
    assert found.captures.vessels == ["219000001", "219000002", "219000001", "", "", "219000003"]
    assert found.captures.labels == ["cargo", "tug", "cargo", "", "", ""]
    assert found.captures.groups == found.captures.vessels
    assert (found.found, found.missed, found.unsure, found.unlabeled) == (4, 1, 1, 1)
    assert found.captures.place is not None and found.captures.place[1] == pytest.approx([55.01, 10.0])
    lines = ["a.png,2026-03-01T12:00:00Z,55.0,10.0,219000001", "b.png,2026-03-01T12:00:00Z,55.001,10.0,219000077",
             "c.png,2026-03-01T12:00:00Z,55.002,10.0,"]  # fmt: skip
    stated = identify(read_captures(write(tmp_path / "mmsi.csv", "path,time,lat,lon,mmsi", *lines)), tracks, 500.0, {})
    assert stated.captures.vessels == ["219000001", "219000077", ""], "a vessel is seen once, and what is stated stays"
    (tmp_path / "classes.yaml").write_text("merchant: [60-79, tanker]\nwork: 52")
    own = read_ship_classes(tmp_path / "classes.yaml")
    assert set(identify(captures, tracks, 1000.0, own).captures.labels) == {"merchant", "work", ""}
    (tmp_path / "classes.yaml").write_text("merchant: [60-79]\nwork: 70")
    with pytest.raises(CmkdError, match="type '70' is in both classes merchant and work"):
        read_ship_classes(tmp_path / "classes.yaml")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("[70-99999999999]", "class cargo lists the range 70-99999999999: give the smaller number first, up to 99"),
        ("79-70", "class cargo lists the range 79-70: "),
        ("{a: b}", r"class cargo lists \{'a': 'b'\}: give numbers \(70\), ranges"),
        ("", "class cargo lists None: "),
        ("[yes]", "class cargo lists True: "),
        ("[70.5]", "class cargo lists 70.5: "),
    ],
)
def test_what_is_no_type_of_ship_is_refused(tmp_path: Path, entry: str, says: str) -> None:
    (tmp_path / "classes.yaml").write_text(f"cargo: {entry}")
    with pytest.raises(CmkdError, match=says):
        read_ship_classes(tmp_path / "classes.yaml")


def deliver(folder: Path, *, mmsi: bool = False, zone: str = "Z") -> list[str]:
    """Write images of 12 ships on parallel tracks with AIS reports, and return the arguments that pair them.

    Both lists have positions with an error of 30 m, or only the MMSI (`mmsi`). The optical images are 4 s later.
    """
    generator, rows, lists = np.random.default_rng(0), [], {"optical": [], "radar": []}
    for k in range(12):
        ship, kind, east = 219000000 + k, "70" if k % 2 else "52", 10 + 0.002 * k  # 127 m between tracks
        rows += [american(ship, s, 55 + NORTH * s, east, kind) for s in (0, 60, 120)]
        for name, mode, late in (("optical", "RGB", 4), ("radar", "L", 0)):
            (folder / name).mkdir(exist_ok=True)
            colors = generator.integers(0, 256, 3)
            Image.new(mode, (16, 16), tuple(map(int, colors)) if mode == "RGB" else int(colors[0])).save(
                folder / name / f"{k}.png")  # fmt: skip
            place = f"{55 + NORTH * (30 + late) + 30 / 111_195:.6f},{east:.6f}"
            lists[name].append(f"{name}/{k}.png,2026-03-01T12:00:{30 + late}{zone},{ship if mmsi else place}")
    write(folder / "ais.csv", MARINE_CADASTRE, *rows)
    write(folder / "radar.csv", f"path,time,{'mmsi' if mmsi else 'lat,lon'}", *lists["radar"])
    write(folder / "optical.csv", f"path,time,{'mmsi' if mmsi else 'lat,lon'}", *lists["optical"])
    words = ["data", "pair", str(folder / "optical.csv"), str(folder / "radar.csv"), "--seconds", "5"]
    return [*words, "--meters", "45", "--ais", str(folder / "ais.csv"), "--out", str(folder / "manifest.csv")]


@pytest.mark.parametrize("mmsi", [False, True])
def test_from_ais_to_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str], mmsi: bool) -> None:
    words = deliver(tmp_path, mmsi=mmsi)
    (tmp_path / "known.csv").write_text("optical,radar\noptical/1.png,radar/1.png\noptical/2.png,radar/2.png\n")
    assert main([*words, *(["--offset", str(tmp_path / "known.csv")] if mmsi else [])]) == 0
    told = capsys.readouterr().out
    assert "ais.csv: 36 reports of 12 vessels" in told and "12 pairs in" in told
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str)
    assert manifest["label"].tolist() == ["tug", "cargo"] * 6
    assert manifest["group"].tolist() == [str(219000000 + k) for k in range(12)]
    assert (manifest["optical"].str[-6:] == manifest["radar"].str[-6:]).mean() == 1
    record = pd.read_csv(tmp_path / "manifest.pairing.csv")
    assert record["meters"].max() < (41 if mmsi else 1)  # setting the clock back by 4 s moves a ship by 40 m
    assert set(record["seconds"]) == {0.0 if mmsi else -4.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda words, folder: words.remove("--meters") or words.remove("45"), "--ais needs --meters"),
        (lambda words, folder: deliver(folder, zone=""), "have no time zone: add one, such as Z for UTC"),
        (lambda words, folder: write(folder / "ais.csv", "mmsi,lat,lon", "1,2,3"), "has no column for time"),
        (
            lambda words, folder: write(folder / "ais.csv", MARINE_CADASTRE, american(2, 0, 55, 10)),
            "none of its 1 rows",
        ),
        (lambda words, folder: write(folder / "ais.csv", "mmsi;time;lat", "1;2;3"), "is separated by semicolons: save"),
        (
            lambda words, folder: write(folder / "ais.csv", MARINE_CADASTRE, "219000001,03/01/2026 12:00:00,55,10"),
            "none of its 1 rows has a time such as 2026-03-01T12:00:00, or 01/03/2026",
        ),
        (lambda words, folder: write(folder / "radar.csv", "path,time", "a,2026-03-01T12:00:00Z"), "nor mmsi"),
        (
            lambda words, folder: write(folder / "radar.csv", "path,time,x,y", "a,2026-03-01T12:00:00Z,1,2"),
            "gives x and y",
        ),
    ],
)
def test_what_ais_cannot_tell_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, says: str
) -> None:
    words = deliver(tmp_path)
    assert callable(change)
    change(words, tmp_path)
    assert main(words) == 2 and says in capsys.readouterr().err
    assert not (tmp_path / "manifest.csv").exists()


@pytest.mark.slow
def test_from_ais_to_a_trained_student(tmp_path: Path) -> None:
    assert main(deliver(tmp_path)) == 0
    assert main(["data", "build", str(tmp_path), "--out", str(tmp_path / "pack")]) == 0
    words = ["run", "--data", str(tmp_path / "pack"), "--teacher.modality", "optical", "--student.modality", "radar"]
    assert main([*words, "--methods", "none,kd", "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "results.json").exists()
