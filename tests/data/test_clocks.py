"""Offset and drift of clocks are estimated from the captures, or refused if the captures do not determine them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cmkd.cli import main
from cmkd.data.pairing.captures import Captures
from cmkd.data.pairing.clocks import estimate_clock
from cmkd.data.pairing.known_pairs import Clock, known_clock
from cmkd.data.pairing.matching import Gate, match
from cmkd.data.pairing.times import Times
from cmkd.errors import CmkdError

HOUR, DAY = 3600.0, 86_400.0


def captures(name: str, seconds: NDArray[np.float64], place: NDArray[np.float64] | None = None) -> Captures:
    ids, none = [f"{name}{k}" for k in range(len(seconds))], [""] * len(seconds)
    return Captures(name, Path(f"{name}.csv"), ids, ids, Times(seconds, "own", False), place, False, none, none)


@pytest.mark.parametrize(("ahead", "drift"), [(HOUR + 0.4, 0.0), (-2 * DAY - 37.4, 200e-6), (400 * DAY, -80e-6)])
def test_offset_and_drift_are_found(ahead: float, drift: float) -> None:
    generator = np.random.default_rng(1)
    times = np.cumsum(generator.uniform(30, 90, 600))
    kept = [generator.random(600) > 0.2 for _ in range(2)]
    one, two = times[kept[0]], (times + ahead + drift * times)[kept[1]]
    one, two = (seconds + generator.normal(0, 0.1, len(seconds)) for seconds in (one, two))
    clock = estimate_clock(captures("a", one), captures("b", two), Gate(2))
    assert clock.ahead == pytest.approx(ahead + drift * clock.origin, abs=0.03)
    assert clock.drift == pytest.approx(drift, abs=3e-6)
    assert clock.error == pytest.approx(0.14 * 1.25 / np.sqrt(clock.agreeing), rel=0.2)  # both clocks jitter by 0.1 s
    assert abs(clock.ahead - ahead - drift * clock.origin) < 4 * clock.error
    assert abs(clock.drift - drift) < 4 * clock.drift_error < 8e-6
    assert clock.agreeing >= (kept[0] & kept[1]).sum() > 0.9 * clock.agreeing
    assert clock.share == pytest.approx(0.8, abs=0.05)
    found = match(captures("a", one), clock.corrected(captures("b", two)), Gate(2))
    rows = [np.flatnonzero(mask)[found.rows[:, k]] for k, mask in enumerate(kept)]
    assert (rows[0] == rows[1]).mean() > 0.99


def test_a_day_of_captures_with_drift_keeps_its_pairs() -> None:
    """A case that once lost 31,000 of 45,000 pairs (200 ppm over 28 hours), reduced by a factor of nine."""
    times = np.sort(np.random.default_rng(0).uniform(0, 28 * HOUR, 5000))
    one, two = captures("a", times), captures("b", times + HOUR + 200e-6 * times)
    assert len(match(one, Clock(HOUR).corrected(two), Gate(2)).rows) < 2500
    clock = estimate_clock(one, two, Gate(2))
    rows = match(one, clock.corrected(two), Gate(2)).rows
    assert len(rows) == clock.agreeing == 5000
    assert (rows[:, 0] == rows[:, 1]).mean() > 0.99


def test_captures_more_frequent_than_the_tolerance() -> None:
    times = np.cumsum(np.random.default_rng(2).uniform(1.2, 3.2, 3000))
    clock = estimate_clock(captures("a", times), captures("b", times + 1000.3), Gate(10))
    assert clock.ahead == pytest.approx(1000.3, abs=0.05)


def test_regular_captures_are_ambiguous_unless_places_tell() -> None:
    times, place = 10.0 * np.arange(200), np.random.default_rng(3).uniform(0, 9000, (200, 2))
    with pytest.raises(CmkdError, match=r"more than one offset fits .*: \+0\.400 s .* and [+-]\d+\.\d00 s .*--offset"):
        estimate_clock(captures("a", times), captures("b", times + 0.4), Gate(2))
    clock = estimate_clock(captures("a", times, place), captures("b", times + 70.4, place), Gate(2, 50))
    assert clock.ahead == pytest.approx(70.4)


@pytest.mark.parametrize("seed", range(6))
def test_unrelated_lists_are_refused(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, two = (captures(name, np.sort(generator.uniform(0, 5000, int(generator.integers(3, 60))))) for name in "ab")
    with pytest.raises(CmkdError, match="--offset"):
        estimate_clock(one, two, Gate(2))


def passes(generator: np.random.Generator, count: int, size: int) -> NDArray[np.float64]:
    """Return times of captures about 10 s apart, in `count` passes of `size` captures within a week."""
    starts = generator.uniform(0, 7 * DAY, count)
    return np.sort(np.concatenate([start + np.cumsum(generator.exponential(10, size)) for start in starts]))


def test_unrelated_passes_are_refused() -> None:
    """Within a pass, many captures agree by chance, which a model of uniform density over the week would miss."""
    generator = np.random.default_rng(0)
    for _ in range(12):
        one, two = captures("a", passes(generator, 1, 20)), captures("b", passes(generator, 10, 40))
        with pytest.raises(CmkdError, match="--offset"):
            estimate_clock(one, two, Gate(2))


def test_the_drift_within_a_pass_is_not_carried_to_the_next() -> None:
    generator = np.random.default_rng(0)
    for _ in range(12):
        times = passes(generator, 10, 40)
        start = 40 * int(generator.integers(1, 9)) - 12  # the end of a pass and the start of the next
        some = times[start : start + 25]
        clock = estimate_clock(captures("a", some + generator.normal(0, 0.2, 25)), captures("b", times + 60), Gate(2))
        assert np.abs(clock.at(some) - some - 60).max() < 1


def test_no_captures_of_one_place() -> None:
    times, place = np.array([0.0, 70.0, 90.0, 200.0]), np.zeros((4, 2))
    with pytest.raises(CmkdError, match="within the distance"):
        estimate_clock(captures("a", times, place), captures("b", times, place + 1000), Gate(2, 50))


def write(folder: Path, offset: float, drift: float = 0.0, count: int = 40, strangers: int = 0) -> list[str]:
    """Write two lists of captures at uneven intervals with empty files, and return the arguments that pair them."""
    generator = np.random.default_rng(5)
    times = np.cumsum(generator.uniform(60, 300, count))
    other = times + offset + drift * times
    other[:strangers] = np.sort(generator.uniform(other[0], other[-1], strangers))
    for name, seconds in (("optical", times), ("radar", other)):
        stamps = np.datetime64("2023-03-26T00:30") + np.round(seconds * 1000).astype("timedelta64[ms]")
        rows = [f"{name}/{k}.png,{stamp}" for k, stamp in enumerate(stamps)]
        (folder / f"{name}.csv").write_text("\n".join(["path,time", *rows]))
        (folder / name).mkdir()
        for k in range(count):
            (folder / name / f"{k}.png").touch()
    out = ["--out", str(folder / "manifest.csv"), "--seconds", "2", "--offset", "auto"]
    return ["data", "pair", str(folder / "optical.csv"), str(folder / "radar.csv"), *out]


def test_drift_is_told_and_few_that_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(write(tmp_path, -DAY, drift=150e-6, count=400, strangers=150)) == 0
    told = capsys.readouterr()
    assert "drifting by +150." in told.out and "from 2023-03-2" in told.out
    assert "% of the shorter list agrees with the clock of radar: check some pairs" in told.err


def test_nothing_is_written_where_few_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(write(tmp_path, 3600.4, strangers=40)) == 2
    assert "--offset" in capsys.readouterr().err
    assert not (tmp_path / "manifest.csv").exists()


def test_known_pairs_tell_offset_and_drift_with_their_errors() -> None:
    """Over 300 draws, the stated standard errors are those of the estimates; drift is given only if determined."""
    generator, times = np.random.default_rng(0), np.array([0.0, 3.0, 5.0, 9.0, 12.0]) * HOUR
    clocks = []
    for _ in range(300):
        lists = [captures(name, values + generator.normal(0, 0.1, 5))
                 for name, values in (("a", times), ("b", times + 60 + 100e-6 * times))]  # fmt: skip
        clocks.append(known_clock(*lists, [(k, k) for k in range(5)], Gate(2)))
    drifts, errors = np.array([(clock.drift, clock.drift_error) for clock in clocks]).T
    assert drifts[drifts > 0].mean() == pytest.approx(100e-6, rel=0.02) and (drifts > 0).mean() > 0.9
    assert drifts[drifts > 0].std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.2)
    noisy = [captures("b", times + generator.normal(0, 0.5, 5)) for _ in range(50)]
    told = [known_clock(captures("a", times), other, [(k, k) for k in range(5)], Gate(2)).drift != 0 for other in noisy]
    assert sum(told) < 5
    single = known_clock(captures("a", times), captures("b", times + 60), [(1, 1)], Gate(2))
    assert (single.ahead, single.drift) == (60, 0) and np.isnan(single.error)


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ("optical,radar\noptical/0.png,radar/0.png\noptical/9.png,radar/9.png\n", "+3600.4"),
        (
            "optical,radar\noptical/0.png,radar/0.png\noptical/9.png,radar/8.png\n",
            "the known pairs of optical and radar",
        ),
        ("optical,radar\noptical/0.png,radar/0\n", "known.csv line 2: .*radar.csv has no capture 'radar/0'"),
        ("optical,sonar\noptical/0.png,0\n", "has no column 'radar': its columns are 'optical', 'sonar'"),
        ("optical,radar\noptical/0.png,\n", "no known pair of optical and radar"),
    ],
)
def test_known_pairs_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], known: str, says: str) -> None:
    words = write(tmp_path, 3600.4)
    (tmp_path / "known.csv").write_text(known)
    words[words.index("auto")] = str(tmp_path / "known.csv")
    code, told = main(words), capsys.readouterr()
    assert re.search(says.replace("+", r"\+"), told.err if code else told.out)
    assert code == (0 if says == "+3600.4" else 2)
    assert code or ("40 pairs in" in told.out and "2 known pairs agree (standard error 0.000 s)" in told.out)
