"""Times of captures in one form are read in that form, or refused in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cmkd.cli import main
from cmkd.data.pairing.captures import read_captures
from cmkd.data.pairing.matching import Gate, match
from cmkd.data.pairing.times import Times, TimeUnit, read_times
from cmkd.data.text_table import TextTable
from cmkd.errors import CmkdError

few = settings(max_examples=40, deadline=None)
MOMENTS = st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30))


def times(*cells: str, unit: TimeUnit | None = None) -> Times:
    lines = [f"list.csv line {row + 2}" for row in range(len(cells))]
    return read_times(TextTable(Path("list.csv"), ["time"], [[cell] for cell in cells], lines), unit)


@few
@given(
    st.lists(MOMENTS, min_size=1, max_size=4),
    st.sampled_from(
        ["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f", "%Y%m%dT%H%M%S.%f", "%Y%m%d_%H%M%S.%f", "%Y%m%d%H%M%S.%f",
         "%Y%m%d%H%M%S", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M", "%Y%m%d", "%Y-%m-%d"]
    ),
    st.sampled_from(["", "Z", "+02:00", "-0930"]),
)  # fmt: skip
def test_dates_in_every_form(moments: list[datetime], form: str, zone: str) -> None:
    daily = "%H" not in form
    zone = "" if daily else zone
    shift = {"": 0, "Z": 0, "+02:00": 120, "-0930": -570}[zone]
    cells = [moment.strftime(form) + zone for moment in moments]
    wanted = [
        datetime.strptime(moment.strftime(form), form).replace(tzinfo=timezone(timedelta(minutes=shift))).timestamp()
        for moment in moments
    ]
    found = times(*cells)
    assert found.seconds.tolist() == pytest.approx(wanted, abs=2e-6)
    assert (found.clock, found.daily) == ("UTC" if zone else "naive", daily)


@few
@given(
    st.lists(MOMENTS, min_size=1, max_size=4), st.sampled_from([("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
)
def test_counts_since_1970_by_magnitude(moments: list[datetime], unit: tuple[TimeUnit, int]) -> None:
    seconds = [int(moment.replace(tzinfo=UTC).timestamp()) for moment in moments]
    cells = [str(s * unit[1]) for s in seconds]
    known = [times(*cells)] if max(moments) < datetime.now() else []  # later times are counts only with a unit
    for found in (*known, times(*cells, unit=unit[0])):
        assert found.seconds.tolist() == pytest.approx(seconds, abs=1e-3)
        assert found.clock == "UTC"


@few
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_noise_is_times_or_one_line(cells: list[str]) -> None:
    assume(not any("\n" in cell or "\r" in cell for cell in cells))
    try:
        assert len(times(*cells).seconds) == len(cells)
    except CmkdError as error:
        assert "\n" not in str(error)


def test_a_clock_of_its_own() -> None:
    assert times("0", "12.5", "-3e2").seconds.tolist() == [0.0, 12.5, -300.0]
    assert times("0", "12500", unit="ms").seconds.tolist() == [0.0, 12.5]
    assert times("20230101000050", unit="us").seconds.tolist() == [20230101.00005]  # stated, so not a date
    assert times("202301010010", "202301010011", unit="date").seconds.tolist() == [1672531800.0, 1672531860.0]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["2023-01-01T00:00:00Z", "2023-01-01T00:00:10"], "line 3: time .* has no time zone, unlike others"),
        (["2023-01-01T00:00:10", "2023-01-01"], "line 3: time '2023-01-01' has no time of day"),
        (["202301010010", "202301010011"], "have an unclear unit: give it with --time_unit"),
        (["0", "1700000000"], "have an unclear unit"),
        (["2023031120000", "2023031150000"], "have an unclear unit"),  # year, day of the year and time, not ms
        (["2301311200", "2301311210"], "have an unclear unit"),  # a two-digit year, not s
        (["1700000000", "1700000000000"], "have an unclear unit"),
        (["2023-02-30T00:00:00Z"], "is not a date such as"),
        (["20230101000050", "20230101000055", "20230101000060"], "line 4: time '20230101000060' is not a date"),
        (["31.01.2023 12:00"], "is not a date such as"),
        (["12.5", "13.5", "soon"], "line 4: time 'soon' is not a number"),
        (["nan"], "is not a date"),
        ([""], "is not a date"),
    ],
)
def test_refusals_name_the_line(cells: list[str], says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        times(*cells)


def lists(folder: Path, optical: list[str], radar: list[str]) -> list[str]:
    """Write two lists with empty files, and return the arguments that pair them."""
    for name, cells in (("optical", optical), ("radar", radar)):
        rows = [f"{name}/{k}.png,{cell},0,0" for k, cell in enumerate(cells)]
        (folder / f"{name}.csv").write_text("\n".join(["path,time,latitude,longitude", *rows]))
        (folder / name).mkdir(exist_ok=True)
        for k in range(len(cells)):
            (folder / name / f"{k}.png").touch()
    out = folder / "manifest.csv"
    return ["data", "pair", str(folder / "optical.csv"), str(folder / "radar.csv"), "--out", str(out)]


def test_units_of_one_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = [*lists(tmp_path, ["0", "60", "180"], ["500", "60500", "180500"]), "--seconds", "2"]
    assert main(pair) == 2
    assert "optical 0 s to 180 s; radar 500 s to 180,500 s" in capsys.readouterr().err
    assert main([*pair, "--time_unit", "radar=ms"]) == 0
    assert "3 pairs in" in capsys.readouterr().out
    assert main([*pair, "--time_unit", "sonar=ms"]) == 2
    assert main([*pair, "--time_unit", "minutes"]) == 2
    assert "unknown time unit 'minutes'" in capsys.readouterr().err


def test_few_pairs_are_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, scaled = [str(60 * k) for k in range(50)], [str(60_000 * k) for k in range(50)]
    assert main([*lists(tmp_path, own, scaled), "--seconds", "2"]) == 0
    told = capsys.readouterr().err
    assert "note: found only 1 pairs (optical 0 s to 2,940 s; radar 0 s to 2,940,000 s)" in told
    assert "check the tolerances, times, --time_unit and --offset" in told  # not the places, which were not compared
    for path in (tmp_path / f"{name}.csv" for name in ("optical", "radar")):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{head},x,y", *(f"{row},0,0" for row in rows)]))
    arguments = [*("data", "pair"), *(str(tmp_path / f"{name}.csv") for name in ("optical", "radar"))]
    assert main([*arguments, "--out", str(tmp_path / "placed.csv"), "--seconds", "2", "--meters", "10"]) == 0
    assert "check the tolerances, times and places, --time_unit and --offset" in capsys.readouterr().err


def test_lists_with_and_without_a_time_zone_are_refused(tmp_path: Path) -> None:
    lists(tmp_path, ["2023-01-01T00:00:00"], ["2023-01-01T00:00:00+01:00"])
    one, two = (read_captures(tmp_path / f"{name}.csv") for name in ("optical", "radar"))
    with pytest.raises(CmkdError, match=r"the times of .*optical\.csv have no time zone"):
        match(one, two, Gate(5))
