"""Sensor modes: the files of the package, and a user's own files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cmkd.errors import CmkdError
from cmkd.simulators.marine.describe import UNREAL
from cmkd.simulators.marine.modes import mode, modes

FOLDER = Path(__file__).parents[2] / "src" / "cmkd" / "simulators" / "marine" / "modes"


@pytest.mark.parametrize("name", modes())
def test_mode_states_its_sources_and_shows_the_largest_ships_or_says_so(name: str) -> None:
    found = mode(name)
    assert found.sources and found.title
    assert found.radar.size * found.radar.spacing[0] >= 150 and found.optical.size * found.optical.spacing >= 150


def test_slant_range_of_sentinel_1() -> None:
    # published: altitude 693 km, which is the range straight down; about 790 and 950 km at 30.9 and 46.0 degrees
    radar = mode("iw").radar
    assert radar.slant_range(0.0) == pytest.approx(693e3)
    flat = 693e3 / math.cos(math.radians(46.0))
    assert 0.9 * flat < radar.slant_range(46.0) < flat


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("receive: [V, H]", "receive: [H]", "must begin with the transmitted polarization V"),
        ("spacing: [10, 10]", "spacing: [30, 10]", "alias a resolution of 20"),
        ("altitude: 693", "height: 693", "did you mean|unknown option"),
        ("altitude: 693", "altitude: 693\n  range: [1, 2]", "give either the altitude"),
        ("nesz: [-27, -22]", "nesz: [-22, -27]", "the smaller first"),
        ("looks: 5", "looks: 7", "overlap"),
        ("mtf: 0.15", "mtf: 1.5", "below 0.7"),
    ],
)
def test_wrong_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = (FOLDER / "iw.yaml").read_text()
    assert old in text
    path = tmp_path / "own.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(CmkdError, match=words) as refused:
        mode(str(path))
    assert str(refused.value).startswith("own.yaml: ") and "\n" not in str(refused.value)


def test_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(CmkdError, match="did you mean 'stripmap'"):
        mode("stripmp")


def test_what_the_docs_say_of_the_modes_holds() -> None:
    docs, coastal = Path(__file__).parents[2] / "docs", mode("coastal").radar
    assert coastal.range is not None
    low, high = (
        1e3 * r * math.cos(math.radians(i)) for r, i in zip(coastal.range, coastal.incidence[::-1], strict=True)
    )
    assert f"its antenna is {low:.0f} to {high:.0f} m high." in " ".join(UNREAL)
    assert " ".join(UNREAL) in (docs / "data_cards.md").read_text(encoding="utf-8")
    widths = {}
    for name in modes():
        for made in (mode(name), mode(name).sized(24)):
            widths[name, made.radar.size] = (
                made.optical.size * made.optical.spacing,
                made.radar.size * made.radar.spacing[0],
            )
        assert mode(name).optical.cloud == mode(name).optical.night == (0, 0)
    assert (widths.pop(("iw", 64)), widths.pop(("iw", 24))) == ((320, 640), (120, 240))
    assert all(abs(optical / radar - 1) < 0.051 for optical, radar in widths.values())
